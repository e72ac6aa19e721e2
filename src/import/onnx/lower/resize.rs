//! Resize and Upsample: nearest entries, linear between two, or cubic between four, an axis after the other.

use super::super::fold;
use super::super::graph::Node;
use super::conv::MOST_EXTENT;
use super::layout::fits;
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::tensor::Expr;

/// How the result's entries are made of those of an axis.
#[derive(Clone, Copy)]
enum Mode {
    Nearest,
    Linear,
    Cubic(Cubic),
}

/// How cubic convolution weighs entries.
#[derive(Clone, Copy)]
struct Cubic {
    /// Its coefficient a.
    a: f64,
    /// Whether what lies outside has no weight; else it is the entry at the edge.
    exclude: bool,
}

/// The weight of an entry at a distance from the position, of cubic convolution with coefficient a.
///
/// Source: R. Keys, 1981, eq. 15; ONNX, Resize.
fn cubic_weight(a: f64, distance: f64) -> f64 {
    let d = distance.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

/// One axis that changes its extent.
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    /// Result entries per entry, where the file says it; else `to / from`.
    scale: Option<f32>,
}

impl Axis {
    /// Positions of the result in steps of the entries, before shifts. With a scale it is computed in single
    /// precision, as runtimes do: 11 / 1.1 is to be 10.
    fn step(&self, t: f64) -> f64 {
        match self.scale {
            Some(scale) => (t as f32 / scale).into(),
            None => t * self.from as f64 / self.to as f64,
        }
    }

    /// Which position among the entries each position of the result has; `None` for a mode that is not known.
    fn positions(&self, mode: &str) -> Option<Vec<f64>> {
        let (from, to) = (self.from as f64, self.to as f64);
        let half = |t: f64| self.step(t + 0.5) - 0.5;
        let position = |t: f64| {
            Some(match mode {
                "half_pixel" => half(t),
                "pytorch_half_pixel" if self.to == 1 => 0.0,
                "pytorch_half_pixel" => half(t),
                "half_pixel_symmetric" => {
                    let whole = self.scale.map_or(to, |s| f64::from(s) * from);
                    from / 2.0 * (1.0 - to / whole) + half(t)
                }
                "align_corners" if self.to == 1 => 0.0,
                "align_corners" => t * (from - 1.0) / (to - 1.0),
                "asymmetric" => self.step(t),
                "tf_half_pixel_for_nn" => self.step(t + 0.5),
                _ => return None,
            })
        };
        (0..self.to).map(|t| position(t as f64)).collect()
    }
}

