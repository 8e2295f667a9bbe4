//! What clients are shown when a request is not answered by a server.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// `error_pages` of `[listener.http]`: bodies of responses that Deston itself makes, by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages(pub BTreeMap<u16, Page>);

/// A body.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    /// The file's contents.
    pub body: Bytes,
    /// `Content-Type`, by the file's name.
    pub content_type: &'static str,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.content_type, self.body.len())
    }
}
