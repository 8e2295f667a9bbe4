//! Sizes in bytes, such as `"64KiB"`.

use toml::de::DeValue;

use super::value::{Fault, must_be};

/// A size up to `most` bytes.
pub(super) fn size(most: u64) -> impl FnOnce(&str, &DeValue<'_>) -> Result<u64, Fault> {
    move |key, value| {
        let what = "a size in quotes such as \"0\", \"512B\", \"64KiB\" or \"1MiB\"";
        let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
        let size = parse(text)
            .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text:?}")))?;
        if size > most {
            return Err(Fault::new(format!("`{key}` must be at most {most} bytes, not {text:?}")));
        }
        Ok(size)
    }
}

fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        let cases = [("0", 0), ("512B", 512), ("64KiB", 65_536), ("2MiB", 2_097_152)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64K", "64kb", "1.5MiB", "-1B", "99999999999999999999B"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
