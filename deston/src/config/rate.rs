//! Reading a rate such as `"200/s"`.

use std::time::Duration;

use toml::de::DeValue;

use super::value::{Fault, must_be};

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// At least 1.
    pub(super) count: u32,
    /// Time for one of them: at least 1 ns.
    pub(super) interval: Duration,
}

/// A rate.
pub(super) fn rate(key: &str, value: &DeValue<'_>) -> Result<Rate, Fault> {
    let what = "a rate such as \"200/s\", \"100/m\" or \"10/h\"";
    let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
    parse(text).ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text:?}")))
}

fn parse(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let unit = match unit.trim() {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        _ => return None,
    };
    let count = count.trim().parse().ok().filter(|count| *count > 0)?;
    let interval: Duration = unit / count;
    (!interval.is_zero()).then_some(Rate { count, interval })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_the_time_for_one() {
        let cases = [
            ("200/s", 200, 5_000_000),
            ("100/m", 100, 600_000_000),
            ("1/h", 1, 3_600_000_000_000),
            ("1000000000/s", 1_000_000_000, 1),
        ];
        for (text, count, ns) in cases {
            let expected = Rate { count, interval: Duration::from_nanos(ns) };
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "200", "/s", "0/s", "-1/s", "1.5/s", "1/d", "1/", "2000000000/s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rate_or_not_but_never_a_panic(text in "\\PC{0,30}") {
            let _ = parse(&text);
        }
    }
}
