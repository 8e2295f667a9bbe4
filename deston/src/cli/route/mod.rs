//! `deston route test`: which route a request meets, what becomes of it, and why, by the file alone.

mod told;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use clap::Subcommand;
use deston::config;
use deston::model::{Layer, Listener, Model};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{INVALID, complain, complain_of, say};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell what becomes of a request: each route it meets, and why it is taken or passed over
    Test(Request),
}

/// A request that nobody sends.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// What is asked for, such as https://www.example.com/a?b=c
    #[arg(value_name = "URL", value_parser = url)]
    url: Uri,
    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET", value_parser = method)]
    method: Method,
    /// A header field; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's address, for algorithms that hash it
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// The listener that is asked [default: the one with the URL's port, or the only one]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
}

/// Carries out a command.
pub(crate) fn route(path: &Path, command: Command) -> u8 {
    let Command::Test(mut request) = command;
    let model = match config::load(path) {
        Ok(model) => model,
        Err(report) => {
            complain_of(&report);
            return INVALID;
        }
    };
    let listener = match listener(&model, &request) {
        Ok(listener) => listener,
        Err(why) => {
            complain(&format!("error: {why}"));
            return INVALID;
        }
    };
    let mut headers: HeaderMap = HeaderMap::new();
    for (name, value) in request.headers.drain(..) {
        headers.append(name, value);
    }
    let told = told::tell(&model, listener, &request, &headers);
    told.lines.iter().for_each(|line| say(line));
    told.code
}

/// The listener that a request comes to.
fn listener<'m>(model: &'m Model, request: &Request) -> Result<&'m Listener, String> {
    let all: Vec<&Listener> = model
        .listeners
        .iter()
        .map(AsRef::as_ref)
        .filter(|listener| matches!(listener.layer, Layer::L7(_)))
        .collect();
    let names: Vec<&str> = all.iter().map(|listener| listener.name.as_str()).collect();
    let names = names.join(", ");
    if all.is_empty() {
        return Err("no listener has `layer = \"L7\"`: there are no routes".to_owned());
    }
    if let Some(wanted) = &request.listener {
        let found = all.into_iter().find(|listener| listener.name == *wanted);
        return found.ok_or(format!("no layer 7 listener is called {wanted}: there are {names}"));
    }
    let is_tls = request.url.scheme_str() == Some("https");
    let port = request.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let with_port: Vec<&Listener> =
        all.iter().copied().filter(|listener| listener.address.port() == port).collect();
    match (with_port.as_slice(), all.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one),
        ([], _) => Err(format!("no layer 7 listener has port {port}: say --listener, of {names}")),
        _ => Err(format!("several listeners have port {port}: say --listener, of {names}")),
    }
}

fn url(text: &str) -> Result<Uri, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "a URL is of visible ASCII characters: write others as escapes, `%20`".to_owned()
        );
    }
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().filter(|host| !host.as_str().contains('@'));
    if !is_http || host.is_none() {
        return Err("begin with `http://` or `https://` and a host".to_owned());
    }
    Ok(uri)
}

fn method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method @ (Method::CONNECT | Method::TRACE)) => {
            Err(format!("{method} is answered with 405 before any route"))
        }
        Ok(method) => Ok(method),
        Err(_) => Err("this is no method".to_owned()),
    }
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write `Name: value`")?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}
