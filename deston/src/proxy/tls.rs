//! TLS: the handshakes with clients and servers, and which hosts a client's connection may ask for.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::stream::Stream;
use crate::model;

/// What a client was shown.
#[derive(Debug)]
pub(crate) struct Presented {
    certificate: Option<CertificateDer<'static>>,
    /// The version of TLS, as it is logged.
    version: &'static str,
    /// `strict_sni`.
    strict: bool,
    /// The last host that the certificate was found to be for: requests of a connection rarely
    /// name two.
    covered: RefCell<String>,
}

/// A connection under TLS.
pub(crate) struct Accepted {
    /// Its bytes.
    pub(crate) stream: Stream,
    /// What the client was shown.
    pub(crate) presented: Presented,
    /// Whether ALPN chose HTTP/2.
    pub(crate) is_h2: bool,
}

/// Shakes hands with a client. Sets no deadline.
pub(crate) async fn accept(stream: TcpStream, tls: &model::Tls) -> io::Result<Accepted> {
    let acceptor = TlsAcceptor::from(Arc::clone(tls.config()));
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    let is_h2 = session.alpn_protocol() == Some(model::Alpn::H2.name());
    let presented = Presented {
        certificate: tls.certificate_for(session.server_name()),
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            // rustls has no older one.
            Some(_) | None => "TLSv1.2",
        },
        strict: tls.settings().strict_sni,
        covered: RefCell::default(),
    };
    Ok(Accepted { stream: Stream::tls(stream), presented, is_h2 })
}

/// Shakes hands with a server; HTTP/1.1 alone is offered if `http1`. Also gives whether HTTP/2 was
/// chosen. Sets no deadline.
pub(crate) async fn connect(
    stream: TcpStream,
    tls: &model::ServerTls,
    http1: bool,
) -> io::Result<(Stream, bool)> {
    let config = if http1 { tls.http1() } else { tls.config() };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(tls.name().clone(), stream).await?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(model::Alpn::H2.name());
    Ok((Stream::tls(stream), is_h2))
}

impl Presented {
    /// The version of TLS.
    pub(crate) fn version(&self) -> &'static str {
        self.version
    }

    /// Whether a request for `authority`, a host and perhaps a port, may be answered on this
    /// connection (RFC 9110 7.4).
    pub(crate) fn covers(&self, authority: &str) -> bool {
        let Some(certificate) = self.certificate.as_ref().filter(|_| self.strict) else {
            return true;
        };
        if self.covered.borrow().as_str() == authority {
            return true;
        }
        let covers = model::is_for(certificate, host(authority));
        if covers {
            authority.clone_into(&mut self.covered.borrow_mut());
        }
        covers
    }
}

/// An authority without its port.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_authority_without_its_port() {
        for (authority, expected) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("a.example:", "a.example"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host(authority), expected);
        }
    }
}
