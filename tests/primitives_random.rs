//! Einsum, the outer product and lookups on random sizes and layouts, against nested loops.

mod common;

use common::{Array, Conformance, Share, random, reference};
use hessblock::internals::tensor::{
    Backend, Contract, Einsum, OuterAxes, OuterTerm, Placement, Scaled, Shape, cpu::Cpu,
};
use proptest::prelude::*;

/// Where a label occurs: left, right, output.
const PLACES: [[bool; 3]; 6] = [
    [true, true, true],
    [true, false, true],
    [false, true, true],
    [true, true, false],
    [true, false, false],
    [false, true, false],
];

/// A formula with the labels' places, its operands' extents, and orders of the axes.
#[derive(Clone, Debug)]
struct Formula {
    text: String,
    left: Vec<usize>,
    right: Vec<usize>,
}

fn extents() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), 2usize..5, Just(7), Just(17), Just(33)]
}

fn formulas() -> impl Strategy<Value = Formula> {
    // Per label: its place, extent, whether each operand repeats it, and three numbers to sort axes by.
    let label = (
        0..PLACES.len(),
        extents(),
        prop::array::uniform2(prop::bool::weighted(0.2)),
        prop::array::uniform3(any::<u16>()),
    );
    let units = prop::array::uniform4(1usize..3);
    (
        prop::collection::vec(label, 1..6),
        units,
        any::<[bool; 2]>(),
    )
        .prop_map(|(labels, units, summed)| {
            let mut parts: [Vec<(u16, char, usize)>; 3] = Default::default();
            let mut size = 1;
            for (number, (place, extent, repeats, order)) in labels.into_iter().enumerate() {
                // The reference walks every combination of labels.
                let extent = if size * extent > 60_000 { 1 } else { extent };
                size *= extent;
                let name = (b'a' + number as u8) as char;
                for part in 0..3 {
                    if PLACES[place][part] {
                        let repeated = part < 2 && repeats[part] && place == 0;
                        let own = if repeated { 1 } else { extent };
                        parts[part].push((order[part], name, own));
                    }
                }
            }
            parts.iter_mut().for_each(|part| part.sort());
            let names = |k: usize| parts[k].iter().map(|axis| axis.1).collect::<String>();
            let axes = |k: usize, s: usize, d: usize| {
                let rest = parts[k].iter().map(|axis| axis.2);
                [s, d].into_iter().chain(rest).collect::<Vec<usize>>()
            };
            let unit = |name, summed| if summed { '1' } else { name };
            Formula {
                text: format!(
                    "sd{},sd{}->{}{}{}",
                    names(0).replace('d', "z").replace('s', "y"),
                    names(1).replace('d', "z").replace('s', "y"),
                    unit('s', summed[0]),
                    unit('d', summed[1]),
                    names(2).replace('d', "z").replace('s', "y")
                ),
                left: axes(0, units[0] * 2 - 1, units[1] * 3 - 2),
                right: axes(1, units[2] * 2 - 1, units[3] * 3 - 2),
            }
        })
}

/// Outputs, inputs, steps between them, origin; `None` is a bias.
#[derive(Clone, Debug)]
struct Side {
    outputs: usize,
    inputs: Option<usize>,
    strides: (usize, usize),
    origin: usize,
}

impl Side {
    fn extent(&self) -> usize {
        let inputs = self.inputs.unwrap_or(1);
        self.origin + (self.outputs - 1) * self.strides.0 + (inputs - 1) * self.strides.1 + 1
    }

    /// Whether one axis nests in the other, as `OuterAxes` asks.
    fn nests(&self) -> bool {
        let inputs = self.inputs.unwrap_or(1);
        let (output, input) = self.strides;
        output > (inputs - 1) * input || input > (self.outputs - 1) * output
    }
}

fn sides() -> impl Strategy<Value = Side> {
    let inputs = prop::option::weighted(0.8, extents());
    // Steps nest either way and leave gaps.
    let layout = (0usize..3, 1usize..3, 0usize..3);
    (1usize..8, inputs, layout, 0usize..4)
        .prop_map(|(outputs, inputs, layout, origin)| {
            let (kind, step, gap) = layout;
            let strides = match kind {
                0 => (inputs.unwrap_or(1) * step + gap, step),
                1 => (step, outputs * step + gap),
                _ => (step + 1, step + gap),
            };
            Side {
                outputs,
                inputs,
                strides,
                origin,
            }
        })
        .prop_filter("axes interleave", Side::nests)
}

