//! Every primitive on ragged sizes, as [`ragged`] lists them.

use super::draft::{COPIES, Draft, SUMS};
use crate::trial::{Effect, Named, Setting, ragged};

pub(super) fn drafts() -> Vec<Draft<Setting>> {
    let draft = |case: Named| {
        let measure = match case.effect {
            Effect::Copies => COPIES,
            Effect::Rounds => SUMS,
        };
        Draft::new(case.subject, case.about, measure, case.setting)
    };
    ragged().into_iter().map(draft).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Backend;
    use crate::tensor::cpu::Cpu;
    use crate::trial::{Loaded, entry};

    #[test]
    fn cpu_f64_agrees_with_the_definition_of_every_primitive() {
        let cpu = Cpu::<f64>::new();
        for draft in drafts() {
            let setting = &draft.work;
            let arrays = setting.arrays();
            let result = Loaded::new(&cpu, &setting.primitive, &arrays).apply(&cpu);
            let (shape, values) = (cpu.shape(&result), cpu.read(&result).unwrap());
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            // A step that shares no factor with the extents walks through all axes.
            let places = (0..values.len()).step_by(1 + values.len() / 23);
            for at in places.chain([values.len() - 1]) {
                let expected = entry(&setting.primitive, &arrays, &shape, at);
                let error = (values[at] - expected).abs();
                let name = format!("{}, {}: entry {at}", draft.subject, draft.about);
                assert!(
                    error <= 1e-12 * largest,
                    "{name}: {} {expected}",
                    values[at]
                );
            }
        }
    }
}
