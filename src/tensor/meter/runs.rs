//! The runs in which inputs that are repeated over others are walked.

use super::MeterTensor;
use crate::tensor::{Shape, broadcast_strides};

/// Runs in which inputs that are repeated over others are walked to make a tensor of that shape: as long as the last axes along
/// which all inputs are walked alike.
pub(super) fn repeated_runs(inputs: &[&MeterTensor], into: &Shape) -> u64 {
    let all = into.len();
    let repeated = inputs
        .iter()
        .filter(|x| x.shape.len() != all && x.shape.len() > 1);
    let repeated = repeated.count();
    if repeated == 0 {
        return 0;
    }
    let strides = inputs
        .iter()
        .map(|input| broadcast_strides(&input.shape, into));
    let strides: Vec<Vec<usize>> = strides.collect();
    let mut run: Option<(usize, Vec<usize>)> = None;
    for (axis, &extent) in into.axes().iter().enumerate().rev() {
        if extent == 1 {
            continue;
        }
        let outer = strides.iter().map(|s| s[axis]);
        run = Some(match run {
            None => (extent, outer.collect()),
            Some((inner, own)) => match outer.eq(own.iter().map(|stride| stride * inner)) {
                true => (inner * extent, own),
                false => {
                    run = Some((inner, own));
                    break;
                }
            },
        });
    }
    let run = run.map_or(1, |(extent, _)| extent);
    (repeated * all / run.max(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::meter::Meter;
    use crate::tensor::tally::Kind;
    use crate::tensor::{Backend, Expr};

    #[test]
    fn what_is_repeated_is_walked_in_runs() {
        let meter = Meter::new(4);
        let of = |samples, directions, rest: &[usize]| {
            meter.fill(&Shape::new(samples, directions, rest), 0.0)
        };
        let runs = |inputs: &[&MeterTensor]| {
            let before = meter.tally();
            let sum = inputs.iter().enumerate().skip(1);
            let sum = sum.fold(Expr::input(0), |sum, (k, _)| sum + Expr::input(k));
            meter.map(&sum, inputs);
            (meter.tally() - before).of(Kind::Map).0[1]
        };
        let whole = of(4, 3, &[5, 6]);
        assert_eq!(runs(&[&whole, &whole]), 0);
        assert_eq!(runs(&[&whole, &of(1, 1, &[1, 1])]), 0);
        // Repeated over the directions: a run is a sample's rest.
        assert_eq!(runs(&[&whole, &of(4, 1, &[5, 6])]), 12);
        assert_eq!(runs(&[&whole, &of(1, 1, &[5, 1])]), 4 * 3 * 5);
        assert_eq!(
            runs(&[&whole, &of(4, 1, &[5, 6]), &of(4, 3, &[5, 1])]),
            2 * 4 * 3 * 5
        );
    }
}
