//! Windows of convolutions and pools on ragged sizes: strides, dilation, padding, groups, one to three axes.

use crate::tensor::Window;

/// Input, output, kernel, stride, dilation and padding of an axis of a window.
pub type Axis = [usize; 6];

/// Returns the window over axes.
pub fn window(axes: &[Axis]) -> Window {
    let column = |k: usize| axes.iter().map(|axis| axis[k]).collect();
    Window {
        input: column(0),
        output: column(1),
        kernel: column(2),
        stride: column(3),
        dilation: column(4),
        padding: column(5),
    }
}

/// A convolution with its sizes.
pub struct Convolution {
    /// The name of the case.
    pub about: &'static str,
    /// The axes of the window.
    pub axes: &'static [Axis],
    /// The batch axis B.
    pub batch: usize,
    /// The number of groups.
    pub groups: usize,
    /// The number of input channels.
    pub channels: usize,
    /// The number of output channels.
    pub outputs: usize,
}

impl Convolution {
    /// One group, and no batch axis.
    const fn new(
        about: &'static str,
        axes: &'static [Axis],
        (channels, outputs): (usize, usize),
    ) -> Convolution {
        Convolution {
            about,
            axes,
            batch: 1,
            groups: 1,
            channels,
            outputs,
        }
    }

    const fn groups(self, groups: usize) -> Convolution {
        Convolution { groups, ..self }
    }

    const fn batch(self, batch: usize) -> Convolution {
        Convolution { batch, ..self }
    }
}

/// Convolutions of the self-test.
pub const CONVOLUTIONS: [Convolution; 11] = [
    Convolution::new("5x5", &[[13, 9, 5, 1, 1, 0], [12, 8, 5, 1, 1, 0]], (3, 17)),
    Convolution::new(
        "3x3, stride 2, padded",
        &[[13, 7, 3, 2, 1, 1], [11, 6, 3, 2, 1, 1]],
        (5, 7),
    ),
    Convolution::new(
        "3x2, dilated",
        &[[15, 7, 3, 2, 2, 1], [9, 6, 2, 1, 3, 0]],
        (3, 5),
    )
    .batch(2),
    Convolution::new("1x1", &[[7, 7, 1, 1, 1, 0], [9, 9, 1, 1, 1, 0]], (19, 33)),
    Convolution::new(
        "two groups",
        &[[9, 9, 3, 1, 1, 1], [8, 8, 3, 1, 1, 1]],
        (8, 10),
    )
    .groups(2),
    Convolution::new(
        "depthwise",
        &[[13, 13, 5, 1, 1, 2], [11, 11, 5, 1, 1, 2]],
        (7, 7),
    )
    .groups(7),
    Convolution::new(
        "depthwise, stride 2, two outputs",
        &[[14, 7, 3, 2, 1, 1], [13, 7, 3, 2, 1, 1]],
        (5, 10),
    )
    .groups(5),
    Convolution::new(
        "one axis, stride past the end",
        &[[41, 14, 5, 3, 2, 4]],
        (3, 6),
    )
    .batch(2),
    Convolution::new("three axes", &THREE_AXES, (2, 3)),
    Convolution::new(
        "the whole input",
        &[[5, 1, 5, 1, 1, 0], [4, 1, 4, 1, 1, 0]],
        (3, 11),
    ),
    Convolution::new(
        "4355 positions",
        &[[67, 67, 3, 1, 1, 1], [65, 65, 3, 1, 1, 1]],
        (2, 4),
    ),
];

/// A window over three axes that differ in everything.
pub const THREE_AXES: [Axis; 3] = [[4, 2, 3, 2, 1, 1], [5, 3, 2, 1, 2, 0], [3, 3, 3, 1, 1, 1]];

/// A pool with its sizes.
pub struct Pool {
    /// The name of the case.
    pub about: &'static str,
    /// The axes before the window's.
    pub lead: &'static [usize],
    /// The axes of the window.
    pub axes: &'static [Axis],
}

/// Pools of the self-test.
pub const POOLS: [Pool; 4] = [
    Pool {
        about: "2x2",
        lead: &[1, 5],
        axes: &[[14, 7, 2, 2, 1, 0], [12, 6, 2, 2, 1, 0]],
    },
    Pool {
        about: "3x3, overlapping, padded",
        lead: &[1, 3],
        axes: &[[13, 7, 3, 2, 1, 1], [11, 11, 3, 1, 1, 1]],
    },
    Pool {
        about: "one axis, dilated, past the end",
        lead: &[2, 3],
        axes: &[[40, 13, 4, 3, 2, 2]],
    },
    Pool {
        about: "three axes",
        lead: &[1, 2],
        axes: &THREE_AXES,
    },
];

