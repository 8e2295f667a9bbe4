//! `Max-Forwards` of OPTIONS and TRACE: how far a request may still go (RFC 9110 7.6.2).

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, MAX_FORWARDS, PROXY_AUTHORIZATION,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use super::body::ReplyBody;
use super::respond;
use super::validate::Refusal;
use crate::model::Rules;

/// Counts one hop. The answer, if the request may go no further.
pub(super) fn count(
    head: &mut Parts,
    rules: &Rules,
) -> Result<Option<Response<ReplyBody>>, Refusal> {
    if !matches!(head.method, Method::OPTIONS | Method::TRACE) {
        return Ok(None);
    }
    let mut values = head.headers.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !is_number || values.next().is_some() {
        return Err(Refusal::MaxForwards);
    }
    // A number that does not fit is larger than any path is long.
    let left = value.to_str().ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX);
    match left.checked_sub(1) {
        Some(left) => {
            head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            Ok(None)
        }
        None if head.method == Method::OPTIONS => {
            let mut response = Response::new(ReplyBody::None);
            response.headers_mut().insert(ALLOW, respond::allow(rules));
            Ok(Some(response))
        }
        None => Ok(Some(reflect(head))),
    }
}

/// RFC 9110 9.3.8: the request as it came, without what is secret.
fn reflect(head: &Parts) -> Response<ReplyBody> {
    let mut text = format!("{} {} {:?}\r\n", head.method, head.uri, head.version).into_bytes();
    for (name, value) in &head.headers {
        if matches!(*name, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE) {
            continue;
        }
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let mut response = Response::new(ReplyBody::whole(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    type Counted = Result<(Parts, Option<Response<ReplyBody>>), Refusal>;

    fn head(method: &str, hops: &[&str]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for hops in hops {
            request = request.header("max-forwards", *hops);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn counted(method: &str, hops: &[&str]) -> Counted {
        let mut head = head(method, hops);
        count(&mut head, &Rules::default()).map(|response| (head, response))
    }

    /// M3
    #[test]
    fn each_proxy_takes_one_hop() {
        for (before, after) in
            [("1", "0"), ("70", "69"), ("99999999999999999999", "18446744073709551614")]
        {
            let (head, answer) = counted("OPTIONS", &[before]).unwrap();
            assert!(answer.is_none());
            assert_eq!(head.headers["max-forwards"], after);
        }
    }

    /// M3
    #[test]
    fn a_request_without_hops_left_ends_here() {
        for method in ["OPTIONS", "TRACE"] {
            assert!(counted(method, &["0"]).unwrap().1.is_some(), "{method}");
        }
    }

    /// M3
    #[test]
    fn hops_of_other_methods_do_not_count() {
        let (head, answer) = counted("GET", &["0"]).unwrap();
        assert!(answer.is_none());
        assert_eq!(head.headers["max-forwards"], "0");
    }

    /// M3
    #[test]
    fn hops_that_are_no_number_are_refused() {
        for hops in [&["-1"][..], &["x"], &[""], &["1", "1"], &["1, 1"]] {
            assert_eq!(counted("OPTIONS", hops).err(), Some(Refusal::MaxForwards), "{hops:?}");
        }
    }
}
