//! What is wrong with a file, and the list that collects it.

use std::cell::RefCell;
use std::ops::Range;

/// A range of bytes in the file.
pub(super) type Span = Range<usize>;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong and what to do, lower case.
    pub(super) message: String,
    /// Where; `None` when the fault is that something is not there at all.
    pub(super) span: Option<Span>,
    /// Another place that plays a part, and which.
    pub(super) other: Option<(Span, String)>,
    /// What would be right.
    pub(super) help: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span: Some(span), other: None, help: None }
    }

    /// A problem of the file as a whole.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, other: None, help: None }
    }

    /// A problem of something that may or may not be written down.
    pub(super) fn near(span: Option<Span>, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, other: None, help: None }
    }

    /// Adds what would be right.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds another place that plays a part.
    pub(super) fn see(self, span: Option<Span>, label: impl Into<String>) -> Self {
        Self { other: span.map(|span| (span, label.into())), ..self }
    }
}

/// Everything that is wrong with a file. Shared by all readers, so that none has to stop at its
/// first error.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Adds one.
    pub(super) fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// In file order.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        problems
    }
}
