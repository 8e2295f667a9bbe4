//! Basic authentication (RFC 7617): who asks, and whether the password is right.
//!
//! A hash takes as long as guessing shall take. So it is computed on a thread of its own, one at a
//! time for each worker, and only for passwords that were not found right lately.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::downstream::Client;
use super::error::Error;
use crate::model::Auth;

/// Requests of one worker that may wait for their hash: at a quarter of a second each, for 8 s.
const WAITING: usize = 32;

/// A worker's turn to compute hashes.
#[derive(Debug)]
pub(crate) struct Turn {
    /// One hash at a time.
    free: Arc<Semaphore>,
    /// Places to wait.
    places: Arc<Semaphore>,
}

impl Default for Turn {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { free: semaphore(1), places: semaphore(WAITING) }
    }
}

impl Turn {
    /// Waits for the turn; `None` if too many wait already.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let _place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

/// Refuses a request that shows no user's password.
pub(super) async fn admit(
    auth: Option<&Auth>,
    headers: &HeaderMap,
    client: &Rc<Client>,
) -> Result<(), Error> {
    let Some(auth) = auth else { return Ok(()) };
    let credentials = credentials(headers).ok_or(Error::Unauthorized)?;
    let (user, password) = split(&credentials).ok_or(Error::Unauthorized)?;
    // A stranger takes as long as a user: which names there are is nobody's business.
    let (hash, is_user) = match auth.hash(user) {
        Some(hash) => (hash, true),
        None => (auth.any_hash(), false),
    };
    if is_user && client.listener.knows_password(hash, password) {
        return Ok(());
    }
    let turn = client.worker.hashing.take().await.ok_or(Error::TooManyPasswords)?;
    let (own_hash, own_password) = (hash.to_owned(), password.to_owned());
    let computed = tokio::task::spawn_blocking(move || {
        // Held until it is done, even if the client has left.
        let _turn = turn;
        bcrypt::verify(own_password, &own_hash)
    });
    let is_right = matches!(computed.await, Ok(Ok(true)));
    if !is_user || !is_right {
        return Err(Error::Unauthorized);
    }
    client.listener.learn_password(hash, password);
    Ok(())
}

/// What stands behind `Basic` (RFC 7617 2), decoded.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, rest) = value.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then_some(())?;
    BASE64_STANDARD.decode(rest.trim_ascii()).ok()
}

/// The user, whose name has no colon, and the password.
fn split(credentials: &[u8]) -> Option<(&str, &[u8])> {
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    let (user, password) = credentials.split_at_checked(colon)?;
    Some((std::str::from_utf8(user).ok()?, password.get(1..)?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shown(values: &[&str]) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        credentials(&headers)
    }

    #[test]
    fn credentials_are_what_stands_behind_basic() {
        for value in ["Basic YTpiOmM=", "basic YTpiOmM=", "BASIC  YTpiOmM= "] {
            let shown = shown(&[value]).unwrap();
            assert_eq!(split(&shown), Some(("a", &b"b:c"[..])), "{value}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for value in ["", "Basic", "Basic ***", "Bearer YTpiOmM=", "BasicYTpiOmM="] {
            assert_eq!(shown(&[value]), None, "{value}");
        }
        assert_eq!(shown(&["Basic YTpi", "Basic YTpi"]), None, "repeated");
        assert_eq!(split(b"nobody"), None);
        assert_eq!(split(b"\xff:x"), None);
    }

    #[tokio::test]
    async fn hashes_are_computed_one_at_a_time_and_few_wait() {
        let turn = Turn::default();
        let first = turn.take().await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(turn.take())).collect();
        for wait in &mut waiting {
            assert!(futures_util::poll!(wait).is_pending());
        }
        assert!(turn.take().await.is_none());
        drop(first);
        assert!(waiting.remove(0).await.is_some());
        assert!(futures_util::poll!(Box::pin(turn.take())).is_pending(), "there is a place again");
    }
}