/// Windows of every kind, which the tests run with every one of [`CHANNELS`] and as pools.
pub const WINDOWS: [&[Axis]; 12] = [
    &[[17, 15, 3, 1, 1, 0]],
    &[[17, 9, 3, 2, 1, 1]],
    &[[13, 5, 2, 3, 4, 2]],
    &[[1, 1, 1, 1, 1, 0]],
    &[[9, 9, 1, 1, 1, 0], [11, 11, 1, 1, 1, 0]],
    &[[7, 4, 1, 2, 1, 0], [7, 7, 1, 1, 1, 0]],
    &[[9, 9, 3, 1, 1, 1], [11, 6, 5, 2, 1, 2]],
    // Asymmetric padding: output reaches past the end further than before the start.
    &[[8, 8, 2, 1, 1, 0], [7, 8, 4, 1, 1, 2]],
    // Ceil mode: the last window hangs over.
    &[[7, 4, 2, 2, 1, 0], [8, 3, 3, 3, 1, 0]],
    &[[6, 3, 3, 2, 2, 2], [5, 5, 3, 1, 2, 2]],
    &[[5, 3, 3, 1, 1, 0], [4, 4, 3, 1, 1, 1], [6, 3, 2, 2, 1, 0]],
    // A kernel as large as the input.
    &[[5, 1, 5, 1, 1, 0], [6, 1, 6, 1, 1, 0]],
];

/// Groups, input channels and output channels: plain, grouped with few and with more channels per group, depthwise with one and two
/// outputs each.
pub const CHANNELS: [(usize, usize, usize); 6] = [
    (1, 3, 5),
    (1, 5, 7),
    (2, 4, 6),
    (2, 8, 10),
    (3, 3, 3),
    (3, 3, 6),
];

/// A depthwise convolution on a large plane.
pub struct Depthwise {
    /// The axes of the window.
    pub axes: &'static [Axis],
    /// The number of samples.
    pub samples: usize,
    /// The number of directions of cotangents.
    pub directions: usize,
    /// The number of input channels, each a group.
    pub groups: usize,
    /// The number of output channels of each.
    pub multiplier: usize,
}

impl Depthwise {
    const fn new(
        axes: &'static [Axis],
        (samples, directions): (usize, usize),
        (groups, multiplier): (usize, usize),
    ) -> Depthwise {
        Depthwise {
            axes,
            samples,
            directions,
            groups,
            multiplier,
        }
    }
}

/// Depthwise convolutions of the tests.
pub const DEPTHWISE: [Depthwise; 7] = [
    Depthwise::new(
        &[[23, 23, 3, 1, 1, 1], [19, 19, 5, 1, 1, 2]],
        (3, 2),
        (3, 1),
    ),
    Depthwise::new(
        &[[45, 23, 3, 2, 1, 1], [37, 19, 5, 2, 1, 2]],
        (2, 2),
        (2, 2),
    ),
    // Uneven: stride 3 reads phases that its taps skip, dilation reads both phases of stride 2.
    Depthwise::new(
        &[[61, 21, 2, 3, 1, 2], [43, 22, 3, 2, 2, 3]],
        (9, 1),
        (2, 1),
    ),
    Depthwise::new(
        &[[5, 5, 3, 1, 1, 1], [13, 13, 3, 1, 2, 2], [9, 9, 3, 1, 1, 1]],
        (1, 2),
        (2, 1),
    ),
    // Stride and dilation share a divisor, or the windows hang over.
    Depthwise::new(
        &[[45, 10, 3, 4, 6, 2], [31, 15, 4, 2, 3, 1]],
        (2, 2),
        (2, 2),
    ),
    // More positions in a row than are summed at a time.
    Depthwise::new(&[[9100, 4550, 3, 2, 1, 1]], (3, 1), (2, 1)),
    // More positions than are summed in one register.
    Depthwise::new(
        &[[97, 97, 3, 1, 1, 1], [95, 95, 1, 1, 1, 0]],
        (1, 1),
        (2, 1),
    ),
];
