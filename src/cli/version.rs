//! What `--version` prints: features and backends of this build.

use std::sync::OnceLock;

/// Version, features, and what this build can compute on.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let features = [
            ("gpu", cfg!(feature = "gpu")),
            ("cli", cfg!(feature = "cli")),
            ("plot", cfg!(feature = "plot")),
            ("zarr", cfg!(feature = "zarr")),
        ];
        let of = |wanted: bool| -> String {
            let names = features.iter().filter(|(_, on)| *on == wanted);
            let names: Vec<&str> = names.map(|(name, _)| *name).collect();
            names.join(", ")
        };
        let without = match of(false) {
            names if names.is_empty() => String::new(),
            names => format!(" (without {names})"),
        };
        format!(
            "{}\nfeatures  {}{without}\nbackends  {}",
            env!("CARGO_PKG_VERSION"),
            of(true),
            crate::Device::backends().join(", ")
        )
    })
}
