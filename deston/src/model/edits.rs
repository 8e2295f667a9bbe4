//! Changes to the header fields of a message that passes.

use http::{HeaderMap, HeaderName, HeaderValue};

/// What is changed about the fields of requests and of responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageEdits {
    /// Before a request goes to a server.
    pub request: Edits,
    /// Before a response goes to the client.
    pub response: Edits,
}

/// Changes to the fields of one message: removed first, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Fields that go, however often they are there.
    pub remove: Vec<HeaderName>,
    /// Fields that have this one value afterwards.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields that come beside those of the same name.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl Edits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Makes the changes. Fields beyond what a map holds, far more than a head may have, are left
    /// out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            let _ = headers.try_insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            let _ = headers.try_append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let mut headers: HeaderMap =
            [pair("a", "1"), pair("b", "1"), pair("c", "1")].into_iter().collect();
        let edits = Edits {
            remove: vec![HeaderName::from_static("a"), HeaderName::from_static("b")],
            set: vec![pair("b", "2"), pair("c", "2")],
            add: vec![pair("c", "3")],
        };
        edits.apply(&mut headers);
        let mut all: Vec<(&str, &HeaderValue)> =
            headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        all.sort_by_key(|(name, _)| *name);
        assert_eq!(
            all,
            [("b", &pair("b", "2").1), ("c", &pair("c", "2").1), ("c", &pair("c", "3").1)]
        );
    }

    #[test]
    fn removing_takes_every_field_of_a_name() {
        let mut headers = HeaderMap::new();
        for value in ["1", "2"] {
            headers.append("a", HeaderValue::from_static(value));
        }
        Edits { remove: vec![HeaderName::from_static("a")], ..Edits::default() }
            .apply(&mut headers);
        assert!(headers.is_empty());
    }
}
