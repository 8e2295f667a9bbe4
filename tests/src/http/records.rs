//! The access log of a proxy under test, read as it is written.

use std::io::{self, Write};

use deston::access::{AccessLog, Lane, Started};
use deston::model::Log;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::wait::soon;

/// The records that the proxy writes.
pub struct Records {
    writer: Option<AccessLog>,
    written: UnboundedReceiver<Vec<u8>>,
    text: Vec<u8>,
}

struct Sink(UnboundedSender<Vec<u8>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Records {
    /// A log of `workers` workers, and their lanes.
    pub(super) fn start(log: &Log, workers: usize) -> (Self, Vec<Lane>) {
        let (sender, written) = unbounded_channel();
        let started = AccessLog::start(log, workers, Sink(sender)).expect("a thread starts");
        let (writer, lanes) = match started {
            Some(Started { writer, lanes, .. }) => (Some(writer), lanes),
            None => (None, Vec::new()),
        };
        (Self { writer, written, text: Vec::new() }, lanes)
    }

    /// The next line.
    pub async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return String::from_utf8(line).expect("a log is UTF-8").trim_end().to_owned();
            }
            self.text.extend(soon(self.written.recv()).await.expect("the log goes on"));
        }
    }

    /// The next record, of a log in JSON.
    pub async fn next(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// What is left once the proxy has ended.
    pub fn rest(mut self) -> Vec<String> {
        drop(self.writer.take());
        while let Ok(more) = self.written.try_recv() {
            self.text.extend(more);
        }
        String::from_utf8(self.text).expect("a log is UTF-8").lines().map(str::to_owned).collect()
    }
}
