//! The access log's record of a request: begun with its head, filled in on its way, told once when it
//! is over, however it ends.
//!
//! Without an access log, or for a request that the sample leaves out, there is none, and nothing
//! here does anything.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{Request, StatusCode, Version};
use tokio::time::Instant;

use super::downstream::Client;
use crate::access::{Keep, Record, Word};

/// The record of the request under way, if it has one.
#[derive(Default)]
pub(super) struct Log(RefCell<Option<Entry>>);

/// A record that is told when it is dropped.
pub(super) struct Entry {
    /// `None` once it is told.
    record: Option<Box<Record>>,
    began: Instant,
    keep: Keep,
    client: Rc<Client>,
}

impl Log {
    /// A request's head is complete, and as the client sent it.
    pub(super) fn begin<B>(&self, request: &Request<B>, client: &Rc<Client>, listener: &str) {
        let entry = Entry::new(client, listener).map(|mut entry| {
            entry.note(|record| describe(record, request));
            entry
        });
        // A former one that is still there belongs to a request that nobody answered.
        drop(self.0.replace(entry));
    }

    /// Whether there is a record.
    pub(super) fn is_on(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Fills something in.
    pub(super) fn note(&self, fill: impl FnOnce(&mut Record)) {
        if let Some(entry) = &mut *self.0.borrow_mut() {
            entry.note(fill);
        }
    }

    /// The request is sent to a server, for the first time or again.
    pub(super) fn asks(&self, server: &str, retries: u32) {
        self.note(|record| {
            record.set(Word::Server, server.as_bytes());
            record.retries = retries;
        });
    }

    /// The head of the server's response has come.
    pub(super) fn answered(&self) {
        if let Some(entry) = &mut *self.0.borrow_mut() {
            let span = entry.began.elapsed();
            entry.note(|record| record.response_head = Some(span));
        }
    }

    /// What the client is answered.
    pub(super) fn status(&self, status: StatusCode) {
        self.note(|record| record.status = Some(status.as_u16()));
    }

    /// What went wrong; the first thing that did counts.
    pub(super) fn fail(&self, reason: &'static str) {
        self.note(|record| record.reason = record.reason.or(Some(reason)));
    }

    /// The record, to be told when the caller drops it.
    pub(super) fn take(&self) -> Option<Entry> {
        self.0.take()
    }
}

impl Entry {
    /// An empty record; `None` if the request is to have none.
    fn new(client: &Rc<Client>, listener: &str) -> Option<Self> {
        let keep = client.worker.access.as_ref()?.next()?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut record = Box::new(Record::new(time, client.address));
        record.tls = client.presented.as_ref().map(|presented| presented.version());
        record.set(Word::Listener, listener.as_bytes());
        Some(Self { record: Some(record), began: Instant::now(), keep, client: Rc::clone(client) })
    }

    /// Fills something in.
    pub(super) fn note(&mut self, fill: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            fill(record);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.duration = self.began.elapsed();
        if record.status.is_none() {
            record.reason = record.reason.or(Some("client_left"));
        }
        let is_kept = match self.keep {
            Keep::Always => true,
            Keep::IfFailed => record.has_failed(),
        };
        if let Some(lane) = self.client.worker.access.as_ref().filter(|_| is_kept) {
            lane.push(record);
        }
    }
}

/// Tells of a request whose head never became one: hyper could not read it, or it took too long.
pub(super) fn unread(client: &Rc<Client>, status: StatusCode, reason: &'static str) {
    let serving = client.listener.serving();
    if let Some(mut entry) = Entry::new(client, &serving.listener.name) {
        entry.note(|record| {
            record.status = Some(status.as_u16());
            record.reason = Some(reason);
        });
    }
}

fn describe<B>(record: &mut Record, request: &Request<B>) {
    let (uri, headers) = (request.uri(), request.headers());
    record.http = Some(match request.version() {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    });
    record.set(Word::Method, request.method().as_str().as_bytes());
    let host = headers.get(HOST).map(|host| host.as_bytes());
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(host) = authority.or(host) {
        record.set(Word::Host, host);
    }
    // Of CONNECT there is none.
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    record.set(Word::Path, path.as_bytes());
    for (word, name) in [(Word::UserAgent, USER_AGENT), (Word::Referer, REFERER)] {
        if let Some(value) = headers.get(name) {
            record.set(word, value.as_bytes());
        }
    }
}
