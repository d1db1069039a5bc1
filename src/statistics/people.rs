//! Numbers and times as people read them, in a terminal, on a page and in a picture.

/// A report that is complete only through a moment this long ago is late: consumers store each second, and restarts take
/// a minute.
pub const LATE_MICROS: i64 = 600 * 1_000_000;

/// With a comma after each three digits.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With one decimal. What is not all or nothing never looks as if it were.
pub fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    match format!("{percent:.1}%") {
        text if text == "0.0%" && rate > 0.0 => "<0.1%".to_string(),
        text if text == "100.0%" && rate < 1.0 => ">99.9%".to_string(),
        text if text == "0.0%" => "0%".to_string(),
        text if text == "100.0%" => "100%".to_string(),
        text => text,
    }
}

/// With three digits, or two units.
pub fn duration(seconds: f64) -> String {
    // Where the rounded number has a digit more, it has the next unit.
    if seconds == 0.0 {
        return "0 s".to_string();
    }
    if seconds < 0.000_999_5 {
        return "<1 ms".to_string();
    }
    if seconds < 0.999_5 {
        return format!("{:.0} ms", seconds * 1_000.0);
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn a_rate_is_all_or_nothing_only_if_it_is() {
        for (rate, text) in [
            (0.0, "0%"),
            (0.000_01, "<0.1%"),
            (0.004, "0.4%"),
            (0.5, "50.0%"),
            (0.934_49, "93.4%"),
            (0.999_99, ">99.9%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(rate), text);
        }
    }
}
