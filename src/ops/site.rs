//! Parameter sites: the cotangent of a parameter at one place of use, kept unevaluated.
//!
//! Per sample n and direction r a site is a row of V (DESIGN §2). It can be realised as rows, as their
//! sum over samples (a gradient), or kept as an outer factor.

use crate::tensor::dual::DualTensor;
use crate::tensor::{Backend, Einsum, Shape, Window};
use std::ops::Range;

/// How a site's rows follow from cotangents Δ and inputs a.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SiteKind<T> {
    /// V[o, i] = Σ_t Δ[t, o] a[t, i] of an affine operation.
    Linear {
        /// Δ: `[s, d, T, O]`.
        cotangents: T,
        /// a: `[s, 1, T, I]`.
        inputs: T,
        /// Whether the weight is O×I (else I×O).
        outputs_first: bool,
    },
    /// V[o, c, k] = Σ_t Δ[o, t] x[c, t·stride + k·dilation] of a convolution.
    Conv {
        /// Δ: `[s, d, B, O, out…]`.
        cotangents: T,
        /// x: `[s, 1, B, C, in…]`.
        inputs: T,
        /// Geometry.
        window: Window,
        /// Groups.
        groups: usize,
    },
    /// V = Δ·∂f/∂w summed over the axes along which the parameter was repeated.
    Elementwise {
        /// Δ: `[s, d, rest…]`.
        cotangents: T,
        /// ∂f/∂w: `[s, 1, rest…]`; `None` is 1.
        derivative: Option<T>,
    },
    /// V[v, i] = Σ_t Δ[t, i] over the places t that looked up row v of a table.
    Lookup {
        /// Δ: `[s, d, T, I]`.
        cotangents: T,
        /// The rows that were looked up: `[s, 1, T]`.
        indices: T,
        /// The rows of the table that V has.
        range: Range<usize>,
    },
    /// V itself: `[s, d, shape…]`.
    Rows(T),
}

/// A site: its kind, the shape of what it is the cotangent of, and the way from there to the parameter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Site<T> {
    /// How the rows follow.
    pub kind: SiteKind<T>,
    /// Shape of the operand at this place of use.
    pub shape: Vec<usize>,
    /// What was applied to the parameter before it was used, outermost last: each step takes the
    /// cotangent one step back towards the parameter.
    pub steps: Vec<Step>,
}

/// A step back through an initializer-only chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The operand was `permute(parameter, order)`.
    Permute(Vec<usize>),
    /// The operand was `reshape(parameter)`; the parameter has this shape.
    Reshape(Vec<usize>),
}

/// An outer factor: `V[(o, i)] = Δ[o]·a[i]`.
#[derive(Clone)]
pub struct Outer<T> {
    /// Δ: `[s, d, O]`.
    pub cotangents: T,
    /// a: `[s, 1, I]`; `None` is a = 1, I = 1.
    pub inputs: Option<T>,
    /// Whether the parameter's flat order is (o, i), else (i, o).
    pub outputs_first: bool,
}

impl<T> Outer<T> {
    /// V[(o, i)] = Δ[o]·a[i], where the side that carries the directions plays Δ: it may be the inputs, in a
    /// transposed convolution or along tangents.
    fn new(cotangents: T, inputs: T, outputs_first: bool, exchanged: bool) -> Self {
        let (cotangents, inputs) = if exchanged {
            (inputs, cotangents)
        } else {
            (cotangents, inputs)
        };
        Outer {
            cotangents,
            inputs: Some(inputs),
            outputs_first: outputs_first != exchanged,
        }
    }
}

impl<T> SiteKind<T> {
    /// Δ, or V itself, and what it is multiplied with: the rows are linear in either.
    fn tensors(&self) -> (&T, Option<&T>) {
        match self {
            SiteKind::Linear {
                cotangents, inputs, ..
            }
            | SiteKind::Conv {
                cotangents, inputs, ..
            } => (cotangents, Some(inputs)),
            SiteKind::Elementwise {
                cotangents,
                derivative,
            } => (cotangents, derivative.as_ref()),
            SiteKind::Lookup {
                cotangents,
                indices,
                ..
            } => (cotangents, Some(indices)),
            SiteKind::Rows(rows) => (rows, None),
        }
    }

