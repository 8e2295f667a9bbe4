//! A parser of what a server receives that takes nothing but the plainest HTTP/1.1, and shares no
//! code with the proxy's.

/// A request as a strict server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
    /// Names in lower case, and values.
    pub fields: Vec<(String, String)>,
    /// Content, chunks joined.
    pub body: Vec<u8>,
}

impl Parsed {
    /// A field's only value.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is repeated in {self:?}");
        value
    }
}

/// Why bytes are no request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// Not yet.
    Incomplete,
    /// A strict server would not take this.
    Wrong(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

/// Every complete request of a connection's bytes, and how many bytes there are behind them. An error
/// says what a strict server would not take.
pub fn requests(mut bytes: &[u8]) -> Result<(Vec<Parsed>, usize), String> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let mut rest = bytes;
        match request(&mut rest) {
            Ok(parsed) => requests.push(parsed),
            Err(Fault::Incomplete) => break,
            Err(Fault::Wrong(what)) => return Err(what),
        }
        bytes = rest;
    }
    Ok((requests, bytes.len()))
}

fn request(bytes: &mut &[u8]) -> Result<Parsed, Fault> {
    let start = line(bytes)?;
    let words: Vec<&str> = start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("start line {start:?}").into());
    };
    if !is_token(method) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("start line {start:?}").into());
    }
    let fields = fields(bytes)?;
    let mut parsed =
        Parsed { method: method.to_owned(), target: target.to_owned(), fields, body: Vec::new() };
    let all = |name: &str| -> Vec<String> {
        let named = parsed.fields.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| value.clone()).collect()
    };
    if all("host").len() != 1 {
        return Err(format!("hosts in {parsed:?}").into());
    }
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    parsed.body = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Vec::new(),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| format!("length {length:?}"))?;
            take(bytes, length)?.to_vec()
        }
        ([], [coding]) if coding == "chunked" => chunks(bytes)?,
        _ => return Err(format!("framing of {parsed:?}").into()),
    };
    Ok(parsed)
}

fn fields(bytes: &mut &[u8]) -> Result<Vec<(String, String)>, Fault> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or(format!("field {line:?}"))?;
        if !is_token(name) || name.contains('_') {
            return Err(format!("field {line:?}").into());
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches(' ').to_owned()));
    }
}

fn chunks(bytes: &mut &[u8]) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    loop {
        let size = line(bytes)?;
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("chunk {size:?}").into());
        }
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("chunk {size:?}"))?;
        if size == 0 {
            fields(bytes)?;
            return Ok(body);
        }
        body.extend_from_slice(take(bytes, size)?);
        if take(bytes, 2)? != b"\r\n" {
            return Err("a chunk without its end".to_owned().into());
        }
    }
}

/// A line, which CRLF ends and which holds no other CR, LF or control byte but the tab.
fn line(bytes: &mut &[u8]) -> Result<String, Fault> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Fault::Incomplete)?;
    let line = bytes[..end].strip_suffix(b"\r").ok_or("LF without CR".to_owned())?;
    if line.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
        return Err(format!("control bytes in {:?}", String::from_utf8_lossy(line)).into());
    }
    let text = String::from_utf8_lossy(line).into_owned();
    *bytes = &bytes[end + 1..];
    Ok(text)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Fault::Incomplete)?;
    *bytes = rest;
    Ok(taken)
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_requests_are_taken_one_after_the_other() {
        let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
            POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        let (parsed, rest) = requests(bytes).unwrap();
        assert_eq!(rest, 0);
        let seen: Vec<(&str, &[u8])> =
            parsed.iter().map(|request| (request.target.as_str(), &request.body[..])).collect();
        assert_eq!(seen, [("/a", &b""[..]), ("/b", b"abc"), ("/c", b"ab")]);
    }

    #[test]
    fn anything_that_could_be_read_in_two_ways_is_refused() {
        for bytes in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc0\r\n\r\n",
        ] {
            assert!(requests(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
