//! How a server is spoken to: a version of HTTP, in clear or under TLS; of either layer, with or
//! without a header of the PROXY protocol before.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Alpn, Certificate, ProxyProtocol};

/// How a server is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speech {
    /// Layer 7: which version of HTTP.
    pub protocol: ServerProtocol,
    /// What tells it of its client before anything else; `None`: nothing.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Layer 7: TLS; `None`: in clear.
    pub tls: Option<ServerTls>,
}

/// The version of HTTP that a server is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerProtocol {
    /// HTTP/2 if the server chooses it by ALPN, else HTTP/1.1. The default.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in clear by prior knowledge.
    Http2,
}

/// `[server.tls]`: what is configured, and the rustls configurations made of it. Two are equal when
/// what is configured is.
#[derive(Clone)]
pub struct ServerTls {
    settings: ServerTlsSettings,
    config: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// Who the server must be, and what it is asked for (SNI).
    pub name: ServerName<'static>,
    /// Whether its certificate is verified. Default: yes.
    pub verify: bool,
    /// The authorities it may chain to; `None`: the system's.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// The certificate that is shown if the server asks for one.
    pub own: Option<Certificate>,
}

/// Why a server cannot be spoken to under TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The system has no authorities, or they cannot be read.
    #[error("the system has no certificate authorities that can be read: {0}")]
    NoRoots(String),
    /// An authority, or the certificate to show.
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
}

impl ServerTls {
    /// Makes settings usable.
    pub fn new(
        settings: ServerTlsSettings,
        protocol: ServerProtocol,
    ) -> Result<Self, ServerTlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if settings.verify {
            builder.with_root_certificates(roots(settings.roots.as_deref())?)
        } else {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody)
        };
        let mut config = match &settings.own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
        };
        let names = |alpn: &[Alpn]| alpn.iter().map(|alpn| alpn.name().to_vec()).collect();
        config.alpn_protocols = names(&[Alpn::Http11]);
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = match protocol {
            ServerProtocol::Auto => names(&[Alpn::H2, Alpn::Http11]),
            ServerProtocol::Http1 => names(&[Alpn::Http11]),
            ServerProtocol::Http2 => names(&[Alpn::H2]),
        };
        Ok(Self { settings, config: Arc::new(config), http1 })
    }

    /// Who the server must be.
    pub fn name(&self) -> &ServerName<'static> {
        &self.settings.name
    }

    /// What rustls connects by, where HTTP/2 may be chosen.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// What rustls connects by, where it may not.
    pub fn http1(&self) -> &Arc<ClientConfig> {
        &self.http1
    }
}

fn roots(own: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, ServerTlsError> {
    let mut store = RootCertStore::empty();
    match own {
        Some(own) => own.iter().try_for_each(|root| store.add(root.clone()))?,
        None => {
            let found = rustls_native_certs::load_native_certs();
            // Systems have some that rustls does not take.
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                return Err(ServerTlsError::NoRoots(errors.join(", ")));
            }
        }
    }
    Ok(store)
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.config.alpn_protocols == other.config.alpn_protocols
    }
}

impl Eq for ServerTls {}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// Takes any server for the one that is meant: `verify = false`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
