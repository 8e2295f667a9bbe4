//! A client's socket under HTTP/2, which ends a connection that is busy with frames that ask for
//! nothing: SETTINGS, PING, PRIORITY and unknown ones. h2 answers or ignores each, one at a time, so
//! that they cost no memory, but any number of them costs time.
//!
//! Only the nine bytes at the beginning of each frame are looked at, and nothing is changed. Honest
//! clients send such frames along with streams: gRPC pings to measure the delay while it is sent
//! content. So what comes of a stream, and what is written but bare acknowledgements, makes room for
//! one more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Frames that a client may send at once without any other.
const MOST: u32 = 1_000;

/// How often there is room for one more, whatever else happens.
const EACH: Duration = Duration::from_millis(10);

/// An acknowledgement of a PING, the longest there is.
const ACKNOWLEDGEMENT: usize = 17;

/// RFC 9113 3.4.
const PREFACE: usize = 24;

/// A socket whose frames are counted.
pub(super) struct Guarded<'a, S> {
    stream: &'a mut S,
    frames: Frames,
    room: Room,
}

impl<'a, S> Guarded<'a, S> {
    /// A connection whose preface is still to be read.
    pub(super) fn new(stream: &'a mut S) -> Self {
        Self { stream, frames: Frames::default(), room: Room::new() }
    }
}

/// Where frames begin.
struct Frames {
    /// Bytes until the next frame begins.
    left: usize,
    head: [u8; 9],
    /// How much of `head` is there.
    filled: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { left: PREFACE, head: [0; 9], filled: 0 }
    }
}

impl Frames {
    /// Looks at what was read. An error: the frames are a flood.
    fn read(&mut self, mut bytes: &[u8], room: &mut Room) -> io::Result<()> {
        while let Some((&byte, behind)) = bytes.split_first() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = byte;
            }
            self.filled += 1;
            bytes = behind;
            if self.filled == self.head.len() {
                self.filled = 0;
                let [a, b, c, kind, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                room.frame(kind, self.left)?;
            }
        }
        Ok(())
    }
}

/// How many more frames that ask for nothing may come.
struct Room {
    left: u32,
    /// When time last made room.
    since: Instant,
}

impl Room {
    fn new() -> Self {
        Self { left: MOST, since: Instant::now() }
    }

    fn more(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(MOST);
    }

    fn frame(&mut self, kind: u8, length: usize) -> io::Result<()> {
        match kind {
            // DATA and HEADERS; h2 bounds the empty ones itself.
            0 | 1 => self.more(u32::from(length > 0)),
            // RST_STREAM, GOAWAY, WINDOW_UPDATE, CONTINUATION: they say something of streams, and
            // h2 bounds those that make work.
            3 | 7 | 8 | 9 => {}
            _ => {
                if self.left == 0 {
                    self.pass();
                }
                let flood = || io::Error::other("a flood of frames that ask for nothing");
                self.left = self.left.checked_sub(1).ok_or_else(flood)?;
            }
        }
        Ok(())
    }

    /// Lets the time since it was last asked make room.
    fn pass(&mut self) {
        let passed = self.since.elapsed().as_millis() / EACH.as_millis();
        self.more(u32::try_from(passed).unwrap_or(u32::MAX));
        self.since = Instant::now();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.stream).poll_read(cx, buffer))?;
        let Self { frames, room, .. } = &mut *self;
        Poll::Ready(frames.read(buffer.filled().get(before..).unwrap_or_default(), room))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes))?;
        self.room.more(u32::from(written > ACKNOWLEDGEMENT));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write_vectored(cx, slices))?;
        self.room.more(u32::from(written > ACKNOWLEDGEMENT));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const DATA: [u8; 10] = [0, 0, 1, 0, 0, 0, 0, 0, 1, 0];

    /// How many frames pass of so many.
    fn passed(frames: &mut Frames, room: &mut Room, of: u32) -> u32 {
        (0..of).take_while(|_| frames.read(&PING, room).is_ok()).count() as u32
    }

    /// A connection after its preface.
    fn begun() -> (Frames, Room) {
        let (mut frames, mut room) = (Frames::default(), Room::new());
        frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &mut room).unwrap();
        (frames, room)
    }

    #[tokio::test(start_paused = true)]
    async fn pings_alone_are_a_flood_and_time_makes_room() {
        let (mut frames, mut room) = begun();
        assert_eq!(passed(&mut frames, &mut room, 5_000), MOST);
        tokio::time::advance(EACH * 7).await;
        let (mut frames, _) = begun();
        assert_eq!(passed(&mut frames, &mut room, 5_000), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_among_content_are_none() {
        let (mut frames, mut room) = begun();
        for _ in 0..MOST * 3 {
            frames.read(&DATA, &mut room).unwrap();
            frames.read(&PING, &mut room).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_their_bytes_come() {
        let (mut frames, mut room) = begun();
        let bytes = PING.repeat(600);
        for part in bytes.chunks(7) {
            frames.read(part, &mut room).unwrap();
        }
        assert_eq!(room.left, MOST - 600);
    }
}
