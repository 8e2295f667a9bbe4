//! What is believed of a request, and what a server is told of it.

use proptest::prelude::*;

use super::*;

const PEER: &str = "10.0.0.1";

/// Trusts 10.0.0.0/8 and 2001:db8:a::/48.
fn origin() -> Origin {
    let trusted = ["10.0.0.0/8", "2001:db8:a::/48"].map(|prefix| prefix.parse().unwrap());
    Origin { trusted_proxies: trusted.into_iter().collect(), ..Origin::default() }
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for &(name, value) in fields {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn step<'a>(value: &'a HeaderValue, fields: ForwardedFields) -> Step<'a> {
    let peer = value.to_str().unwrap().parse().unwrap();
    Step { peer, value, scheme: "http", fields }
}

/// The client of a request from PEER, by what is said.
fn client(kind: ForwardedFields, fields: &[(&'static str, &str)]) -> String {
    let value = HeaderValue::from_static(PEER);
    let told = read(&map(fields), &step(&value, kind), &origin()).unwrap();
    told.client().to_string()
}

fn by_list(list: &str) -> String {
    client(ForwardedFields::X, &[("x-forwarded-for", list)])
}

fn by_elements(elements: &str) -> String {
    client(ForwardedFields::Rfc7239, &[("forwarded", elements)])
}

/// What a server is sent of a request from `peer`.
fn written(
    peer: &'static str,
    kind: ForwardedFields,
    fields: &[(&'static str, &str)],
) -> Vec<(String, String)> {
    let mut headers = map(fields);
    headers.insert(HOST, HeaderValue::from_static("a.example:81"));
    let value = HeaderValue::from_static(peer);
    let step = step(&value, kind);
    let told = read(&headers, &step, &origin());
    let real_ip = headers.contains_key(X_REAL_IP);
    write(&mut headers, &step, told.as_ref(), real_ip);
    headers.remove(HOST);
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    all.sort_unstable();
    all
}

#[track_caller]
fn assert_written(written: &[(String, String)], expected: &[(&str, &str)]) {
    let written: Vec<_> = written.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(written, expected);
}

#[test]
fn an_untrusted_peer_is_not_asked() {
    let value = HeaderValue::from_static("192.0.2.1");
    let headers = map(&[("x-forwarded-for", "198.51.100.1")]);
    assert_eq!(read(&headers, &step(&value, ForwardedFields::X), &origin()), None);
}

#[test]
fn the_right_most_untrusted_address_is_the_client() {
    for (list, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.66, 192.0.2.1", "192.0.2.1"),
        ("198.51.100.66, 192.0.2.1, 10.1.1.1,10.2.2.2", "192.0.2.1"),
        ("10.9.9.9, 10.1.1.1", "10.9.9.9"),
        ("2001:db8::1, 2001:db8:a::5", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(by_list(list), expected, "{list}");
    }
    let fields = [("x-forwarded-for", "198.51.100.66"), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(client(ForwardedFields::X, &fields), "192.0.2.1");
    assert_eq!(client(ForwardedFields::X, &[]), PEER);
}

#[test]
fn an_address_may_have_a_port() {
    for (node, expected) in [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("192.0.2.1:_hidden", "192.0.2.1"),
    ] {
        assert_eq!(by_list(node), expected);
        assert_eq!(by_elements(&format!("for=\"{node}\"")), expected);
    }
}

#[test]
fn what_is_no_address_ends_the_way_at_the_last_trusted_proxy() {
    for node in [
        "unknown",
        "_hidden",
        "",
        "192.0.2",
        "192.0.2.1.1",
        "192.0.2.1:",
        "192.0.2.1:x",
        "[192.0.2.1]",
        "2001:db8::1%eth0",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]4711",
        "192.0.2.1:123456",
        "192.0.2.1 ",
        "a.example",
    ] {
        let node = if node == "192.0.2.1 " { "192.0.2.1 198.51.100.1" } else { node };
        assert_eq!(by_list(&format!("198.51.100.66, {node}, 10.1.1.1")), "10.1.1.1", "{node:?}");
        let elements = format!("for=198.51.100.66, for=\"{node}\", for=10.1.1.1");
        assert_eq!(by_elements(&elements), "10.1.1.1", "{node:?}");
    }
}

#[test]
fn elements_are_read_as_rfc_7239_writes_them() {
    for (elements, expected) in [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=\"[2001:db8::1]:4711\"", "2001:db8::1"),
        ("for=192.0.2.1;proto=http;by=203.0.113.43", "192.0.2.1"),
        ("by=203.0.113.43 ; FOR=192.0.2.1; host=\"a.example:80\"", "192.0.2.1"),
        ("for=198.51.100.66, for=\"192.0.2.1\", for=10.1.1.1", "192.0.2.1"),
        (
            "for=198.51.100.66;host=\"a,b;c=\\\"d\", for=192.0.2.1;host=\"x, for=10.0.0.9\"",
            "192.0.2.1",
        ),
        // Without the quotes that it needs.
        ("for=[2001:db8::1]:80", "2001:db8::1"),
        // An element that says nothing of whom it is for.
        ("for=192.0.2.1, proto=https", PEER),
    ] {
        assert_eq!(by_elements(elements), expected, "{elements}");
    }
}

#[test]
fn a_clients_open_quote_hides_nothing_that_a_proxy_has_added() {
    assert_eq!(by_elements("for=\"198.51.100.66, for=192.0.2.1"), "192.0.2.1");
    assert_eq!(by_elements("for=\"198.51.100.66, for=192.0.2.1, for=10.1.1.1"), "192.0.2.1");
    assert_eq!(by_elements("for=198.51.100.66\\\", for=\"192.0.2.1\""), "192.0.2.1");
    let sent = written(
        PEER,
        ForwardedFields::Rfc7239,
        &[("forwarded", "for=\"198.51.100.66, for=192.0.2.1")],
    );
    let expected = "for=192.0.2.1, for=10.0.0.1;host=\"a.example:81\";proto=http";
    assert_written(&sent, &[("forwarded", expected)]);
}

#[test]
fn an_element_that_cannot_be_read_ends_the_way() {
    for element in
        ["for", "for=", "=192.0.2.1", "for=192.0.2.1;for=198.51.100.66", "for=192.0.2.1;"]
    {
        assert_eq!(by_elements(&format!("{element}, for=10.1.1.1")), "10.1.1.1", "{element}");
    }
}

#[test]
fn only_the_kind_that_is_written_is_believed() {
    let fields = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=198.51.100.66")];
    assert_eq!(client(ForwardedFields::X, &fields), "192.0.2.1");
    assert_eq!(client(ForwardedFields::Rfc7239, &fields), "198.51.100.66");
    assert_eq!(client(ForwardedFields::Off, &fields), PEER);
    // Of the two, one may be the client's own.
    assert_eq!(client(ForwardedFields::Both, &fields), PEER);
    for fields in [&fields[..1], &[fields[0], ("forwarded", "for=192.0.2.1")]] {
        assert_eq!(client(ForwardedFields::Both, fields), "192.0.2.1");
    }
    assert_eq!(client(ForwardedFields::Both, &fields[1..]), "198.51.100.66");
}

#[test]
fn an_untrusted_peers_fields_are_replaced() {
    let claims = [
        ("x-forwarded-for", "198.51.100.66"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-real-ip", "198.51.100.66"),
        ("forwarded", "for=198.51.100.66;proto=https"),
    ];
    let x = [
        ("x-forwarded-for", "2001:db8::7"),
        ("x-forwarded-host", "a.example:81"),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "2001:db8::7"),
    ];
    let element = "for=\"[2001:db8::7]\";host=\"a.example:81\";proto=http";
    let rfc7239 = [("forwarded", element)];
    // X removes Forwarded before, as one of the hop.
    assert_written(&written("2001:db8::7", ForwardedFields::X, &claims[..4]), &x);
    assert_written(&written("2001:db8::7", ForwardedFields::Rfc7239, &claims), &rfc7239);
    let both = [&rfc7239[..], &x].concat();
    assert_written(&written("2001:db8::7", ForwardedFields::Both, &claims), &both);
    assert_written(&written("2001:db8::7", ForwardedFields::Off, &claims[..4]), &[]);
}

#[test]
fn a_trusted_peers_fields_are_added_to() {
    let said = [
        ("x-forwarded-for", "198.51.100.66, 192.0.2.1"),
        ("x-forwarded-proto", "HTTPS"),
        ("x-forwarded-host", "b.example"),
        ("x-real-ip", "198.51.100.66"),
    ];
    let expected = [
        ("x-forwarded-for", "198.51.100.66, 192.0.2.1, 10.0.0.1"),
        ("x-forwarded-host", "b.example"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.1"),
    ];
    assert_written(&written(PEER, ForwardedFields::X, &said), &expected);
    let said = [("forwarded", "for=\"[2001:db8::1]\";proto=https"), ("forwarded", "for=10.1.1.1")];
    let expected = "for=\"[2001:db8::1]\";proto=https, for=10.1.1.1, \
                    for=10.0.0.1;host=\"a.example:81\";proto=http";
    assert_written(&written(PEER, ForwardedFields::Rfc7239, &said), &[("forwarded", expected)]);
}

#[test]
fn a_trusted_peers_scheme_and_host_are_kept_if_they_are_some() {
    for (proto, host) in [("gopher", "a b"), ("", ""), ("http:", "user@host"), ("https,", "a,")] {
        let said = [("x-forwarded-proto", proto), ("x-forwarded-host", host)];
        let expected = [
            ("x-forwarded-for", PEER),
            ("x-forwarded-host", "a.example:81"),
            ("x-forwarded-proto", "http"),
        ];
        assert_written(&written(PEER, ForwardedFields::X, &said), &expected);
    }
    let said = [("x-forwarded-proto", "http, https"), ("x-forwarded-host", "a, b:80")];
    let sent = written(PEER, ForwardedFields::X, &said);
    assert_eq!(sent[1].1, "b:80");
    assert_eq!(sent[2].1, "https");
}

proptest! {
    #[test]
    fn whatever_a_client_says_a_trusted_proxy_has_the_last_word(
        text in "[-a-z0-9=:;,.\" \\[\\]\\\\_]{0,60}",
    ) {
        let list = format!("{text}, 192.0.2.1, 10.1.1.1");
        prop_assert_eq!(by_list(&list), "192.0.2.1");
        let elements = format!("{text}, for=\"192.0.2.1:80\";host=\"a,b\", for=10.1.1.1");
        prop_assert_eq!(by_elements(&elements), "192.0.2.1");
        // What is sent on can be read from the left, too: no quote is left open.
        let sent = written(PEER, ForwardedFields::Rfc7239, &[("forwarded", &elements)]);
        let mut open = false;
        let mut escaped = false;
        for char in sent[0].1.chars() {
            match char {
                _ if escaped => escaped = false,
                '\\' if open => escaped = true,
                '"' => open = !open,
                _ => {}
            }
        }
        prop_assert!(!open, "{:?}", sent);
    }

    #[test]
    fn whatever_is_said_is_read(text in "\\PC{0,60}") {
        if HeaderValue::from_str(&text).is_ok_and(|value| value.to_str().is_ok()) {
            by_list(&text).parse::<IpAddr>().unwrap();
            by_elements(&text).parse::<IpAddr>().unwrap();
        }
    }
}
