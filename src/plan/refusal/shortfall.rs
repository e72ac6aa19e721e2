//! The words of a message on a budget that is too small.

use crate::bytes::Bytes;
use crate::error::{Error, Remedy};
use crate::plan::Limits;
use crate::setting::{HOST_MEMORY, MEMORY};

/// `bytes` as an option takes them, rounded up to a tenth of their unit: read again, they are no less.
pub(super) fn at_least(bytes: u128) -> String {
    let mut unit = 1u128;
    while bytes >= 1024 * unit && unit < 1 << 60 {
        unit <<= 10;
    }
    if unit == 1 {
        return bytes.to_string();
    }
    let tenths = (bytes * 10).div_ceil(unit);
    Bytes((tenths * unit).div_ceil(10))
        .to_string()
        .replace(' ', "")
}

/// A budget that is too small: its numbers and the budgets that would do.
pub(crate) struct Shortfall {
    /// Bytes that the work takes of the budget that is too small.
    pub(crate) needed: u64,
    /// The budget that is too small.
    pub(crate) budget: Bytes,
    /// The clause that names what is in use of it ([`Limits::held_text`]).
    pub(crate) held: String,
    /// The budgets that would do together.
    pub(crate) remedies: Vec<Remedy>,
}

impl Shortfall {
    /// For work that takes `peak` bytes on the device and `host` bytes of host buffers, which do not fit the limits.
    pub(crate) fn of(limits: Limits, peak: u64, host: u64) -> Shortfall {
        let short_of_host = limits.unified || host > limits.host_left();
        let mut remedies = Vec::new();
        let in_host = match limits.unified {
            true => limits.held + peak + host,
            false => limits.held + limits.sharing * host,
        };
        if !limits.unified && peak > limits.device {
            remedies.push(Remedy::DeviceMemory(as_written(peak)));
        }
        if short_of_host {
            remedies.push(Remedy::HostMemory(as_written(in_host)));
        }
        let (needed, budget) = match (short_of_host, limits.unified) {
            (true, true) => (in_host, limits.device.min(limits.host)),
            (true, false) => (in_host, limits.host),
            (false, _) => (peak, limits.device),
        };
        Shortfall {
            needed,
            budget: Bytes(budget.into()),
            held: match short_of_host {
                true => limits.held_text(),
                false => String::new(),
            },
            remedies,
        }
    }

    /// The budgets that would do, in words.
    pub(crate) fn would_do(&self) -> String {
        let say = |remedy: &Remedy| match remedy {
            Remedy::DeviceMemory(least) => Some(format!("{MEMORY} {}", at_least(least.0))),
            Remedy::HostMemory(least) => Some(format!("{HOST_MEMORY} {}", at_least(least.0))),
            _ => None,
        };
        let said: Vec<String> = self.remedies.iter().filter_map(say).collect();
        said.join(" with ")
    }

    /// The error with these remedies.
    pub(crate) fn error(self, message: String) -> Error {
        let available = u64::try_from(self.budget.0).unwrap_or(u64::MAX);
        Error::budget((self.needed, available), self.remedies, message)
    }
}

/// So many bytes, rounded up as they are written: whoever follows the text and whoever follows the data give the same.
fn as_written(bytes: u64) -> Bytes {
    at_least(bytes.into())
        .parse()
        .unwrap_or(Bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_to_what_is_read_as_no_less() {
        for bytes in [
            1u128,
            1023,
            1024,
            1025,
            1_048_575,
            7_894_677_904,
            3 << 20,
            (3 << 20) + 1,
        ] {
            let said = at_least(bytes);
            let read = said.parse::<Bytes>().unwrap().0;
            assert!(
                read >= bytes && read <= bytes + bytes / 10 + 1,
                "{bytes}: {said} is {read}"
            );
        }
        assert_eq!(at_least(3 << 20), "3.0MiB");
        assert_eq!(at_least((3 << 20) + 1), "3.1MiB");
    }
}
