//! The client: sends requests, each on a connection of its own, and counts who answered.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait;

/// A client as a process of its own, for a namespace
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The address to send requests to
    to: SocketAddr,
    /// How many
    requests: u32,
}

/// Sends the requests and prints a line for each server: its name and its count.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    for (name, count) in count(arguments.to, arguments.requests)? {
        println!("{name} {count}");
    }
    Ok(())
}

/// How often each server answered.
pub(crate) type Answers = BTreeMap<String, u32>;

/// Sends requests one after the other.
pub(crate) fn count(to: SocketAddr, requests: u32) -> Result<Answers> {
    let mut answers = Answers::new();
    for request in 1..=requests {
        wait::check_interrupt()?;
        let name = ask(to).with_context(|| format!("request {request} of {requests} to {to}"))?;
        *answers.entry(name).or_default() += 1;
    }
    Ok(answers)
}

/// Reads what [`run`] printed.
pub(crate) fn parse(printed: &str) -> Answers {
    printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}

/// The name of the server that answered one request.
fn ask(to: SocketAddr) -> Result<String> {
    const LIMIT: Duration = Duration::from_secs(5);
    let mut connection = TcpStream::connect_timeout(&to, LIMIT).context("connecting")?;
    connection.set_read_timeout(Some(LIMIT))?;
    connection.write_all(b"GET / HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n")?;
    // The length ends the answer: a server behind layer 4 may keep the connection.
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let read = connection.read(&mut buffer).context("reading the answer")?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && (read == 0 || body.ends_with('\n'))
        {
            let status = head.lines().next().unwrap_or_default();
            anyhow::ensure!(status.contains(" 200 "), "answered `{status}`: {}", body.trim());
            return Ok(body.trim().to_owned());
        }
        anyhow::ensure!(read > 0, "the connection was closed without an answer");
    }
}

/// A line for a server and a column for each run.
pub(crate) fn table(columns: &[(&str, Answers)]) -> String {
    let mut names: Vec<&String> = columns.iter().flat_map(|(_, answers)| answers.keys()).collect();
    names.sort();
    names.dedup();
    let mut table = format!("  {:8}", "server");
    for (title, _) in columns {
        table += &format!("  {title:>32}");
    }
    for name in names {
        table += &format!("\n  {name:8}");
        for (title, answers) in columns {
            let width = title.chars().count().max(32);
            table += &format!("  {:>width$}", answers.get(name).copied().unwrap_or(0));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::server;

    #[test]
    fn the_server_answers_with_its_name() {
        let address = server::start("alpha").unwrap();
        assert_eq!(count(address, 3).unwrap(), Answers::from([("alpha".to_owned(), 3)]));
    }

    #[test]
    fn counts_survive_being_printed() {
        let answers = parse("alpha 50\nbeta 50\n");
        assert_eq!(answers.get("beta"), Some(&50));
        let table = table(&[("one", answers), ("other", Answers::new())]);
        assert_eq!(table.lines().count(), 3);
        assert!(table.lines().nth(1).unwrap().trim().starts_with("alpha"), "{table}");
    }
}
