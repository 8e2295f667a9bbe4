//! Reading one value: its type, its range, its unit.
//!
//! Each reader gets the key's name and the value, and gives the value or a `Fault` that says what
//! the key must be.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeArray, DeValue};

use super::names::Workers;
use super::problem::{Problem, Span};

/// A problem that may not know its place yet.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    message: String,
    help: Option<String>,
    /// Its place within the value, if it is a part that is wrong.
    within: Option<Span>,
    /// What else is wrong with the value.
    others: Vec<Fault>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, within: None, others: Vec::new() }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The part of the value that is wrong.
    pub(super) fn within(self, span: Span) -> Self {
        Self { within: Some(span), ..self }
    }

    /// The problems, of a value at `span`.
    pub(super) fn all_at(mut self, span: &Span) -> Vec<Problem> {
        let others = std::mem::take(&mut self.others);
        let faults = std::iter::once(self).chain(others);
        faults.map(|fault| fault.at(span.clone())).collect()
    }

    /// The first problem, of a value at `span`.
    pub(super) fn at(self, span: Span) -> Problem {
        let problem = Problem::at(self.within.unwrap_or(span), self.message);
        match self.help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}

/// Values that have names: what each is called, first of all as we write it.
pub(super) struct Names<T: 'static> {
    /// What they are, such as "algorithm".
    pub(super) what: &'static str,
    /// Every name.
    pub(super) known: &'static [(&'static str, T)],
    /// Further names for the same values, not suggested.
    pub(super) also: &'static [(&'static str, T)],
    /// Names that a later version will know.
    pub(super) later: &'static [&'static str],
}

/// Whether `"0"` switches something off or has no meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Off,
    Refused,
}

/// No timeout is longer: an interval beyond is a mistake, and sums of a few stay in range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn must_be(key: &str, what: &str, value: &DeValue<'_>) -> Fault {
    Fault::new(format!("`{key}` must be {what}, not {}", with_article(value.type_str())))
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// Every item of an array, or what is wrong with each that is.
pub(super) fn each<T>(
    items: &DeArray<'_>,
    mut read: impl FnMut(&DeValue<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for item in items {
        match read(item.get_ref()) {
            Ok(value) => values.push(value),
            Err(fault) => faults.push(fault.within(item.span())),
        }
    }
    let mut faults = faults.into_iter();
    match faults.next() {
        None => Ok(values),
        Some(first) => Err(Fault { others: faults.collect(), ..first }),
    }
}

/// Any text.
pub(super) fn text(key: &str, value: &DeValue<'_>) -> Result<String, Fault> {
    value.as_str().map(str::to_owned).ok_or_else(|| must_be(key, "text in quotes", value))
}

/// A name of a listener, pool or server.
pub(super) fn name(key: &str, value: &DeValue<'_>) -> Result<String, Fault> {
    let name = text(key, value)?;
    if name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Fault::new(format!(
            "`{key}` must be 1 to 64 characters without spaces, not {name:?}"
        )));
    }
    Ok(name)
}

/// The name of an instance, which becomes a directory's.
pub(super) fn instance(key: &str, value: &DeValue<'_>) -> Result<String, Fault> {
    let name = text(key, value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !(1..=64).contains(&name.len()) || !name.chars().all(fits) {
        let what = "1 to 64 letters, digits, `_` and `-`";
        return Err(Fault::new(format!("`{key}` must be {what}, not {name:?}")));
    }
    Ok(name)
}

/// Yes or no.
pub(super) fn flag(key: &str, value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| must_be(key, "`true` or `false`", value))
}

/// A share from 0 to 1, in percent.
pub(super) fn share(key: &str, value: &DeValue<'_>) -> Result<u8, Fault> {
    fraction(key, value).map(|share| (share * 100.0).round() as u8)
}

/// A share from 0 to 1, in millionths.
pub(super) fn millionths(key: &str, value: &DeValue<'_>) -> Result<u32, Fault> {
    fraction(key, value).map(|share| (share * 1e6).round() as u32)
}

fn fraction(key: &str, value: &DeValue<'_>) -> Result<f64, Fault> {
    let what = "a share from 0.0 to 1.0";
    let text = decimal(value).ok_or_else(|| must_be(key, what, value))?;
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text}")))
}

