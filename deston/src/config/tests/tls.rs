//! `[listener.tls]`: the files it names, and what does not go together.

use std::path::PathBuf;

use rcgen::CertifiedKey;

use super::{lookup, parse};
use crate::config::resolve::Resolver;
use crate::config::{Report, parse_with};
use crate::model::{Alpn, Layer, Model, ServerProtocol, Speech, Tls, TlsVersion};

/// A directory with certificates, gone with the test.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("deston-{}-{test}", std::process::id()));
        std::fs::create_dir_all(path.join("certs")).unwrap();
        let files = Self(path);
        for name in ["a", "b"] {
            let CertifiedKey { cert, signing_key } =
                rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
            files.write(&format!("{name}.pem"), &cert.pem());
            files.write(&format!("{name}.key"), &signing_key.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// Makes a file with what another one has.
    pub(super) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.0.join(from), self.0.join(to)).unwrap();
    }

    /// A file in this directory.
    pub(super) fn parse_text(&self, text: &str) -> Result<Model, Report> {
        let name = self.0.join("config.toml").display().to_string();
        parse_with(&name, text, &mut Resolver::new(lookup))
    }

    /// A layer 7 listener with these keys of `[listener.tls]`.
    fn parse(&self, keys: &str) -> Result<Model, Report> {
        let text = format!(
            "[load_balancer]\nlayer = \"L7\"\n[load_balancer.tls]\n{keys}\n[[server]]\nport = 1"
        );
        self.parse_text(&text)
    }

    fn tls(&self, keys: &str) -> Tls {
        let model = self.parse(keys).unwrap();
        let Layer::L7(l7) = &model.listeners[0].layer else { panic!("layer 7") };
        l7.tls.clone().unwrap()
    }

    /// The one error of a file, without its place's file.
    fn error(&self, keys: &str) -> String {
        let report = self.parse(keys).expect_err("the text is invalid");
        let lines: Vec<String> = report.lines().collect();
        let [line] = &lines[..] else { panic!("one error, not {lines:?}") };
        line.rsplit_once("config.toml:").unwrap().1.to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

const A: &str = "cert = \"a.pem\"\nkey = \"a.key\"\n";

#[test]
fn files_are_looked_for_beside_the_configuration() {
    let files = Files::new("beside");
    let tls = files.tls(A);
    let settings = tls.settings();
    assert_eq!((settings.min, settings.strict_sni), (TlsVersion::V1_2, true));
    assert_eq!(settings.alpn, [Alpn::H2, Alpn::Http11]);
    assert!(settings.client_auth.is_none());
    assert_eq!(tls.certificate_for(Some("a.example")), tls.certificate_for(None));
}

#[test]
fn more_certificates_are_chosen_by_the_host() {
    let files = Files::new("more");
    let tls = files.tls(&format!("{A}more = [{{ cert = \"b.pem\", key = \"b.key\" }}]"));
    let shown = |host| tls.certificate_for(Some(host));
    assert_ne!(shown("b.example"), shown("a.example"));
    assert_eq!(shown("c.example"), shown("a.example"));
}

#[test]
fn every_setting_is_read() {
    let files = Files::new("every");
    let tls = files.tls(&format!(
        "{A}min = \"1.3\"\nalpn = [\"http/1.1\"]\nstrict_sni = false\nclient_ca = \"b.pem\"\n\
         client_auth = \"optional\""
    ));
    let settings = tls.settings();
    assert_eq!((settings.min, settings.strict_sni), (TlsVersion::V1_3, false));
    assert_eq!(settings.alpn, [Alpn::Http11]);
    assert!(!settings.client_auth.as_ref().unwrap().required);
}

#[test]
fn http_2_that_is_not_spoken_is_not_offered() {
    let files = Files::new("h2");
    let tls = files.tls(&format!("{A}[load_balancer.http]\nh2 = false"));
    assert_eq!(tls.settings().alpn, [Alpn::Http11]);
    let error = files.error(&format!("{A}alpn = [\"h2\"]\n[load_balancer.http]\nh2 = false"));
    assert_eq!(error, "6:8: `alpn` offers h2 alone, and `h2` of [listener.http] is false");
}

#[test]
fn other_contents_of_a_file_are_another_configuration() {
    let files = Files::new("contents");
    let (before, same) = (files.parse(A).unwrap(), files.parse(A).unwrap());
    assert_eq!(before, same);
    files.copy("b.pem", "a.pem");
    files.copy("b.key", "a.key");
    assert_ne!(before, files.parse(A).unwrap());
}

#[test]
fn a_file_that_is_missing_or_is_something_else_is_told_at_its_key() {
    let files = Files::new("missing");
    files.write("empty.pem", "");
    files.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    for (cert, expected) in [
        ("no.pem", "`no.pem` cannot be read: No such file or directory (os error 2)"),
        (
            "empty.pem",
            "`empty.pem` holds no certificate (it must be PEM: begin with -----BEGIN CERTIFICATE-----)",
        ),
        ("", "`cert` must name a file"),
    ] {
        let error = files.error(&format!("cert = \"{cert}\"\nkey = \"a.key\""));
        assert_eq!(error, format!("4:8: {expected}"));
    }
    let error = files.error("cert = \"broken.pem\"\nkey = \"a.key\"");
    assert!(error.starts_with("4:8: `broken.pem` is not valid PEM"), "{error}");
    let error = files.error("cert = \"a.pem\"\nkey = \"a.pem\"");
    assert!(error.starts_with("5:7: `a.pem` holds no private key"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let files = Files::new("mismatch");
    let error = files.error("cert = \"a.pem\"\nkey = \"b.key\"");
    assert!(error.starts_with("4:8: certificate 1 cannot be used: "), "{error}");
    let error = files.error(&format!("{A}more = [{{ cert = \"b.pem\", key = \"a.key\" }}]"));
    assert!(error.starts_with("6:18: certificate 2 cannot be used: "), "{error}");
}

#[test]
fn a_certificate_and_its_key_are_both_needed() {
    let files = Files::new("both");
    let error = files.error("cert = \"a.pem\"");
    assert!(error.contains("a certificate needs `key`"), "{error}");
    let error = files.error("key = \"a.key\"");
    assert!(error.contains("a certificate needs `cert`"), "{error}");
}

#[test]
fn client_authentication_needs_an_authority() {
    let files = Files::new("authority");
    let error = files.error(&format!("{A}client_auth = \"optional\""));
    assert_eq!(error, "6:1: `client_auth` needs `client_ca`, the authorities of the clients");
    files.tls(&format!("{A}client_ca = \"\""));
}

#[test]
fn tls_is_for_layer_7() {
    let text = "[load_balancer]\n[load_balancer.tls]\n[[server]]\nport = 1";
    let report = parse(text).expect_err("layer 4");
    assert!(report.lines().any(|line| line.contains("`tls` is for layer 7")));
}

impl Files {
    /// The servers of a layer 7 pool, whose one server has these keys.
    fn server(&self, keys: &str) -> Result<Model, Report> {
        self.parse_text(&format!("[load_balancer]\nlayer = \"L7\"\n[[server]]\n{keys}"))
    }

    fn speech(&self, keys: &str) -> Speech {
        self.server(keys).unwrap().pools[0].servers[0].speech.clone()
    }

    fn server_errors(&self, keys: &str) -> Vec<String> {
        let report = self.server(keys).expect_err("the text is invalid");
        let line = |line: String| line.rsplit_once("config.toml:").unwrap().1.to_owned();
        report.lines().map(line).collect()
    }
}

#[test]
fn a_server_is_spoken_to_in_clear_unless_told_otherwise() {
    let files = Files::new("speech");
    assert_eq!(files.speech(""), Speech::default());
    for (protocol, expected) in [
        ("auto", ServerProtocol::Auto),
        ("h1", ServerProtocol::Http1),
        ("h2c", ServerProtocol::Http2),
    ] {
        let speech = files.speech(&format!("protocol = \"{protocol}\""));
        assert_eq!((speech.protocol, speech.tls), (expected, None));
    }
}

#[test]
fn a_server_under_tls_must_be_who_its_address_says_or_sni() {
    let files = Files::new("sni");
    let name = |keys: &str| {
        let tls = files.speech(&format!("{keys}\n[server.tls]\nca = \"a.pem\"")).tls;
        tls.unwrap().name().to_str().into_owned()
    };
    assert_eq!(name("address = \"app\""), "app");
    assert_eq!(name("address = \"192.0.2.1\""), "192.0.2.1");
    let other = "address = \"app\"\n[server.tls]\nca = \"a.pem\"\nsni = \"b.example\"\n\
                 cert = \"b.pem\"\nkey = \"b.key\"";
    let tls = files.speech(other).tls.unwrap();
    assert_eq!(tls.name().to_str(), "b.example");
    files.speech("[server.tls]\nverify = false");
}

#[test]
fn a_servers_protocol_goes_with_its_tls() {
    let files = Files::new("protocol");
    assert_eq!(
        files.server_errors("protocol = \"h2\""),
        [
            "4:12: `protocol = \"h2\"` is HTTP/2 under TLS, and there is no [server.tls] (write `h2c`, \
          or add it)"
        ]
    );
    assert_eq!(
        files.server_errors("protocol = \"h2c\"\n[server.tls]\nverify = false"),
        [
            "4:12: `protocol = \"h2c\"` is HTTP/2 in clear, and there is [server.tls] (write `h2`, or \
          remove it)"
        ]
    );
    assert_eq!(
        files.server_errors("[server.tls]\nca = \"a.pem\"\nsni = \"a b\""),
        [
            "6:7: \"a b\" cannot be the name of a server in a certificate (write `sni`, a host name or \
          an address)"
        ]
    );
}

#[test]
fn a_server_of_layer_4_is_spoken_to_by_its_clients() {
    for keys in ["protocol = \"h1\"", "[server.tls]\nverify = false"] {
        let report = parse(&format!("[load_balancer]\n[[server]]\n{keys}")).expect_err("layer 4");
        let lines: Vec<String> = report.lines().collect();
        assert!(lines[0].contains("are for layer 7, and this server's pool serves layer 4"));
    }
}
