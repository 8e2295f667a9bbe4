//! `[listener.tls]`: certificates with their keys, and what they are served by.

use crate::config::file;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::section::Field;
use crate::model::{Alpn, Certificate, ClientAuth, Tls, TlsError, TlsSettings, TlsVersion};

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
