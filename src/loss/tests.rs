//! Each loss against PyTorch, finite differences, and its own factor.

use super::*;
use proptest::prelude::*;

/// One record of `tests/golden/losses.json` (made by `make_losses.py` beside it).
#[derive(serde::Deserialize)]
struct Golden {
    loss: String,
    reduction: String,
    class_weights: Option<Vec<f64>>,
    label_smoothing: Option<f64>,
    ignore_index: Option<i64>,
    positive_weight: Option<Vec<f64>>,
    shape: Vec<usize>,
    outputs: Vec<f64>,
    targets: Vec<serde_json::Number>,
    target_shape: Vec<usize>,
    value: f64,
    gradient: Vec<f64>,
    hessian: Vec<Vec<f64>>,
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

fn batch_of(golden: &Golden) -> TargetBatch {
    if golden.targets.iter().all(serde_json::Number::is_i64) {
        TargetBatch::Classes {
            first: 0,
            shape: golden.target_shape.clone(),
            values: golden.targets.iter().filter_map(|n| n.as_i64()).collect(),
        }
    } else {
        TargetBatch::Dense {
            first: 0,
            shape: golden.target_shape.clone(),
            values: golden.targets.iter().filter_map(|n| n.as_f64()).collect(),
        }
    }
}

fn prepared(loss: &mut dyn Loss, outputs: &[usize], batch: &TargetBatch) -> Result<()> {
    let mut batches = vec![batch.clone()];
    loss.prepare(&OutputShape::new(outputs), &mut || Ok(batches.pop()))
}

/// S·diag(signs)·Sᵀ from factors asked for in ragged ranges of directions.
fn from_factor(loss: &dyn Loss, sample: &Sample<'_>) -> Vec<f64> {
    let outputs = sample.outputs.len();
    let directions = loss.directions(outputs);
    let mut product = vec![0.0; outputs * outputs];
    for start in (0..directions).step_by(2) {
        let range = start..(start + 2).min(directions);
        let mut factor = vec![f64::NAN; range.len() * outputs];
        let mut signs = vec![f64::NAN; range.len()];
        loss.factor(sample, range, &mut factor, &mut signs);
        for (column, sign) in factor.chunks_exact(outputs).zip(&signs) {
            assert!(loss.signed() || *sign == 1.0);
            for i in 0..outputs {
                for j in 0..outputs {
                    product[i * outputs + j] += sign * column[i] * column[j];
                }
            }
        }
    }
    product
}

#[test]
fn losses_agree_with_pytorch_for_every_option() {
    let goldens: Vec<Golden> =
        serde_json::from_str(include_str!("../../tests/golden/losses.json")).unwrap();
    assert!(goldens.len() > 60);
    for golden in &goldens {
        let options = LossOptions {
            reduction: Some(golden.reduction.parse().unwrap()),
            class_weights: golden.class_weights.clone(),
            label_smoothing: golden.label_smoothing,
            ignore_index: golden.ignore_index,
            positive_weight: golden.positive_weight.clone(),
            class_axis: None,
        };
        let mut loss = parse(&golden.loss, &options).unwrap();
        let batch = batch_of(golden);
        prepared(loss.as_mut(), &golden.shape, &batch).unwrap();
        let each: usize = golden.shape.iter().product();
        let name = format!("{} on {:?}", loss.name(), golden.shape);
        let mut value = 0.0;
        for (n, outputs) in golden.outputs.chunks_exact(each).enumerate() {
            let sample = Sample {
                index: n,
                outputs,
                target: batch.get(n),
            };
            value += loss.value(&sample);
            let mut gradient = vec![f64::NAN; each];
            loss.gradient(&sample, &mut gradient);
            let hessian = loss.dense_hessian(&sample);
            for (c, computed) in gradient.iter().enumerate() {
                let expected = golden.gradient[n * each + c];
                assert!(
                    close(*computed, expected, 1e-12),
                    "{name}: gradient {n},{c}"
                );
            }
            check_columns(loss.as_ref(), &sample);
            let factored = from_factor(loss.as_ref(), &sample);
            for (k, expected) in golden.hessian[n].iter().enumerate() {
                assert!(
                    close(hessian[k], *expected, 1e-12),
                    "{name}: Hessian {n},{k}"
                );
                assert!(
                    close(factored[k], *expected, 1e-12),
                    "{name}: factor {n},{k}"
                );
            }
        }
        assert!(
            close(value, golden.value, 1e-12),
            "{name}: {value} is not {}",
            golden.value
        );
    }
}

/// The squares of the columns of S, and some columns picked, against S itself.
fn check_columns(loss: &dyn Loss, sample: &Sample<'_>) {
    let outputs = sample.outputs.len();
    let directions = loss.directions(outputs);
    let (mut factor, mut signs) = (
        vec![f64::NAN; directions * outputs],
        vec![f64::NAN; directions],
    );
    loss.factor(sample, 0..directions, &mut factor, &mut signs);
    let columns: Vec<&[f64]> = factor.chunks_exact(outputs).collect();
    let mut squares = vec![f64::NAN; directions];
    loss.direction_squares(sample, &mut squares);
    let whole: f64 = factor.iter().map(|s| s * s).sum();
    for (square, column) in squares.iter().zip(&columns) {
        let expected: f64 = column.iter().map(|s| s * s).sum();
        assert!(
            (square - expected).abs() <= 1e-13 * whole,
            "{}: {square} is not {expected}",
            loss.name()
        );
    }
    let picked: Vec<usize> = (0..directions).filter(|r| r % 3 != 1).collect();
    let mut some = vec![f64::NAN; picked.len() * outputs];
    let mut own = vec![f64::NAN; picked.len()];
    loss.factor_columns(sample, &picked, &mut some, &mut own);
    for ((r, column), sign) in picked.iter().zip(some.chunks_exact(outputs)).zip(own) {
        assert_eq!((column, sign), (columns[*r], signs[*r]), "{}", loss.name());
    }
}

/// Central differences of value and gradient against gradient and Hessian.
fn check_differences(loss: &dyn Loss, sample: &Sample<'_>) {
    const STEP: f64 = 1e-5;
    let outputs = sample.outputs.len();
    let mut gradient = vec![f64::NAN; outputs];
    loss.gradient(sample, &mut gradient);
    let hessian = loss.dense_hessian(sample);
    let factored = from_factor(loss, sample);
    for c in 0..outputs {
        let at = |step: f64| {
            let mut moved = sample.outputs.to_vec();
            moved[c] += step;
            let moved = Sample {
                outputs: &moved,
                ..*sample
            };
            let mut gradient = vec![f64::NAN; outputs];
            loss.gradient(&moved, &mut gradient);
            (loss.value(&moved), gradient)
        };
        let ((above, gradient_above), (below, gradient_below)) = (at(STEP), at(-STEP));
        assert!(close(gradient[c], (above - below) / (2.0 * STEP), 1e-7));
        for i in 0..outputs {
            let difference = (gradient_above[i] - gradient_below[i]) / (2.0 * STEP);
            assert!(close(hessian[i * outputs + c], difference, 1e-7));
            assert!(close(factored[i * outputs + c], difference, 1e-7));
        }
    }
}

proptest! {
    #[test]
    fn derivatives_are_those_of_the_value(
        classes in 1usize..5,
        positions in 1usize..4,
        numbers in prop::collection::vec(-3.0..3.0f64, 12),
        soft in prop::collection::vec(0.0..1.0f64, 12),
        labels in prop::collection::vec(0i64..4, 3),
        smoothing in 0.0..0.5f64,
    ) {
        let each = classes * positions;
        let outputs = &numbers[..each];
        let shape = [classes, positions];
        let labels: Vec<i64> = labels[..positions].iter().map(|l| l % classes as i64).collect();
        let dense = TargetBatch::Dense { first: 0, shape: shape.to_vec(), values: soft[..each].to_vec() };
        let indices = TargetBatch::Classes { first: 0, shape: vec![positions], values: labels };
        let cross = CrossEntropy::new(Reduction::Mean).label_smoothing(smoothing)
            .class_weights((0..classes).map(|c| 0.5 + c as f64).collect());
        let bce = BinaryCrossEntropy::new(Reduction::Sum).positive_weight(vec![2.5]);
        let cases: [(Box<dyn Loss>, &TargetBatch); 4] = [
            (Box::new(cross.clone()), &dense), (Box::new(cross), &indices),
            (Box::new(bce), &dense), (Box::new(SquaredError::default()), &dense),
        ];
        for (mut loss, batch) in cases {
            prepared(loss.as_mut(), &shape, batch).unwrap();
            check_differences(loss.as_ref(), &Sample { index: 0, outputs, target: batch.get(0) });
        }
    }

    #[test]
    fn an_eigen_factor_gives_back_an_indefinite_hessian(c in 1usize..7, seed in prop::collection::vec(-2.0..2.0f64, 36)) {
        let mut hessian = vec![0.0; c * c];
        for i in 0..c {
            for j in 0..c {
                hessian[i * c + j] = seed[i.min(j) * 6 + i.max(j)];
            }
        }
        let batch = TargetBatch::Dense { first: 0, shape: vec![c, c], values: hessian.clone() };
        prepared(&mut GivenHessian::default(), &[c], &batch).unwrap();
        let outputs = vec![0.0; c];
        let sample = Sample { index: 0, outputs: &outputs, target: batch.get(0) };
        for (got, expected) in from_factor(&GivenHessian::default(), &sample).iter().zip(&hessian) {
            prop_assert!(close(*got, *expected, 1e-12));
        }
        prop_assert_eq!(GivenHessian::default().dense_hessian(&sample), hessian);
    }
}

/// [before, classes, after] → [classes, before, after].
fn classes_first<T: Copy>(values: &[T], [before, classes, after]: [usize; 3]) -> Vec<T> {
    let entry = |k: usize| {
        let (class, rest) = (k / (before * after), k % (before * after));
        values[(rest / after * classes + class) * after + rest % after]
    };
    (0..before * classes * after).map(entry).collect()
}

proptest! {
    #[test]
    fn classes_on_any_axis_are_as_on_the_first(
        extents in [1usize..4, 2usize..5, 1usize..4],
        numbers in prop::collection::vec(-3.0..3.0f64, 36),
        soft in prop::collection::vec(0.0..1.0f64, 36),
        labels in prop::collection::vec(0i64..5, 9),
        smoothing in 0.0..0.5f64,
        merged: bool,
    ) {
        let [before, classes, after] = extents;
        let each = before * classes * after;
        let (outputs, soft) = (&numbers[..each], &soft[..each]);
        let labels: Vec<i64> = labels[..before * after].iter().map(|l| l % classes as i64).collect();
        let weights: Vec<f64> = (0..classes).map(|c| 0.5 + c as f64).collect();
        // [N, before, classes, after] or [N·before, classes, after].
        let shape = OutputShape { sample: extents.to_vec(), sample_axis: 0, merged };
        let axis = if merged { 1 } else { -2 };
        let dense = |shape: &[usize], values: Vec<f64>| {
            TargetBatch::Dense { first: 0, shape: shape.to_vec(), values }
        };
        let indices = TargetBatch::Classes { first: 0, shape: vec![before, after], values: labels };
        let first = [classes, before, after];
        let cross = CrossEntropy::new(Reduction::Mean).label_smoothing(smoothing).class_weights(weights.clone());
        let bce = BinaryCrossEntropy::new(Reduction::Mean).positive_weight(weights);
        let soft = (dense(&extents, soft.to_vec()), dense(&first, classes_first(soft, extents)));
        type Case<'a> = (Box<dyn Loss>, Box<dyn Loss>, (&'a TargetBatch, &'a TargetBatch));
        let cases: [Case<'_>; 3] = [
            (Box::new(cross.clone().class_axis(axis)), Box::new(cross.clone()), (&indices, &indices)),
            (Box::new(cross.clone().class_axis(axis)), Box::new(cross), (&soft.0, &soft.1)),
            (Box::new(bce.clone().class_axis(axis)), Box::new(bce), (&soft.0, &soft.1)),
        ];
        for (mut loss, mut reference, (batch, turned)) in cases {
            let mut batches = vec![batch.clone()];
            loss.prepare(&shape, &mut || Ok(batches.pop())).unwrap();
            prepared(reference.as_mut(), &first, turned).unwrap();
            let sample = Sample { index: 0, outputs, target: batch.get(0) };
            let other = classes_first(outputs, extents);
            let other = Sample { index: 0, outputs: &other, target: turned.get(0) };
            prop_assert!(close(loss.value(&sample), reference.value(&other), 1e-14));
            prop_assert_eq!(loss.accuracy(&sample), reference.accuracy(&other));
            let (mut gradient, mut expected) = (vec![f64::NAN; each], vec![f64::NAN; each]);
            loss.gradient(&sample, &mut gradient);
            reference.gradient(&other, &mut expected);
            prop_assert_eq!(classes_first(&gradient, extents), expected);
            let rows: Vec<usize> = classes_first(&(0..each).collect::<Vec<_>>(), extents);
            for factored in [true, false] {
                let hessian = |loss: &dyn Loss, sample: &Sample<'_>| {
                    if factored { from_factor(loss, sample) } else { loss.dense_hessian(sample) }
                };
                let (found, expected) = (hessian(loss.as_ref(), &sample), hessian(reference.as_ref(), &other));
                for i in 0..each {
                    for j in 0..each {
                        prop_assert!(close(found[rows[i] * each + rows[j]], expected[i * each + j], 1e-14));
                    }
                }
            }
        }
    }
}

