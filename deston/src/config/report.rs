//! Showing problems to a user: file, line, column, the text underlined, and a suggestion.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::problem::Problem;

/// Everything that is wrong with a configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    name: String,
    text: String,
    problems: Vec<Problem>,
}

/// How a report is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With terminal colours.
    Coloured,
}

impl Report {
    pub(super) fn new(name: &str, text: &str, problems: Vec<Problem>) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), problems }
    }

    /// How many errors there are, at least 1.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// Every error with its lines of the file.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let drawn: Vec<String> =
            self.problems.iter().map(|problem| renderer.render(&self.groups(problem))).collect();
        drawn.join("\n\n")
    }

    /// Every error on a line of its own, for logs: `config.toml:3:1: unknown key ..`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| {
            let place = match &problem.span {
                Some(span) => {
                    let (line, column) = self.line_and_column(span.start);
                    format!("{}:{line}:{column}", self.name)
                }
                None => self.name.clone(),
            };
            let help = problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{place}: {}{help}", problem.message)
        })
    }

    fn groups<'a>(&'a self, problem: &'a Problem) -> Vec<Group<'a>> {
        let title = Level::ERROR.primary_title(&problem.message);
        let mut groups = vec![match &problem.span {
            Some(span) => title.element(self.snippet(problem, span)),
            None if self.text.is_empty() => Group::with_title(title),
            None => title.element(annotate_snippets::Origin::path(&self.name)),
        }];
        if let Some(help) = &problem.help {
            groups.push(Group::with_title(Level::HELP.secondary_title(help)));
        }
        groups
    }

    fn snippet<'a>(
        &'a self,
        problem: &'a Problem,
        span: &Range<usize>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let primary = AnnotationKind::Primary.span(self.visible(span));
        let other = problem.other.as_ref().map(|(span, label)| {
            AnnotationKind::Context.span(self.visible(span)).label(label.as_str())
        });
        Snippet::source(&self.text).path(&self.name).annotation(primary).annotations(other)
    }

    /// The span within its first line and within the text.
    fn visible(&self, span: &Range<usize>) -> Range<usize> {
        let start = floor(&self.text, span.start);
        let line = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let end = floor(&self.text, span.end).clamp(start, start + line.len());
        start..end
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..floor(&self.text, offset)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }
}

/// The nearest place at or before `offset` where a character begins.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Report {}
