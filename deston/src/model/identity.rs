//! How requests are told apart, here and by those that a request passes.

use http::HeaderName;

/// `request_id` and `traceparent` of `[listener.headers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The field that carries the request's id; `None`: there is no id. Default: `x-request-id`.
    pub request_id: Option<HeaderName>,
    /// Whether requests take part in W3C traces. Default: no.
    pub traceparent: bool,
}

impl Default for Identity {
    fn default() -> Self {
        Self { request_id: Some(HeaderName::from_static("x-request-id")), traceparent: false }
    }
}
