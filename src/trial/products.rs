//! Products on ragged sizes: einsum formulas, extents of their labels, and how operands broadcast.

/// Samples and directions of two operands, in every way in which they broadcast.
pub const BROADCASTS: [[usize; 4]; 6] = [
    [3, 2, 3, 2],
    [3, 1, 1, 2],
    [1, 2, 3, 1],
    [3, 2, 1, 1],
    [3, 1, 3, 1],
    [1, 1, 1, 1],
];

/// Extents of three operands behind samples and directions, which broadcast.
pub const RESTS: [[&[usize]; 3]; 5] = [
    [&[5, 67], &[5, 67], &[5, 67]],
    [&[5, 67], &[67], &[5, 1]],
    [&[7, 3, 1], &[1, 31], &[1]],
    [&[131], &[], &[1]],
    [&[2, 3, 5, 7], &[3, 1, 7], &[2, 1, 5, 1]],
];

/// Operands that repeat along an axis each, in the tests alone.
pub const CROSSED_REST: [&[usize]; 3] = [&[17, 1], &[19], &[17, 19]];

/// The formulas in use, which self-test and tests run.
pub const FORMULAS: [&str; 20] = [
    "sdti,sdoi->sdto",
    "sdti,sdio->sdto",
    "sdto,sdoi->sdti",
    "sdto,sdti->sdoi",
    "sdto,sdti->1doi",
    "sdto,sdti->1dio",
    "sdo,sdi->1doi",
    "sdo,sdi->sdoi",
    "sdo,sdp->s1op",
    "sdhmk,sdhkn->sdhmn",
    "sdmk,sdhkn->sdhmn",
    "sdhmn,sdkn->sdhmk",
    "sdhmk,sdhmn->sdhkn",
    "sdo,sdo->s11",
    "sdo,sdo->11o",
    "sdo,sdo->sdo",
    "sdo,sdo->1d1",
    "sdoi,sdo->sdi",
    "sdoi,sdi->1do",
    "sdtoi,sdo->sdot",
];

/// Formulas of weights that lie inputs first, in the tests alone.
pub const INPUTS_FIRST_FORMULAS: [&str; 3] =
    ["sdto,sdio->sdti", "sdto,sdti->sdio", "sdo,sdi->1dio"];

/// Returns the extent of a label of these formulas.
pub fn extent(label: char) -> usize {
    match label {
        't' => 3,
        'o' => 17,
        'i' => 31,
        'k' => 29,
        'm' => 13,
        'n' => 7,
        'h' => 2,
        _ => 5,
    }
}

/// Batches, rows, columns and terms of the self-test's products: around every tile's edges, and sums of ever more terms.
pub const PRODUCTS: [[usize; 4]; 14] = [
    [1, 1, 1, 1],
    [1, 15, 17, 16],
    [1, 31, 33, 257],
    [1, 63, 65, 31],
    [1, 127, 129, 67],
    [1, 61, 300, 131],
    // Thin operands.
    [1, 3, 257, 19],
    [1, 259, 3, 17],
    // Batches of small products.
    [7, 13, 17, 9],
    [67, 7, 9, 13],
    [131, 3, 5, 11],
    // Beyond the chunks.
    [1, 5, 67, 4099],
    [3, 17, 19, 8209],
    [1, 3, 5, 70_001],
];

/// Rows, columns and terms of the tests' products of two samples.
pub const SAMPLE_PRODUCTS: [[usize; 3]; 9] = [
    [1, 1, 1],
    [7, 9, 5],
    [17, 15, 33],
    [67, 61, 13],
    [127, 131, 65],
    [1, 67, 129],
    [131, 1, 257],
    [5, 1, 1999],
    [1, 3, 4099],
];