#[test]
fn targets_of_another_axis_are_answered_with_it() {
    let labels = |shape: &[usize]| TargetBatch::Classes {
        first: 0,
        shape: shape.to_vec(),
        values: vec![0; shape.iter().product()],
    };
    let cross = || CrossEntropy::new(Reduction::Mean);
    let error = message(&mut cross(), &[7, 10], &labels(&[7]));
    assert!(
        error.contains("class_axis -1 of the outputs [N, 7, 10]"),
        "{error}"
    );
    // The same count in another order is no fit.
    let error = message(&mut cross(), &[10, 2, 3], &labels(&[3, 2]));
    assert!(
        error.contains("[2, 3]") && error.contains("[3, 2]"),
        "{error}"
    );
    let wrong = BinaryCrossEntropy::default()
        .positive_weight(vec![1.0; 4])
        .class_axis(2);
    let error = message(&mut { wrong }, &[3, 5], &labels(&[3, 5]));
    assert!(
        error.contains("4 positive weights") && error.contains("(5)"),
        "{error}"
    );
}

#[test]
fn outputs_of_a_thousand_stay_finite() {
    let mut loss = CrossEntropy::default();
    let batch = TargetBatch::Classes {
        first: 0,
        shape: vec![],
        values: vec![0],
    };
    prepared(&mut loss, &[2], &batch).unwrap();
    let sample = Sample {
        index: 0,
        outputs: &[-1000.0, 1000.0],
        target: batch.get(0),
    };
    assert_eq!(loss.value(&sample), 2000.0);
    assert!(from_factor(&loss, &sample).iter().all(|h| *h == 0.0));
    let mut bce = BinaryCrossEntropy::new(Reduction::Sum);
    let batch = TargetBatch::Classes {
        first: 0,
        shape: vec![2],
        values: vec![1, 0],
    };
    prepared(&mut bce, &[2], &batch).unwrap();
    let sample = Sample {
        target: batch.get(0),
        ..sample
    };
    assert_eq!(bce.value(&sample), 2000.0);
    let mut gradient = [f64::NAN; 2];
    bce.gradient(&sample, &mut gradient);
    assert_eq!(gradient, [-1.0, 1.0]);
}

