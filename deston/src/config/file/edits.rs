//! `request` and `response` of `[listener.headers]` and of a route.

use http::{HeaderName, HeaderValue};

use crate::config::fields::{self, Doing, Message};
use crate::config::problem::Span;
use crate::config::section::{Field, Section};

/// Changes to the fields of one kind of message.
pub(in crate::config) struct Edits {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) set: Field<Vec<(HeaderName, HeaderValue)>>,
    pub(in crate::config) add: Field<Vec<(HeaderName, HeaderValue)>>,
    pub(in crate::config) remove: Field<Vec<HeaderName>>,
}

/// Changes to both kinds of message.
pub(in crate::config) struct MessageEdits {
    pub(in crate::config) request: Edits,
    pub(in crate::config) response: Edits,
}

impl MessageEdits {
    /// Reads both tables of `section`.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            request: Edits::read(section.child("request"), Message::Request),
            response: Edits::read(section.child("response"), Message::Response),
        }
    }
}

impl Edits {
    fn read(section: &mut Section<'_>, message: Message) -> Self {
        Self {
            header: section.header(),
            set: section.get("set", fields::given(message, Doing::Setting)),
            add: section.get("add", fields::given(message, Doing::Adding)),
            remove: section.get("remove", fields::removed(message)),
        }
    }
}
