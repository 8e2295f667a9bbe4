//! Passwords that were found to be right, so that not every request costs a hash.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use super::recent::Recent;

/// Passwords of one listener that were right lately. Wrong ones are not remembered: those who guess
/// displace nobody.
pub(super) struct Verified {
    known: Recent<(), [u8; 32]>,
    /// `None` without randomness: then nothing is remembered.
    key: Option<hmac::Key>,
}

impl Verified {
    /// Nothing was found yet.
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { known: Recent::new(), key }
    }

    /// Whether this password was found to be that of this hash. How long looking takes tells
    /// nothing: what is looked up is keyed.
    pub(super) fn knows(&self, hash: &str, password: &[u8]) -> bool {
        self.look(hash, password, false)
    }

    /// It was.
    pub(super) fn learn(&self, hash: &str, password: &[u8]) {
        self.look(hash, password, true);
    }

    fn look(&self, hash: &str, password: &[u8], learn: bool) -> bool {
        let Some(key) = &self.key else { return false };
        // A hash holds no zero, so that no two pairs are the same bytes.
        let tag = hmac::sign(key, &[hash.as_bytes(), b"\0", password].concat());
        let Ok(tag) = <[u8; 32]>::try_from(tag.as_ref()) else { return false };
        self.known.with(tag, |known| {
            let keeps = learn || known.is_some();
            (keeps.then_some(()), known.is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_for_the_hash_it_was_right_for() {
        let verified = Verified::new();
        assert!(!verified.knows("hash", b"word"));
        verified.learn("hash", b"word");
        assert!(verified.knows("hash", b"word"));
        for (hash, password) in [("another", &b"word"[..]), ("hash", b"words"), ("has", b"hword")] {
            assert!(!verified.knows(hash, password));
        }
    }
}
