//! Names of settings within messages.
//!
//! A message may advise on a setting, such as the budget of host memory. What the setting is called depends on who reads it: the
//! library's user has a field or a method, `host_memory`; the command line's user has an option, `--host-memory`. The command line
//! says at its start that it is the one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// A setting that messages speak of. It prints as its reader calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting(&'static str);

/// Whether this process is the command line.
static AS_OPTIONS: AtomicBool = AtomicBool::new(false);

/// Calls settings by their options from here on. To be called before any work.
#[cfg(feature = "cli")]
pub(crate) fn name_as_options() {
    AS_OPTIONS.store(true, Ordering::Relaxed);
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&called(self.0, AS_OPTIONS.load(Ordering::Relaxed)))
    }
}

/// Options that the library has under another name.
const OTHERWISE: [(&str, &str); 1] = [("force", "overwrite")];

/// A setting as an option or as a field.
fn called(setting: &str, as_option: bool) -> String {
    match as_option {
        true => format!("--{}", setting.replace('_', "-")),
        false => {
            let other = OTHERWISE.iter().find(|(option, _)| *option == setting);
            other.map_or(setting, |(_, name)| name).replace('-', "_")
        }
    }
}

/// The name of a field of [`crate::Source`] in messages.
pub(crate) fn of_field(field: &str) -> String {
    called(field, AS_OPTIONS.load(Ordering::Relaxed))
}

macro_rules! settings {
    ($($constant:ident = $name:literal,)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            #[allow(dead_code)] // a build without a feature says nothing of its settings
            pub(crate) const $constant: Setting = Setting($name);
        )*
    };
}

settings! {
    ALLOW_NON_FINITE = "allow-non-finite",
    BATCH = "batch",
    CHUNKS_PER_FILE = "chunks-per-file",
    CLASS_AXIS = "class-axis",
    COMPRESS = "compress",
    CONSTANT = "constant",
    CURVATURE = "curvature",
    DEVICE = "device",
    DIMENSION = "dimension",
    DRAWS = "draws",
    EXACT_ENTRIES = "exact-entries",
    FORCE = "force",
    HOST_MEMORY = "host-memory",
    INPUTS = "inputs",
    LAYERS = "layers",
    LOSS = "loss",
    LOSS_GRADIENT = "loss-gradient",
    LOSS_HESSIAN = "loss-hessian",
    MC_SAMPLES = "mc-samples",
    MEAN = "mean",
    MEMORY = "memory",
    NO_SPECTRAL = "no-spectral",
    OUT = "out",
    OUTPUT = "output",
    PART = "part",
    PRECISION = "precision",
    PROBES = "probes",
    RANGE = "range",
    RANK_TOLERANCE = "rank-tolerance",
    RESTART = "restart",
    SAMPLES = "samples",
    SCALE = "scale",
    SHARD = "shard",
    SKIP_LARGER = "skip-larger",
    STD = "std",
    TARGETS = "targets",
    TIE = "tie",
    TILE = "tile",
    TRAINABLE = "trainable",
    TRIANGLE = "triangle",
    UNTIE = "untie",
    WEIGHTS = "weights",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_called_as_their_reader_calls_them() {
        assert_eq!(format!("give {HOST_MEMORY} more"), "give host_memory more");
        assert_eq!(called("host-memory", true), "--host-memory");
        assert_eq!(called("mean_image", true), "--mean-image");
        assert_eq!(of_field("mean_image"), "mean_image");
        assert_eq!(
            format!("replace it with {FORCE}"),
            "replace it with overwrite"
        );
        assert_eq!(called("force", true), "--force");
    }
}
