//! Reading sizes, such as `"32KiB"`.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::value::{Fault, must_be};

/// Bytes within `range`, which `shown` describes.
pub(super) fn size(
    range: RangeInclusive<u64>,
    shown: &'static str,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<u64, Fault> {
    move |key, value| {
        let what = format!("a size in quotes {shown}, such as \"512\", \"8KiB\" or \"1MiB\"");
        let text = value.as_str().ok_or_else(|| must_be(key, &what, value))?;
        parse(text)
            .filter(|bytes| range.contains(bytes))
            .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text:?}")))
    }
}

fn parse(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit_at)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_a_unit_of_powers_of_two_or_ten() {
        let cases = [("0", 0), ("512", 512), ("1B", 1), ("8KiB", 8_192), ("2kB", 2_000)];
        for (text, bytes) in cases.into_iter().chain([("3MiB", 3 << 20), ("1GB", 1_000_000_000)]) {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1 KiB", "1K", "-1", "1.5MiB", "99999999999TiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
