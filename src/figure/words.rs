//! Numbers and names as people read them.

/// A name of `most` characters at most: the end says more than the beginning.
pub(crate) fn shortened(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.into();
    }
    let end: String = name.chars().skip(count + 1 - most).collect();
    format!("…{end}")
}

/// A name of `most` characters at most without its middle: it begins with what it is and ends with what tells it from others.
pub(crate) fn ends(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.into();
    }
    let kept = most.saturating_sub(1);
    let start: String = name.chars().take(kept - kept / 2).collect();
    let end: String = name.chars().skip(count - kept / 2).collect();
    let loose = [' ', '.'];
    let (start, end) = (start.trim_end_matches(loose), end.trim_start_matches(loose));
    format!("{start}…{end}")
}

/// 30840 as 30,840.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as per cent of two digits.
pub(crate) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    match value {
        _ if value == 0.0 => "0 %".into(),
        _ if value < 0.001 => "< 0.001 %".into(),
        _ if value < 9.95 => format!(
            "{value:.*} %",
            (1.0 - value.log10().floor()).max(0.0) as usize
        ),
        _ => format!("{value:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(
            ["7", "1,374", "30,840", "1,000,000"],
            [7, 1374, 30840, 1_000_000].map(grouped)
        );
        let shares = [0.0, 1e-9, 0.000_123, 0.0123, 0.5, 1.36];
        assert_eq!(
            ["0 %", "< 0.001 %", "0.012 %", "1.2 %", "50 %", "136 %"],
            shares.map(percent)
        );
        assert_eq!(shortened("features.3.conv", 8), "….3.conv");
        assert_eq!(ends("features.3.conv", 8), "feat…onv");
        assert_eq!(ends("features.3.conv", 12), "featur…conv");
        assert_eq!(ends("conv", 4), "conv");
    }
}
