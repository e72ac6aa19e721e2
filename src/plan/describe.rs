//! A plan as people and machines read it.

use super::parts::PairPlan;
use super::planned::{Keep, Plan};
use super::way::{Counted, Way};
use crate::bytes::Bytes;
use serde::Serialize;
use std::fmt;

/// What would run, for printing and for `plan.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Parts, in order.
    pub parts: Vec<PartDescription>,
    /// Samples.
    pub samples: usize,
    /// Samples per unit: partial sums are cut there.
    pub unit_samples: usize,
    /// Directions R of the loss factor.
    pub directions: usize,
    /// Directions per reverse pass.
    pub unit_directions: usize,
    /// How factors are kept between tiles.
    pub keep: Keep,
    /// Passes over the data.
    pub passes: usize,
    /// Whether the data stay on the device from one pass to the next.
    pub keep_data: bool,
    /// Tiles.
    pub tiles: usize,
    /// Contractions by pair of parameters.
    pub pairs: Vec<PairPlan>,
    /// Operations of all forward and reverse passes; a multiply-add is two.
    pub factor_operations: u64,
    /// Operations of all contractions.
    pub contraction_operations: u64,
    /// The tangents of exact second derivatives, and of G forward: those of pre-activations, and of entries of parameters
    /// (columns of the matrix).
    #[serde(rename = "moved", skip_serializing_if = "Option::is_none")]
    pub tangents: Option<TangentCount>,
    /// How the parts that go forward are made, where others go backwards; units, passes, and what is kept are those
    /// of these others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<Box<Description>>,
    /// Bytes of the result.
    pub output_bytes: u64,
    /// Predicted peak on the device.
    pub device_bytes: u64,
    /// Predicted peak of host buffers.
    pub host_bytes: u64,
}

/// Directions of forward-over-reverse passes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TangentCount {
    /// Pre-activations of linear layers.
    pub pre_activations: usize,
    /// Their entries, each with a tangent sample by sample.
    pub pre_activation_entries: usize,
    /// Pairs of parameters whose block is had by columns.
    pub column_pairs: usize,
    /// The matrix, as people write it.
    #[serde(skip)]
    pub symbol: &'static str,
}

/// One part of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PartDescription {
    /// As asked for.
    pub part: String,
    /// Rows, and columns for a matrix.
    pub shape: Vec<usize>,
    /// Tiles.
    pub tiles: usize,
    /// Bytes of the result.
    pub bytes: u64,
    /// Whether it is made forward or backwards, where there was a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Operations of either way, as they were counted for the choice.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counted: Option<CountedWays>,
}

/// Operations of a part's block by either way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CountedWays {
    /// Forward.
    pub forward_operations: u64,
    /// Backwards, of the part alone: parts share reverse passes.
    pub backward_operations: u64,
}

impl From<Counted> for CountedWays {
    fn from(counted: Counted) -> Self {
        CountedWays {
            forward_operations: counted.forward,
            backward_operations: counted.backward(),
        }
    }
}

impl Plan {
    /// Describes the plan for numbers of `number_bytes` bytes.
    pub fn describe(&self, number_bytes: usize) -> Description {
        let own = self.own_description(number_bytes);
        let Some(rest) = &self.rest else {
            return own;
        };
        let rest = rest.own_description(number_bytes);
        let numbers = self.stages().flat_map(|plan| &plan.parts).map(|p| p.number);
        let parts = own.parts.iter().chain(&rest.parts).cloned();
        let mut parts: Vec<(usize, PartDescription)> = numbers.zip(parts).collect();
        parts.sort_by_key(|(number, _)| *number);
        Description {
            parts: parts.into_iter().map(|(_, part)| part).collect(),
            tiles: own.tiles + rest.tiles,
            pairs: own.pairs.iter().chain(&rest.pairs).cloned().collect(),
            factor_operations: own.factor_operations + rest.factor_operations,
            contraction_operations: own.contraction_operations + rest.contraction_operations,
            output_bytes: own.output_bytes + rest.output_bytes,
            device_bytes: own.device_bytes.max(rest.device_bytes),
            host_bytes: own.host_bytes.max(rest.host_bytes),
            rest: Some(Box::new(rest)),
            ..own
        }
    }

    /// Describes the plan of its own parts.
    fn own_description(&self, number_bytes: usize) -> Description {
        let parts = self.parts.iter().enumerate().map(|(k, planned)| {
            let (rows, columns) = planned.part.shape();
            PartDescription {
                part: planned.part.name.clone(),
                shape: std::iter::once(rows).chain(columns).collect(),
                tiles: self.tiles.iter().filter(|t| t.part == k).count(),
                bytes: (planned.part.entries() * number_bytes as u128) as u64,
                way: planned.counted.map(|_| self.way()),
                counted: planned.counted.map(CountedWays::from),
            }
        });
        Description {
            parts: parts.collect(),
            samples: self.samples,
            unit_samples: self.unit,
            directions: self.directions,
            unit_directions: self.chunk,
            keep: self.keep,
            passes: self.passes(),
            keep_data: self.keep_data,
            tiles: self.tiles.len(),
            pairs: self.pairs.clone(),
            tangents: self.routes.as_ref().map(|routes| TangentCount {
                pre_activations: routes.pre_activations.len(),
                pre_activation_entries: routes.pre_activations.iter().map(|p| p.outputs).sum(),
                column_pairs: routes.column_pairs(),
                symbol: self.sizes.curvature.symbol(),
            }),
            rest: None,
            factor_operations: self.pass_operations(),
            contraction_operations: self.contraction_operations,
            output_bytes: (self.own_entries() * number_bytes as u128) as u64,
            device_bytes: self.device_bytes,
            host_bytes: self.host_bytes,
        }
    }
}

