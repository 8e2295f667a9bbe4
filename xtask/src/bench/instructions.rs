//! User instructions for each request of HTTP, by callgrind: the one figure that no other load on the
//! machine moves.
//!
//! Each proxy serves a few requests in one run and more in another, over one connection, with one
//! worker; the difference is what a request costs, without its start and its end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::peers::{self, Mode};
use super::{deston_config, l7};
use crate::process::Running;
use crate::{command, wait};

/// Requests of the two runs.
const FEW: u32 = 500;
const MORE: u32 = 2_500;

/// What browsers send, more or less; h2load adds Host and User-Agent.
const FIELDS: [&str; 5] = [
    "accept: */*",
    "accept-encoding: gzip, deflate, br",
    "accept-language: en-GB,en;q=0.5",
    "cache-control: no-cache",
    "cookie: session=0123456789abcdef; theme=dark",
];

/// How long a program under callgrind may take to listen.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures and prints a table.
pub(crate) fn run(deston: &Path) -> Result<()> {
    for program in ["valgrind", "h2load"] {
        if command::find(program).is_none() {
            println!("\nInstructions were not counted: {program} is not installed.");
            return Ok(());
        }
    }
    let folder = tempfile::tempdir().context("making a folder for configurations")?;
    let folder = folder.path();
    let here = |program: &Path| Command::new(program);
    let [ports] = l7::free_ports()?;
    let text = peers::server(&folder.join("servers"), &ports.servers)?;
    let mut servers = peers::start(&here, "nginx", &folder.join("servers"), &text)?;
    servers.accepts(ports.servers[0])?;

    let one_worker = |text: String| {
        let workers = super::workers();
        text.replace(&format!("nbthread {workers}"), "nbthread 1")
            // Of two listening sockets, nobody would accept from the second.
            .replace(&format!("worker_processes {workers};"), "worker_processes 1;")
            .replace("daemon off;", "daemon off; master_process off;")
    };
    let config = deston_config(ports.listen, "L7", None, &ports.servers);
    let files = [
        ("deston", config + "[runtime]\nworkers = 1\n"),
        ("nginx", one_worker(peers::nginx_proxy(folder, ports.listen, &ports.servers))),
        ("haproxy", one_worker(peers::haproxy(Mode::Http, ports.listen, &ports.servers))),
    ];
    println!("\n### User instructions for each request, 100 bytes, keep-alive, one worker\n");
    println!("| | instructions/request | deston / this |\n|---|---|---|");
    let mut own = None;
    for (name, text) in files {
        let file = folder.join(format!("{name}.conf"));
        std::fs::write(&file, text)?;
        let program = if name == "deston" {
            deston.to_owned()
        } else if let Some(program) = command::find(name) {
            program
        } else {
            continue;
        };
        let count = |requests| {
            counted(|| arguments(name, &program, folder, &file), ports.listen, folder, requests)
        };
        let each = count(MORE)?.saturating_sub(count(FEW)?) / u64::from(MORE - FEW);
        let own = *own.get_or_insert(each);
        println!("| {name} | {each} | {:.2} |", own as f64 / each as f64);
    }
    Ok(())
}

/// A program and its arguments.
fn arguments(name: &str, program: &Path, folder: &Path, file: &Path) -> Vec<String> {
    let (program, folder, file) =
        (program.display().to_string(), folder.display().to_string(), file.display().to_string());
    let words: Vec<&str> = match name {
        "deston" => vec![&program, "run", "--config", &file],
        "nginx" => vec![&program, "-e", "stderr", "-p", &folder, "-c", &file],
        _ => vec![&program, "-db", "-f", &file],
    };
    words.into_iter().map(str::to_owned).collect()
}

/// Instructions of a whole run that served so many requests.
fn counted(
    words: impl FnOnce() -> Vec<String>,
    listen: SocketAddr,
    folder: &Path,
    requests: u32,
) -> Result<u64> {
    let counts = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
    let mut process = Running::start(valgrind.args(words()), &folder.join("callgrind.log"))?;
    wait::until(&format!("an answer from {listen}"), LIMIT, || {
        process.must_run()?;
        let connected = std::net::TcpStream::connect_timeout(&listen, Duration::from_secs(1));
        Ok(connected.ok())
    })
    .map_err(|error| process.explain(error))?;
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-c", "1", "-n", &requests.to_string()]);
    for field in FIELDS {
        h2load.args(["-H", field]);
    }
    let said = command::text(h2load.arg(format!("http://{listen}/")))?;
    if !said.contains(&format!("{requests} succeeded")) {
        bail!("h2load said:\n{said}");
    }
    // The counts are written at the end.
    drop(process);
    let text = std::fs::read_to_string(&counts).context("callgrind has written no counts")?;
    summary(&text).with_context(|| format!("no sum in what callgrind wrote:\n{text:.400}"))
}

/// The sum of all instructions.
fn summary(text: &str) -> Option<u64> {
    let line = |start| text.lines().find_map(|line| line.strip_prefix(start));
    line("summary:").or_else(|| line("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read() {
        assert_eq!(summary("version: 1\nevents: Ir\nsummary: 1234\n\nfn=(1)\n"), Some(1_234));
        assert_eq!(summary("events: Ir\ntotals: 7\n"), Some(7));
        assert_eq!(summary("events: Ir\n"), None);
    }
}
