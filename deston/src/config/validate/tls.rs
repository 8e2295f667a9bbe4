//! `[listener.tls]` and `[server.tls]`: certificates with their keys, and what is made of them.

use rustls::pki_types::ServerName;

use crate::config::file;
use crate::config::names::ProtocolName;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::section::{At, Field};
use crate::model::{
    Alpn, Certificate, ClientAuth, ServerProtocol, ServerTls, ServerTlsSettings, Tls, TlsError,
    TlsSettings, TlsVersion,
};

/// TLS, if there is some; `None` if what is written is wrong.
pub(super) fn tls(file: &file::Tls, h2: bool, problems: &Problems) -> Option<Option<Tls>> {
    let Some(header) = &file.header else { return Some(None) };
    let all = || std::iter::once(&file.own).chain(&file.more);
    // All of them, before anything is concluded: each reports its own mistakes.
    let certificates: Vec<_> = all().map(|pair| certificate(pair, problems)).collect();
    let mut alpn = file.alpn.or(vec![Alpn::H2, Alpn::Http11])?;
    if !h2 {
        alpn.retain(|alpn| *alpn != Alpn::H2);
    }
    if alpn.is_empty() {
        let message = "`alpn` offers h2 alone, and `h2` of [listener.http] is false";
        problems.add(Problem::near(file.alpn.span(), message));
        return None;
    }
    let client_auth = client_auth(file, problems)?;
    let settings = TlsSettings {
        certificates: certificates.into_iter().collect::<Option<_>>()?,
        client_auth,
        min: file.min.or(TlsVersion::V1_2)?,
        alpn,
        strict_sni: file.strict_sni.or(true)?,
    };
    match Tls::new(settings) {
        Ok(tls) => Some(Some(tls)),
        Err(error) => {
            let span = match &error {
                TlsError::Certificate { place, .. } | TlsError::Malformed { place, .. } => {
                    all().nth(*place).and_then(|pair| pair.cert.span())
                }
                TlsError::ClientAuth(_) => file.client_ca.span(),
                TlsError::Other(_) => None,
            };
            let span = span.unwrap_or_else(|| header.clone());
            problems.add(Problem::at(span, error.to_string()));
            None
        }
    }
}

/// A certificate and its key, both of which must be written.
fn certificate(pair: &file::Certificate, problems: &Problems) -> Option<Certificate> {
    check_written("cert", &pair.cert, pair.header.as_ref(), problems);
    check_written("key", &pair.key, pair.header.as_ref(), problems);
    Some(Certificate {
        chain: pair.cert.given()?.value.clone(),
        key: pair.key.given()?.value.clone(),
    })
}

fn check_written<T>(key: &str, field: &Field<T>, header: Option<&Span>, problems: &Problems) {
    if matches!(field, Field::Absent) {
        problems.add(
            Problem::near(header.cloned(), format!("a certificate needs `{key}`"))
                .help(format!("write `{key} = \"site.pem\"`, a PEM file")),
        );
    }
}

fn client_auth(file: &file::Tls, problems: &Problems) -> Option<Option<ClientAuth>> {
    match file.client_ca.or(None)? {
        Some(roots) => Some(Some(ClientAuth { roots, required: file.client_auth.or(true)? })),
        None => {
            if let Some(at) = file.client_auth.given() {
                let message = "`client_auth` needs `client_ca`, the authorities of the clients";
                problems.add(Problem::at(at.key.clone(), message));
            }
            Some(None)
        }
    }
}

/// TLS towards a server, if there is some; `None` if what is written is wrong.
pub(super) fn server(
    file: &file::ServerTls,
    address: &Field<String>,
    protocol: Option<&At<ProtocolName>>,
    problems: &Problems,
) -> Option<Option<ServerTls>> {
    let Some(header) = &file.header else {
        if let Some(at) = protocol.filter(|at| at.value == ProtocolName::H2) {
            let message = "`protocol = \"h2\"` is HTTP/2 under TLS, and there is no [server.tls]";
            problems.add(Problem::at(at.span.clone(), message).help("write `h2c`, or add it"));
            return None;
        }
        return Some(None);
    };
    if let Some(at) = protocol.filter(|at| at.value == ProtocolName::H2c) {
        let message = "`protocol = \"h2c\"` is HTTP/2 in clear, and there is [server.tls]";
        problems.add(Problem::at(at.span.clone(), message).help("write `h2`, or remove it"));
        return None;
    }
    let own = match (&file.own.cert, &file.own.key) {
        (Field::Absent, Field::Absent) => None,
        _ => Some(certificate(&file.own, problems)?),
    };
    let host = file.sni.or(address.or("localhost".to_owned())?)?;
    let Ok(name) = ServerName::try_from(host.clone()) else {
        let span = file.sni.span().or(address.span()).unwrap_or_else(|| header.clone());
        let message = format!("{host:?} cannot be the name of a server in a certificate");
        problems.add(Problem::at(span, message).help("write `sni`, a host name or an address"));
        return None;
    };
    let verify = file.verify.or(true)?;
    let roots = file.ca.or(None)?;
    let settings = ServerTlsSettings { name, verify, roots, own };
    let protocol = match protocol.map(|at| at.value) {
        None | Some(ProtocolName::Auto) => ServerProtocol::Auto,
        Some(ProtocolName::H1) => ServerProtocol::Http1,
        Some(ProtocolName::H2 | ProtocolName::H2c) => ServerProtocol::Http2,
    };
    match ServerTls::new(settings, protocol) {
        Ok(tls) => Some(Some(tls)),
        Err(error) => {
            let span = file.own.cert.span().or(file.ca.span()).unwrap_or_else(|| header.clone());
            problems.add(Problem::at(span, error.to_string()));
            None
        }
    }
}
