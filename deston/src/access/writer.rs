//! The one thread that writes the access log.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lane::{Lane, Lines, Shared};
use super::record::Record;
use super::render;
use crate::model::{self, Access};

/// Records that one worker's lane has room for: at 50,000 requests a second, those of 80 ms.
const ROOM: usize = 4_096;

/// Lines of flows that may wait.
const LINES: usize = 1_024;

/// How long the writer lets work gather before it looks again: so under load nobody wakes it, and
/// it writes many lines at once.
const GATHER: Duration = Duration::from_millis(10);

/// Bytes after which it writes, though there is more.
const CHUNK: usize = 64 * 1024;

/// How long the end waits for whoever reads the standard output.
const LAST: Duration = Duration::from_secs(1);

/// A running writer. Dropped, it writes what is left and ends.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
    /// Lost records that were told of.
    told: u64,
}

/// A writer and the ways to it.
#[derive(Debug)]
pub struct Started {
    /// The writer.
    pub writer: AccessLog,
    /// One for each worker.
    pub lanes: Vec<Lane>,
    /// For flows; `None`: they are not written in this form.
    pub lines: Option<Lines>,
}

impl AccessLog {
    /// Starts the writer of `log` for so many workers; `None` if nothing is to be written.
    pub fn start(
        log: &model::Log,
        workers: usize,
        out: impl Write + Send + 'static,
    ) -> io::Result<Option<Started>> {
        let has_flows = match &log.access {
            Access::Off => return Ok(None),
            Access::Json => true,
            Access::Combined | Access::Template(_) => false,
        };
        let shared = Arc::new(Shared::default());
        let (senders, records): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(ROOM)).unzip();
        let lane = |sender| Lane::new(sender, Arc::clone(&shared), log.sample, log.errors_always);
        let lanes = senders.into_iter().map(lane).collect();
        let (sender, lines) = sync_channel(LINES);
        let (ends, ended) = sync_channel(1);
        let access = log.access.clone();
        let writer = Writer { access, records, lines, shared: Arc::clone(&shared), out };
        let thread = thread::Builder::new()
            .name("deston-access-log".to_owned())
            .spawn(move || writer.run(&ends))?;
        let lines = has_flows.then(|| Lines::new(sender, Arc::clone(&shared)));
        let writer = Self { shared, thread: Some(thread), ended, told: 0 };
        Ok(Some(Started { writer, lanes, lines }))
    }

    /// Records that found no room, so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Warns of records that found no room since it was last asked.
    pub fn tell_lost(&mut self) {
        let lost = self.lost();
        if lost > self.told {
            tracing::warn!(
                requests = lost - self.told,
                "requests ended faster than they could be logged, and are missing from the access \
                 log: lower `[log] sample`, or read the standard output faster"
            );
            self.told = lost;
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.tell_lost();
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.unpark();
        // An error other than a timeout is a panic, which joining tells.
        if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(LAST) {
            tracing::warn!("the access log is not whole: nobody reads the standard output");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the access log's thread had panicked");
        }
    }
}

struct Writer<W> {
    access: Access,
    records: Vec<Receiver<Box<Record>>>,
    lines: Receiver<String>,
    shared: Arc<Shared>,
    out: W,
}

/// What there was to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing.
    Nothing,
    /// All there was.
    All,
    /// As much as is written at once.
    Chunk,
}

impl<W: Write> Writer<W> {
    fn run(mut self, ends: &SyncSender<()>) {
        // Set once, by this thread alone.
        let _ = self.shared.thread.set(thread::current());
        if let Err(error) = self.write_all() {
            tracing::error!(%error, "the access log has ended: nobody reads the standard output");
        }
        // Nobody listens after a timeout.
        let _ = ends.try_send(());
    }

