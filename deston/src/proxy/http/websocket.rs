//! A WebSocket of HTTP/2 (RFC 8441): the client's extended CONNECT is the server's GET of HTTP/1.1.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request, response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::model::Rules;

/// What a server appends to the key it is asked with (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is left of an extended CONNECT.
pub(super) struct Extended {
    /// Gives the stream once the client has been answered.
    pub(super) stream: OnUpgrade,
    /// What the server must prove that it has read the handshake by.
    accept: HeaderValue,
}

impl Extended {
    /// Makes an extended CONNECT for a WebSocket the request that HTTP/1.1 has for it. `None` if a
    /// request is none.
    pub(super) fn of(head: &mut request::Parts, rules: &Rules) -> Option<Self> {
        let asked = head.extensions.get::<Protocol>()?.as_str() == "websocket";
        let offered = rules.upgrades.iter().any(|token| token == "websocket");
        if !asked || !offered || head.method != Method::CONNECT {
            return None;
        }
        let stream = head.extensions.remove::<OnUpgrade>()?;
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).ok()?;
        let key = BASE64_STANDARD.encode(nonce);
        let accept = HeaderValue::try_from(accept(key.as_bytes())).ok()?;
        head.method = Method::GET;
        let headers = &mut head.headers;
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
        // RFC 8441 5.1 leaves it to the client, and there is but one.
        headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        Some(Self { stream, accept })
    }

    /// Makes the server's 101 the answer that HTTP/2 has for it; false if the server has not read
    /// the handshake.
    pub(super) fn answer(&self, head: &mut response::Parts) -> bool {
        let proven = head.headers.remove(SEC_WEBSOCKET_ACCEPT).as_ref() == Some(&self.accept);
        remove_switch(&mut head.headers);
        head.status = StatusCode::OK;
        proven
    }
}

fn remove_switch(headers: &mut HeaderMap) {
    headers.remove(UPGRADE);
    headers.remove(CONNECTION);
}

/// What a server answers to a key (RFC 6455 4.2.2).
fn accept(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    BASE64_STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_in_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn other_requests_are_left_as_they_are() {
        let request = http::Request::builder().method("CONNECT").uri("a:80").body(()).unwrap();
        let (mut head, ()) = request.into_parts();
        assert!(Extended::of(&mut head, &Rules::default()).is_none());
        assert_eq!(head.method, Method::CONNECT);
    }
}
