//! What is known of one request, as it is handed to the writer: bytes as they came, nothing rendered.

use std::net::IpAddr;
use std::time::Duration;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When its head was complete, since 1970.
    pub time: Duration,
    /// The client.
    pub client: IpAddr,
    /// What the client got; `None`: nothing.
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// From the head to the end of the response.
    pub duration: Duration,
    /// From the head to the head of the server's response.
    pub response_head: Option<Duration>,
    /// How often it was sent again.
    pub retries: u32,
    /// The version of TLS; `None`: in clear.
    pub tls: Option<&'static str>,
    /// The version of HTTP; `None`: it could not be read.
    pub http: Option<&'static str>,
    /// What went wrong.
    pub reason: Option<&'static str>,
    /// The words, one after the other.
    bytes: Vec<u8>,
    /// Where each stands in `bytes`.
    places: [Option<(u32, u32)>; WORDS],
}

const WORDS: usize = 8;

/// What a record has in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The listener's name.
    Listener,
    /// The method.
    Method,
    /// What the client asked.
    Host,
    /// Path and query.
    Path,
    /// The server's name.
    Server,
    /// The request's id.
    RequestId,
    /// `User-Agent`.
    UserAgent,
    /// `Referer`.
    Referer,
}

/// Room for the words of a usual request.
const USUAL: usize = 256;

impl Record {
    /// A request whose head is complete.
    pub fn new(time: Duration, client: IpAddr) -> Self {
        Self {
            time,
            client,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            response_head: None,
            retries: 0,
            tls: None,
            http: None,
            reason: None,
            bytes: Vec::with_capacity(USUAL),
            places: [None; WORDS],
        }
    }

    /// Sets a word; the last one counts.
    pub fn set(&mut self, word: Word, bytes: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        // A head is far smaller than 4 GiB.
        let place = u32::try_from(from).ok().zip(u32::try_from(self.bytes.len()).ok());
        if let Some(at) = self.places.get_mut(word as usize) {
            *at = place;
        }
    }

    /// A word, if it is known.
    pub fn word(&self, word: Word) -> Option<&[u8]> {
        let (from, to) = (*self.places.get(word as usize)?)?;
        self.bytes.get(from as usize..to as usize)
    }

    /// Whether it is one that `errors_always` keeps: nobody was served.
    pub fn has_failed(&self) -> bool {
        self.reason.is_some() || self.status.is_none_or(|status| status >= 500)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_word_is_what_it_was_set_to_last() {
        let mut record = Record::new(Duration::ZERO, Ipv4Addr::LOCALHOST.into());
        record.set(Word::Server, b"one");
        record.set(Word::Path, b"/a");
        record.set(Word::Server, b"two");
        assert_eq!(record.word(Word::Server), Some(&b"two"[..]));
        assert_eq!(record.word(Word::Path), Some(&b"/a"[..]));
        assert_eq!(record.word(Word::Referer), None);
    }

    #[test]
    fn what_was_not_served_has_failed() {
        let mut record = Record::new(Duration::ZERO, Ipv4Addr::LOCALHOST.into());
        assert!(record.has_failed(), "no answer");
        for (status, failed) in [(200, false), (404, false), (500, true), (503, true)] {
            record.status = Some(status);
            assert_eq!(record.has_failed(), failed, "{status}");
        }
        record.status = Some(400);
        record.reason = Some("host_missing");
        assert!(record.has_failed(), "refused by us");
    }
}
