//! A client of HTTP/2 that sends frames as they are, also those that no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::soon;

/// The client's preface (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 6).
pub mod kind {
    /// Content.
    pub const DATA: u8 = 0;
    /// Fields.
    pub const HEADERS: u8 = 1;
    /// How streams are to share; not in use any more.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// Settings, or their acknowledgement.
    pub const SETTINGS: u8 = 4;
    /// A question whether anybody is there.
    pub const PING: u8 = 6;
    /// The end of a connection.
    pub const GOAWAY: u8 = 7;
    /// Room for content.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More fields.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// The last frame of a stream; of SETTINGS and PING, an acknowledgement.
    pub const END_STREAM: u8 = 1;
    /// The last frame of fields.
    pub const END_HEADERS: u8 = 4;
}

/// Codes of errors (RFC 9113 7).
pub mod code {
    /// The peer does what it must not.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// The peer asks for too much.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of `kind`.
    pub kind: u8,
    /// Some of `flag`.
    pub flags: u8,
    /// Zero: of the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With a response.
    Status(u16),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection was ended, with this code.
    GoAway(u32),
    /// The connection ended without a word.
    Gone,
}

impl Frame {
    /// A frame with a payload.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A request's fields.
    pub fn request(stream: u32, fields: &[(&str, &str)], end: bool) -> Self {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        Self::new(kind::HEADERS, flags, stream, block(fields))
    }

    /// The frame as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame is short");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    fn number_at(&self, at: usize) -> u32 {
        self.payload
            .get(at..at + 4)
            .map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }
}

/// Fields as literals that no table remembers (RFC 7541 6.2.2), whatever bytes they hold.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(length as u8);
    };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A GET of a path.
pub fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]
}

/// A client's connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// Connects and exchanges settings, those of the client being the defaults.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await.expect("the listener accepts");
        stream.set_nodelay(true).expect("a socket");
        let mut frames = Self { stream, buffer: Vec::new() };
        let settings = Frame::new(kind::SETTINGS, 0, 0, []);
        frames.send_bytes(&[PREFACE, &settings.bytes()].concat()).await;
        frames
    }

    /// Sends a frame; the other end may have gone.
    pub async fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes()).await;
    }

    /// Sends bytes, reading what comes meanwhile; the other end may have gone. `false`: it has.
    pub async fn send_bytes(&mut self, mut bytes: &[u8]) -> bool {
        let (mut reader, mut writer) = self.stream.split();
        while !bytes.is_empty() {
            let progress = async {
                tokio::select! {
                    biased;
                    read = reader.read_buf(&mut self.buffer) => read.map(|read| (read > 0, 0)),
                    written = writer.write(bytes) => written.map(|written| (true, written)),
                }
            };
            match soon(progress).await {
                Ok((true, written)) => bytes = &bytes[written..],
                Ok((false, _)) | Err(_) => return false,
            }
        }
        true
    }

    /// The next frame; `None` at the end of the connection. Settings are acknowledged.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                if frame.kind == kind::SETTINGS && frame.flags == 0 {
                    self.send(&Frame::new(kind::SETTINGS, flag::END_STREAM, 0, [])).await;
                }
                return Some(frame);
            }
            if !soon(self.stream.read_buf(&mut self.buffer)).await.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.buffer.get(..9)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// How the request of a stream ends.
    pub async fn answer(&mut self, stream: u32) -> Answer {
        while let Some(frame) = self.next().await {
            match frame.kind {
                kind::HEADERS if frame.stream == stream => return Answer::Status(status(&frame)),
                kind::RST_STREAM if frame.stream == stream => {
                    return Answer::Reset(frame.number_at(0));
                }
                kind::GOAWAY => return Answer::GoAway(frame.number_at(4)),
                _ => {}
            }
        }
        Answer::Gone
    }

    /// How the connection ends: with which GOAWAY, if any.
    pub async fn ends(&mut self) -> Answer {
        while let Some(frame) = self.next().await {
            if frame.kind == kind::GOAWAY {
                return Answer::GoAway(frame.number_at(4));
            }
        }
        Answer::Gone
    }

    /// Sends a request and sees how it ends.
    pub async fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) -> Answer {
        self.send(&Frame::request(stream, fields, true)).await;
        self.answer(stream).await
    }
}

/// The first field of a response's head, `:status` (RFC 7541 appendix A, and B for its digits).
fn status(head: &Frame) -> u16 {
    match head.payload.as_slice() {
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
        }
        [0x08 | 0x48, length, rest @ ..] if length & 0x80 != 0 => {
            digits(&rest[..usize::from(length & 0x7f)])
        }
        [0x08 | 0x48, 3, rest @ ..] => {
            String::from_utf8_lossy(&rest[..3]).parse().expect("a status")
        }
        other => panic!("no status in {other:02x?}"),
    }
}

/// Three digits in Huffman's code: five bits for 0 to 2, six for the others.
fn digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number * 2 + u16::from(*bit));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let (digit, length) =
            if short < 3 { (short, 5) } else { (number(&bits[at..at + 6]) - 0x19 + 3, 6) };
        status = status * 10 + digit;
        at += length;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_huffmans_code() {
        // RFC 7541 C.6.1 and C.6.2: 302 and 307.
        assert_eq!(digits(&[0x64, 0x02]), 302);
        assert_eq!(digits(&[0x64, 0x0e, 0xff]), 307);
    }

    #[test]
    fn long_lengths_are_written_in_several_bytes() {
        let mut block = Vec::new();
        length(&mut block, 1_337);
        assert_eq!(block, [0x7f, 0xba, 0x09]);
    }
}
