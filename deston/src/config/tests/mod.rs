//! What a file means, and what is said when it means nothing.

mod combinations;
mod defaults;
mod errors;
mod examples;
mod http;
mod origin;
mod rendering;
mod requests;
mod routes;
mod settings;
mod tls;
mod treatment;

use std::io;
use std::net::IpAddr;

use super::resolve::Resolver;
use super::{Report, parse_with};
use crate::model::Model;

/// Parses with a resolver that knows three names.
fn parse(text: &str) -> Result<Model, Report> {
    parse_with("config.toml", text, &mut Resolver::new(lookup))
}

fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    let addresses: &[&str] = match host {
        "localhost" => &["::1", "127.0.0.1"],
        "app" => &["192.0.2.10"],
        "app6" => &["2001:db8::10"],
        _ => return Err(io::Error::other("no such name")),
    };
    addresses.iter().map(|text| text.parse().map_err(io::Error::other)).collect()
}

/// The errors of a text, one on each line, without the file's name.
fn errors(text: &str) -> Vec<String> {
    let report = parse(text).expect_err("the text is invalid");
    report
        .lines()
        .map(|line| line.trim_start_matches("config.toml:").trim_start().to_owned())
        .collect()
}

fn valid(text: &str) -> Model {
    parse(text).unwrap()
}
