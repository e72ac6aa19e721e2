//! How one array of numbers is another in another form: a slice, a transpose, a reshape, a power of two times it.

use super::tensor::{Array, Data};
use std::ops::Range;

/// How an array is made from another: entries of one axis, axes in another order, a shape, a factor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    /// The axis and the range of it that is taken.
    pub slice: Option<(usize, Range<usize>)>,
    /// The order of the axes, where it changes.
    pub order: Option<Vec<usize>>,
    /// A power of two, or its negative.
    pub factor: f64,
}

/// Bits that an array of values must tell to be known by them: two numbers drawn at random have 46, whatever their
/// exponents; zeros, ones and powers of two have none.
const BITS: u32 = 40;

/// Axes whose orders are tried.
const MOST_AXES: usize = 5;

/// Calls `visit` with each value, until it returns false.
fn each(array: &Array, mut visit: impl FnMut(f64) -> bool) {
    match &array.data {
        Data::F32(v) => {
            let _ = v.iter().all(|&x| visit(x.into()));
        }
        Data::F64(v) => {
            let _ = v.iter().all(|&x| visit(x));
        }
        Data::Int(_) => {}
    }
}

/// The fraction of a number: what a product with a power of two keeps, and a change of sign.
pub(super) fn fraction(value: f64) -> u64 {
    value.to_bits() & ((1 << 52) - 1)
}

/// Whether an array's values are distinctive enough that another of the same values is no chance.
pub(super) fn telling(array: &Array) -> bool {
    let mut seen: Vec<u64> = Vec::new();
    let mut bits = 0;
    each(array, |value| {
        let own = fraction(value);
        if own != 0 && value.is_finite() && !seen.contains(&own) {
            seen.push(own);
            // The fraction of a single-precision number has 23 bits, the last of 52.
            bits += (52 - own.trailing_zeros()).min(23);
        }
        bits < BITS || seen.len() < 2
    });
    bits >= BITS && seen.len() > 1
}

/// A number that arrays of the same values have in common, in whatever order and times whatever power of two.
pub(super) fn key(array: &Array) -> u64 {
    let mut sum = 0u64;
    each(array, |value| {
        // The finaliser of MurmurHash3 spreads the bits, so that sums differ.
        let mut h = fraction(value);
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        sum = sum.wrapping_add(h ^ (h >> 33));
        true
    });
    sum
}

/// The greatest absolute value.
fn greatest(array: &Array) -> f64 {
    let mut most = 0.0f64;
    each(array, |value| {
        most = most.max(value.abs());
        true
    });
    most
}

/// The value at a flat position.
pub(super) fn at(array: &Array, k: usize) -> f64 {
    match &array.data {
        Data::F32(v) => v[k].into(),
        Data::F64(v) => v[k],
        Data::Int(v) => v[k] as f64,
    }
}

/// Whether `copy`, in row-major order, is `factor · source` read with those strides.
fn same(copy: &Array, source: &Array, origin: usize, dims: &[(usize, usize)], factor: f64) -> bool {
    let mut index = vec![0usize; dims.len()];
    let mut from = origin;
    for k in 0..copy.len() {
        if at(copy, k) != factor * at(source, from) {
            return false;
        }
        for axis in (0..dims.len()).rev() {
            let (extent, stride) = dims[axis];
            index[axis] += 1;
            from += stride;
            if index[axis] < extent {
                break;
            }
            from -= extent * stride;
            index[axis] = 0;
        }
    }
    true
}

/// All orders of `count` axes, the usual and the reversed one first.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for axis in 0..count {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=order.len()).map(move |place| {
                let mut next = order.clone();
                next.insert(place, axis);
                next
            })
        };
        all = all.iter().flat_map(longer).collect();
    }
    let turns = |order: &[usize]| order.windows(2).filter(|w| w[0] > w[1]).count();
    let rank = |order: &Vec<usize>| match turns(order) {
        0 => 0,
        n if n + 1 == count => 1,
        _ => 2,
    };
    all.sort_by_key(rank);
    all
}