fn message(loss: &mut dyn Loss, outputs: &[usize], batch: &TargetBatch) -> String {
    prepared(loss, outputs, batch).unwrap_err().to_string()
}

#[test]
fn bad_targets_are_refused_by_sample_and_value() {
    let classes = |values: &[i64]| TargetBatch::Classes {
        first: 70,
        shape: vec![],
        values: values.to_vec(),
    };
    let dense = |shape: &[usize], values: &[f64]| TargetBatch::Dense {
        first: 70,
        shape: shape.to_vec(),
        values: values.to_vec(),
    };
    let cross = || CrossEntropy::new(Reduction::Mean);
    let error = message(&mut cross(), &[10], &classes(&[3, 10, 1]));
    assert!(error.contains("sample 71 is 10") && error.contains("0..=9"));
    assert!(error.contains("ignore_index"));
    assert!(message(&mut cross(), &[10], &classes(&[-1])).contains("sample 70 is -1"));
    assert!(message(&mut cross(), &[10], &classes(&[-100, -100])).contains("all are ignored"));
    assert!(
        message(&mut cross(), &[10, 7], &classes(&[1])).contains("7 class index(es) per sample")
    );
    assert!(message(&mut cross(), &[2], &dense(&[2], &[f64::NAN, 0.0])).contains("NaN"));
    assert!(message(&mut cross(), &[2], &dense(&[3], &[0.0; 3])).contains("[3]"));
    assert!(message(&mut cross(), &[2], &dense(&[2], &[-0.5, 1.5])).contains("-0.5"));
    assert!(message(&mut cross(), &[2], &TargetBatch::None(3)).contains("needs targets"));
    let mut weighted = cross().class_weights(vec![1.0; 3]);
    assert!(message(&mut weighted, &[10], &classes(&[1])).contains("3 class weights"));
    let mut ignoring = cross().ignore_index(Some(0));
    assert!(message(&mut ignoring, &[2], &dense(&[2], &[0.5, 0.5])).contains("class indices"));
    let mut squared = SquaredError::default();
    assert!(message(&mut squared, &[3], &dense(&[3], &[0.0, f64::INFINITY, 0.0])).contains("70"));
    assert!(message(&mut squared, &[3], &classes(&[1])).contains("cross-entropy"));
    let mut bce = BinaryCrossEntropy::default().positive_weight(vec![3.0]);
    assert!(message(&mut bce, &[1], &dense(&[1], &[-2.0])).contains("negative"));
    let skew = dense(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert!(
        message(&mut GivenHessian::default(), &[2], &skew).contains("sample 70 is not symmetric")
    );
    assert!(message(&mut GivenHessian::default(), &[3], &skew).contains("[3, 3]"));
    assert!(!GivenHessian::default().has_gradient());
}

#[test]
fn labels_in_a_float_file_are_class_indices_if_whole() {
    let batch = |values: &[f64]| TargetBatch::Dense {
        first: 4,
        shape: vec![],
        values: values.to_vec(),
    };
    let mut loss = CrossEntropy::default();
    let labels = batch(&[2.0, -100.0, 0.0]);
    prepared(&mut loss, &[3], &labels).unwrap();
    let sample = |target| Sample {
        index: 0,
        outputs: &[0.5, 0.0, 1.0],
        target,
    };
    let value = loss.value(&sample(labels.get(0)));
    assert_eq!(value, loss.value(&sample(Target::Classes(&[2]))));
    assert_eq!(loss.value(&sample(labels.get(1))), 0.0);
    assert_eq!(loss.accuracy(&sample(labels.get(0))), Some((1, 1)));
    assert!(message(&mut loss, &[3], &batch(&[0.0, 1.5])).contains("sample 5 is 1.5"));
    assert!(message(&mut loss, &[3], &batch(&[f64::NAN])).contains("NaN"));
    assert!(message(&mut loss, &[3], &batch(&[3.0])).contains("0..=2"));
}

#[test]
fn accuracy_counts_kept_positions() {
    let loss = CrossEntropy::default();
    // Classes 2, positions 3: predictions 1, 0, 1.
    let sample = Sample {
        index: 0,
        outputs: &[0.0, 2.0, 0.0, 1.0, 1.0, 3.0],
        target: Target::Classes(&[1, 1, -100]),
    };
    assert_eq!(loss.accuracy(&sample), Some((1, 2)));
}

#[test]
fn a_loss_of_unknown_name_is_answered_with_the_nearest() {
    let error = parse("cross-entorpy", &LossOptions::default()).unwrap_err();
    assert!(error.to_string().contains("did you mean cross-entropy"));
}
