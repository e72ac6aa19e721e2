//! Names of settings within messages.
//!
//! A message may advise on a setting, such as the budget of host memory. What the setting is called depends on who reads it: the
//! library's user has a field or a method, the command line's an option. A message therefore holds the setting between two marks
//! that no other text has, and whoever shows the message names it.

use std::fmt;

/// A setting that messages speak of. Within a text it lies between [`OPEN`] and [`CLOSE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting(&'static str);

const OPEN: char = '\u{2}';
const CLOSE: char = '\u{3}';

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}{CLOSE}", self.0)
    }
}

macro_rules! settings {
    ($($constant:ident = $name:literal,)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub(crate) const $constant: Setting = Setting($name);
        )*
        const ALL: &[Setting] = &[$($constant),*];
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
    LAYER = "layer",
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

/// Settings that only the provenance of a result speaks of.
const OF_PROVENANCE: [&str; 8] = [
    "class-weights",
    "ignore-index",
    "label-smoothing",
    "mean-image",
    "model",
    "positive-weight",
    "reduction",
    "seed",
];

fn is_known(setting: &str) -> bool {
    ALL.iter().any(|known| known.0 == setting) || OF_PROVENANCE.contains(&setting)
}

/// The setting that a field of [`crate::Source`] holds, for a message; a field that is none by its own name.
pub(crate) fn of_field(field: &str) -> String {
    let setting = field.replace('_', "-");
    match is_known(&setting) {
        true => format!("{OPEN}{setting}{CLOSE}"),
        false => field.into(),
    }
}

/// A text whose settings are named by `name`.
pub(crate) fn named(text: &str, name: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        out.push_str(before);
        let known = after.split_once(CLOSE);
        match known.filter(|(setting, _)| is_known(setting)) {
            Some((setting, after)) => {
                out.push_str(&name(setting));
                rest = after;
            }
            // A mark that came with a name of the user's.
            None => {
                out.push(OPEN);
                rest = after;
            }
        }
    }
    out + rest
}

/// A text whose settings have the names that fields have: `host_memory`.
pub(crate) fn as_fields(text: &str) -> String {
    named(text, |setting| setting.replace('-', "_"))
}

/// A text whose settings have the names of options on the command line: `--host-memory`.
#[cfg(feature = "cli")]
pub(crate) fn as_options(text: &str) -> String {
    named(text, |setting| format!("--{setting}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_by_who_shows_them() {
        let text = format!("give {HOST_MEMORY} 3MiB, or {TILE} less");
        assert_eq!(as_fields(&text), "give host_memory 3MiB, or tile less");
        let flags = named(&text, |setting| format!("--{setting}"));
        assert_eq!(flags, "give --host-memory 3MiB, or --tile less");
    }

    #[test]
    fn marks_in_other_texts_stay() {
        let odd = "a \u{2}layer \u{2}x\u{3} b\u{3}";
        assert_eq!(as_fields(odd), odd);
    }
}