    /// The same kind of other tensors, as [`SiteKind::tensors`] gives them.
    fn of<U>(&self, cotangents: U, other: Option<U>) -> SiteKind<U> {
        const BOTH: &str = "a site of a product has both of its tensors";
        match self {
            SiteKind::Linear { outputs_first, .. } => SiteKind::Linear {
                cotangents,
                inputs: other.expect(BOTH),
                outputs_first: *outputs_first,
            },
            SiteKind::Conv { window, groups, .. } => SiteKind::Conv {
                cotangents,
                inputs: other.expect(BOTH),
                window: window.clone(),
                groups: *groups,
            },
            SiteKind::Elementwise { .. } => SiteKind::Elementwise {
                cotangents,
                derivative: other,
            },
            SiteKind::Lookup { range, .. } => SiteKind::Lookup {
                cotangents,
                indices: other.expect(BOTH),
                range: range.clone(),
            },
            SiteKind::Rows(_) => SiteKind::Rows(cotangents),
        }
    }
}

impl<T: Clone> Site<DualTensor<T>> {
    /// The derivative of the site's rows along the tangents, as sites whose rows add up to it: the product rule,
    /// structural zeros left out.
    pub fn tangents(&self) -> Vec<Site<T>> {
        let (cotangents, other) = self.kind.tensors();
        let left = cotangents.tangent.iter().cloned().map(|tangent| {
            let other = other.map(|other| other.primal.clone());
            self.kind.of(tangent, other)
        });
        let right = other.and_then(|other| other.tangent.clone());
        let right = right.map(|tangent| self.kind.of(cotangents.primal.clone(), Some(tangent)));
        left.chain(right).map(|kind| self.with(kind)).collect()
    }

    /// The site without its tangents.
    pub fn primal(&self) -> Site<T> {
        let (cotangents, other) = self.kind.tensors();
        let other = other.map(|other| other.primal.clone());
        self.with(self.kind.of(cotangents.primal.clone(), other))
    }
}

impl<T> Site<T> {
    /// Another kind at the same place.
    fn with<U>(&self, kind: SiteKind<U>) -> Site<U> {
        Site {
            kind,
            shape: self.shape.clone(),
            steps: self.steps.clone(),
        }
    }
}

impl<T: Clone> Site<T> {
    /// A site without steps.
    pub fn new(kind: SiteKind<T>, shape: &[usize]) -> Self {
        Self {
            kind,
            shape: shape.to_vec(),
            steps: Vec::new(),
        }
    }

    /// The site with `units` (`[1, directions, outputs]`) in the place of its cotangents: what the parameter does along
    /// these offsets of what the site makes. `None` where the site is no outer one.
    pub fn along<B: Backend<Tensor = T>>(&self, backend: &B, units: &T) -> Option<Site<T>> {
        let (cotangents, other) = self.kind.tensors();
        let rest = backend.shape(cotangents).rest;
        if rest.iter().product::<usize>() != backend.shape(units).rest_len() {
            return None;
        }
        let site = self.with(self.kind.of(backend.reshape(units, &rest), other.cloned()));
        site.outer(backend).is_some().then_some(site)
    }

    /// The site with the shapes of its tensors in their place.
    pub fn outline<B: Backend<Tensor = T>>(&self, backend: &B) -> Site<Shape> {
        let (cotangents, other) = self.kind.tensors();
        let shape = |tensor: &T| backend.shape(tensor);
        self.with(self.kind.of(shape(cotangents), other.map(shape)))
    }

    /// How many numbers it keeps.
    pub fn numbers<B: Backend<Tensor = T>>(&self, backend: &B) -> usize {
        let (cotangents, other) = self.kind.tensors();
        let count = |tensor: &T| backend.shape(tensor).len();
        count(cotangents) + other.map_or(0, count)
    }

