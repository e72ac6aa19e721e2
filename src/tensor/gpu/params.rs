//! Launch parameters: the one table of their names and places.
//!
//! The host sets a parameter by its constant here ([`Words::set`]). The text of a kernel begins with a WGSL constant of
//! the same name for each parameter of its family ([`constants`]), and reads it as `word(NAME)`. So neither side knows a
//! number.

use std::fmt::Write;

use super::axis::Axis;

/// The number of words of launch parameters of one dispatch.
pub(super) const PARAM_WORDS: usize = 192;
/// Most axes of an elementwise or layout kernel.
pub(super) const MAX_MAP_AXES: usize = 8;
/// Most inputs of an elementwise kernel: WebGPU promises eight storage buffers, one is the output.
pub(super) const MAX_MAP_INPUTS: usize = 7;
/// Most axes before the spatial ones of `grouped.wgsl`: samples, directions, groups and two of channels, or B.
pub(super) const MAX_GROUPED_AXES: usize = 5;
/// Most axes of one group of a product.
pub(super) const MAX_PRODUCT_AXES: usize = 6;
/// The number of tensors that an axis of a product has strides in: left, right, second, output and the output's mirror.
pub(super) const PRODUCT_TENSORS: usize = 5;

/// A launch parameter: consecutive words under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Param {
    /// The name in Rust and in WGSL.
    pub name: &'static str,
    /// The number of its first word.
    pub at: usize,
    /// The number of its words.
    pub len: usize,
}

impl Param {
    /// Returns the WGSL expression that reads word `k` of this parameter.
    pub fn read(self, k: usize) -> String {
        debug_assert!(k < self.len, "word {k} of {self:?}");
        match k {
            0 => format!("word({})", self.name),
            _ => format!("word({} + {k}u)", self.name),
        }
    }
}

/// The number of words that `axes` axes take: an extent each, and strides in `tensors` tensors.
const fn axis_words(axes: usize, tensors: usize) -> usize {
    axes * (1 + tensors)
}

