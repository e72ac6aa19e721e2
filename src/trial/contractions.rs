//! Contractions on ragged sizes, and on sizes whose rows are read and stored four at a time.

use crate::tensor::{MirrorRule, OuterAxes, Scaled};

/// Rows or columns of an outer product.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// The number of outputs o.
    pub outputs: usize,
    /// The number of inputs i; `None` is a bias.
    pub inputs: Option<usize>,
    /// Where they lie.
    pub axes: OuterAxes,
}

impl Side {
    /// Returns a side with strides of o and i.
    pub const fn new(
        outputs: usize,
        inputs: Option<usize>,
        origin: usize,
        strides: [usize; 2],
    ) -> Side {
        let axes = OuterAxes {
            origin,
            output_stride: strides[0],
            input_stride: strides[1],
        };
        Side {
            outputs,
            inputs,
            axes,
        }
    }

    /// Outputs first, without gaps: a weight `[outputs, inputs]`.
    pub const fn outputs_first(outputs: usize, inputs: usize, origin: usize) -> Side {
        Side::new(outputs, Some(inputs), origin, [inputs, 1])
    }

    /// A weight `[inputs, outputs]`.
    pub const fn inputs_first(outputs: usize, inputs: usize, origin: usize) -> Side {
        Side::new(outputs, Some(inputs), origin, [1, outputs])
    }

    /// A bias, or rows of a dense factor.
    pub const fn bias(outputs: usize, origin: usize) -> Side {
        Side::new(outputs, None, origin, [1, 1])
    }

    /// Leaves gaps between the rows of the layout, of its longer step.
    const fn gap(self, gap: usize) -> Side {
        let axes = self.axes;
        let [mut output, mut input] = [axes.output_stride, axes.input_stride];
        match output >= input {
            true => output += gap,
            false => input += gap,
        }
        Side::new(self.outputs, self.inputs, axes.origin, [output, input])
    }

    /// One past its last row; of no outputs, one past its origin.
    pub fn extent(&self) -> usize {
        let inputs = self.inputs.unwrap_or(1);
        let last = self.outputs.saturating_sub(1) * self.axes.output_stride
            + inputs.saturating_sub(1) * self.axes.input_stride;
        self.axes.origin + last + 1
    }
}

/// Sides of the tests, each of which meets each.
pub const SIDES: [Side; 9] = [
    Side::outputs_first(3, 17, 0),
    Side::inputs_first(5, 13, 2),
    Side::bias(7, 1),
    Side::outputs_first(3, 9, 0).gap(4),
    Side::inputs_first(2, 33, 1).gap(3),
    Side::inputs_first(31, 2, 0).gap(1),
    Side::outputs_first(1, 1, 0),
    Side::bias(67, 0).gap(1),
    Side::outputs_first(0, 3, 0),
];

/// A product of dense rows that is added to a tile.
pub(crate) struct Dense {
    /// The number of rows and columns.
    pub extents: [usize; 2],
    /// Where they start in the tile.
    pub origin: [usize; 2],
    pub samples: usize,
    pub directions: usize,
    /// How often it is added, each time of other numbers.
    pub times: u64,
    /// What it fills of a tile that held anything; otherwise it is added to a larger tile of zeros.
    pub fills: Option<MirrorRule>,
}

impl Dense {
    const fn new(
        extents: [usize; 2],
        origin: [usize; 2],
        (samples, directions, times): (usize, usize, u64),
    ) -> Dense {
        Dense {
            extents,
            origin,
            samples,
            directions,
            times,
            fills: None,
        }
    }

    const fn fills(self, mirror: MirrorRule) -> Dense {
        Dense {
            fills: Some(mirror),
            ..self
        }
    }
}

/// Products of dense rows.
pub(crate) const DENSE: [Dense; 11] = [
    Dense::new([1, 1], [0, 0], (1, 1, 1)),
    Dense::new([17, 67], [5, 3], (11, 3, 1)),
    Dense::new([127, 65], [1, 31], (37, 2, 3)),
    Dense::new([259, 131], [63, 0], (13, 2, 1)),
    Dense::new([3, 301], [0, 7], (67, 10, 2)),
    Dense::new([31, 33], [2, 2], (257, 1, 1)),
    Dense::new([7, 13], [1, 1], (4099, 2, 2)),
    Dense::new([3, 5], [1, 0], (7001, 10, 1)),
    // Sizes whose rows are read and stored four at a time.
    Dense::new([64, 128], [0, 0], (64, 4, 2)).fills(MirrorRule::Own),
    Dense::new([132, 132], [0, 0], (33, 10, 3)).fills(MirrorRule::Symmetric),
    Dense::new([128, 64], [4, 3], (40, 1, 1)),
];

/// An outer product that is added to a tile.
pub(crate) struct Outer {
    /// The name of the case.
    pub about: &'static str,
    /// Rows and columns.
    pub sides: [Side; 2],
    pub scaled: Scaled,
    pub samples: usize,
    pub directions: usize,
    /// As in [`Dense`].
    pub times: u64,
    /// As in [`Dense`].
    pub fills: Option<MirrorRule>,
    /// Whether the inputs are those of all samples.
    pub shared: bool,
}

