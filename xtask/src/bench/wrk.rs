//! Small requests: wrk, its command line and what it says.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::load::{Load, Report, Traffic};
use crate::command;

/// Runs the load for some seconds; `wrk` is the bare command, in the client's place.
pub(crate) fn run(mut wrk: Command, to: SocketAddr, load: Load, seconds: u32) -> Result<Report> {
    // More threads than processors would only take turns with the contender's.
    let processors = if load.one_processor { 1 } else { super::workers() };
    let threads = processors.min(load.connections as usize);
    wrk.args(["--latency", "--timeout", "5s", "--threads", &threads.to_string()]);
    wrk.args(["--connections", &load.connections.to_string()]);
    wrk.args(["--duration", &format!("{seconds}s")]);
    if load.traffic == Traffic::Close {
        wrk.args(["--header", "Connection: close"]);
    }
    wrk.arg(format!("http://{to}{}", load.path));
    let text = command::text(&mut wrk)?;
    parse(&text).with_context(|| format!("wrk said:\n{text}"))
}

fn parse(text: &str) -> Option<Report> {
    let after = |start: &str| {
        text.lines().map(str::trim).find_map(|line| line.strip_prefix(start)).map(str::trim)
    };
    // The header line of wrk's statistics has a percentage too; these stand at the line's start.
    let latency = |percent| after(percent).and_then(microseconds);
    let requests = text.lines().find_map(|line| line.split_once(" requests in "))?.0.trim();
    let socket = after("Socket errors:").unwrap_or_default();
    let socket =
        socket.split(',').filter_map(|part| part.split_whitespace().last()?.parse::<f64>().ok());
    let status = after("Non-2xx or 3xx responses:").and_then(|count| count.parse().ok());
    Some(Report {
        amount: requests.parse().ok()?,
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50_us: Some(latency("50%")?),
        p99_us: Some(latency("99%")?),
        errors: socket.sum::<f64>() + status.unwrap_or(0.0),
    })
}

/// `154.00us`, `1.20ms` or `1.02s` in microseconds.
fn microseconds(text: &str) -> Option<f64> {
    [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .into_iter()
        .find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 3s test @ http://127.0.0.1:8080/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   583.11us  429.55us   9.79ms   67.50%
    Req/Sec    56.49k     3.71k   63.22k    50.00%
  Latency Distribution
     50%  154.00us
     75%  723.00us
     90%    1.11ms
     99%    1.20ms
  337354 requests in 3.00s, 48.26MB read
  Socket errors: connect 0, read 3, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec: 112305.27
Transfer/sec:     16.07MB
";

    #[test]
    fn a_report_is_read() {
        let report = Report {
            amount: 337_354.0,
            per_second: 112_305.27,
            p50_us: Some(154.0),
            p99_us: Some(1_200.0),
            errors: 9.0,
        };
        assert_eq!(parse(TEXT), Some(report));
    }

    #[test]
    fn a_report_without_figures_is_none() {
        assert_eq!(parse("unable to connect to 127.0.0.1:8080 Connection refused\n"), None);
    }
}
