//! Those who wait for a slot of a pool's servers, first come, first served.
//!
//! A slot that comes free calls one of them, the first that is not called yet. Whoever is called
//! looks for a slot; who finds one leaves the line, who finds none waits on in its place. A call is
//! never lost: who leaves without having used it passes it on. Shared by all workers.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// How many slots may have come free.
type Slots = usize;

/// Nobody knows how many: each of the line is to look, one after the other.
const ANY: Slots = usize::MAX;

/// The line of one pool.
#[derive(Debug, Default)]
pub struct Line {
    /// As many as `inner` has, to be read without its lock.
    length: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Number of the next place.
    next: u64,
    places: BTreeMap<u64, State>,
    /// Came free while everybody was called: for the next one who would wait.
    spare: Slots,
    /// Of no use to anybody here, who have tried that server in vain: for newcomers.
    declined: Slots,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Called(Slots),
}

/// A place in a line; dropping it leaves the line.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    number: u64,
}

impl Line {
    /// How many wait, those included who are about to look.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Whether nobody waits, so that nobody is overtaken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the last place, if the line is not too long. The first in a line is called at once: it
    /// has to look again, since a slot may have come free before it stood here.
    pub fn join(self: &Arc<Self>, longest: usize) -> Option<Place> {
        let mut inner = self.lock();
        if inner.places.len() >= longest {
            return None;
        }
        let spare = std::mem::take(&mut inner.spare);
        let declined = std::mem::take(&mut inner.declined);
        let first = usize::from(inner.places.is_empty());
        let number = inner.next;
        inner.next += 1;
        let slots = spare.saturating_add(declined).saturating_add(first);
        let state = if slots == 0 { State::Waiting(None) } else { State::Called(slots) };
        inner.places.insert(number, state);
        self.length.store(inner.places.len(), Ordering::SeqCst);
        Some(Place { line: Arc::clone(self), number })
    }

    /// A slot has come free.
    pub(super) fn slot_freed(&self) {
        self.call(1);
    }

    /// There are other servers, or other limits.
    pub(super) fn pool_changed(&self) {
        self.call(ANY);
    }