/// How `copy` is made from the range of an axis of `source`, or all of it.
pub(super) fn view(
    copy: &Array,
    source: &Array,
    slice: Option<(usize, Range<usize>)>,
) -> Option<View> {
    let mut origin = 0;
    let mut shape = source.shape.clone();
    let strides = crate::tensor::strides(&source.shape);
    if let Some((axis, range)) = &slice {
        origin = range.start * strides[*axis];
        shape[*axis] = range.len();
    }
    if shape.iter().product::<usize>() != copy.len() {
        return None;
    }
    let factor = match &slice {
        None => greatest(copy) / greatest(source),
        Some(_) => at(copy, 0) / at(source, origin),
    };
    let power = factor.is_finite() && factor != 0.0 && fraction(factor) == 0;
    // Axes of extent 1 may be anywhere.
    let wide: Vec<usize> = (0..shape.len()).filter(|&a| shape[a] > 1).collect();
    if !power || wide.len() > MOST_AXES {
        return None;
    }
    for order in orders(wide.len()) {
        let dims: Vec<(usize, usize)> = order
            .iter()
            .map(|&a| (shape[wide[a]], strides[wide[a]]))
            .collect();
        let signed = [factor, -factor];
        let signed = &signed[..1 + usize::from(slice.is_none())];
        let fits = |factor: &&f64| same(copy, source, origin, &dims, **factor);
        if let Some(&factor) = signed.iter().find(fits) {
            let moved = order.windows(2).any(|w| w[0] > w[1]);
            let narrow = (0..shape.len()).filter(|a| shape[*a] <= 1);
            let whole: Vec<usize> = narrow.chain(order.iter().map(|&a| wide[a])).collect();
            return Some(View {
                slice,
                order: moved.then_some(whole),
                factor,
            });
        }
    }
    None
}

/// The range of an axis, from `start`, whose slice has `count` elements and is not the whole.
pub(super) fn taken(
    count: usize,
    shape: &[usize],
    axis: usize,
    start: usize,
) -> Option<Range<usize>> {
    let others: usize = shape.iter().product::<usize>() / shape[axis];
    let whole = others > 0 && count.is_multiple_of(others);
    let extent = whole.then(|| count / others)?;
    let inside = extent > 0 && extent < shape[axis] && start + extent <= shape[axis];
    inside.then(|| start..start + extent)
}

impl View {
    /// Whether it is the transpose and nothing else.
    pub fn is_transpose(&self) -> bool {
        let reversed = |order: &Vec<usize>| order.windows(2).all(|w| w[0] > w[1]);
        self.slice.is_none() && self.factor == 1.0 && self.order.as_ref().is_some_and(reversed)
    }

    /// How it differs from its source, in words of NumPy.
    pub fn suffix(&self) -> String {
        let mut text = String::new();
        if let Some((axis, range)) = &self.slice {
            let before = ":, ".repeat(*axis);
            text += &format!("[{before}{}:{}]", range.start, range.end);
        }
        if self.order.is_some() {
            text += " transposed";
        }
        if self.factor != 1.0 {
            text += &format!(" · {}", self.factor);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0.1, 0.2, …
    fn tenths(shape: &[usize]) -> Array {
        let count = shape.iter().product::<usize>();
        let values = (1..=count).map(|k| f64::from(k as f32 / 10.0)).collect();
        Array::reals(shape, values, false)
    }

    #[test]
    fn arrays_are_told_by_their_fractions() {
        let array = |values: &[f64]| Array::reals(&[values.len()], values.to_vec(), true);
        assert!(telling(&tenths(&[3])));
        assert!(!telling(&array(&[0.1])));
        assert!(!telling(&array(&[0.1; 9])));
        assert!(!telling(&array(&[0.0, 1.0, -2.0, 0.5, 4.0])));
        assert!(!telling(&array(&[0.25, 0.75, 3.0, 5.0])));
    }

    #[test]
    fn a_view_is_found_whatever_the_order_of_its_axes() {
        let source = tenths(&[2, 3, 4]);
        let mut copy = super::super::fold::transpose(&source, &[2, 0, 1]);
        copy.shape = vec![4, 6];
        let found = view(&copy, &source, None).unwrap();
        assert_eq!(found.order, Some(vec![2, 0, 1]));
        assert_eq!(key(&copy), key(&source));
        let mut values = source.to_f64();
        values.iter_mut().for_each(|v| *v *= -4.0);
        let scaled = Array::reals(&[24], values.clone(), false);
        assert_eq!(view(&scaled, &source, None).unwrap().factor, -4.0);
        values[5] *= 1.0 + 1e-6;
        let other = Array::reals(&[24], values, false);
        assert_eq!(view(&other, &source, None), None);
        let entries = source.to_f64()[4..12].to_vec();
        let part = Array::reals(&[2, 4], entries, false);
        assert_eq!(view(&part, &source, Some((1, 0..2))), None);
        let first = Array::reals(&[4], source.to_f64()[4..8].to_vec(), false);
        let rows = Array::reals(&[3, 4], source.to_f64()[..12].to_vec(), false);
        assert!(view(&rows, &source, Some((0, 0..1))).is_some());
        assert_eq!(view(&first, &rows, Some((0, 1..2))).unwrap().order, None);
    }
}