    /// The rows V: `[s, d, parameter shape…]`.
    pub fn rows<B: Backend<Tensor = T>>(&self, backend: &B) -> T {
        let rows = match &self.kind {
            SiteKind::Linear {
                cotangents,
                inputs,
                outputs_first,
            } => linear(backend, cotangents, inputs, *outputs_first, "s"),
            SiteKind::Conv {
                cotangents,
                inputs,
                window,
                groups,
            } => backend.conv_weights(cotangents, inputs, window, *groups, false),
            SiteKind::Elementwise {
                cotangents,
                derivative,
            } => {
                let product = match derivative {
                    Some(derivative) => backend.multiply(cotangents, derivative),
                    None => cotangents.clone(),
                };
                super::reduce_to(backend, &product, &self.shape)
            }
            SiteKind::Lookup {
                cotangents,
                indices,
                range,
            } => lookup(backend, cotangents, indices, range, &self.shape, false),
            SiteKind::Rows(rows) => rows.clone(),
        };
        self.step_back(backend, rows)
    }

    /// The rows summed over samples: `[1, d, parameter shape…]`.
    pub fn sum<B: Backend<Tensor = T>>(&self, backend: &B) -> T {
        let sum = match &self.kind {
            SiteKind::Linear {
                cotangents,
                inputs,
                outputs_first,
            } => linear(backend, cotangents, inputs, *outputs_first, "1"),
            SiteKind::Conv {
                cotangents,
                inputs,
                window,
                groups,
            } => backend.conv_weights(cotangents, inputs, window, *groups, true),
            SiteKind::Lookup {
                cotangents,
                indices,
                range,
            } => lookup(backend, cotangents, indices, range, &self.shape, true),
            _ => return backend.reduce_sum(&self.rows(backend), &[0]),
        };
        self.step_back(backend, sum)
    }

    /// The outer factor, where the site has one position and its steps keep it outer.
    pub fn outer<B: Backend<Tensor = T>>(&self, backend: &B) -> Option<Outer<T>> {
        match &self.kind {
            SiteKind::Linear {
                cotangents,
                inputs,
                outputs_first,
            } => {
                let (c, a) = (backend.shape(cotangents), backend.shape(inputs));
                if c.rest[0] != 1 || c.directions > 1 && a.directions > 1 {
                    return None;
                }
                let cotangents = backend.reshape(cotangents, &c.rest[1..]);
                let inputs = backend.reshape(inputs, &a.rest[1..]);
                let outputs_first = *outputs_first != self.transposed()?;
                Some(Outer::new(
                    cotangents,
                    inputs,
                    outputs_first,
                    a.directions > 1,
                ))
            }
            SiteKind::Elementwise {
                cotangents,
                derivative: None,
            } => {
                // One entry per output: nothing was repeated, so Δ is the row itself.
                let rest = backend.shape(cotangents).rest;
                let count = self.shape.iter().product();
                if rest.iter().product::<usize>() != count || !self.keeps_flat_order() {
                    return None;
                }
                Some(Outer {
                    cotangents: backend.reshape(cotangents, &[count]),
                    inputs: None,
                    outputs_first: true,
                })
            }
            // A window over all of its input is a linear operation at one position.
            SiteKind::Conv {
                cotangents,
                inputs,
                window,
                groups: 1,
            } if window.is_whole() && self.keeps_flat_order() => {
                let (c, x) = (backend.shape(cotangents), backend.shape(inputs));
                let (outputs, width) = (c.rest_len(), x.rest_len());
                // Of a transposed convolution the inputs carry the directions.
                (c.rest[0] == 1 && (x.directions == 1 || c.directions == 1)).then(|| {
                    let cotangents = backend.reshape(cotangents, &[outputs]);
                    let inputs = backend.reshape(inputs, &[width]);
                    Outer::new(cotangents, inputs, true, x.directions > 1)
                })
            }
            _ => None,
        }
    }

