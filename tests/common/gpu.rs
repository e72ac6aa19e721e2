//! The GPU that tests run on: lavapipe where there is one, unless `HESSBLOCK_GPU` names another adapter.

use std::sync::OnceLock;

use hessblock::internals::tensor::gpu::{AdapterReport, Gpu, Options, Selector, adapters};

/// The adapter under test: the one `HESSBLOCK_GPU` names, else lavapipe, else the first.
pub fn selector() -> Selector {
    if let Ok(name) = std::env::var("HESSBLOCK_GPU") {
        return Selector::Name(name);
    }
    let lavapipe = |report: &&AdapterReport| report.name.contains("llvmpipe");
    Selector::Index(adapters().iter().find(lavapipe).map_or(0, |r| r.index))
}

/// The adapter with or without shader checks, outputs poisoned with NaN; opened once per test binary.
///
/// `None` where this machine has no adapter at all, unless `HESSBLOCK_REQUIRE_GPU=1`.
pub fn open(checked: bool) -> Option<Gpu> {
    static OPEN: [OnceLock<Option<Gpu>>; 2] = [const { OnceLock::new() }; 2];
    OPEN[usize::from(checked)]
        .get_or_init(|| {
            if adapters().is_empty() {
                let required = std::env::var("HESSBLOCK_REQUIRE_GPU").is_ok_and(|v| v == "1");
                assert!(
                    !required,
                    "HESSBLOCK_REQUIRE_GPU is set, but there is no adapter"
                );
                eprintln!("skipped: this machine has no GPU adapter");
                return None;
            }
            let options = Options {
                checked,
                poison: true,
                ..Options::default()
            };
            Some(Gpu::open_with(&selector(), options).expect("the adapter opens"))
        })
        .clone()
}
