//! What was measured, as a table: medians, their spread, and ratios within each round.

/// One contender under one load in one round.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Requests or gigabytes.
    pub(crate) per_second: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// Of the contender's own processes, for each request or gigabyte.
    pub(crate) process_us: Option<f64>,
    /// Of the whole machine, client and servers included, for each request or gigabyte.
    pub(crate) machine_us: f64,
    pub(crate) errors: f64,
}

/// All rounds of one contender.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// A Markdown table; the first row is compared with every other.
pub(crate) fn markdown(unit: &str, rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut table = format!(
        "| | {unit}/s | p50 us | p99 us | own CPU us/{unit} | machine CPU us/{unit} | errors \
         | {name} / this, {unit}/s | {name} / this, machine CPU |\n|---|---|---|---|---|---|---|---|---|",
        name = first.name
    );
    // Gigabytes are few.
    let rate_digits =
        if first.samples.iter().all(|sample| sample.per_second > 100.0) { 0 } else { 2 };
    for row in rows {
        let column = |value: fn(&Sample) -> Option<f64>, digits| {
            spread(&row.samples.iter().filter_map(value).collect::<Vec<_>>(), digits)
        };
        let errors = match &*row.samples {
            [] => "-".to_owned(),
            samples => samples.iter().map(|sample| sample.errors).sum::<f64>().to_string(),
        };
        let (rate, time) = if std::ptr::eq(row, first) {
            ("1".to_owned(), "1".to_owned())
        } else {
            (
                ratio(first, row, |sample| sample.per_second),
                ratio(first, row, |sample| sample.machine_us),
            )
        };
        table += &format!(
            "\n| {} | {} | {} | {} | {} | {} | {errors} | {rate} | {time} |",
            row.name,
            column(|sample| Some(sample.per_second), rate_digits),
            column(|sample| sample.p50_us, 0),
            column(|sample| sample.p99_us, 0),
            column(|sample| sample.process_us, 1),
            column(|sample| Some(sample.machine_us), 1),
        );
    }
    table
}

/// The median of the ratios of each round: what disturbs the machine disturbs neighbours alike.
fn ratio(first: &Row, other: &Row, value: fn(&Sample) -> f64) -> String {
    let pairs = first.samples.iter().zip(&other.samples);
    let ratios: Vec<f64> = pairs.map(|(one, other)| value(one) / value(other)).collect();
    spread(&ratios, 2)
}

/// `median [least-most]`, or `-` without samples.
fn spread(values: &[f64], digits: usize) -> String {
    let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "-".to_owned() };
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    };
    format!("{median:.digits$} [{least:.digits$}-{most:.digits$}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, rates: &[f64]) -> Row {
        let sample = |&per_second| Sample {
            per_second,
            p50_us: Some(1.0),
            p99_us: Some(2.0),
            process_us: None,
            machine_us: 3.0,
            errors: 1.0,
        };
        Row { name, samples: rates.iter().map(sample).collect() }
    }

    #[test]
    fn the_spread_is_median_and_range() {
        assert_eq!(spread(&[3.0, 1.0, 2.0], 0), "2 [1-3]");
        assert_eq!(spread(&[1.0, 2.0], 1), "1.5 [1.0-2.0]");
        assert_eq!(spread(&[], 1), "-");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let table =
            markdown("request", &[row("deston", &[100.0, 200.0]), row("nginx", &[50.0, 50.0])]);
        let nginx = table.lines().nth(3).unwrap();
        assert!(nginx.contains("| 3.00 [2.00-4.00] |"), "{nginx}");
        assert!(nginx.contains("| - |"), "{nginx}");
    }
}
