//! A record as a line. Whatever a client sends, it is one line, and its fields end where they end.

use std::io::Write;
use std::time::Duration;

use super::record::{Record, Word};
use crate::explain::rfc3339;
use crate::model::{Access, LogField, Part};

/// Adds the line of a record.
pub(super) fn line(access: &Access, record: &Record, text: &mut Vec<u8>) {
    match access {
        Access::Json => json(record, text),
        Access::Combined => combined(record, text),
        Access::Template(template) => {
            for part in template.parts() {
                match part {
                    Part::Text(literal) => text.extend_from_slice(literal.as_bytes()),
                    Part::Field(field) => plain(value(*field, record), text),
                }
            }
        }
        Access::Off => return,
    }
    text.push(b'\n');
}

/// The value of a field.
enum Value<'a> {
    Absent,
    /// Bytes of a client's choice.
    Bytes(&'a [u8]),
    /// A text of our own.
    Text(String),
    Word(&'static str),
    Number(u64),
    Span(Duration),
}

fn value(field: LogField, record: &Record) -> Value<'_> {
    let word = |word| record.word(word).map_or(Value::Absent, Value::Bytes);
    let known = |word: Option<&'static str>| word.map_or(Value::Absent, Value::Word);
    match field {
        LogField::Time => Value::Text(rfc3339(record.time)),
        LogField::Listener => word(Word::Listener),
        LogField::Client => Value::Text(record.client.to_string()),
        LogField::Method => word(Word::Method),
        LogField::Host => word(Word::Host),
        LogField::Path => word(Word::Path),
        LogField::Status => {
            record.status.map_or(Value::Absent, |status| Value::Number(status.into()))
        }
        LogField::BytesIn => Value::Number(record.bytes_in),
        LogField::BytesOut => Value::Number(record.bytes_out),
        LogField::Duration => Value::Span(record.duration),
        LogField::ResponseHead => record.response_head.map_or(Value::Absent, Value::Span),
        LogField::Server => word(Word::Server),
        LogField::Retries => Value::Number(record.retries.into()),
        LogField::RequestId => word(Word::RequestId),
        LogField::Tls => known(record.tls),
        LogField::Http => known(record.http),
        LogField::UserAgent => word(Word::UserAgent),
        LogField::Referer => word(Word::Referer),
        LogField::Reason => known(record.reason),
    }
}

/// One JSON object with every field; null is what is not known.
fn json(record: &Record, text: &mut Vec<u8>) {
    text.extend_from_slice(b"{\"event\":\"request\"");
    for field in LogField::ALL {
        text.extend_from_slice(b",\"");
        text.extend_from_slice(field.name().as_bytes());
        text.extend_from_slice(b"\":");
        match value(*field, record) {
            Value::Absent => text.extend_from_slice(b"null"),
            Value::Bytes(bytes) => json_text(bytes, text),
            Value::Text(own) => json_text(own.as_bytes(), text),
            Value::Word(own) => json_text(own.as_bytes(), text),
            Value::Number(number) => write(text, format_args!("{number}")),
            Value::Span(span) => seconds(span, text),
        }
    }
    text.push(b'}');
}

/// RFC 8259 7, and no control character at all, lest a terminal follow it. What is not UTF-8
/// becomes U+FFFD.
fn json_text(bytes: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    for char in String::from_utf8_lossy(bytes).chars() {
        match char {
            '"' => text.extend_from_slice(b"\\\""),
            '\\' => text.extend_from_slice(b"\\\\"),
            // The two that JavaScript takes for the end of a line are no control characters.
            _ if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                write(text, format_args!("\\u{:04x}", u32::from(char)));
            }
            _ => text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    text.push(b'"');
}

/// As Apache's `combined` and nginx's.
fn combined(record: &Record, text: &mut Vec<u8>) {
    write(text, format_args!("{} - - [", record.client));
    day_and_time(record.time, text);
    text.extend_from_slice(b"] \"");
    plain(value(LogField::Method, record), text);
    text.push(b' ');
    plain(value(LogField::Path, record), text);
    text.push(b' ');
    plain(value(LogField::Http, record), text);
    text.extend_from_slice(b"\" ");
    plain(value(LogField::Status, record), text);
    text.push(b' ');
    plain(value(LogField::BytesOut, record), text);
    for field in [LogField::Referer, LogField::UserAgent] {
        text.extend_from_slice(b" \"");
        plain(value(field, record), text);
        text.push(b'"');
    }
}

/// `31/Jan/2026:12:00:00 +0000`.
fn day_and_time(time: Duration, text: &mut Vec<u8>) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = rfc3339(time);
    let part = |from: usize, to: usize| time.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse().ok().and_then(|month: usize| MONTHS.get(month.checked_sub(1)?));
    let (year, month, day) = (part(0, 4), month.copied().unwrap_or_default(), part(8, 10));
    write(text, format_args!("{day}/{month}/{year}:{} +0000", part(11, 19)));
}

