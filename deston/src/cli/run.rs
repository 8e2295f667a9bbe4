//! `deston run`: serve until a signal says stop.

use std::io;
use std::path::Path;

use deston::RunError;
use deston::config::Report;
use deston::control::{Ending, Signal};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{FAILED, FORCED, INVALID, LogFormat, OK, complain_of};

/// Signals that may wait for the control plane; more of them say nothing new.
const SIGNALS: usize = 16;

/// Runs the control plane in this thread.
pub(crate) fn run(path: &Path, format: LogFormat) -> u8 {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the control plane");
            return FAILED;
        }
    };
    let code = serve(&runtime, path, format);
    // A name lookup may still be under way in a thread of its own; nobody waits for it.
    runtime.shutdown_background();
    code
}

fn serve(runtime: &Runtime, path: &Path, format: LogFormat) -> u8 {
    let result = runtime.block_on(async {
        // Before anything listens, so that no signal finds its default action.
        let (signals, _forwarding) = signals()?;
        Ok::<_, io::Error>(deston::run(path, signals).await)
    });
    match result {
        Ok(Ok(Ending::Drained)) => OK,
        Ok(Ok(Ending::Forced)) => FORCED,
        Ok(Err(RunError::Config(report))) => {
            report_invalid(&report, format);
            INVALID
        }
        Ok(Err(RunError::Start(error))) => {
            for line in error.to_string().lines() {
                tracing::error!("{line}");
            }
            tracing::error!("nothing was started");
            FAILED
        }
        Err(error) => {
            tracing::error!(%error, "cannot listen for signals");
            FAILED
        }
    }
}

fn report_invalid(report: &Report, format: LogFormat) {
    match format {
        LogFormat::Human => complain_of(report),
        LogFormat::Json => report.lines().for_each(|line| tracing::error!("{line}")),
    }
}

/// What the process's signals ask for; forwarded for as long as the set lives.
fn signals() -> io::Result<(mpsc::Receiver<Signal>, JoinSet<()>)> {
    let (sender, receiver) = mpsc::channel(SIGNALS);
    let mut forwarding = JoinSet::new();
    for (kind, meaning) in [
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::hangup(), Signal::Reload),
    ] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        forwarding.spawn(async move {
            while signals.recv().await.is_some() && sender.send(meaning).await.is_ok() {}
        });
    }
    Ok((receiver, forwarding))
}