/// Defines a module with a [`Param`] for each row `NAME: words`, placed one behind the other from word `first` on, and
/// `ALL`, the list of them. A row `_: words` leaves words unused.
macro_rules! table {
    ($(#[$doc:meta])* $family:ident from $first:expr; $($rows:tt)*) => {
        $(#[$doc])*
        pub(super) mod $family {
            use super::*;
            table!(@rows [] ($first) $($rows)*);
        }
    };
    (@rows [$($known:ident)*] ($at:expr)) => {
        /// All parameters of this family.
        pub const ALL: &[Param] = &[$($known),*];
        const _: () = assert!($at <= PARAM_WORDS);
    };
    (@rows [$($known:ident)*] ($at:expr) _: $len:expr, $($rest:tt)*) => {
        table!(@rows [$($known)*] ($at + $len) $($rest)*);
    };
    (@rows [$($known:ident)*] ($at:expr) $(#[$doc:meta])* $name:ident: $len:expr, $($rest:tt)*) => {
        $(#[$doc])*
        pub const $name: Param = Param { name: stringify!($name), at: $at, len: $len };
        table!(@rows [$($known)* $name] ($name.at + $name.len) $($rest)*);
    };
}

table! {
    /// Parameters of every kernel.
    common from 0;
    /// The first workgroup of this dispatch; set per dispatch.
    FIRST_GROUP: 1,
    /// The number of workgroups of this dispatch; set per dispatch.
    GROUPS: 1,
    /// The number of elements of the whole output.
    ELEMENTS: 1,
    /// A zero that the compiler cannot know: it stays what it is.
    HIDDEN_ZERO: 1,
}

/// The number of the first word that is a family's own.
const OWN: usize = common::HIDDEN_ZERO.at + common::HIDDEN_ZERO.len;

table! {
    /// Parameters of `fill.wgsl`.
    fill from OWN;
    /// The first element that is set.
    OUTPUT_START: 1,
    /// The bits that elements are set to.
    VALUE: 1,
}

table! {
    /// Parameters of `probe.wgsl`.
    probe from OWN;
    /// The number of turns that are tried.
    TURNS: 1,
}

table! {
    /// Parameters of `map.wgsl`.
    map from OWN;
    /// The first element of each input.
    INPUT_STARTS: MAX_MAP_INPUTS,
    _: 1,
    /// Axes of the output with their strides in each input.
    AXES: axis_words(MAX_MAP_AXES, MAX_MAP_INPUTS),
}

table! {
    /// Parameters of `layout.wgsl`.
    layout from OWN;
    /// The first element that is read.
    INPUT_START: 1,
    /// The first element that is written.
    OUTPUT_START: 1,
    _: 2,
    /// Axes with their strides in input and output.
    AXES: axis_words(MAX_MAP_AXES, 2),
}

table! {
    /// Parameters of `reduce.wgsl`.
    reduce from OWN;
    /// The first element of the input.
    INPUT_START: 1,
    /// The number of positions that are summed for one kept position.
    TERMS: 1,
    /// The number of chunks that they are cut into.
    CHUNKS: 1,
    _: 1,
    /// Axes that are kept, with their strides in the input.
    KEPT_AXES: axis_words(MAX_MAP_AXES, 1),
    /// Axes that are summed over, with their strides in the input.
    REDUCED_AXES: axis_words(MAX_MAP_AXES, 1),
}

table! {
    /// Parameters of `window.wgsl`; what has three words belongs to the axes z, y, x.
    window from OWN;
    /// The first element of the input.
    INPUT_START: 1,
    /// The first element of the chosen positions.
    CHOSEN_START: 1,
    _: 1,
    /// Whether the output is added to.
    ADD: 1,
    /// The first tap of this dispatch.
    TAPS_FROM: 1,
    /// The end of the taps of this dispatch.
    TAPS_TO: 1,
    /// Samples, directions, and all other axes before the spatial ones as one.
    LEAD: 3,
    /// Steps of these three in the input.
    INPUT_STEPS: 3,
    /// Steps of these three in the chosen positions.
    CHOSEN_STEPS: 3,
    /// Spatial extents of what the windows cover.
    COVERED: 3,
    /// The number of windows along each axis.
    WINDOWS: 3,
    /// Extents of the window.
    KERNEL: 3,
    /// Distances of two windows.
    STRIDE: 3,
    /// Distances of two taps.
    DILATION: 3,
    /// Positions before the first that are read as nothing.
    PADDING: 3,
}

table! {
    /// Parameters of `lookup.wgsl`.
    lookup from OWN;
    /// The first element of the input.
    INPUT_START: 1,
    /// The first element of the list of indices, or of the links.
    LIST_START: 1,
    /// The first element of the output.
    OUTPUT_START: 1,
    /// Whether the output is added to.
    ADD: 1,
    /// The number of directions.
    DIRECTIONS: 1,
    /// The number of positions of the axes before the one that is looked up.
    BEFORE: 1,
    /// The number of entries of that axis in the output.
    ENTRIES: 1,
    /// The number of positions of the axes behind it.
    AFTER: 1,
    /// The number of entries of that axis in the input.
    INPUT_ENTRIES: 1,
    /// The step of a sample in the input.
    SAMPLE_STEP: 1,
    /// The step of a direction in the input.
    DIRECTION_STEP: 1,
    /// The step of a sample in the list or in the links.
    LIST_STEP: 1,
    /// The number of samples that are summed.
    SUMMED: 1,
    _: 1,
    /// The number of entries of a list.
    COUNT: 1,
    /// The index that stands for the first row of the output.
    FIRST_ROW: 1,
}

table! {
    /// Parameters of `grouped.wgsl`; what has three words belongs to the axes z, y, x.
    grouped from OWN;
    /// The first element of `placed`.
    PLACED_START: 1,
    /// The first element of `other`.
    OTHER_START: 1,
    _: 1,
    /// Whether the output is added to.
    ADD: 1,
    /// Axes of the output before the spatial ones, with their strides in placed and other.
    LEAD_AXES: axis_words(MAX_GROUPED_AXES, 2),
    _: 1,
    /// Spatial extents of the output.
    PLACES: 3,
    /// Spatial extents of placed.
    PLACED: 3,
    /// Spatial extents of other.
    OTHER: 3,
    /// Positions before the first that are read as nothing.
    PADDING: 3,
    /// Distances in placed of two places.
    PLACE_STEP: 3,
    /// Distances in placed of two terms.
    STEP: 3,
    /// Distances in other of two terms, where transposed.
    SKIP: 3,
    /// Greatest common divisors of stride and dilation.
    DIVISOR: 3,
    /// Inverses of step modulo skip.
    INVERSE: 3,
    /// Steps in placed and other of the first, then of the second axis that is summed over beside the spatial ones.
    SUMMED: 4,
    /// The first corner of the box of terms of this dispatch.
    FROM: 5,
    /// The last corner of that box.
    TO: 5,
}

/// The number of words of one group of axes of a product.
const PRODUCT_AXES: usize = axis_words(MAX_PRODUCT_AXES, PRODUCT_TENSORS);

table! {
    /// Parameters of `gemm.wgsl`.
    product from OWN;
    /// The first element of left.
    LEFT_START: 1,
    /// The first element of right.
    RIGHT_START: 1,
    /// The first element of second.
    SECOND_START: 1,
    /// The first element of the output.
    OUTPUT_START: 1,
    /// The number of rows.
    M_EXTENT: 1,
    /// The number of columns.
    N_EXTENT: 1,
    /// The first step of this dispatch.
    K_FROM: 1,
    /// The end of the steps of this dispatch.
    K_TO: 1,
    /// The number of batches.
    BATCH_EXTENT: 1,
    /// Whether the output is added to.
    ADD: 1,
    /// The number of tiles of a batch.
    TILES: 1,
    /// The number of tiles side by side along the columns.
    TILES_ALONG_N: 1,
    /// Axes of the batches.
    BATCH_AXES: PRODUCT_AXES,
    /// Axes of the rows.
    M_AXES: PRODUCT_AXES,
    /// Axes of the columns.
    N_AXES: PRODUCT_AXES,
    /// Axes that are summed over.
    K_AXES: PRODUCT_AXES,
    /// The extent of the second axis of symmetric batches (o, o').
    OUTPUTS: 1,
    /// The number of groups of batches.
    BATCH_GROUPS: 1,
    /// The number of steps of one split.
    SPLIT_STEPS: 1,
    /// The number of output elements of one split.
    SPLIT_STRIDE: 1,
    /// Flags: left (1) and right (2) are read along the steps.
    FLAGS: 1,
}

/// Returns WGSL constants for the parameters of a family and those of every kernel, and the size of their buffer.
pub(super) fn constants(family: &[Param]) -> String {
    let mut text = String::new();
    for param in common::ALL.iter().chain(family) {
        let _ = writeln!(text, "const {}: u32 = {}u;", param.name, param.at);
    }
    // Uniform arrays have elements of four words.
    let _ = writeln!(text, "const PARAM_VECTORS: u32 = {}u;", PARAM_WORDS / 4);
    text
}

/// The words of launch parameters of one dispatch; 0 where nothing was set.
#[derive(Clone, Copy)]
pub(super) struct Words([u32; PARAM_WORDS]);

impl Words {
    /// Returns words for an output of `elements` elements.
    pub fn new(elements: usize) -> Words {
        let mut words = Words([0; PARAM_WORDS]);
        words.set(common::ELEMENTS, elements);
        words
    }

    /// Sets a parameter of one word.
    pub fn set(&mut self, param: Param, value: usize) {
        self.set_all(param, &[value]);
    }

    /// Sets a parameter to as many values as it has words, or its first words where there are fewer values.
    pub fn set_all(&mut self, param: Param, values: &[usize]) {
        debug_assert!(values.len() <= param.len, "{values:?} for {param:?}");
        for (word, &value) in self.0[param.at..].iter_mut().zip(values) {
            *word = value as u32;
        }
    }

    /// Sets axes: each has its extent, then its strides in the first `tensors` tensors. Negative strides wrap, as the
    /// kernels' sums do.
    pub fn set_axes<const N: usize>(&mut self, param: Param, axes: &[Axis<N>], tensors: usize) {
        let values = axes.iter().flat_map(|axis| {
            let strides = axis.strides[..tensors].iter().map(|&step| step as usize);
            std::iter::once(axis.extent).chain(strides)
        });
        self.set_all(param, &values.collect::<Vec<_>>());
    }

    /// The words as they are written to the device.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of each family's shaders and its parameters.
    const FAMILIES: [(&str, &[Param]); 8] = [
        (include_str!("../../../shaders/fill.wgsl"), fill::ALL),
        (include_str!("../../../shaders/probe.wgsl"), probe::ALL),
        (include_str!("../../../shaders/layout.wgsl"), layout::ALL),
        (include_str!("../../../shaders/reduce.wgsl"), reduce::ALL),
        (include_str!("../../../shaders/window.wgsl"), window::ALL),
        (include_str!("../../../shaders/lookup.wgsl"), lookup::ALL),
        (include_str!("../../../shaders/grouped.wgsl"), grouped::ALL),
        (include_str!("../../../shaders/gemm.wgsl"), product::ALL),
    ];

    #[test]
    fn shaders_read_every_parameter_by_its_name() {
        for (text, params) in FAMILIES {
            for read in ["word(", "three("] {
                let mut behind = text.split(read).skip(1);
                assert!(!behind.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit())));
            }
            // What the generator reads stands in no file.
            let written = |param: &&Param| {
                !param.name.ends_with("_AXES") && param.name != "AXES" && param.name != "FLAGS"
            };
            for param in params.iter().filter(written) {
                assert!(text.contains(param.name), "{param:?}");
            }
        }
    }

    #[test]
    fn parameters_do_not_overlap() {
        for (_, params) in FAMILIES.iter().chain([&("", map::ALL)]) {
            let mut end = OWN;
            for param in *params {
                assert!(param.at >= end && param.len > 0, "{param:?}");
                end = param.at + param.len;
            }
            assert!(end <= PARAM_WORDS);
        }
    }
}