/// A value outside of JSON; `-` is what is not known. As Apache and nginx escape: `\xHH` for quotes,
/// backslashes, and what is not visible ASCII or a space.
fn plain(value: Value<'_>, text: &mut Vec<u8>) {
    match value {
        Value::Absent => text.push(b'-'),
        Value::Bytes(bytes) => {
            for &byte in bytes {
                match byte {
                    b'"' | b'\\' | ..0x20 | 0x7f.. => write(text, format_args!("\\x{byte:02X}")),
                    _ => text.push(byte),
                }
            }
        }
        Value::Text(own) => text.extend_from_slice(own.as_bytes()),
        Value::Word(own) => text.extend_from_slice(own.as_bytes()),
        Value::Number(number) => write(text, format_args!("{number}")),
        Value::Span(span) => seconds(span, text),
    }
}

fn seconds(span: Duration, text: &mut Vec<u8>) {
    write(text, format_args!("{}.{:06}", span.as_secs(), span.subsec_micros()));
}

fn write(text: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Template;

    fn record() -> Record {
        let mut record =
            Record::new(Duration::from_micros(1_769_860_800_123_456), [192, 0, 2, 7].into());
        record.set(Word::Listener, b"web");
        record.set(Word::Method, b"GET");
        record.set(Word::Host, b"shop.example");
        record.set(Word::Path, b"/a?b=c");
        record.set(Word::UserAgent, b"curl/8");
        record.status = Some(200);
        record.http = Some("HTTP/1.1");
        record.bytes_out = 12;
        record.duration = Duration::from_micros(1_500);
        record
    }

    fn rendered(access: &Access, record: &Record) -> String {
        let mut text = Vec::new();
        line(access, record, &mut text);
        String::from_utf8(text).unwrap()
    }

    fn template(text: &str) -> Access {
        Access::Template(Template::parse(text).unwrap())
    }

    #[test]
    fn json_has_every_field_and_null_for_what_is_not_known() {
        let line = rendered(&Access::Json, &record());
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        for field in LogField::ALL {
            assert!(told.get(field.name()).is_some(), "{}", field.name());
        }
        assert_eq!(
            (&told["event"], &told["time"]),
            (&"request".into(), &"2026-01-31T12:00:00.123456Z".into())
        );
        assert_eq!((&told["path"], &told["status"]), (&"/a?b=c".into(), &200.into()));
        assert_eq!(told["duration_seconds"], 0.0015);
        assert!(told["server"].is_null() && told["tls"].is_null());
    }

    #[test]
    fn combined_is_what_tools_of_apache_and_nginx_read() {
        assert_eq!(
            rendered(&Access::Combined, &record()),
            "192.0.2.7 - - [31/Jan/2026:12:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 12 \"-\" \
             \"curl/8\"\n"
        );
    }

    #[test]
    fn a_template_is_filled() {
        let form = template("$client $method ${host}$path $status $duration_seconds $server $$");
        assert_eq!(
            rendered(&form, &record()),
            "192.0.2.7 GET shop.example/a?b=c 200 0.001500 - $\n"
        );
    }

    proptest! {
        #[test]
        fn what_a_client_sends_makes_no_second_line_and_no_other_field(
            path in prop::collection::vec(any::<u8>(), 0..60),
            agent in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut record = record();
            record.set(Word::Path, &path);
            record.set(Word::UserAgent, &agent);
            let json = rendered(&Access::Json, &record);
            let told: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(told["path"].as_str().unwrap(), &*String::from_utf8_lossy(&path));
            prop_assert_eq!(&told["status"], &serde_json::Value::from(200));
            let combined = rendered(&Access::Combined, &record);
            prop_assert_eq!(combined.split('"').count(), 7);
            for line in [json, combined, rendered(&template("$path $user_agent"), &record)] {
                let before = line.strip_suffix('\n').unwrap();
                let ends_early = |c: char| c.is_control() || c == '\u{2028}';
                prop_assert!(!before.chars().any(ends_early));
            }
        }
    }
}