/// Pairs printed at most; the rest are summed up.
const PAIRS: usize = 30;

impl Description {
    /// The line on ways, where parts had a choice.
    fn ways(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        for (way, name, other) in [
            (Way::Forward, "forward", "backwards"),
            (Way::Backward, "backwards", "forward"),
        ] {
            let own = self.parts.iter().filter(|part| part.way == Some(way));
            let counted: Vec<CountedWays> = own.flat_map(|part| part.counted).collect();
            if counted.is_empty() {
                continue;
            }
            let sum = |of: fn(&CountedWays) -> u64| counted.iter().map(of).map(|n| n as f64);
            let forward: f64 = sum(|c| c.forward_operations).sum();
            let backward: f64 = sum(|c| c.backward_operations).sum();
            let (taken, left) = match way {
                Way::Forward => (forward, backward),
                Way::Backward => (backward, forward),
            };
            said.push(format!(
                "{} part{} {name}, {:.3} Gflop ({:.3} {other})",
                counted.len(),
                if counted.len() == 1 { "" } else { "s" },
                taken / 1e9,
                left / 1e9
            ));
        }
        match said.is_empty() {
            true => Ok(()),
            false => writeln!(f, "ways          {}", said.join("; ")),
        }
    }

    /// The lines on units, and on factors or on tangents.
    fn units(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tangents {
            Some(tangents) => writeln!(
                f,
                "samples       {} in units of {}; {} directions per pass\nmoved         {} pre-activations ({} entries); columns of {} for {} pairs of parameters; {} wave{}",
                self.samples,
                self.unit_samples,
                self.unit_directions,
                tangents.pre_activations,
                tangents.pre_activation_entries,
                tangents.symbol,
                tangents.column_pairs,
                self.passes,
                if self.passes == 1 { "" } else { "s" }
            ),
            None => self.factors(f),
        }
    }

    /// The lines on units and factors.
    fn factors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keep = match self.keep {
            Keep::Rows => "factors and dense rows kept",
            Keep::Factors => {
                "factors kept, dense rows where they are smaller, else formed per tile"
            }
            Keep::Recompute => "factors recomputed per pass",
        };
        writeln!(
            f,
            "samples       {} in units of {}; directions {} in chunks of {}",
            self.samples, self.unit_samples, self.directions, self.unit_directions
        )?;
        let data = if self.keep_data {
            " over data that are uploaded once"
        } else {
            ""
        };
        writeln!(
            f,
            "factors       {keep}; {} pass{}{data}",
            self.passes,
            if self.passes == 1 { "" } else { "es" }
        )
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |b: u64| Bytes(b.into()).to_string();
        let chosen = self.parts.iter().any(|part| part.way.is_some());
        writeln!(
            f,
            "{:<32} {:>19} {:>7} {:>11}{}",
            "part",
            "shape",
            "tiles",
            "size",
            if chosen { "  way" } else { "" }
        )?;
        for part in &self.parts {
            let shape: Vec<String> = part.shape.iter().map(usize::to_string).collect();
            writeln!(
                f,
                "{:<32} {:>19} {:>7} {:>11}{}",
                part.part,
                shape.join(" × "),
                part.tiles,
                bytes(part.bytes),
                match part.way {
                    Some(Way::Forward) => "  forward",
                    Some(Way::Backward) => "  backward",
                    None => "",
                }
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<24} {:<24} {:<15} {:>10}",
            "rows", "columns", "contraction", "Gflop"
        )?;
        let mut pairs: Vec<&PairPlan> = self.pairs.iter().collect();
        pairs.sort_by_key(|p| std::cmp::Reverse(p.operations));
        for pair in pairs.iter().take(PAIRS) {
            let rule = serde_json::to_value(pair.contraction).unwrap_or_default();
            let rule = rule.as_str().unwrap_or_default();
            writeln!(
                f,
                "{:<24} {:<24} {:<15} {:>10.3}",
                pair.rows,
                pair.columns,
                rule,
                pair.operations as f64 / 1e9
            )?;
        }
        if pairs.len() > PAIRS {
            let rest = &pairs[PAIRS..];
            let operations: u64 = rest.iter().map(|p| p.operations).sum();
            let count = format!("… {} pairs more", rest.len());
            writeln!(f, "{count:<65} {:>10.3}", operations as f64 / 1e9)?;
        }
        writeln!(f)?;
        self.ways(f)?;
        self.units(f)?;
        if let Some(rest) = &self.rest {
            writeln!(f, "forward:")?;
            rest.units(f)?;
        }
        writeln!(
            f,
            "operations    {:.3} Gflop of passes, {:.3} Gflop of contractions, {} tile{}",
            self.factor_operations as f64 / 1e9,
            self.contraction_operations as f64 / 1e9,
            self.tiles,
            if self.tiles == 1 { "" } else { "s" }
        )?;
        write!(
            f,
            "memory        device {}, host {}; result {}",
            bytes(self.device_bytes),
            bytes(self.host_bytes),
            bytes(self.output_bytes)
        )
    }
}
