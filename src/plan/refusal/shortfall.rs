//! The words of a message on a budget that is too small.

use crate::bytes::Bytes;
use crate::plan::Limits;

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

/// The words of a message on a budget that is too small.
pub(crate) struct Shortfall {
    /// The budget that is too small.
    pub(crate) budget: Bytes,
    /// The clause that names what is in use of it ([`Limits::held_text`]).
    pub(crate) held: String,
    /// The options that would do.
    pub(crate) would_do: String,
}

impl Shortfall {
    /// For work that takes `peak` bytes on the device and `host` bytes of host buffers, which do not fit the limits.
    pub(crate) fn of(limits: Limits, peak: u64, host: u64) -> Shortfall {
        let short_of_host = limits.unified || host > limits.host_left();
        let mut options = Vec::new();
        if limits.unified {
            let least = limits.held + peak + host;
            options.push(format!("--host-memory {}", at_least(least.into())));
        } else {
            if peak > limits.device {
                options.push(format!("--memory {}", at_least(peak.into())));
            }
            if host > limits.host_left() {
                let least = limits.held + limits.sharing * host;
                options.push(format!("--host-memory {}", at_least(least.into())));
            }
        }
        let budget = match (short_of_host, limits.unified) {
            (true, true) => limits.device.min(limits.host),
            (true, false) => limits.host,
            (false, _) => limits.device,
        };
        Shortfall {
            budget: Bytes(budget.into()),
            held: match short_of_host {
                true => limits.held_text(),
                false => String::new(),
            },
            would_do: options.join(" with "),
        }
    }
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
