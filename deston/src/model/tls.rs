//! TLS towards clients: certificates, who is asked for one, and what rustls makes of them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

/// `[listener.tls]`: what is configured, and the rustls configuration made of it. Two are equal when
/// what is configured is, certificates and keys compared by their content.
#[derive(Clone)]
pub struct Tls {
    settings: TlsSettings,
    certificates: Arc<BySni>,
    config: Arc<ServerConfig>,
}

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// At least one. The first is shown to clients that name no host, or one that none is for.
    pub certificates: Vec<Certificate>,
    /// Whether clients show a certificate; `None`: they are not asked.
    pub client_auth: Option<ClientAuth>,
    /// The lowest version. Default 1.2.
    pub min: TlsVersion,
    /// Protocols offered by ALPN (RFC 7301), best first; never empty. Default h2, http/1.1.
    pub alpn: Vec<Alpn>,
    /// Whether requests for hosts that the certificate shown is not for are answered with 421.
    /// Default: yes.
    pub strict_sni: bool,
}

/// A certificate with its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate itself, then those that lead to a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key; never printed.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Whose certificates clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The authorities that they chain to.
    pub roots: Vec<CertificateDer<'static>>,
    /// Whether a client without one is refused.
    pub required: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// A protocol that ALPN negotiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`.
    H2,
    /// `http/1.1`.
    Http11,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, or its key.
    #[error("certificate {} cannot be used: {source}", place + 1)]
    Certificate {
        /// Its place among the certificates.
        place: usize,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A certificate that names no host.
    #[error("certificate {} is malformed: {source}", place + 1)]
    Malformed {
        /// Its place among the certificates.
        place: usize,
        /// What is wrong.
        source: webpki::Error,
    },
    /// The authorities of client certificates.
    #[error("the authorities of client certificates cannot be used: {0}")]
    ClientAuth(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] rustls::Error),
}

impl Tls {
    /// Makes settings usable.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Arc::new(BySni::new(&settings.certificates, &provider)?);
        let versions = match settings.min {
            TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?;
        let builder = match &settings.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => {
                let refused = |error: &dyn fmt::Display| TlsError::ClientAuth(error.to_string());
                let mut roots = RootCertStore::empty();
                for root in &auth.roots {
                    roots.add(root.clone()).map_err(|error| refused(&error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier =
                    if auth.required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| refused(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let shown: Arc<dyn ResolvesServerCert> = Arc::<BySni>::clone(&certificates);
        let mut config = builder.with_cert_resolver(shown);
        // Ours is best first; the client's need not be.
        config.ignore_client_order = true;
        config.alpn_protocols = settings.alpn.iter().map(|alpn| alpn.name().to_vec()).collect();
        // Without it a session is resumed only by the worker's process that began it, and from a
        // small table behind a lock.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self { settings, certificates, config: Arc::new(config) })
    }

    /// What is configured.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// What rustls serves clients by.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The certificate that a client which names `host` is shown.
    pub fn certificate_for(&self, host: Option<&str>) -> Option<CertificateDer<'static>> {
        let place = self.certificates.place(host);
        self.settings.certificates.get(place)?.chain.first().cloned()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Alpn {
    /// Its name in the handshake.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http11 => b"http/1.1",
        }
    }
}

/// Whether a certificate is for `host`, a name or an address without a port (RFC 9525).
pub fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return false };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = match literal.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        // A name may be written with the root's dot.
        Err(_) => match ServerName::try_from(host.strip_suffix('.').unwrap_or(host)) {
            Ok(name) => name,
            Err(_) => return false,
        },
    };
    parsed.verify_is_valid_for_subject_name(&name).is_ok()
}

/// Shows the certificate that is for the host a client names (SNI, RFC 6066 3).
#[derive(Debug)]
struct BySni {
    /// Names in lower case, and the key.
    certificates: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl BySni {
    fn new(certificates: &[Certificate], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let usable = |(place, certificate): (usize, &Certificate)| {
            let of = |source| TlsError::Certificate { place, source };
            let key = provider.key_provider.load_private_key(certificate.key.clone_key());
            let certified = CertifiedKey::new(certificate.chain.clone(), key.map_err(of)?);
            certified.keys_match().map_err(of)?;
            let end_entity = certified.end_entity_cert().map_err(of)?;
            let parsed = EndEntityCert::try_from(end_entity)
                .map_err(|source| TlsError::Malformed { place, source })?;
            let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
            Ok::<_, TlsError>((names, Arc::new(certified)))
        };
        let certificates = certificates.iter().enumerate().map(usable).collect::<Result<_, _>>()?;
        Ok(Self { certificates })
    }

    /// The place of the certificate for `host`: one that names it, else one that names all of its
    /// domain, else the first.
    fn place(&self, host: Option<&str>) -> usize {
        let Some(host) = host.map(str::to_ascii_lowercase) else { return 0 };
        let named = |wanted: &str| {
            self.certificates.iter().position(|(names, _)| names.iter().any(|name| name == wanted))
        };
        let wildcard = || named(&format!("*.{}", host.split_once('.')?.1));
        named(&host).or_else(wildcard).unwrap_or(0)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let place = self.place(hello.server_name());
        self.certificates.get(place).map(|(_, key)| Arc::clone(key))
    }
}