    fn write_all(&mut self) -> io::Result<()> {
        let mut text = Vec::with_capacity(CHUNK);
        loop {
            // Read before looking for work: what was given before the stop is found.
            let is_stopping = self.shared.is_stopping.load(Ordering::Acquire);
            match self.write(&mut text)? {
                Found::Chunk => {}
                Found::Nothing if is_stopping => return Ok(()),
                Found::All if is_stopping => {}
                Found::All => thread::park_timeout(GATHER),
                Found::Nothing => {
                    self.shared.is_asleep.store(true, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    let last = self.write(&mut text)?;
                    if last == Found::Nothing && !self.shared.is_stopping.load(Ordering::Acquire) {
                        thread::park();
                    }
                    self.shared.is_asleep.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    fn write(&mut self, text: &mut Vec<u8>) -> io::Result<Found> {
        let found = self.render(text);
        if !text.is_empty() {
            self.out.write_all(text)?;
            self.out.flush()?;
            text.clear();
        }
        Ok(found)
    }

    fn render(&self, text: &mut Vec<u8>) -> Found {
        for records in &self.records {
            for record in records.try_iter() {
                render::line(&self.access, &record, text);
                if text.len() >= CHUNK {
                    return Found::Chunk;
                }
            }
        }
        for line in self.lines.try_iter() {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
            if text.len() >= CHUNK {
                return Found::Chunk;
            }
        }
        if text.is_empty() { Found::Nothing } else { Found::All }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::access::{Keep, Word};

    /// Tells the test what is written.
    struct Told(Sender<Vec<u8>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Is read by nobody for as long as the test holds the lock.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let poisoned = |_| io::Error::other("poisoned");
            self.0.lock().map_err(poisoned)?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(sample: u32, errors_always: bool) -> model::Log {
        model::Log { access: Access::Json, sample, errors_always }
    }

    fn record(path: usize) -> Box<Record> {
        let mut record = Record::new(Duration::ZERO, Ipv4Addr::LOCALHOST.into());
        record.set(Word::Path, format!("/{path}").as_bytes());
        Box::new(record)
    }

    #[test]
    fn a_record_is_written_soon_and_what_is_left_at_the_end() {
        let (sender, told) = channel();
        let Started { writer, lanes, lines } =
            AccessLog::start(&log(1_000_000, true), 2, Told(sender)).unwrap().unwrap();
        for round in 0..3 {
            // Each finds the writer asleep, or on its way there.
            lanes[round % 2].push(record(round));
            let written = told.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(String::from_utf8(written).unwrap().contains(&format!("\"/{round}\"")));
        }
        lines.unwrap().push("a flow".to_owned());
        lanes[0].push(record(3));
        drop(writer);
        let rest: Vec<u8> = told.try_iter().flatten().collect();
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.contains("a flow\n") && rest.contains("\"/3\""), "{rest}");
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_nobody_waits() {
        let text = Arc::new(Mutex::new(Vec::new()));
        let stuck = text.lock().unwrap();
        let Started { writer, lanes, .. } =
            AccessLog::start(&log(1_000_000, true), 1, Stuck(Arc::clone(&text))).unwrap().unwrap();
        let given = 4 * ROOM;
        (0..given).for_each(|n| lanes[0].push(record(n)));
        let lost = usize::try_from(writer.lost()).unwrap();
        assert!(lost > 0 && lost < given, "{lost}");
        drop(stuck);
        drop(writer);
        let lines = text.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines + lost, given);
    }

    #[test]
    fn a_writer_that_nobody_reads_ends_without_a_fuss() {
        let (sender, told) = channel();
        drop(told);
        let Started { writer, lanes, .. } =
            AccessLog::start(&log(1_000_000, true), 1, Told(sender)).unwrap().unwrap();
        lanes[0].push(record(0));
        drop(writer);
        lanes[0].push(record(1));
    }

    #[test]
    fn a_sample_is_spread_evenly_and_failures_are_kept_if_asked_for() {
        for (sample, errors_always, expected) in [
            (1_000_000, false, [Some(Keep::Always); 4]),
            (0, false, [None; 4]),
            (0, true, [Some(Keep::IfFailed); 4]),
            (500_000, false, [None, Some(Keep::Always), None, Some(Keep::Always)]),
        ] {
            let started = AccessLog::start(&log(sample, errors_always), 1, io::sink());
            let lanes = started.unwrap().unwrap().lanes;
            assert_eq!([(); 4].map(|()| lanes[0].next()), expected, "{sample}");
        }
    }

    #[test]
    fn without_a_form_there_is_no_writer() {
        let off = model::Log { access: Access::Off, ..log(1_000_000, true) };
        assert!(AccessLog::start(&off, 1, io::sink()).unwrap().is_none());
    }
}
