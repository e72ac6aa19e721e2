//! Pad: which entries the padded axes have.

use super::super::graph::Node;
use super::super::tensor::Array;
use super::{Outcome, axis_of, bounded, ints, listed, select};

/// The entries of an axis after padding: positions of old ones, `None` for new ones.
type Entries = Vec<Option<usize>>;

/// Padding at one end above which a file is taken for damaged.
const MOST_PADDING: u64 = 1 << 20;

/// The modes that there are.
pub(crate) const PAD_MODES: &[&str] = &["constant", "reflect", "edge", "wrap"];

/// The entry that stands at position `at` of an axis of `extent`, which lies outside where it is padded.
fn source(mode: &str, at: i64, extent: i64) -> Option<usize> {
    let inside = match mode {
        "edge" => at.clamp(0, extent - 1),
        "wrap" => at.rem_euclid(extent),
        // There and back again, the ends once.
        "reflect" => {
            let period = (2 * (extent - 1)).max(1);
            let at = at.rem_euclid(period);
            at.min(period - at)
        }
        _ => return usize::try_from(at).ok().filter(|_| at < extent),
    };
    usize::try_from(inside).ok()
}

/// Each axis that a Pad of a tensor of that shape changes, with its new entries. Negative pads cut off, and
/// what is cut off is not mirrored.
pub(crate) fn padded(
    node: &Node,
    shape: &[usize],
    pads: Option<&Array>,
    axes: Option<&Array>,
) -> Outcome<Vec<(usize, Entries)>> {
    let mode = node.text("mode").unwrap_or_else(|| "constant".into());
    if !PAD_MODES.contains(&mode.as_str()) {
        return Err(format!("its mode is {mode:?}"));
    }
    let pads = match pads {
        Some(pads) => ints(pads)?,
        None => node.ints("pads").unwrap_or_default(),
    };
    let axes: Vec<usize> = match axes {
        Some(axes) => {
            let axes = ints(axes)?.iter().map(|&a| axis_of(a, shape.len()));
            axes.collect::<Outcome<_>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let n = axes.len();
    let large = |p: &i64| p.unsigned_abs() > MOST_PADDING;
    if pads.len() != 2 * n || pads.iter().any(large) {
        return Err(format!("pads {pads:?} of the axes {axes:?}"));
    }
    let mut changed: Vec<(usize, Entries)> = Vec::new();
    for (k, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[k], pads[n + k]);
        if axes[..k].contains(&axis) {
            return Err(format!("axis {axis} is given twice"));
        }
        if (before, after) == (0, 0) {
            continue;
        }
        listed(shape[axis])?;
        let (first, last) = ((-before).max(0), shape[axis] as i64 + after.min(0));
        let extent = last - first;
        if extent <= 0 {
            return Err(format!(
                "pads {pads:?} leave no entries of axis {axis} of {shape:?}"
            ));
        }
        let entries = (-before.max(0)..extent + after.max(0))
            .map(|at| Some(source(&mode, at, extent)? + first as usize))
            .collect();
        changed.push((axis, entries));
    }
    Ok(changed)
}

/// Pad of a constant.
pub(super) fn pad(node: &Node, inputs: &[Option<Array>]) -> Outcome<Array> {
    let input = |k: usize| inputs.get(k).and_then(|i| i.as_ref());
    let mut x = input(0).ok_or("input 0 is missing")?.clone();
    let value = match input(2) {
        Some(value) => value.scalar().ok_or("its value should be one number")?,
        None => node.float("value", 0.0),
    };
    for (axis, entries) in padded(node, &x.shape, input(1), input(3))? {
        let mut shape = x.shape.clone();
        shape[axis] = entries.len();
        bounded(&shape, x.len())?;
        x = select(&x, axis, &entries, value);
    }
    Ok(x)
}
