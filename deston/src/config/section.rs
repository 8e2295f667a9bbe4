//! Reading the keys of one table.
//!
//! A key becomes known by being read, so the list of known keys is the code that reads them. What
//! no one has read when the section is finished is unknown.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::problem::{Problems, Span};
use super::value::{self, Fault};

/// A value with the places of its key and of itself.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) key: Span,
    pub(super) span: Span,
}

/// What a file says for one key.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    /// Nothing: the default holds.
    Absent,
    /// Something that is not valid and already reported: nothing is to be concluded from it.
    Wrong,
    /// A value.
    Given(At<T>),
}

impl<T: Clone> Field<T> {
    /// The value or its default; `None` if what is written is wrong.
    pub(super) fn or(&self, default: T) -> Option<T> {
        match self {
            Self::Absent => Some(default),
            Self::Wrong => None,
            Self::Given(at) => Some(at.value.clone()),
        }
    }

    /// Whether what is written is not valid.
    pub(super) fn is_wrong(&self) -> bool {
        match self {
            Self::Absent | Self::Given(_) => false,
            Self::Wrong => true,
        }
    }

    /// The value with its places, if there is a valid one.
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Absent | Self::Wrong => None,
            Self::Given(at) => Some(at),
        }
    }

    /// Where the key stands, if there is a valid value.
    pub(super) fn key(&self) -> Option<Span> {
        self.given().map(|at| at.key.clone())
    }

    /// Where the value stands, if there is a valid one.
    pub(super) fn span(&self) -> Option<Span> {
        self.given().map(|at| at.span.clone())
    }
}

/// One table of the file, or the empty one that stands for a table that is not written.
pub(super) struct Section<'a> {
    /// As the user writes its header, without brackets: `listener.timeouts`.
    path: String,
    /// The header; `None` if the table is not written.
    header: Option<Span>,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
    later: Vec<&'static str>,
    children: Vec<(&'static str, Section<'a>)>,
    /// Where files that values name are looked for.
    base: &'a Path,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The file itself.
    pub(super) fn root(table: &'a DeTable<'a>, base: &'a Path, problems: &'a Problems) -> Self {
        Self::new(String::new(), None, Some(table), base, problems)
    }

    fn new(
        path: String,
        header: Option<Span>,
        table: Option<&'a DeTable<'a>>,
        base: &'a Path,
        problems: &'a Problems,
    ) -> Self {
        Self {
            path,
            header,
            table,
            known: Vec::new(),
            later: Vec::new(),
            children: Vec::new(),
            base,
            problems,
        }
    }

    /// Where the table's header stands.
    pub(super) fn header(&self) -> Option<Span> {
        self.header.clone()
    }

    /// Where files that values name are looked for: beside the configuration.
    pub(super) fn base(&self) -> &'a Path {
        self.base
    }

    /// Whether the table is written.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Names keys that a later version will know.
    pub(super) fn later(&mut self, keys: &[&'static str]) {
        self.later.extend(keys);
    }

    /// Reads a key.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str, &DeValue<'_>) -> Result<T, Fault>,
    ) -> Field<T> {
        let Some((place, value, span)) = self.find(key) else {
            return Field::Absent;
        };
        match read(key, value) {
            Ok(value) => Field::Given(At { value, key: place, span }),
            Err(fault) => {
                fault.all_at(&span).into_iter().for_each(|problem| self.problems.add(problem));
                Field::Wrong
            }
        }
    }

    /// The table under a key. Asked for twice, it is the same one.
    pub(super) fn child(&mut self, key: &'static str) -> &mut Section<'a> {
        let place = match self.children.iter().position(|(name, _)| *name == key) {
            Some(place) => place,
            None => {
                let child = self.open(key);
                self.children.push((key, child));
                self.children.len() - 1
            }
        };
        &mut self.children[place].1
    }

    fn open(&mut self, key: &'static str) -> Section<'a> {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let (header, table) = match self.find(key) {
            None => (None, None),
            Some((place, value, span)) => match value.as_table() {
                Some(table) => (Some(span), Some(table)),
                None => {
                    self.problems.add(
                        value::must_be(key, &format!("a table: write [{path}]"), value).at(place),
                    );
                    (Some(span), None)
                }
            },
        };
        Self::new(path, header, table, self.base, self.problems)
    }

    /// Reads every table of an array of tables.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'a>) -> T,
    ) -> Vec<T> {
        let Some((place, value, _)) = self.find(key) else {
            return Vec::new();
        };
        let what = format!("an array of tables: write [[{key}]]");
        let Some(tables) = value.as_array() else {
            self.problems.add(value::must_be(key, &what, value).at(place));
            return Vec::new();
        };
        let mut all = Vec::new();
        for table in tables {
            let Some(inner) = table.get_ref().as_table() else {
                self.problems.add(value::must_be(key, &what, table.get_ref()).at(table.span()));
                continue;
            };
            let header = Some(table.span());
            let path = key.to_owned();
            let mut section = Self::new(path, header, Some(inner), self.base, self.problems);
            all.push(read(&mut section));
            section.finish();
        }
        all
    }

    /// Marks a key as known and finds it: its place, its value and the value's place.
    fn find(&mut self, key: &'static str) -> Option<(Span, &'a DeValue<'a>, Span)> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (name, value) = self.table?.get_key_value(key)?;
        Some((name.span(), value.get_ref(), value.span()))
    }

    /// Reports every key that nobody has read, here and in the tables below.
    pub(super) fn finish(self) {
        for (name, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let key: &str = name.get_ref();
            if !self.known.contains(&key) {
                self.problems.add(self.unknown(key).at(name.span()));
            }
        }
        for (_, child) in self.children {
            child.finish();
        }
    }

    fn unknown(&self, key: &str) -> Fault {
        if self.later.contains(&key) {
            return Fault::new(format!("`{key}` is not available in this version"));
        }
        match value::nearest(key, self.known.iter().copied()) {
            Some(near) => Fault::new(format!("unknown key `{key}`, did you mean `{near}`?")),
            None => {
                let mut known = self.known.clone();
                known.sort_unstable();
                let place = if self.path.is_empty() {
                    "the file's tables".to_owned()
                } else {
                    format!("the keys of [{}]", self.path)
                };
                Fault::new(format!("unknown key `{key}`"))
                    .help(format!("{place} are {}", value::list(&known, "and")))
            }
        }
    }
}
