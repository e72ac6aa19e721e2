//! Single entries of a curvature straight from its definition, by forward mode.
//!
//! This path shares neither factors nor contraction with the one that makes blocks; `verify` rests on it.

use super::form::{Pairs, forms};
use crate::control::Control;
use crate::error::Result;
use crate::loss::Curvature;
use crate::plan::Limits;
use crate::run::Problem;
use crate::tensor::Real;
use crate::tensor::cpu::Cpu;

/// Numbers that the unit vectors of a turn may hold.
const UNITS: usize = 1 << 24;

/// Entry (i, j) for each pair of the flat order, on the CPU in the precision of `R`.
///
/// Source: Skorski 2021, the definition of the approximate chain rule, evaluated entry by entry; for the exact
/// Hessian with its second term.
///
/// # Errors
/// What reading the data reports; [`crate::Error::Interrupted`].
pub fn entries<R: Real>(
    work: &Problem<'_>,
    pairs: &[(usize, usize)],
    limits: Limits,
    control: &Control<'_>,
) -> Result<Vec<f64>> {
    let p = work.network.parameter_count();
    let mut entries = Vec::with_capacity(pairs.len());
    for turn in pairs.chunks((UNITS / p.max(1)).max(1)) {
        let units = |index: fn(&(usize, usize)) -> usize| {
            let mut units = vec![0.0; turn.len() * p];
            for (k, pair) in turn.iter().enumerate() {
                units[k * p + index(pair)] = 1.0;
            }
            units
        };
        let (left, right) = (units(|p| p.0), units(|p| p.1));
        let second = work.curvature.needs_second_derivatives();
        let backend = Cpu::<R>::new();
        let pairs = Pairs {
            left: &left,
            right: &right,
        };
        let forms = forms(&backend, work, pairs, second, (limits, None), control)?;
        entries.extend(forms.into_iter().map(|form| match work.curvature {
            Curvature::Exact => form.exact(),
            Curvature::Residual => form.residual,
            _ => form.ggn,
        }));
    }
    Ok(entries)
}
