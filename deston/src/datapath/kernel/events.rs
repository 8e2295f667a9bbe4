//! What the programs tell.

use std::io;

use aya::maps::{MapData, RingBuf};
use deston_common::event::{Ended, Traced, kind};
use tokio::io::unix::AsyncFd;

use super::{Kernel, sys};

/// One event of a ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet that the filter in TRACE chose.
    Traced(Traced),
    /// A promoted flow that ended.
    Ended(Ended),
}

/// The reader of a ring buffer. What nobody reads fills the ring, and later events are lost.
pub struct Events(pub(super) AsyncFd<RingBuf<MapData>>);

impl Events {
    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            if let Some(item) = ready.get_inner_mut().next() {
                // The ring stays ready: there may be more.
                match Event::decode(&item) {
                    Some(event) => return Ok(event),
                    None => tracing::debug!(bytes = item.len(), "an event of an unknown kind"),
                }
                continue;
            }
            ready.clear_ready();
        }
    }
}

impl Kernel {
    /// The flows that end from here on, and ended before while nobody read it. `None` if the reader
    /// was taken already. Needs a tokio runtime.
    pub fn take_events(&mut self) -> io::Result<Option<Events>> {
        self.events.take().map(|ring| sys::watch(ring).map(Events)).transpose()
    }

    /// What the programs have told since the last call by EVENTS, unless its reader was taken, and
    /// by TRACES.
    #[cfg(feature = "testing")]
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for ring in self.events.iter_mut().chain([&mut self.traces]) {
            while let Some(item) = ring.next() {
                events.extend(Event::decode(&item));
            }
        }
        events
    }
}

impl Event {
    /// Reads an event; `None` if it is of an unknown kind, or shorter than its kind.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match u32::from_ne_bytes(*bytes.first_chunk()?) {
            kind::TRACED => sys::read(bytes).map(Self::Traced),
            kind::ENDED => sys::read(bytes).map(Self::Ended),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_their_kind() {
        let mut bytes = [0; size_of::<Ended>()];
        bytes[..4].copy_from_slice(&kind::ENDED.to_ne_bytes());
        bytes[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        let ended = Ended { kind: kind::ENDED, reason: 3, ..Ended::default() };
        assert_eq!(Event::decode(&bytes), Some(Event::Ended(ended)));
        bytes[0] = kind::TRACED as u8;
        assert!(matches!(Event::decode(&bytes), Some(Event::Traced(Traced { outcome: 3, .. }))));
    }

    #[test]
    fn what_is_cut_or_unknown_is_no_event() {
        assert_eq!(Event::decode(&[]), None);
        assert_eq!(Event::decode(&kind::TRACED.to_ne_bytes()), None);
        assert_eq!(Event::decode(&[9; 256]), None);
    }
}
