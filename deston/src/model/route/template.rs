//! Texts with variables: where a request is redirected to, and what its path becomes.
//!
//! What a client sends goes into them escaped, so that it cannot end the text, add a field, or
//! become another host.

use std::fmt;

use super::Asked;
use super::pattern::PathPattern;

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A piece of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// What was filled in.
    Variable(Variable),
}

/// Something of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `$1`: what `*` stood for; `$1` to `$99`: what a group of `path_regex` matched.
    Group(usize),
    /// `$path`: the whole path.
    Path,
    /// `$host`: the host, without a port.
    Host,
    /// `$query`: the query, without `?`; empty if there is none.
    Query,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown variable `${0}`")]
pub struct UnknownVariable(pub String);

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "${group}"),
            Self::Path => f.write_str("$path"),
            Self::Host => f.write_str("$host"),
            Self::Query => f.write_str("$query"),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// Reads a text; `$$` is a dollar sign.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let is_group = after.starts_with(|c: char| c.is_ascii_digit());
            let belongs =
                |c: char| if is_group { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
            let end = after.find(|c| !belongs(c)).unwrap_or(after.len());
            let (name, behind) = after.split_at(end);
            let variable = match name {
                "path" => Variable::Path,
                "host" => Variable::Host,
                "query" => Variable::Query,
                _ => match name.parse() {
                    Ok(group @ 1..=99) => Variable::Group(group),
                    Ok(_) | Err(_) => return Err(UnknownVariable(name.to_owned())),
                },
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Variable(variable));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(variable) => Some(*variable),
        })
    }

    /// The text for a request. Variables that it has nothing for are empty.
    pub(super) fn fill(&self, asked: &Asked<'_>, pattern: Option<&PathPattern>) -> String {
        let mut filled = String::new();
        let mut piece = String::new();
        for part in &self.parts {
            piece.clear();
            match part {
                Part::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Part::Variable(Variable::Group(group)) => {
                    let range = pattern.map_or(0..0, |pattern| pattern.group(*group, &asked.path));
                    asked.path.spell(range, &mut piece);
                }
                // `*`, of OPTIONS, is no path.
                Part::Variable(Variable::Path) if asked.path.plain().first() != Some(&b'/') => {
                    piece.push('/');
                }
                Part::Variable(Variable::Path) => asked.path.spell_all(&mut piece),
                Part::Variable(Variable::Host) => piece.push_str(asked.host.unwrap_or_default()),
                Part::Variable(Variable::Query) => piece.push_str(asked.query.unwrap_or_default()),
            }
            escape(&piece, &mut filled);
        }
        filled
    }
}

/// Appends what a client sent, with every byte escaped that RFC 3986 has no place for. `%` stays:
/// what has escapes keeps them.
pub(super) fn escape(piece: &str, out: &mut String) {
    for byte in piece.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        let template = Template::parse(text).unwrap();
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Variable(variable) => format!("<{variable}>"),
        };
        template.parts().iter().map(shown).collect()
    }

    #[test]
    fn variables_end_where_their_name_does() {
        assert_eq!(parts("https://$host$path"), ["https://", "<$host>", "<$path>"]);
        assert_eq!(parts("/$1a$12/$2"), ["/", "<$1>", "a", "<$12>", "/", "<$2>"]);
        assert_eq!(parts("/a?$query"), ["/a?", "<$query>"]);
        assert_eq!(parts("/a"), ["/a"]);
    }

    #[test]
    fn two_dollar_signs_are_one() {
        assert_eq!(parts("/$$path$$"), ["/$path$"]);
    }

    #[test]
    fn what_is_no_variable_is_named() {
        for (text, name) in
            [("$pth", "pth"), ("$", ""), ("/$0", "0"), ("$100", "100"), ("$hostname/", "hostname")]
        {
            assert_eq!(Template::parse(text), Err(UnknownVariable(name.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_has_no_place_in_a_uri_is_escaped() {
        let mut out = String::new();
        escape("/a\\b\"<%20>\r\n{}^`|", &mut out);
        assert_eq!(out, "/a%5Cb%22%3C%20%3E%0D%0A%7B%7D%5E%60%7C");
    }
}
