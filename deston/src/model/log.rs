//! `[log]`: what is written of traffic.

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How requests, and ended flows of listeners in the kernel, are written. Default: not at all.
    pub access: Access,
    /// Share of them that are written, in millionths.
    pub sample: u32,
    /// Whether requests that failed are written whatever `sample` says. Default: yes.
    pub errors_always: bool,
}

/// How traffic is written, each record on a line of the standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Requests and flows, as JSON objects.
    Json,
    /// Requests, as Apache and nginx write them.
    Combined,
    /// Requests, as the user says.
    Template(Template),
    /// Not at all.
    Off,
}

/// A line with places for fields of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// The value of a field.
    Field(LogField),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A line break would make two lines of one record.
    #[error("it has a control character")]
    Control,
    /// A `$` that begins no field.
    #[error("`${0}` is no field")]
    Unknown(String),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident $name:literal,)*) => {
        /// A field of a request's record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LogField {
            $($(#[$doc])* $field,)*
        }

        impl LogField {
            /// Every field, in the order of a record.
            pub const ALL: &[Self] = &[$(Self::$field,)*];

            /// Its name in records and templates.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                }
            }
        }
    };
}

fields! {
    /// When the head was complete.
    Time "time",
    /// The listener's name.
    Listener "listener",
    /// The client's address.
    Client "client",
    /// The method.
    Method "method",
    /// What the client asked: the authority of the target, or `Host`.
    Host "host",
    /// Path and query as the client sent them.
    Path "path",
    /// The status that the client got.
    Status "status",
    /// Bytes of the request's body.
    BytesIn "bytes_in",
    /// Bytes of the response's body.
    BytesOut "bytes_out",
    /// From the request's head to the end of the response.
    Duration "duration_seconds",
    /// From the request's head to the head of the server's response.
    ResponseHead "response_head_seconds",
    /// The name of the last server that was asked.
    Server "server",
    /// How often the request was sent again.
    Retries "retries",
    /// The request's id.
    RequestId "request_id",
    /// The version of TLS.
    Tls "tls",
    /// The version of HTTP.
    Http "http",
    /// `User-Agent`.
    UserAgent "user_agent",
    /// `Referer`.
    Referer "referer",
    /// What went wrong.
    Reason "reason",
}

impl Template {
    /// Reads a text in which `$name` and `${name}` stand for fields, and `$$` for a dollar.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.chars().any(char::is_control) {
            return Err(TemplateError::Control);
        }
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        let mut literal = pieces.next().unwrap_or_default().to_owned();
        while let Some(piece) = pieces.next() {
            if piece.is_empty() {
                // Of `$$`, what follows is text.
                literal.push('$');
                literal.push_str(pieces.next().ok_or(TemplateError::Unknown(String::new()))?);
                continue;
            }
            let (name, rest) = split_name(piece);
            let field = LogField::ALL.iter().find(|field| field.name() == name);
            let field = *field.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field));
            literal.push_str(rest);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// Its parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// A name at the start of `piece`, perhaps in braces, and what follows.
fn split_name(piece: &str) -> (&str, &str) {
    if let Some(inside) = piece.strip_prefix('{') {
        return inside.split_once('}').unwrap_or((piece, ""));
    }
    let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    piece.split_at(end.unwrap_or(piece.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn fields_stand_between_texts() {
        let template = Template::parse("$client \"$method ${path}x\" $$5 $status").unwrap();
        let expected = [
            Part::Field(LogField::Client),
            text(" \""),
            Part::Field(LogField::Method),
            text(" "),
            Part::Field(LogField::Path),
            text("x\" $5 "),
            Part::Field(LogField::Status),
        ];
        assert_eq!(template.parts(), expected);
    }

    #[test]
    fn what_is_no_field_is_named() {
        for (text, name) in [("$nobody", "nobody"), ("${method", "{method"), ("a$", ""), ("$ ", "")]
        {
            assert_eq!(
                Template::parse(text),
                Err(TemplateError::Unknown(name.to_owned())),
                "{text}"
            );
        }
        assert_eq!(Template::parse("$method\n"), Err(TemplateError::Control));
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_not_but_never_a_panic(text in "[$a-e{}_ ]{0,20}") {
            let _ = Template::parse(&text);
        }
    }
}
