//! The work of convolutions and of their transposes, by how the CPU computes them.

use super::product;
use crate::tensor::Window;
use crate::tensor::placement::{CopyLayout, is_direct};
use crate::tensor::tally::{Kind, Work};

/// Operations of a convolution or either of its transposes: two per tap, output and channel.
pub(super) fn conv_operations(
    samples: usize,
    directions: usize,
    lead: usize,
    weights: &[usize],
    window: &Window,
) -> u64 {
    2 * (samples * directions * lead) as u64 * product(weights) * product(&window.output)
}

/// The sizes of a convolution, or of one of its transposes, that decide how it is computed.
pub(super) struct Convolved<'a> {
    window: &'a Window,
    groups: usize,
    /// Channels and outputs of a group.
    pub(super) channels: usize,
    pub(super) outputs: usize,
    /// B, the directions that patches are made of, and those of the result.
    lead: usize,
    directions: [usize; 2],
}

impl<'a> Convolved<'a> {
    /// `weights` is `[O, C/g, k…]`, `lead` B and the directions of what patches are made of, and of the result.
    pub(super) fn new(
        window: &'a Window,
        groups: usize,
        weights: &[usize],
        lead: [usize; 3],
    ) -> Self {
        Convolved {
            window,
            groups,
            channels: weights[1],
            outputs: weights[0] / groups,
            lead: lead[0],
            directions: [lead[1], lead[2]],
        }
    }

    /// The kind of work: `few` where planes of few channels are shifted, `grouped` where they are so in groups, else `other`
    /// or a product.
    pub(super) fn kind(&self, few: Kind, grouped: Kind, other: Kind) -> Kind {
        if self.window.is_whole() {
            return Kind::Product;
        }
        if self.groups > 1 {
            return match self.channels * self.outputs <= 16 {
                true => grouped,
                false => other,
            };
        }
        let step = self.window.stride.iter().all(|&stride| stride == 1);
        match self.channels.max(self.outputs) <= 16 && step {
            true => few,
            false => other,
        }
    }

    /// Of many directions all share a sample's patches.
    pub(super) fn kind_of_weights(&self) -> Kind {
        let few = match self.directions[1] {
            1 => Kind::FewWeights,
            _ => Kind::ConvWeights,
        };
        self.kind(few, Kind::GroupedWeights, Kind::ConvWeights)
    }

    /// Work of `samples`, with patches of so many channels per group, and, where taps are shifts of planes, of planes that are
    /// the windows' inputs or, of the transpose in the inputs, the cotangents spread out.
    pub(super) fn work(
        &self,
        kind: Kind,
        samples: usize,
        numbers: usize,
        channels: usize,
        of_inputs: bool,
    ) -> Work {
        let lead = (samples * self.lead) as u64;
        let pairs = (self.groups * self.channels * self.outputs) as u64;
        let taps = product(&self.window.kernel);
        let [patched, made] = self.directions.map(|d| d as u64);
        let multiplied = 2 * lead * made * pairs * taps;
        let numbers = numbers as u64;
        match kind {
            Kind::Product => Work::call(lead * made, multiplied, numbers, 0),
            Kind::Conv | Kind::ConvInputs | Kind::ConvWeights => {
                let positions = product(&self.window.output);
                let patches = (self.groups * channels) as u64 * taps * positions;
                let patches = lead * patched * patches;
                Work::call(lead * made, multiplied * positions, numbers, patches)
            }
            // Windows keep the pitch of the padded plane, so that all of them are one run.
            _ => {
                let run = self.run(of_inputs);
                let planes = (self.groups * (self.channels + self.outputs)) as u64 * run;
                Work::call(lead * made, multiplied * run, numbers, lead * made * planes)
            }
        }
    }

    /// Positions that a tap is multiplied at: the result's along the first axis, the padded plane's along the others.
    fn run(&self, of_inputs: bool) -> u64 {
        let window = self.window.three_dimensional();
        let along = |k: usize| {
            let reach = window.kernel[k].saturating_sub(1) * window.dilation[k] / window.stride[k];
            let positions = match of_inputs {
                true => (window.input[k] + window.padding[k]).div_ceil(window.stride[k]),
                false => window.output[k],
            };
            [positions, positions + reach].map(|extent| extent as u64)
        };
        let first = (0..3).find(|&k| along(k)[0] > 1).unwrap_or(2);
        (first..3)
            .map(|k| along(k)[usize::from(k > first)])
            .product()
    }
}

/// The copy behind a convolution, unless it goes without.
pub(super) fn copied(
    window: &Window,
    groups: usize,
    weights: &[usize],
    placement: impl Fn(&Window) -> CopyLayout,
) -> Option<CopyLayout> {
    (!is_direct(window, groups, weights)).then(|| placement(window))
}
