//! `[listener.tls]`, and `[server.tls]`.

use rustls::pki_types::CertificateDer;

use crate::config::names::{self, CLIENT_AUTH, TLS_VERSIONS};
use crate::config::pem;
use crate::config::problem::Span;
use crate::config::section::{Field, Section};
use crate::config::value;
use crate::model::{Alpn, TlsVersion};

/// `[listener.tls]`.
pub(in crate::config) struct Tls {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) own: Certificate,
    pub(in crate::config) more: Vec<Certificate>,
    pub(in crate::config) client_ca: Field<Option<Vec<CertificateDer<'static>>>>,
    pub(in crate::config) client_auth: Field<bool>,
    pub(in crate::config) min: Field<TlsVersion>,
    pub(in crate::config) alpn: Field<Vec<Alpn>>,
    pub(in crate::config) strict_sni: Field<bool>,
}

/// `cert` and `key`.
pub(in crate::config) struct Certificate {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) cert: Field<Vec<CertificateDer<'static>>>,
    pub(in crate::config) key: Field<pem::Key>,
}

/// `[server.tls]`.
pub(in crate::config) struct ServerTls {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) sni: Field<String>,
    pub(in crate::config) verify: Field<bool>,
    pub(in crate::config) ca: Field<Option<Vec<CertificateDer<'static>>>>,
    pub(in crate::config) own: Certificate,
}

impl ServerTls {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let base = section.base();
        Self {
            header: section.header(),
            sni: section.get("sni", value::text),
            verify: section.get("verify", value::flag),
            ca: section.get("ca", pem::optional_certificates(base)),
            own: Certificate::read(section),
        }
    }
}

impl Tls {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.later(&["acme"]);
        let base = section.base();
        Self {
            header: section.header(),
            own: Certificate::read(section),
            more: section.each("more", Certificate::read),
            client_ca: section.get("client_ca", pem::optional_certificates(base)),
            client_auth: section.get("client_auth", value::one_of(&CLIENT_AUTH)),
            min: section.get("min", value::one_of(&TLS_VERSIONS)),
            alpn: section.get("alpn", names::alpn),
            strict_sni: section.get("strict_sni", value::flag),
        }
    }
}

impl Certificate {
    fn read(section: &mut Section<'_>) -> Self {
        let base = section.base();
        Self {
            header: section.header(),
            cert: section.get("cert", pem::certificates(base)),
            key: section.get("key", pem::key(base)),
        }
    }
}