/// How many times something may be had, from 1 to 100, in percent.
pub(super) fn factor(key: &str, value: &DeValue<'_>) -> Result<u32, Fault> {
    let what = "a number from 1.0 to 100.0";
    let text = decimal(value).ok_or_else(|| must_be(key, what, value))?;
    text.parse()
        .ok()
        .filter(|factor: &f64| (1.0..=100.0).contains(factor))
        .map(|factor| (factor * 100.0).round() as u32)
        .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text}")))
}

/// A number as it is written.
fn decimal<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    value.as_float().map(|float| float.as_str()).or(value.as_integer().map(|whole| whole.as_str()))
}

/// Worker threads.
pub(super) fn workers(key: &str, value: &DeValue<'_>) -> Result<Workers, Fault> {
    let what = "\"auto\" or a whole number from 1 to 1024";
    match value.as_str() {
        Some(text) if folded(text) == "auto" => Ok(Workers::Auto),
        Some(text) => Err(Fault::new(format!("`{key}` must be {what}, not {text:?}"))),
        None if value.is_integer() => number(1..=1_024)(key, value).map(Workers::Exactly),
        None => Err(must_be(key, what, value)),
    }
}

/// A whole number within `range`.
pub(super) fn number<T>(
    range: RangeInclusive<T>,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<T, Fault>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |key, value| {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let integer = value.as_integer().ok_or_else(|| must_be(key, &what, value))?;
        i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|wide| T::try_from(wide).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {integer}")))
    }
}

/// One of several names; case, `_` and `-` do not matter.
pub(super) fn one_of<T: Copy>(
    names: &'static Names<T>,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<T, Fault> {
    move |key, value| {
        let shown: Vec<&str> = names.known.iter().map(|(name, _)| *name).collect();
        let choices = list(&shown, "or");
        let text = value.as_str().ok_or_else(|| must_be(key, &choices, value))?;
        let wanted = folded(text);
        let mut all = names.known.iter().chain(names.also);
        if let Some((_, found)) = all.find(|(name, _)| folded(name) == wanted) {
            return Ok(*found);
        }
        let what = names.what;
        if names.later.iter().any(|name| folded(name) == wanted) {
            return Err(Fault::new(format!("{what} `{text}` is not available in this version"))
                .help(format!("`{key}` may be {choices}")));
        }
        let fault = match nearest(text, names.known.iter().map(|(name, _)| *name)) {
            Some(near) => Fault::new(format!("unknown {what} `{text}`, did you mean `{near}`?")),
            None => Fault::new(format!("unknown {what} `{text}`")),
        };
        Err(fault.help(format!("`{key}` may be {choices}")))
    }
}

/// A duration such as `"10s"`.
pub(super) fn duration(zero: Zero) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Duration, Fault> {
    move |key, value| {
        let what = "a duration in quotes such as \"250ms\", \"10s\", \"5m\" or \"2h\"";
        let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
        let duration = parse_duration(text)
            .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text:?}")))?;
        if duration > LONGEST {
            return Err(Fault::new(format!("`{key}` must be at most \"8760h\", not {text:?}")));
        }
        if duration.is_zero() && zero == Zero::Refused {
            return Err(Fault::new(format!("`{key}` must be longer than zero")));
        }
        Ok(duration)
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?))
}

/// `a`, `b` or `c`; the last word is the caller's.
pub(super) fn list(names: &[&str], last_word: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} {last_word} {last}", rest.join(", ")),
    }
}

/// The name that was probably meant.
pub(super) fn nearest<'n>(written: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let wanted = folded(written);
    known
        .map(|name| (strsim::damerau_levenshtein(&wanted, &folded(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A name without what users vary.
pub(super) fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_a_unit() {
        let cases = [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5s", "1h30m", "10 s", "10S", "99999999999999999999s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_typo_finds_its_key_and_another_word_does_not() {
        let known = ["address", "port", "max_connections"];
        assert_eq!(nearest("adress", known.into_iter()), Some("address"));
        assert_eq!(nearest("maxConnections", known.into_iter()), Some("max_connections"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_not_but_never_a_panic(text in "\\PC{0,30}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn whole_seconds_are_read_as_written(seconds in 0_u64..1_000_000) {
            prop_assert_eq!(parse_duration(&format!("{seconds}s")), Some(Duration::from_secs(seconds)));
        }
    }
}
