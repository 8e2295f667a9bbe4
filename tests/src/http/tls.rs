//! Certificates of a test's own, and clients that believe in them.

use std::net::SocketAddr;
use std::sync::Arc;

use deston::model::{
    Alpn, Certificate, ServerProtocol, ServerTls, ServerTlsSettings, Speech, Tls, TlsSettings,
    TlsVersion,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Peer;
use crate::wait::soon;

/// An authority that issues certificates.
pub struct Authority {
    root: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in the forms that programs and files want.
#[derive(Debug)]
pub struct Issued {
    /// As the model has it.
    pub certificate: Certificate,
    /// The certificate, then its authority's, as a PEM file.
    pub chain_pem: String,
    /// The key as a PEM file.
    pub key_pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// The authority's own certificate.
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// The authority's own certificate as a PEM file.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("valid names");
        // Of its own: a certificate whose subject is its issuer's counts as self-signed.
        params.distinguished_name.push(DnType::CommonName, names.join(" and "));
        let key = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&key, &self.issuer).expect("a certificate");
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Issued {
            certificate: Certificate {
                chain: vec![issued.der().clone(), self.root()],
                key: Arc::new(der),
            },
            chain_pem: issued.pem() + &self.root.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// TLS with a certificate for each list of names, the first by default.
    pub fn serve(&self, names: &[&[&str]]) -> Tls {
        Tls::new(self.settings(names)).expect("usable certificates")
    }

    /// The settings of `serve`.
    pub fn settings(&self, names: &[&[&str]]) -> TlsSettings {
        TlsSettings {
            certificates: names.iter().map(|names| self.issue(names).certificate).collect(),
            client_auth: None,
            min: TlsVersion::V1_2,
            alpn: vec![Alpn::H2, Alpn::Http11],
            strict_sni: true,
        }
    }

    /// How a server of a certificate of this authority is spoken to, whoever it may be.
    pub fn speech(&self, host: &str, protocol: ServerProtocol) -> Speech {
        self.speech_with(host, protocol, None)
    }

    /// As `speech`, with a certificate to show.
    pub fn speech_with(
        &self,
        host: &str,
        protocol: ServerProtocol,
        own: Option<Certificate>,
    ) -> Speech {
        let name = ServerName::try_from(host.to_owned()).expect("a host");
        let settings =
            ServerTlsSettings { name, verify: true, roots: Some(vec![self.root()]), own };
        let tls = ServerTls::new(settings, protocol).expect("usable settings");
        Speech { protocol, tls: Some(tls), ..Speech::default() }
    }

    /// A client that believes this authority, offers `alpn` and shows `own` if asked.
    pub fn client(&self, alpn: &[&[u8]], own: Option<&Issued>) -> Client {
        self.client_of(&[&TLS13, &TLS12], alpn, own)
    }

    /// A client that speaks TLS 1.2 alone.
    pub fn client_of_1_2(&self) -> Client {
        self.client_of(&[&TLS12], &[], None)
    }

    fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
        own: Option<&Issued>,
    ) -> Client {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).expect("a root");
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = own.certificate.key.clone_key();
                builder.with_client_auth_cert(own.certificate.chain.clone(), key).expect("a key")
            }
        };
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
        Client(TlsConnector::from(Arc::new(config)))
    }
}

/// A client of TLS.
pub struct Client(TlsConnector);

impl Client {
    /// Connects and shakes hands, naming `host`.
    pub async fn try_connect(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = soon(TcpStream::connect(address)).await?;
        let name = ServerName::try_from(host.to_owned()).expect("a host");
        soon(self.0.connect(name, stream)).await
    }

    /// Shakes hands for HTTP/1 on a connected socket, naming `host`.
    pub async fn over(&self, stream: TcpStream, host: &str) -> Peer {
        let name = ServerName::try_from(host.to_owned()).expect("a host");
        let stream = soon(self.0.connect(name, stream)).await;
        Peer::tls(stream.unwrap_or_else(|error| panic!("shaking hands: {error}")))
    }

    /// Connects for HTTP/1.
    pub async fn connect(&self, address: SocketAddr, host: &str) -> Peer {
        let stream = self.try_connect(address, host).await;
        Peer::tls(stream.unwrap_or_else(|error| panic!("shaking hands: {error}")))
    }
}
