//! The diagonal of a run's matrix, on the host.

use crate::error::Result;
use crate::jacobian::unit::Unit;
use crate::network::Network;
use crate::plan::{DIAGONAL_ROWS, Plan};
use crate::tensor::{Backend, Real};
use std::ops::Range;

/// The diagonal, accumulated on the host in double precision over units.
pub(super) struct Diagonal<'a> {
    network: &'a Network,
    parts: Vec<(usize, Vec<Range<usize>>)>,
    values: Vec<f64>,
}

impl<'a> Diagonal<'a> {
    pub(super) fn new(network: &'a Network, plan: &Plan) -> Self {
        let parts: Vec<_> = plan
            .parts
            .iter()
            .filter(|p| p.part.columns.is_none())
            .map(|p| (p.number, p.part.rows.clone()))
            .collect();
        let values = if parts.is_empty() {
            0
        } else {
            network.parameter_count()
        };
        Self {
            network,
            parts,
            values: vec![0.0; values],
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Adds ranges of parameters and their values, `[1, 1, range]`.
    pub(super) fn add_ranges<B: Backend>(
        &mut self,
        backend: &B,
        found: &[(usize, Range<usize>, B::Tensor)],
    ) -> Result<()> {
        for (parameter, range, values) in found {
            let start = self.network.parameters[*parameter].range().start;
            let own = &mut self.values[start + range.start..start + range.end];
            for (sum, value) in own.iter_mut().zip(backend.read(values)?) {
                *sum += value.to_f64();
            }
        }
        Ok(())
    }

    pub(super) fn add<B: Backend>(&mut self, backend: &B, unit: &Unit<B::Tensor>) -> Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        for (parameter, factor) in self.network.parameters.iter().zip(&unit.factors) {
            let Some(factor) = factor else { continue };
            let squares = factor.squares(backend, unit.signs.as_ref(), DIAGONAL_ROWS);
            let squares = backend.read(&squares)?;
            for (sum, value) in self.values[parameter.range()].iter_mut().zip(squares) {
                *sum += value.to_f64();
            }
        }
        Ok(())
    }

    pub(super) fn finish<R: Real>(self) -> Vec<(usize, Vec<R>)> {
        let pick = |ranges: &[Range<usize>]| {
            let entries = ranges.iter().flat_map(|r| &self.values[r.clone()]);
            entries.map(|&v| R::from_f64(v)).collect()
        };
        self.parts
            .iter()
            .map(|(part, ranges)| (*part, pick(ranges)))
            .collect()
    }
}
