//! Trailers on their way, in either direction: fields that frame, route, authenticate or describe
//! content come before it or not at all (RFC 9110 6.5.1).
//!
//! Towards HTTP/1.1, hyper writes only those that `Trailer` has announced. On a stream of HTTP/2 all
//! others pass: gRPC announces none (`grpc-status`, `grpc-message`).

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::Frame;

use super::headers::may_come_late;

/// The frame, without the fields that must not come late.
pub(super) fn filtered(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(without_early(trailers)),
        Err(data) => data,
    }
}

fn without_early(mut trailers: HeaderMap) -> HeaderMap {
    if !trailers.keys().all(may_come_late) {
        let early: Vec<HeaderName> =
            trailers.keys().filter(|name| !may_come_late(name)).cloned().collect();
        for name in early {
            trailers.remove(name);
        }
    }
    trailers
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// P4
    #[test]
    fn only_fields_that_may_come_late_are_trailers() {
        let names = [
            "grpc-status",
            "grpc-message",
            "x-sum",
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "connection",
            "te",
            "trailer",
            "upgrade",
            "cookie",
            "set-cookie",
            "x-forwarded-for",
            "forwarded",
            "proxy-authorization",
            "content-type",
            "x_sum",
        ];
        let value = HeaderValue::from_static("1");
        let trailers = names.map(|name| (HeaderName::from_static(name), value.clone()));
        let late = without_early(trailers.into_iter().collect());
        let mut names: Vec<&str> = late.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-message", "grpc-status", "x-sum"]);
    }
}
