//! A worker's buffers: borrowed while there are bytes to move, never held by an idle connection.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Bytes in a buffer: what one read takes at most, and the largest datagram.
pub(crate) const BUFFER_SIZE: usize = 64 * 1024;

/// Free buffers kept by one worker: 4 MiB.
const KEPT: usize = 64;

/// Where a worker's tasks borrow buffers. Clones share the buffers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    free: Rc<RefCell<Vec<Box<[u8]>>>>,
}

/// A borrowed buffer; what is in it at first is undefined.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    home: Buffers,
}

impl Buffers {
    /// Borrows a buffer of [`BUFFER_SIZE`] bytes.
    pub(crate) fn borrow(&self) -> Buffer {
        let kept = self.free.borrow_mut().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; BUFFER_SIZE].into_boxed_slice());
        Buffer { bytes, home: self.clone() }
    }

    /// Free buffers at hand.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.free.borrow().len()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.borrow_mut();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_borrowed_again() {
        let buffers = Buffers::default();
        let mut first = buffers.borrow();
        first[0] = 7;
        drop(first);
        assert_eq!(buffers.borrow()[0], 7);
    }

    #[test]
    fn a_bounded_number_of_buffers_is_kept() {
        let buffers = Buffers::default();
        let borrowed: Vec<_> = (0..KEPT + 5).map(|_| buffers.borrow()).collect();
        drop(borrowed);
        assert_eq!(buffers.kept(), KEPT);
    }
}