impl Outer {
    const fn new(
        about: &'static str,
        sides: [Side; 2],
        scaled: Scaled,
        (samples, directions, times): (usize, usize, u64),
    ) -> Outer {
        Outer {
            about,
            sides,
            scaled,
            samples,
            directions,
            times,
            fills: None,
            shared: false,
        }
    }

    /// One that fills a tile, of sizes whose rows are read and stored four at a time.
    const fn aligned(
        about: &'static str,
        sides: [Side; 2],
        scaled: Scaled,
        mirror: MirrorRule,
    ) -> Outer {
        Outer {
            fills: Some(mirror),
            ..Outer::new(about, sides, scaled, (48, 3, 2))
        }
    }

    const fn shared(self) -> Outer {
        Outer {
            shared: true,
            ..self
        }
    }
}

/// Outer products.
pub(crate) const OUTER: [Outer; 20] = [
    Outer::new(
        "weight by weight",
        [Side::outputs_first(5, 67, 0), Side::outputs_first(3, 31, 0)],
        Scaled::Rows,
        (11, 3, 1),
    ),
    Outer::new(
        "weight by weight, origins",
        [
            Side::outputs_first(7, 19, 13),
            Side::outputs_first(3, 67, 5),
        ],
        Scaled::Columns,
        (37, 2, 2),
    ),
    Outer::new(
        "weight by itself",
        [Side::outputs_first(5, 33, 3), Side::outputs_first(5, 33, 3)],
        Scaled::Alike,
        (67, 3, 1),
    ),
    Outer::new(
        "weight by itself, inputs first",
        [Side::inputs_first(4, 17, 1), Side::inputs_first(4, 17, 1)],
        Scaled::Alike,
        (257, 2, 2),
    ),
    Outer::new(
        "inputs first by outputs first",
        [Side::inputs_first(6, 13, 2), Side::outputs_first(3, 65, 1)],
        Scaled::Rows,
        (31, 2, 1),
    ),
    Outer::new(
        "inputs first",
        [Side::inputs_first(3, 31, 0), Side::inputs_first(5, 17, 7)],
        Scaled::Columns,
        (13, 5, 3),
    ),
    Outer::new(
        "weight by bias",
        [Side::outputs_first(5, 67, 1), Side::bias(23, 4)],
        Scaled::Columns,
        (131, 3, 1),
    ),
    Outer::new(
        "bias by weight",
        [Side::bias(17, 0), Side::inputs_first(3, 61, 2)],
        Scaled::Rows,
        (131, 3, 1),
    ),
    Outer::new(
        "bias by bias",
        [Side::bias(31, 3), Side::bias(67, 1)],
        Scaled::Rows,
        (61, 2, 2),
    ),
    Outer::new(
        "gaps",
        [
            Side::new(5, Some(7), 3, [17, 2]),
            Side::new(3, Some(11), 2, [2, 7]),
        ],
        Scaled::Rows,
        (19, 2, 1),
    ),
    Outer::new(
        "4099 samples",
        [Side::outputs_first(3, 13, 0), Side::outputs_first(2, 17, 1)],
        Scaled::Rows,
        (4099, 1, 1),
    ),
    Outer::new(
        "66,003 samples",
        [Side::outputs_first(2, 5, 1), Side::inputs_first(2, 3, 0)],
        Scaled::Columns,
        (66_003, 1, 1),
    ),
    Outer::new(
        "a tile of many",
        [
            Side::outputs_first(13, 29, 0),
            Side::outputs_first(11, 31, 0),
        ],
        Scaled::Rows,
        (7, 10, 1),
    ),
    Outer::aligned(
        "aligned weight by itself",
        [Side::outputs_first(4, 64, 0), Side::outputs_first(4, 64, 0)],
        Scaled::Alike,
        MirrorRule::Symmetric,
    ),
    Outer::aligned(
        "aligned outputs of a weight",
        [Side::outputs_first(4, 64, 0), Side::outputs_first(8, 64, 0)],
        Scaled::Alike,
        MirrorRule::Own,
    ),
    Outer::aligned(
        "aligned weight by another",
        [
            Side::outputs_first(4, 32, 0),
            Side::outputs_first(2, 128, 0),
        ],
        Scaled::Columns,
        MirrorRule::Own,
    ),
    Outer::aligned(
        "aligned weight by bias",
        [Side::outputs_first(4, 64, 0), Side::bias(32, 0)],
        Scaled::Columns,
        MirrorRule::Own,
    ),
    Outer::aligned(
        "aligned bias by weight",
        [Side::bias(32, 0), Side::outputs_first(4, 64, 0)],
        Scaled::Rows,
        MirrorRule::Own,
    ),
    Outer::aligned(
        "aligned weight of few inputs",
        [Side::outputs_first(16, 4, 0), Side::outputs_first(8, 4, 0)],
        Scaled::Rows,
        MirrorRule::Own,
    ),
    Outer::new(
        "inputs shared by all samples",
        [Side::outputs_first(3, 17, 0), Side::outputs_first(5, 7, 2)],
        Scaled::Rows,
        (9, 2, 1),
    )
    .shared(),
];
