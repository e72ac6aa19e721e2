//! Work by kind: what a run asks of a device, in the terms that decide how long it takes.

use std::ops::{Add, AddAssign, Sub};

/// A kind of work: calls that share a way of being computed, so that one law tells their times.
///
/// Convolutions are told apart by what is known to be done in different ways: of few channels, in small groups, and others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Einsum as products of matrices.
    Product,
    /// Einsum without a matrix worth the name: inner products, sums of a few terms.
    Lanes,
    /// Convolution.
    Conv,
    /// Its transpose in the inputs.
    ConvInputs,
    /// Its transpose in the weights.
    ConvWeights,
    /// Convolution of few channels in one group.
    FewConv,
    /// Its transpose in the inputs.
    FewInputs,
    /// Its transpose in the weights.
    FewWeights,
    /// Convolution in small groups.
    GroupedConv,
    /// Its transpose in the inputs.
    GroupedInputs,
    /// Its transpose in the weights.
    GroupedWeights,
    /// Sums over windows and their transpose.
    Windows,
    /// Gather, scatter, the positions of maxima.
    Pick,
    /// Element by element.
    Map,
    /// Sums along axes.
    Sum,
    /// Slice, embed, concatenate, repeat, fill.
    Copy,
    /// Permuted axes.
    Permute,
    /// Look-ups and their transpose.
    Lookup,
    /// Host memory to the device's.
    Upload,
    /// The loss factor: outputs read, S formed on the host, its columns uploaded.
    Seeds,
    /// Numbers read on the host on the way.
    Read,
    /// Dense × dense.
    Dense,
    /// Outer × outer and outer × dense.
    Outer,
    /// Tiles made, and finished tiles on their way to the host.
    Tile,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Kind; 24] = [
        Kind::Product,
        Kind::Lanes,
        Kind::Conv,
        Kind::ConvInputs,
        Kind::ConvWeights,
        Kind::FewConv,
        Kind::FewInputs,
        Kind::FewWeights,
        Kind::GroupedConv,
        Kind::GroupedInputs,
        Kind::GroupedWeights,
        Kind::Windows,
        Kind::Pick,
        Kind::Map,
        Kind::Sum,
        Kind::Copy,
        Kind::Permute,
        Kind::Lookup,
        Kind::Upload,
        Kind::Seeds,
        Kind::Read,
        Kind::Dense,
        Kind::Outer,
        Kind::Tile,
    ];
}

/// Terms of [`Work`].
pub const TERMS: usize = 6;

/// Numbers of a call from which on they count as far: no cache holds them, and among others of many sizes an allocator gives them
/// pages that were never touched, so that a number takes two to three times as long, a copied one ten (measured: of ResNet-20's
/// diagonal, a third of the time).
const FAR: u64 = 1 << 20;

/// How much of one kind: calls, and what is in them.
///
/// | kind | pieces | operations | numbers | beside |
/// |---|---|---|---|---|
/// | products | matrices | multiply-adds, twice | of operands and result | – |
/// | convolutions | samples × directions | multiply-adds, twice | of operands and result | of the patches |
/// | element by element | runs of operands that are repeated | plain ones | of operands and result | transcendental ones |
/// | sums | sums | additions | of operands and result | – |
/// | dense × dense | – | multiply-adds, twice | of the tile | rows of V |
/// | outer × outer | inputs that are scaled | multiply-adds, twice | of the tile | operations of P |
/// | others | – | additions | of operands and result | – |
///
/// The last term is that of the numbers again, where a call has so many that they are far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work(pub [u64; TERMS]);

impl Work {
    /// One call.
    pub(crate) fn call(pieces: u64, operations: u64, numbers: u64, beside: u64) -> Work {
        let far = if numbers < FAR { 0 } else { numbers };
        Work([1, pieces, operations, numbers, beside, far])
    }

    /// The numbers that it goes through.
    pub fn numbers(self) -> u64 {
        self.0[3]
    }

    /// So many times the same.
    pub fn times(self, times: u64) -> Work {
        Work(self.0.map(|term| term.saturating_mul(times)))
    }

    fn with(self, other: Work, join: impl Fn(u64, u64) -> u64) -> Work {
        Work(std::array::from_fn(|k| join(self.0[k], other.0[k])))
    }
}

/// Work of all kinds. Tallies add up: of passes, of tiles, of units.
///
/// ```
/// use hessblock::internals::tensor::meter::Meter;
/// use hessblock::internals::tensor::{Backend, HostSlice, Kind, Shape};
/// let meter = Meter::new(4);
/// let x = meter.upload(&Shape::new(8, 1, &[5]), HostSlice::F32(&[]));
/// let before = meter.tally();
/// meter.reduce_sum(&x, &[0]);
/// let sum = meter.tally() - before;
/// assert_eq!(sum.of(Kind::Sum).0, [1, 5, 40, 45, 0, 0]);
/// assert_eq!(sum.times(3), sum + sum + sum);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([Work; Kind::ALL.len()]);

impl Tally {
    /// The work of one kind.
    pub fn of(&self, kind: Kind) -> Work {
        self.0[kind as usize]
    }

    /// So many times the same.
    pub fn times(self, times: u64) -> Tally {
        Tally(self.0.map(|work| work.times(times)))
    }

    /// Adds work of a kind.
    pub fn enter(&mut self, kind: Kind, work: Work) {
        let own = &mut self.0[kind as usize];
        *own = own.with(work, u64::saturating_add);
    }

    fn with(self, other: Tally, join: impl Fn(u64, u64) -> u64 + Copy) -> Tally {
        Tally(std::array::from_fn(|k| self.0[k].with(other.0[k], join)))
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        self.with(other, u64::saturating_add)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        *self = *self + other;
    }
}

impl Sub for Tally {
    type Output = Tally;

    fn sub(self, other: Tally) -> Tally {
        self.with(other, u64::saturating_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_far_where_there_are_many() {
        let few = Work::call(0, 0, FAR - 1, 0);
        assert_eq!(few.0[TERMS - 1], 0);
        // Many calls of a few each are near.
        assert_eq!(few.times(100).0[TERMS - 1], 0);
        assert_eq!(Work::call(0, 0, FAR, 0).times(2).0[TERMS - 1], 2 * FAR);
    }

    #[test]
    fn kinds_are_listed_in_their_order() {
        for (k, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, k);
        }
    }
}