fn check_outer<B: Contract>(c: &Conformance<B>, samples: [usize; 3], sides: &[Side; 2]) {
    let (height, width) = (sides[0].extent(), sides[1].extent() + 1);
    let deltas = [0, 1].map(|k| random(11 + k as u64, samples[0], 3, &[sides[k].outputs]));
    let pairs = reference::einsum("sdo,sdp->s1op", &deltas[0], &deltas[1]);
    let deltas = deltas.each_ref().map(|delta| c.upload(delta));
    let inputs = [0, 1].map(|k| {
        let rest = sides[k].inputs;
        rest.map(|inputs| random(2 + k as u64, samples[1 + k], 1, &[inputs]))
    });
    let uploaded = inputs.each_ref().map(|a| a.as_ref().map(|a| c.upload(a)));
    let term = OuterTerm {
        row_cotangents: &deltas[0],
        column_cotangents: &deltas[1],
        row_inputs: uploaded[0].as_ref(),
        column_inputs: uploaded[1].as_ref(),
    };
    let side = |k: usize| OuterAxes {
        origin: sides[k].origin,
        output_stride: sides[k].strides.0,
        input_stride: sides[k].strides.1,
    };
    let mut tile = c.backend.accumulator(height, width);
    c.backend.accumulate_outer(
        &mut tile,
        Placement::ADD,
        (side(0), side(1)),
        term,
        Scaled::Rows,
    );
    let mut expected = vec![0.0; height * width];
    let of = |k: usize| {
        let (output, input) = sides[k].strides;
        (inputs[k].as_ref(), sides[k].origin, output, input)
    };
    reference::outer(&mut expected, width, &pairs, of(0), of(1));
    let values = c.backend.collect(c.backend.finish(tile));
    c.compare(
        &values.expect("the device works"),
        &expected,
        "an outer product",
    );
}

fn check_einsum<B: Backend>(c: &Conformance<B>, formula: &Formula) {
    let array = |seed, axes: &[usize]| random(seed, axes[0], axes[1], &axes[2..]);
    let (left, right) = (array(4, &formula.left), array(5, &formula.right));
    let einsum = Einsum::new(&formula.text);
    let result = c
        .backend
        .einsum(&einsum, &c.upload(&left), &c.upload(&right));
    let expected = reference::einsum(&formula.text, &left, &right);
    // A sum of random signs may come out near 0: its scale is the root of the sum of its terms' squares.
    let squared = |array: &Array| {
        let squares = array.values.iter().map(|v| v * v).collect();
        Array::new(array.shape.clone(), squares)
    };
    let terms = reference::einsum(&formula.text, &squared(&left), &squared(&right));
    let sizes = terms.values.iter().map(|v| v.sqrt());
    let greatest = expected
        .values
        .iter()
        .map(|v| v.abs())
        .chain(sizes)
        .fold(0.0, f64::max);
    assert_eq!(c.backend.shape(&result), expected.shape);
    let values = c.backend.read(&result).expect("the device works");
    c.compare_at(&values, &expected.values, greatest, &formula.text);
}

/// A tensor, an axis of it, and lists of numbers in and around its entries.
#[derive(Clone, Debug)]
struct Lookup {
    units: [usize; 2],
    rest: Vec<usize>,
    axis: usize,
    lists: usize,
    list: Vec<usize>,
    range: std::ops::Range<usize>,
    sum: bool,
}