    /// Whether the steps leave the flat order as it is.
    pub(crate) fn keeps_flat_order(&self) -> bool {
        self.steps.iter().all(|s| matches!(s, Step::Reshape(_)))
    }

    /// Whether the steps amount to a transposition of the two axes, or to nothing; `None` for anything else.
    fn transposed(&self) -> Option<bool> {
        let mut transposed = false;
        let mut shape: Vec<usize> = self.shape.clone();
        for step in &self.steps {
            match step {
                Step::Reshape(to) => {
                    // The two axes must stay recognisable, extents of 1 aside.
                    let squeeze =
                        |s: &[usize]| s.iter().copied().filter(|&e| e != 1).collect::<Vec<_>>();
                    if squeeze(&shape) != squeeze(to) {
                        return if self.keeps_flat_order() {
                            Some(false)
                        } else {
                            None
                        };
                    }
                    shape = to.clone();
                }
                Step::Permute(order) => {
                    let kept: Vec<usize> = order
                        .iter()
                        .zip(&shape)
                        .filter(|(_, e)| **e != 1)
                        .map(|(&k, _)| k)
                        .collect();
                    if kept.len() > 2 {
                        return None;
                    }
                    if kept.len() == 2 && kept[0] > kept[1] {
                        transposed = !transposed;
                    }
                    shape = inverse(order).into_iter().map(|k| shape[k]).collect();
                }
            }
        }
        Some(transposed)
    }

    /// The same without steps that transpose, where a product of matrices can as well make the transposed rows: they need
    /// not be turned round, and a range of them can be had alone.
    pub(crate) fn turned(mut self) -> Self {
        let turned = match &self.kind {
            _ if self.keeps_flat_order() => return self,
            SiteKind::Linear { .. } => self.transposed(),
            _ => None,
        };
        let Some(turned) = turned else { return self };
        let (own, parameter) = (self.shape.clone(), self.parameter_shape());
        if let (SiteKind::Linear { outputs_first, .. }, true, [rows, columns]) =
            (&mut self.kind, turned, &own[..])
        {
            *outputs_first = !*outputs_first;
            self.shape = vec![*columns, *rows];
        }
        self.steps = match self.shape == parameter {
            true => Vec::new(),
            false => vec![Step::Reshape(parameter)],
        };
        self
    }

    /// The shape of the parameter at the end of the steps.
    fn parameter_shape(&self) -> Vec<usize> {
        self.steps
            .iter()
            .fold(self.shape.clone(), |shape, step| match step {
                Step::Reshape(to) => to.clone(),
                Step::Permute(order) => inverse(order).into_iter().map(|k| shape[k]).collect(),
            })
    }

    fn step_back<B: Backend<Tensor = T>>(&self, backend: &B, cotangent: T) -> T {
        self.steps
            .iter()
            .fold(cotangent, |cotangent, step| match step {
                Step::Reshape(to) => backend.reshape(&cotangent, to),
                Step::Permute(order) => backend.permute(&cotangent, &inverse(order)),
            })
    }
}

/// The permutation that undoes `order`.
pub(crate) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut back = vec![0; order.len()];
    for (k, &axis) in order.iter().enumerate() {
        back[axis] = k;
    }
    back
}

fn linear<B: Backend>(
    backend: &B,
    cotangents: &B::Tensor,
    inputs: &B::Tensor,
    outputs_first: bool,
    samples: &str,
) -> B::Tensor {
    let entry = if outputs_first { "oi" } else { "io" };
    backend.einsum(
        &Einsum::new(&format!("sdto,sdti->{samples}d{entry}")),
        cotangents,
        inputs,
    )
}

fn lookup<B: Backend>(
    backend: &B,
    cotangents: &B::Tensor,
    indices: &B::Tensor,
    range: &Range<usize>,
    shape: &[usize],
    sum_samples: bool,
) -> B::Tensor {
    let rows = backend.put(cotangents, indices, 2, range.clone(), sum_samples);
    backend.reshape(&rows, shape)
}
