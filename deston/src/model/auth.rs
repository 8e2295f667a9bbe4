//! Who may use a listener by name and password.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;

use bcrypt::HashParts;

/// `auth` of a layer 7 listener: users and the hashes of their passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Each is one that bcrypt can read.
    hashes: BTreeMap<String, String>,
}

/// Why a file is no list of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nobody could use the listener.
    #[error("it has no user")]
    Empty,
    /// Not `user:hash`.
    #[error("line {0} is not `user:hash`")]
    Line(usize),
    /// A password as it is, or a hash that is quickly guessed.
    #[error("line {0}: the password of `{1}` is not hashed by bcrypt")]
    Hash(usize, String),
    /// Checking one password would take seconds.
    #[error("line {0}: the hash of `{1}` has a cost of {2}, at most {MAX_COST} is possible")]
    Cost(usize, String, u32),
    /// Which one holds?
    #[error("line {0}: `{1}` is there twice")]
    Twice(usize, String),
}

/// Each more doubles the time that a wrong password costs; 14 takes about a second.
const MAX_COST: u32 = 14;

impl Auth {
    /// Reads lines of `user:hash`. Empty lines, and those that begin with `#`, say nothing.
    pub fn parse(text: &str) -> Result<Self, AuthError> {
        let mut hashes = BTreeMap::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(AuthError::Line(number))?;
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(AuthError::Line(number));
            }
            let parts =
                HashParts::from_str(hash).map_err(|_| AuthError::Hash(number, user.to_owned()))?;
            if parts.get_cost() > MAX_COST {
                return Err(AuthError::Cost(number, user.to_owned(), parts.get_cost()));
            }
            if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(AuthError::Twice(number, user.to_owned()));
            }
        }
        if hashes.is_empty() { Err(AuthError::Empty) } else { Ok(Self { hashes }) }
    }

    /// The hash of a user's password.
    pub fn hash(&self, user: &str) -> Option<&str> {
        self.hashes.get(user).map(String::as_str)
    }

    /// The hash of somebody's password: what a stranger's is checked against, so that it takes as
    /// long as a user's.
    pub fn any_hash(&self) -> &str {
        self.hashes.values().next().map_or("", String::as_str)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hashes are nobody's business.
        f.debug_set().entries(self.hashes.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    #[test]
    fn users_are_read_and_their_hashes_are_not_shown() {
        let auth = Auth::parse(&format!("# staff\n\nalice:{HASH}\r\nbob:{HASH}\n")).unwrap();
        assert_eq!((auth.hash("alice"), auth.hash("carol")), (Some(HASH), None));
        assert_eq!(format!("{auth:?}"), "{\"alice\", \"bob\"}");
    }

    #[test]
    fn what_is_no_hash_by_bcrypt_is_refused() {
        let user = || "alice".to_owned();
        for hash in ["secret", "$apr1$a$b", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$1$a$b", ""] {
            let error = Auth::parse(&format!("alice:{hash}")).unwrap_err();
            assert_eq!(error, AuthError::Hash(1, user()), "{hash}");
        }
        let dear = HASH.replace("$05$", "$15$");
        for (text, error) in [
            (format!("alice:{dear}"), AuthError::Cost(1, user(), 15)),
            (format!("alice:{HASH}\nalice:{HASH}"), AuthError::Twice(2, user())),
            ("\nalice".to_owned(), AuthError::Line(2)),
            (format!(":{HASH}"), AuthError::Line(1)),
            ("# nobody\n".to_owned(), AuthError::Empty),
        ] {
            assert_eq!(Auth::parse(&text).unwrap_err(), error, "{text}");
        }
    }
}
