//! Reading certificates and keys, from the files that values name.
//!
//! They are read with the configuration, so that a reload with other contents is a change like any
//! other, and a file that is missing is an error at its key.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use toml::de::DeValue;

use super::value::{self, Fault};

/// A private key that may be cloned.
pub(super) type Key = Arc<PrivateKeyDer<'static>>;

/// The certificates of a PEM file, which is named from `base`.
pub(super) fn certificates(
    base: &Path,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    move |key, value| {
        let (name, bytes) = file(base, key, value)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(Fault::new(format!("`{name}` holds no certificate"))
                    .help("it must be PEM: begin with -----BEGIN CERTIFICATE-----"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(not_pem(&name, &error)),
        }
    }
}

/// As [`certificates`]; an empty name stands for none.
pub(super) fn optional_certificates(
    base: &Path,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Option<Vec<CertificateDer<'static>>>, Fault> {
    move |key, value| match value.as_str() {
        Some("") => Ok(None),
        Some(_) | None => certificates(base)(key, value).map(Some),
    }
}

/// The private key of a PEM file, which is named from `base`.
pub(super) fn key(base: &Path) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Key, Fault> {
    move |key, value| {
        let (name, bytes) = file(base, key, value)?;
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Ok(Arc::new(key)),
            Err(pem::Error::NoItemsFound) => {
                Err(Fault::new(format!("`{name}` holds no private key"))
                    .help("it must be PEM, not encrypted: -----BEGIN PRIVATE KEY-----"))
            }
            Err(error) => Err(not_pem(&name, &error)),
        }
    }
}

fn file(base: &Path, key: &str, value: &DeValue<'_>) -> Result<(String, Vec<u8>), Fault> {
    let name = value::text(key, value)?;
    if name.is_empty() {
        return Err(Fault::new(format!("`{key}` must name a file")));
    }
    let bytes = std::fs::read(base.join(&name))
        .map_err(|error| Fault::new(format!("`{name}` cannot be read: {error}")))?;
    Ok((name, bytes))
}

fn not_pem(name: &str, error: &pem::Error) -> Fault {
    Fault::new(format!("`{name}` is not valid PEM: {error}"))
}
