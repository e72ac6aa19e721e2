//! Several GPUs that work as one device.

use crate::tensor::gpu::Gpu;

/// Several open GPUs, at least one.
#[derive(Clone)]
pub struct Gpus(pub(super) Vec<Gpu>);

impl Gpus {
    /// `None` of none.
    pub fn new(gpus: Vec<Gpu>) -> Option<Gpus> {
        (!gpus.is_empty()).then_some(Gpus(gpus))
    }

    /// The one that does what is not shared.
    pub fn first(&self) -> &Gpu {
        &self.0[0]
    }

    /// All of them, in the order in which they were given.
    pub fn all(&self) -> &[Gpu] {
        &self.0
    }

    /// Names, or drivers, each once.
    pub(super) fn joined(&self, text: impl Fn(&Gpu) -> String) -> String {
        let mut found: Vec<(String, usize)> = Vec::new();
        for gpu in &self.0 {
            let text = text(gpu);
            match found.iter_mut().find(|(known, _)| *known == text) {
                Some((_, times)) => *times += 1,
                None => found.push((text, 1)),
            }
        }
        let named = found.into_iter().map(|(text, times)| match times {
            1 => text,
            _ => format!("{times} × {text}"),
        });
        named.collect::<Vec<_>>().join(" + ")
    }

    /// A note on how the GPUs share the work.
    pub(super) fn note(&self) -> String {
        let first = &self.first().report().name;
        let model = |gpu: &Gpu| {
            let report = gpu.report();
            (
                report.name.clone(),
                report.backend.clone(),
                report.driver.clone(),
            )
        };
        let alike = self.0.iter().all(|gpu| model(gpu) == model(self.first()));
        let text = format!(
            "{} share the tiles of blocks; all else runs on the first, {first}",
            self.joined(|gpu| gpu.report().name.clone())
        );
        match alike {
            true => text,
            false => format!(
                "{text}; they round differently, so that the last bits of an entry depend on who made it"
            ),
        }
    }
}
