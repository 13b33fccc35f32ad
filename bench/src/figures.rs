//! Numbers for tables.

/// The middle one; the mean of the two middle ones of an even count. NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Three significant digits, no exponent.
pub fn short(value: f64) -> String {
    match value.abs() {
        nan if nan.is_nan() => "-".into(),
        zero if zero < 0.000_5 => "0".into(),
        tiny if tiny < 1.0 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// A ratio: `0.31x`; `-` where there is nothing to compare with.
pub fn ratio(of: f64, to: f64) -> String {
    match of / to {
        finite if finite.is_finite() => format!("{}x", short(finite)),
        _ => "-".into(),
    }
}

/// Bytes in MB (10^6).
pub fn mb(bytes: f64) -> String {
    format!("{} MB", short(bytes / 1e6))
}

/// A whole number, thousands set apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.0421, 1.6384, 21.04, 1_234_567.0, -1500.0].map(short);
        assert_eq!(shown, ["0", "0.042", "1.64", "21.0", "1,234,567", "-1,500"]);
        assert_eq!(ratio(1.0, 0.0), "-");
    }
}