fn lookups() -> impl Strategy<Value = Lookup> {
    let sizes = (
        prop::collection::vec(1usize..9, 1..4),
        prop::array::uniform2(1usize..6),
    );
    let numbers = prop::collection::vec(any::<u16>(), 0..60);
    (sizes, numbers, any::<[u16; 3]>(), any::<[bool; 3]>()).prop_map(
        |((rest, [samples, directions]), numbers, places, flags)| {
            let axis = places[0] as usize % rest.len();
            let extent = rest[axis];
            let lists = if flags[1] { samples } else { 1 };
            let count = numbers.len() / lists;
            let start = places[1] as usize % (extent + 1);
            Lookup {
                units: [if flags[0] { samples } else { 1 }, directions],
                axis: axis + 2,
                lists,
                // Entries, and one number outside.
                list: numbers[..count * lists]
                    .iter()
                    .map(|&n| n as usize % (extent + 1))
                    .collect(),
                range: start..start + places[2] as usize % (extent + 1 - start),
                sum: flags[2],
                rest,
            }
        },
    )
}

fn check_lookup<B: Backend>(c: &Conformance<B>, case: &Lookup) {
    let count = case.list.len() / case.lists;
    let list = Array::new(
        Shape::new(case.lists, 1, &[count]),
        case.list.iter().map(|&k| k as f64).collect(),
    );
    let [samples, directions] = case.units;
    let x = random(6, samples, directions, &case.rest);
    let result = c.backend.take(&c.upload(&x), &c.upload(&list), case.axis);
    c.check(&result, &reference::take(&x, &list, case.axis), "take");
    let mut rest = case.rest.clone();
    rest[case.axis - 2] = count;
    let z = random(7, samples, directions, &rest);
    let (z_there, list_there) = (c.upload(&z), c.upload(&list));
    let range = case.range.clone();
    let result = c
        .backend
        .put(&z_there, &list_there, case.axis, range.clone(), case.sum);
    let expected = reference::put(&z, &list, case.axis, range, case.sum);
    assert_eq!(c.backend.shape(&result), expected.shape);
    let values = c.backend.read(&result).expect("the device works");
    // Sums of up to 60 numbers of either sign may cancel.
    let greatest = expected.values.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    c.compare_at(&values, &expected.values, greatest, "put");
}

fn cpu() -> Conformance<Cpu<f64>> {
    Conformance {
        backend: Cpu::new(),
        tolerance: 1e-12,
        share: Share::All,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn einsum_agrees_on_any_formula(formula in formulas()) {
        let units = [(formula.left[0], formula.right[0]), (formula.left[1], formula.right[1])];
        prop_assume!(units.iter().all(|(a, b)| a == b || *a == 1 || *b == 1));
        check_einsum(&cpu(), &formula);
    }

    #[test]
    fn outer_products_agree_on_any_layout(
        sides in [sides(), sides()],
        samples in prop_oneof![Just(1usize), 2usize..9, Just(67)],
        shared in any::<[bool; 3]>(),
    ) {
        let samples = shared.map(|shared| if shared { 1 } else { samples });
        check_outer(&cpu(), samples, &sides);
    }

    #[test]
    fn lookups_agree_on_any_lists(case in lookups()) {
        check_lookup(&cpu(), &case);
    }
}

#[cfg(feature = "gpu")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn einsum_agrees_on_any_formula_on_the_gpu(formula in formulas()) {
        let units = [(formula.left[0], formula.right[0]), (formula.left[1], formula.right[1])];
        prop_assume!(units.iter().all(|(a, b)| a == b || *a == 1 || *b == 1));
        if let Some(backend) = common::gpu::open(false) {
            check_einsum(&Conformance { backend, tolerance: 2e-6, share: Share::All }, &formula);
        }
    }

    #[test]
    fn outer_products_agree_on_any_layout_on_the_gpu(
        sides in [sides(), sides()],
        samples in prop_oneof![Just(1usize), 2usize..9, Just(67)],
        shared in any::<[bool; 3]>(),
    ) {
        let samples = shared.map(|shared| if shared { 1 } else { samples });
        if let Some(backend) = common::gpu::open(false) {
            check_outer(&Conformance { backend, tolerance: 2e-6, share: Share::All }, samples, &sides);
        }
    }
    #[test]
    fn lookups_agree_on_any_lists_on_the_gpu(case in lookups()) {
        if let Some(backend) = common::gpu::open(false) {
            check_lookup(&Conformance { backend, tolerance: 2e-6, share: Share::All }, &case);
        }
    }
}