impl Lowering<'_> {
    /// Resize and Upsample, one axis after another.
    pub(super) fn resize(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let mut x = self.tensor(node, inputs, 0)?;
        // To version 10 the scales are operand 1, positions are those of the first corner, rounded down.
        let old = inputs.len() <= 2;
        let say = |name: &str, default: &str| node.text(name).unwrap_or_else(|| default.into());
        let mode = say("mode", "nearest");
        let positions = say(
            "coordinate_transformation_mode",
            if old { "asymmetric" } else { "half_pixel" },
        );
        let rounding = say(
            "nearest_mode",
            if old { "floor" } else { "round_prefer_floor" },
        );
        let mode = match mode.as_str() {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" | "trilinear" => Mode::Linear,
            "cubic" => Mode::Cubic(Cubic {
                a: node.float("cubic_coeff_a", -0.75),
                exclude: node.int("exclude_outside", 0) != 0,
            }),
            other => {
                return refuse(format!(
                    "its mode is {other:?}; nearest, linear and cubic are supported"
                ));
            }
        };
        if node.int("antialias", 0) != 0 {
            return refuse("antialias = 1 is not supported; resize with antialias=False");
        }
        let policy = say("keep_aspect_ratio_policy", "stretch");
        if policy != "stretch" {
            return refuse(format!(
                "its keep_aspect_ratio_policy is {policy:?}; \"stretch\" is supported"
            ));
        }
        for axis in self.resized(node, inputs, &x, old)? {
            let Some(at) = axis.positions(&positions) else {
                return refuse(format!(
                    "its coordinate_transformation_mode is {positions:?}; half_pixel, pytorch_half_pixel, half_pixel_symmetric, align_corners, asymmetric and tf_half_pixel_for_nn are supported"
                ));
            };
            self.not_over_samples(&x, axis.axis)?;
            let last = (axis.from - 1) as f64;
            let at = at.into_iter();
            x = match mode {
                Mode::Linear => {
                    let at: Vec<f64> = at.map(|p| p.clamp(0.0, last)).collect();
                    self.between(node, &x, axis.axis, &at)?
                }
                Mode::Cubic(cubic) => {
                    let at: Vec<f64> = at.collect();
                    self.cubic(node, &x, axis.axis, &at, cubic)?
                }
                Mode::Nearest => {
                    let round = |p: f64| {
                        Some(match rounding.as_str() {
                            "round_prefer_floor" => (p - 0.5).ceil(),
                            "round_prefer_ceil" => (p + 0.5).floor(),
                            "floor" => p.floor(),
                            "ceil" => p.ceil(),
                            _ => return None,
                        })
                    };
                    let nearest: Option<Vec<f64>> = at.map(round).collect();
                    let Some(nearest) = nearest else {
                        return refuse(format!(
                            "its nearest_mode is {rounding:?}; round_prefer_floor, round_prefer_ceil, floor and ceil are supported"
                        ));
                    };
                    let index = |p: f64| Some(p.clamp(0.0, last) as usize);
                    let indices = nearest.into_iter().map(index).collect();
                    self.entries(node, &x, axis.axis, indices)?
                }
            };
        }
        Ok(x)
    }

    /// Linear between entries of an axis: x⌊p⌋·(1 − w) + x⌊p⌋₊₁·w with w what p has beyond ⌊p⌋.
    fn between(&mut self, node: &Node, x: &Tensor, axis: usize, at: &[f64]) -> Result<Tensor> {
        let last = x.rest[axis] - 1;
        let low = at.iter().map(|&p| Some(p as usize)).collect();
        let high = at
            .iter()
            .map(|&p| Some((p as usize + 1).min(last)))
            .collect();
        let weights: Vec<f64> = at.iter().map(|p| p.fract()).collect();
        let first = self.entries(node, x, axis, low)?;
        if weights.iter().all(|&w| w == 0.0) {
            return Ok(first);
        }
        let second = self.entries(node, x, axis, high)?;
        let mut shape = vec![1; x.rest.len() - axis];
        shape[0] = weights.len();
        let weights = self.constant(node, &Array::reals(&shape, weights, true))?;
        let w = || Expr::input(2);
        let mixed = Expr::input(0) * (Expr::constant(1.0) - w()) + Expr::input(1) * w();
        self.elementwise(node, mixed, &[first, second, weights], x.sample)
    }

    /// Cubic convolution of the four entries around each position: Σ_k x⌊p⌋₊ₖ·w(p − ⌊p⌋ − k), k = −1..2.
    fn cubic(
        &mut self,
        node: &Node,
        x: &Tensor,
        axis: usize,
        at: &[f64],
        Cubic { a, exclude }: Cubic,
    ) -> Result<Tensor> {
        let last = (x.rest[axis] - 1) as f64;
        let outside = |place: f64| exclude && !(0.0..=last).contains(&place);
        let mut shape = vec![1; x.rest.len() - axis];
        shape[0] = at.len();
        let weight = |p: f64, k: f64| {
            let place = p.floor() + k;
            if outside(place) {
                0.0
            } else {
                cubic_weight(a, p - place)
            }
        };
        let total = |p: f64| match exclude {
            true => (-1..=2).map(|k| weight(p, f64::from(k))).sum(),
            false => 1.0,
        };
        let mut sum: Option<Tensor> = None;
        for k in [-1.0, 0.0, 1.0, 2.0] {
            let weights: Vec<f64> = at.iter().map(|&p| weight(p, k) / total(p)).collect();
            if weights.iter().all(|&w| w == 0.0) {
                continue;
            }
            let index = |&p: &f64| Some((p.floor() + k).clamp(0.0, last) as usize);
            let taken = self.entries(node, x, axis, at.iter().map(index).collect())?;
            let weights = self.constant(node, &Array::reals(&shape, weights, true))?;
            let product = Expr::input(0) * Expr::input(1);
            sum = Some(match sum {
                None => self.elementwise(node, product, &[taken, weights], x.sample)?,
                Some(sum) => {
                    let more = product + Expr::input(2);
                    self.elementwise(node, more, &[taken, weights, sum], x.sample)?
                }
            });
        }
        sum.ok_or_else(|| Error::Shape("its positions have no weights".into()))
    }

    /// The axes whose extent changes, from operands `scales` or `sizes`.
    fn resized(
        &self,
        node: &Node,
        inputs: &[Option<Value>],
        x: &Tensor,
        old: bool,
    ) -> Result<Vec<Axis>> {
        let rank = x.rest.len();
        let axes: Vec<usize> = match node.ints("axes") {
            Some(axes) => {
                let axes = axes.iter().map(|&a| fold::axis_of(a, rank));
                fits(axes.collect::<Result<_, String>>())?
            }
            None => (0..rank).collect(),
        };
        // Version 7 of Upsample has them as an attribute.
        let scales = match self.host(inputs, if old { 1 } else { 2 })? {
            Some(array) if array.len() > 0 => Some(array.to_f64()),
            _ => node
                .attribute("scales")
                .map(|a| a.floats.iter().map(|&f| f.into()).collect()),
        };
        if let Some(scales) = scales {
            return scaled(x, &axes, &scales);
        }
        match inputs.get(3) {
            Some(Some(Value::Host(sizes))) => self.sized(x, &axes, sizes),
            Some(Some(_)) => refuse("its sizes depend on values of the data"),
            _ => misfit("neither scales nor sizes".into(), x),
        }
    }

    /// The axes whose extent changes to those of the operand `sizes`, at the two batch sizes.
    fn sized(&self, x: &Tensor, axes: &[usize], sizes: &[Array; 2]) -> Result<Vec<Axis>> {
        let mut changed = Vec::new();
        for (sizes, batch) in sizes.iter().zip(self.batch.sizes) {
            let sizes = fits(fold::ints(sizes))?;
            let from = x.shape(batch);
            if sizes.len() != axes.len() {
                return misfit(format!("sizes {sizes:?}"), x);
            }
            let mut found = Vec::new();
            for (&axis, &to) in axes.iter().zip(sizes) {
                if usize::try_from(to) == Ok(from[axis]) {
                    continue;
                }
                self.not_over_samples(x, axis)?;
                let size = usize::try_from(to)
                    .ok()
                    .filter(|&t| t > 0 && t <= MOST_EXTENT);
                let Some(to) = size else {
                    return misfit(format!("sizes {sizes:?}"), x);
                };
                found.push(Axis {
                    axis,
                    from: from[axis],
                    to,
                    scale: None,
                });
            }
            let same = |(a, b): (&Axis, &Axis)| (a.axis, a.to) == (b.axis, b.to);
            if batch != self.batch.sizes[0]
                && !(found.len() == changed.len() && found.iter().zip(&changed).all(same))
            {
                return refuse("its sizes depend on the number of samples");
            }
            changed = found;
        }
        Ok(changed)
    }
}

/// The axes whose extent changes by the operand or the attribute `scales`.
fn scaled(x: &Tensor, axes: &[usize], scales: &[f64]) -> Result<Vec<Axis>> {
    if scales.len() != axes.len() {
        return misfit(format!("scales {scales:?}"), x);
    }
    let mut changed = Vec::new();
    for (&axis, &scale) in axes.iter().zip(scales) {
        let scale = scale as f32;
        let from = x.rest[axis];
        let to = from as f32 * scale;
        if !(1.0..=MOST_EXTENT as f32).contains(&to) {
            return misfit(format!("scales {scales:?}"), x);
        }
        if scale != 1.0 {
            let (to, scale) = (to as usize, Some(scale));
            changed.push(Axis {
                axis,
                from,
                to,
                scale,
            });
        }
    }
    Ok(changed)
}

/// The error of scales or sizes that cannot be those of `x`.
fn misfit<T>(what: String, x: &Tensor) -> Result<T> {
    Err(Error::Shape(format!("{what} of {:?}", x.rest)))
}