    fn call(&self, slots: Slots) {
        if self.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let waker = inner.call_from(0, slots, Unheard::Spare);
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a call that reaches nobody.
#[derive(Clone, Copy)]
enum Unheard {
    Spare,
    Declined,
}

impl Inner {
    /// Calls the first who waits, from place `from` on; the waker is to be woken without the lock.
    fn call_from(&mut self, from: u64, slots: Slots, unheard: Unheard) -> Option<Waker> {
        if self.places.is_empty() || slots == 0 {
            return None;
        }
        for state in self.places.range_mut(from..).map(|(_, state)| state) {
            if let State::Waiting(waker) = state {
                let waker = waker.take();
                *state = State::Called(slots);
                return waker;
            }
        }
        let kept = match unheard {
            Unheard::Spare => &mut self.spare,
            Unheard::Declined => &mut self.declined,
        };
        *kept = kept.saturating_add(slots);
        None
    }
}

impl Place {
    /// Waits to be called.
    pub async fn called(&self) {
        poll_fn(|cx| {
            let mut inner = self.line.lock();
            match inner.places.get_mut(&self.number) {
                Some(State::Waiting(waker)) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(State::Called(_)) | None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Waits on, having looked and found nothing; `choosy`: not everywhere.
    pub fn stay(&self, choosy: bool) {
        let mut inner = self.line.lock();
        let spare = std::mem::take(&mut inner.spare);
        let state = if spare == 0 { State::Waiting(None) } else { State::Called(spare) };
        let before = inner.places.insert(self.number, state);
        let waker = match before {
            Some(State::Called(slots)) if choosy => {
                inner.call_from(self.number + 1, slots, Unheard::Declined)
            }
            Some(State::Called(_) | State::Waiting(_)) | None => None,
        };
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Leaves the line, having taken a slot.
    pub fn leave(self) {
        let mut inner = self.line.lock();
        if let Some(State::Called(slots)) = inner.places.get_mut(&self.number)
            && *slots != ANY
        {
            *slots -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.line.lock();
        let left = inner.places.remove(&self.number);
        self.line.length.store(inner.places.len(), Ordering::SeqCst);
        let waker = match left {
            Some(State::Called(slots)) => inner.call_from(0, slots, Unheard::Spare),
            Some(State::Waiting(_)) | None => None,
        };
        if inner.places.is_empty() {
            // Whoever comes next looks by itself.
            (inner.spare, inner.declined) = (0, 0);
        }
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// A line of so many, all of whom have looked in vain.
    fn line(length: usize) -> (Arc<Line>, Vec<Place>) {
        let line = Arc::new(Line::default());
        let places: Vec<Place> = (0..length).map(|_| line.join(length).unwrap()).collect();
        places.iter().for_each(|place| place.stay(false));
        (line, places)
    }

    fn is_called(place: &Place) -> bool {
        place.called().now_or_never().is_some()
    }

    fn called(places: &[Place]) -> Vec<bool> {
        places.iter().map(is_called).collect()
    }

    #[test]
    fn a_free_slot_calls_the_first_and_nobody_else() {
        let (line, mut places) = line(3);
        assert_eq!(called(&places), [false; 3]);
        line.slot_freed();
        assert_eq!(called(&places), [true, false, false]);
        places.remove(0).leave();
        assert_eq!(called(&places), [false, false]);
        line.slot_freed();
        assert_eq!(called(&places), [true, false]);
    }

    #[test]
    fn the_first_in_a_line_looks_again_before_it_waits() {
        let line = Arc::new(Line::default());
        let first = line.join(9).unwrap();
        let second = line.join(9).unwrap();
        assert_eq!((is_called(&first), is_called(&second)), (true, false));
    }

    #[test]
    fn who_found_nothing_keeps_its_place() {
        let (line, places) = line(2);
        line.slot_freed();
        places[0].stay(false);
        assert_eq!(called(&places), [false, false]);
        line.slot_freed();
        assert_eq!(called(&places), [true, false]);
    }

    #[test]
    fn who_leaves_when_called_passes_the_call_on() {
        let (line, mut places) = line(3);
        line.slot_freed();
        drop(places.remove(0));
        assert_eq!(called(&places), [true, false]);
    }

    #[test]
    fn who_leaves_uncalled_changes_nothing_for_the_rest() {
        let (line, mut places) = line(3);
        drop(places.remove(1));
        line.slot_freed();
        line.slot_freed();
        assert_eq!(called(&places), [true, true]);
    }

    #[test]
    fn a_slot_that_comes_free_while_all_look_is_looked_for_again() {
        let (line, places) = line(1);
        line.slot_freed();
        line.slot_freed();
        places[0].stay(false);
        assert!(is_called(&places[0]));
        places[0].stay(false);
        assert!(!is_called(&places[0]));
    }

    #[test]
    fn a_slot_that_comes_free_while_all_look_is_a_newcomers_if_nobody_takes_it() {
        let (line, mut places) = line(1);
        line.slot_freed();
        line.slot_freed();
        let newcomer = line.join(9).unwrap();
        places.remove(0).leave();
        assert!(is_called(&newcomer));
    }

    #[test]
    fn who_may_not_use_a_slot_leaves_it_to_those_behind() {
        let (line, places) = line(2);
        line.slot_freed();
        places[0].stay(true);
        assert_eq!(called(&places), [false, true]);
        places[1].stay(true);
        assert_eq!(called(&places), [false, false]);
        assert!(is_called(&line.join(9).unwrap()), "a newcomer may use it");
    }

    #[test]
    fn other_servers_are_looked_for_by_one_after_the_other() {
        let (line, mut places) = line(3);
        line.pool_changed();
        for left in (0..3).rev() {
            assert!(is_called(&places[0]));
            assert!(places.iter().skip(1).all(|place| !is_called(place)));
            places.remove(0).leave();
            assert_eq!(places.len(), left);
        }
        assert!(line.is_empty());
    }

    #[test]
    fn a_line_has_an_end() {
        let (line, mut places) = line(2);
        assert!(line.join(2).is_none());
        drop(places.pop());
        assert!(line.join(2).is_some());
    }

    #[test]
    fn calls_are_not_kept_for_an_empty_line() {
        let (line, mut places) = line(1);
        for _ in 0..5 {
            line.slot_freed();
        }
        drop(places.pop());
        let first = line.join(9).unwrap();
        first.stay(false);
        assert!(!is_called(&first));
    }
}
