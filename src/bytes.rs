//! Sizes as people write and read them.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A number of bytes; reads `4GiB`, `512MiB`, `1.5GB`, `2048`, and prints binary units.
///
/// ```
/// use hessblock::Bytes;
/// let size: Bytes = "1.5GiB".parse()?;
/// assert_eq!((size.0, size.to_string().as_str()), (3 << 29, "1.5 GiB"));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u128);

impl Bytes {
    /// As many bytes as a budget counts in at most.
    pub(crate) fn saturated(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }
}

const UNITS: [(&str, u128); 12] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("b", 1),
];

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Bytes> {
        let lower = text.trim().to_lowercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| {
                lower
                    .strip_suffix(suffix)
                    .map(|number| (number.trim(), *unit))
            })
            .unwrap_or((lower.as_str(), 1));
        let value: f64 = number.parse().unwrap_or(-1.0);
        if !(value.is_finite() && value > 0.0 && value < 1e15) {
            return Err(Error::Request(format!(
                "{text:?} is not a size such as 512MiB or 4GiB"
            )));
        }
        Ok(Bytes((value * unit as f64) as u128))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < NAMES.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 {
            write!(f, "{} B", self.0)
        } else {
            write!(f, "{value:.1} {}", NAMES[unit])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Bytes>().map(|b| b.0).ok();
        assert_eq!(read("512MiB"), Some(512 << 20));
        assert_eq!(read("1.5 GB"), Some(1_500_000_000));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("2g"), Some(2 << 30));
        for bad in ["", "GiB", "-1", "NaN", "1e99", "x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Bytes(7_894_677_904).to_string(), "7.4 GiB");
    }
}
