//! Figures of a study, to be read at once: [`gradient()`] of the errors along gradients, [`pairs()`] of all blocks.

mod gradient;
mod pairs;

pub use crate::figure::Drawing;
pub use gradient::gradient;
pub use pairs::pairs;

use crate::figure::{BLUE, FAINT, GREY, INK, RULE, VERMILLION, grouped, percent};

/// Width of a figure, pixels.
const WIDTH: i32 = 900;
/// Pixels around a figure.
const MARGIN: i32 = 16;
