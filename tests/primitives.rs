//! Every primitive and contraction kernel of every backend against nested loops in f64.
//!
//! Another backend joins with one line at the end of this file. Sizes are ragged: primes around the tile
//! sizes 8, 16, 32 and 64; most stand in `hessblock::internals::trial`, where the self-test takes its own from.

mod common;

use common::{Array, Conformance, Share, random, random_in, reference};
use hessblock::internals::tensor::expression::Unary;
use hessblock::internals::tensor::{
    Contract, Einsum, Expr, OuterAxes, OuterTerm, Placement, Scaled, Shape, Window, cpu::Cpu,
};
use hessblock::internals::trial::contractions::{SIDES, Side};
use hessblock::internals::trial::products::{
    BROADCASTS, CROSSED_REST, FORMULAS, INPUTS_FIRST_FORMULAS, RESTS, SAMPLE_PRODUCTS, extent,
};
use hessblock::internals::trial::windows::{CHANNELS, DEPTHWISE, WINDOWS, window};

fn map_applies_every_unary_function<B: Contract>(c: &Conformance<B>) {
    for function in Unary::ALL {
        let positive = matches!(function, Unary::Log | Unary::Sqrt | Unary::Reciprocal);
        // Ordinary arguments, then ever smaller ones: near 0 the error is measured against small results.
        for size in [8.0f64, 1.0, 1e-2, 1e-5] {
            let low = match function {
                _ if positive => size / 8.0,
                Unary::Log1p if size > 0.9 => -0.9,
                Unary::Acosh => 1.0,
                Unary::Asin | Unary::Acos if size > 0.9 => -0.9,
                _ => -size,
            };
            let high = match function {
                Unary::Acosh => 1.0 + size,
                Unary::Asin | Unary::Acos => size.min(0.9),
                _ => size,
            };
            let x = random_in(1, 1, 1, &[1031], low, high);
            let expr = Expr::input(0).unary(function);
            let result = c.backend.map(&expr, &[&c.upload(&x)]);
            let what = format!("{function:?} up to {size}");
            c.check(&result, &reference::map(&expr, &[&x]), &what);
        }
        // Far out nothing may overflow that has a finite limit.
        if matches!(
            function,
            Unary::Tanh | Unary::Sigmoid | Unary::Softplus | Unary::ExpM1 | Unary::Exp | Unary::Erf
        ) {
            let top = if matches!(function, Unary::Exp | Unary::ExpM1) {
                1.0
            } else {
                300.0
            };
            let x = Array::new(Shape::new(1, 1, &[4]), vec![-300.0, -90.0, 0.0, top]);
            let expr = Expr::input(0).unary(function);
            let result = c.backend.map(&expr, &[&c.upload(&x)]);
            let what = format!("{function:?} far out");
            c.check(&result, &reference::map(&expr, &[&x]), &what);
        }
    }
}

fn map_raises_to_powers<B: Contract>(c: &Conformance<B>) {
    let power = Expr::input(0).power(Expr::input(1));
    let whole = |array: &mut Array| array.values.iter_mut().for_each(|y| *y = y.round());
    for (size, most) in [(8.0, 4.0), (1.5, 30.0), (1e-3, 3.0)] {
        let x = random_in(48, 3, 1, &[5, 67], 0.0, size);
        let signed = random_in(49, 3, 1, &[5, 67], -size, size);
        let y = random_in(50, 1, 1, &[67], 0.0, most);
        let mut n = y.clone();
        whole(&mut n);
        for (x, y) in [(&x, &y), (&signed, &n)] {
            let result = c.backend.map(&power, &[&c.upload(x), &c.upload(y)]);
            let what = format!("powers of numbers up to {size}");
            c.check(&result, &reference::map(&power, &[x, y]), &what);
        }
        for exponent in [0.5, 2.0, 3.0, -1.0, -0.5, 1.7] {
            let power = Expr::input(0).power(Expr::constant(exponent));
            let x = random_in(51, 1, 1, &[131], size / 4.0, size);
            for expr in [&power, &power.derivative(0)] {
                let result = c.backend.map(expr, &[&c.upload(&x)]);
                c.check(&result, &reference::map(expr, &[&x]), &format!("{expr:?}"));
            }
        }
    }
}

fn map_broadcasts_its_inputs<B: Contract>(c: &Conformance<B>) {
    let (x, y, z) = (Expr::input(0), Expr::input(1), Expr::input(2));
    let two = Expr::constant(2.0);
    let sum = x.clone() * y.clone() - z.clone() / (two.clone() + x.clone() * x.clone());
    let branch = Expr::if_less_equal(x.clone(), y.clone(), sum.clone(), z.clone() * two);
    for [s0, d0, s1, d1] in BROADCASTS {
        for rest in RESTS.into_iter().chain([CROSSED_REST]) {
            let a = random(2, s0, d0, rest[0]);
            let b = random(3, s1, d1, rest[1]);
            let e = random(4, 1, d1, rest[2]);
            let tensors = [&a, &b, &e].map(|array| c.upload(array));
            for expr in [&sum, &branch, &x, &y, &branch.derivative(0)] {
                let used = &[&a, &b, &e];
                let result = c.backend.map(expr, &tensors.each_ref());
                let what = format!("{expr:?} of {:?}", used.map(|array| array.shape.clone()));
                c.check(&result, &reference::map(expr, used), &what);
            }
        }
    }
    let nan = Array::new(Shape::new(1, 1, &[3]), vec![f64::NAN, 1.0, -1.0]);
    let relu = Expr::if_less_equal(x.clone(), Expr::constant(0.0), Expr::constant(0.0), x);
    let result = c.backend.map(&relu, &[&c.upload(&nan)]);
    c.check(&result, &reference::map(&relu, &[&nan]), "relu of NaN");
}

fn map_runs_long_expressions<B: Contract>(c: &Conformance<B>) {
    // GELU's tanh form and its first two derivatives: many shared subtrees.
    let x = Expr::input(0);
    let inner = (x.clone() + Expr::constant(0.044715) * x.clone() * x.clone() * x.clone())
        * Expr::constant((2.0 / std::f64::consts::PI).sqrt());
    let gelu = Expr::constant(0.5) * x * (Expr::constant(1.0) + inner.unary(Unary::Tanh));
    let first = gelu.derivative(0);
    let second = first.derivative(0);
    let a = random_in(5, 37, 1, &[1, 601], -4.0, 4.0);
    for expr in [gelu, first, second] {
        let result = c.backend.map(&expr, &[&c.upload(&a)]);
        c.check(
            &result,
            &reference::map(&expr, &[&a]),
            "GELU or a derivative",
        );
    }
    let none: [&B::Tensor; 0] = [];
    let constant = Expr::constant(3.5);
    let result = c.backend.map(&constant, &none);
    c.check(&result, &reference::map(&constant, &[]), "a constant");
}

/// Operands of a formula: extents of its labels, with samples and directions replaced.
fn operand(seed: u64, labels: &str, samples: usize, directions: usize) -> Array {
    let rest: Vec<usize> = labels[2..].chars().map(extent).collect();
    random(seed, samples, directions, &rest)
}

fn einsum_agrees_on_the_formulas_in_use<B: Contract>(c: &Conformance<B>) {
    let formulas = FORMULAS.into_iter().chain(INPUTS_FIRST_FORMULAS);
    for (number, formula) in formulas.enumerate() {
        let (operands, _) = formula.split_once("->").expect("an arrow");
        let (left, right) = operands.split_once(',').expect("a comma");
        for (way, [s0, d0, s1, d1]) in BROADCASTS.into_iter().enumerate() {
            if !c.takes(number + way) {
                continue;
            }
            let (x, y) = (operand(6, left, s0, d0), operand(7, right, s1, d1));
            let result = c
                .backend
                .einsum(&Einsum::new(formula), &c.upload(&x), &c.upload(&y));
            let what = format!("{formula} of {:?} and {:?}", x.shape, y.shape);
            c.check(&result, &reference::einsum(formula, &x, &y), &what);
        }
    }
}

fn einsum_agrees_on_ragged_sizes<B: Contract>(c: &Conformance<B>) {
    for [m, n, k] in SAMPLE_PRODUCTS {
        let (x, y) = (random(8, 2, 1, &[m, k]), random(9, 2, 1, &[k, n]));
        let einsum = Einsum::new("sdmk,sdkn->sdmn");
        let result = c.backend.einsum(&einsum, &c.upload(&x), &c.upload(&y));
        let expected = reference::einsum("sdmk,sdkn->sdmn", &x, &y);
        c.check(&result, &expected, &format!("product {m}×{k}×{n}"));
    }
}

fn einsum_sums_a_long_inner_dimension<B: Contract>(c: &Conformance<B>) {
    // Software adapters stop loops after 65,536 rounds.
    for (samples, positions) in [(70_000, 1), (1, 70_000), (35_000, 2)] {
        let (x, y) = (
            random(10, samples, 1, &[positions, 3]),
            random(11, samples, 1, &[positions, 2]),
        );
        let formula = "sdto,sdti->1doi";
        let result = c
            .backend
            .einsum(&Einsum::new(formula), &c.upload(&x), &c.upload(&y));
        let what = format!("{samples} samples, {positions} positions");
        c.check(&result, &reference::einsum(formula, &x, &y), &what);
        let sum = c.backend.reduce_sum(&c.upload(&x), &[0, 2]);
        c.check(&sum, &reference::reduce_sum(&x, &[0, 2]), &what);
    }
}

/// Windows of every kind.
fn windows() -> Vec<Window> {
    WINDOWS.map(window).to_vec()
}

fn with_channels(lead: &[usize], last: &[usize]) -> Vec<usize> {
    [lead, last].concat()
}

fn for_convolutions<B>(
    c: &Conformance<B>,
    mut case: impl FnMut(&Window, usize, [usize; 4], usize, usize, usize),
) {
    for (number, window) in windows().iter().enumerate() {
        for (kind, (groups, channels, outputs)) in CHANNELS.into_iter().enumerate() {
            // Every window and every kind is in either share, a half of their pairs each.
            if !c.takes(number + kind) {
                continue;
            }
            let broadcast = [[3, 1, 1, 1], [2, 2, 1, 1], [3, 1, 1, 2], [1, 2, 1, 2]][number % 4];
            let lead = 1 + number % 2;
            case(window, groups, broadcast, channels, outputs, lead);
        }
    }
}

fn conv_agrees<B: Contract>(c: &Conformance<B>) {
    for_convolutions(
        c,
        |window, groups, [s, d, _, e], channels, outputs, lead| {
            let x = random(12, s, d, &with_channels(&[lead, channels], &window.input));
            let weight_rest = with_channels(&[outputs, channels / groups], &window.kernel);
            let w = random(13, 1, e, &weight_rest);
            let result = c.backend.conv(&c.upload(&x), &c.upload(&w), window, groups);
            let what = format!("{window:?}, {groups} groups, {:?}, {:?}", x.shape, w.shape);
            c.check(&result, &reference::conv(&x, &w, window, groups), &what);
        },
    );
}

fn conv_inputs_agrees<B: Contract>(c: &Conformance<B>) {
    for_convolutions(
        c,
        |window, groups, [s, d, _, e], channels, outputs, lead| {
            let z = random(14, s, d, &with_channels(&[lead, outputs], &window.output));
            let weight_rest = with_channels(&[outputs, channels / groups], &window.kernel);
            let w = random(15, 1, e, &weight_rest);
            let result = c
                .backend
                .conv_inputs(&c.upload(&z), &c.upload(&w), window, groups);
            let what = format!("{window:?}, {groups} groups, {:?}, {:?}", z.shape, w.shape);
            let expected = reference::conv_inputs(&z, &w, window, groups);
            c.check(&result, &expected, &what);
        },
    );
}

fn conv_weights_agrees<B: Contract>(c: &Conformance<B>) {
    for_convolutions(c, |window, groups, _, channels, outputs, lead| {
        for [s0, d0, s1, d1] in BROADCASTS {
            let z = random(16, s0, d0, &with_channels(&[lead, outputs], &window.output));
            let x = random(17, s1, d1, &with_channels(&[lead, channels], &window.input));
            for sum in [false, true] {
                let result =
                    c.backend
                        .conv_weights(&c.upload(&z), &c.upload(&x), window, groups, sum);
                let what = format!("{window:?}, {groups} groups, {:?}, {:?}", z.shape, x.shape);
                let expected = reference::conv_weights(&z, &x, window, groups, sum);
                c.check(&result, &expected, &what);
            }
        }
    });
    // More samples than the parts a sum is cut into.
    let window = window(&[[6, 5, 3, 1, 1, 0], [5, 5, 3, 1, 1, 1]]);
    let z = random(18, 37, 2, &with_channels(&[1, 3], &window.output));
    let x = random(19, 37, 1, &with_channels(&[1, 2], &window.input));
    let result = c
        .backend
        .conv_weights(&c.upload(&z), &c.upload(&x), &window, 1, true);
    let expected = reference::conv_weights(&z, &x, &window, 1, true);
    c.check(&result, &expected, "37 samples");
}

fn depthwise_convolutions_agree_on_large_planes<B: Contract>(c: &Conformance<B>) {
    for case in &DEPTHWISE {
        let (samples, directions) = (case.samples, case.directions);
        let (window, groups, multiplier) = (window(case.axes), case.groups, case.multiplier);
        let outputs = groups * multiplier;
        let x = random(60, samples, 1, &with_channels(&[1, groups], &window.input));
        let w = random(61, 1, 1, &with_channels(&[outputs, 1], &window.kernel));
        let z_rest = with_channels(&[1, outputs], &window.output);
        let z = random(62, samples, directions, &z_rest);
        let [x_there, w_there, z_there] = [&x, &w, &z].map(|array| c.upload(array));
        let what = format!("{window:?}, {groups} groups, {multiplier} outputs each");
        let result = c.backend.conv(&x_there, &w_there, &window, groups);
        c.check(&result, &reference::conv(&x, &w, &window, groups), &what);
        let result = c.backend.conv_inputs(&z_there, &w_there, &window, groups);
        let expected = reference::conv_inputs(&z, &w, &window, groups);
        c.check(&result, &expected, &what);
        for sum in [false, true] {
            let backend = &c.backend;
            let result = backend.conv_weights(&z_there, &x_there, &window, groups, sum);
            let expected = reference::conv_weights(&z, &x, &window, groups, sum);
            c.check(&result, &expected, &what);
        }
    }
}

fn window_sum_and_spread_agree<B: Contract>(c: &Conformance<B>) {
    for window in windows() {
        for (s, d, lead) in [(1, 1, &[][..]), (3, 2, &[2, 3]), (2, 1, &[5])] {
            let x = random(20, s, d, &with_channels(lead, &window.input));
            let result = c.backend.window_sum(&c.upload(&x), &window);
            let what = format!("{window:?} of {:?}", x.shape);
            c.check(&result, &reference::window_sum(&x, &window), &what);
            let z = random(21, s, d, &with_channels(lead, &window.output));
            let result = c.backend.window_spread(&c.upload(&z), &window);
            c.check(&result, &reference::window_spread(&z, &window), &what);
        }
    }
}

fn max_pool_gathers_and_scatters<B: Contract>(c: &Conformance<B>) {
    for window in windows() {
        for [s0, d0, s1, d1] in [
            [1, 1, 1, 1],
            [3, 1, 3, 2],
            [2, 2, 2, 2],
            [1, 1, 3, 2],
            [3, 1, 1, 2],
        ] {
            // Few distinct values, all negative: ties are common, and a zero of the padding would win.
            let mut x = random(22, s0, d0, &with_channels(&[2], &window.input));
            for value in &mut x.values {
                *value = (*value * 3.0).floor() - 5.0;
            }
            let indices = c.backend.max_pool_indices(&c.upload(&x), &window);
            let chosen = reference::max_pool_indices(&x, &window);
            let what = format!("{window:?} of {:?}", x.shape);
            let y = random(23, s1, d1, &with_channels(&[2], &window.input));
            let result = c.backend.gather(&c.upload(&y), &indices, &window);
            c.check(&result, &reference::gather(&y, &chosen), &what);
            let z = random(24, s1, d1, &with_channels(&[2], &window.output));
            let result = c.backend.scatter(&c.upload(&z), &indices, &window);
            c.check(&result, &reference::scatter(&z, &chosen, &window), &what);
        }
    }
}

fn reduce_sum_agrees<B: Contract>(c: &Conformance<B>) {
    let x = random(25, 3, 2, &[5, 67, 3]);
    for mask in 0..32u32 {
        let axes: Vec<usize> = (0..5).filter(|axis| mask >> axis & 1 == 1).collect();
        let result = c.backend.reduce_sum(&c.upload(&x), &axes);
        c.check(
            &result,
            &reference::reduce_sum(&x, &axes),
            &format!("{axes:?}"),
        );
    }
    for rest in [&[2, 9001][..], &[9001, 2], &[1, 263, 257]] {
        let x = random(26, 2, 1, rest);
        for axes in [&[0][..], &[2], &[3], &[0, 2], &[0, 1, 2, 3]] {
            let result = c.backend.reduce_sum(&c.upload(&x), axes);
            let what = format!("{axes:?} of {rest:?}");
            c.check(&result, &reference::reduce_sum(&x, axes), &what);
        }
    }
}

fn layouts_move_every_element<B: Contract>(c: &Conformance<B>) {
    let x = random(27, 3, 2, &[5, 7, 67]);
    let tensor = c.upload(&x);
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let result = c.backend.permute(&tensor, &order);
        c.check(
            &result,
            &reference::permute(&x, &order),
            &format!("{order:?}"),
        );
    }
    let y = random(28, 1, 2, &[3, 37, 2, 41]);
    for order in [[3, 2, 1, 0], [1, 3, 0, 2], [0, 2, 3, 1], [2, 3, 1, 0]] {
        let result = c.backend.permute(&c.upload(&y), &order);
        c.check(
            &result,
            &reference::permute(&y, &order),
            &format!("{order:?}"),
        );
    }
    for (axis, start, stop) in [
        (0, 1, 3),
        (1, 1, 2),
        (2, 0, 5),
        (3, 2, 6),
        (4, 31, 66),
        (4, 5, 5),
    ] {
        let result = c.backend.slice(&tensor, axis, start, stop);
        let expected = reference::slice(&x, axis, start, stop);
        c.check(&result, &expected, &format!("slice of axis {axis}"));
        // A slice that shares memory must read its own part everywhere.
        let twice = c.backend.add(&result, &result);
        let two = Expr::input(0) + Expr::input(0);
        c.check(&twice, &reference::map(&two, &[&expected]), "twice a slice");
    }
    for (axis, start, extent) in [(0, 1, 5), (1, 0, 2), (2, 3, 9), (3, 4, 11), (4, 1, 71)] {
        let result = c.backend.embed(&tensor, axis, start, extent);
        let expected = reference::embed(&x, axis, start, extent);
        c.check(&result, &expected, &format!("embedding in axis {axis}"));
    }
    let reshaped = c.backend.reshape(&tensor, &[35, 67]);
    c.check(
        &reshaped,
        &Array::new(Shape::new(3, 2, &[35, 67]), x.values.clone()),
        "reshape",
    );
    for (from, to) in [
        (&[67][..], &[5, 67][..]),
        (&[7, 1], &[7, 19]),
        (&[], &[2, 3]),
        (&[1, 3, 1], &[4, 5, 3, 2]),
    ] {
        let y = random(29, 3, 2, from);
        let zeros = Array::zeros(Shape::new(3, 2, to));
        let result = c.backend.broadcast(&c.upload(&y), to);
        let sum = Expr::input(0) + Expr::input(1);
        let expected = reference::map(&sum, &[&y, &zeros]);
        c.check(&result, &expected, &format!("{from:?} to {to:?}"));
    }
    let filled = c.backend.fill(&Shape::new(2, 3, &[5]), -0.75);
    c.check(
        &filled,
        &Array::new(Shape::new(2, 3, &[5]), vec![-0.75; 30]),
        "fill",
    );
}

/// Whole numbers from a little below 0 to a little above `extent`, many of them equal.
fn numbers_around(seed: u64, samples: usize, count: usize, extent: usize) -> Array {
    let mut list = random_in(seed, samples, 1, &[count], -1.4, extent as f64 + 0.4);
    list.values.iter_mut().for_each(|v| *v = v.round());
    list
}

fn take_and_put_agree<B: Contract>(c: &Conformance<B>) {
    let sizes = [[3, 1, 3], [3, 2, 3], [1, 2, 3], [3, 2, 1], [1, 1, 1]];
    for (rest, axis) in [
        (&[7][..], 2),
        (&[7, 67], 2),
        (&[5, 31], 3),
        (&[3, 11, 17], 3),
        (&[2, 3, 1], 4),
    ] {
        let extent = rest[axis - 2];
        for [s, d, n] in sizes {
            for count in [1, 5, 37] {
                let list = numbers_around(52, n, count, extent);
                let x = random(53, s, d, rest);
                let result = c.backend.take(&c.upload(&x), &c.upload(&list), axis);
                let what = format!("{count} entries of axis {axis} of {:?}, {n} lists", x.shape);
                c.check(&result, &reference::take(&x, &list, axis), &what);
                let mut taken = rest.to_vec();
                taken[axis - 2] = count;
                let z = random(54, s, d, &taken);
                for range in [0..extent, extent / 2..extent, 0..extent.min(2), 1..1] {
                    for sum in [false, true] {
                        let (z_there, list_there) = (c.upload(&z), c.upload(&list));
                        let result = c
                            .backend
                            .put(&z_there, &list_there, axis, range.clone(), sum);
                        let expected = reference::put(&z, &list, axis, range.clone(), sum);
                        c.check(&result, &expected, &format!("{what}, put to {range:?}"));
                    }
                }
            }
        }
    }
    // Longer lists and more samples than one pass takes; one row gets nearly all.
    for (samples, lists, count) in [(2, 2, 9001), (700, 700, 11), (700, 1, 11), (1, 5000, 2)] {
        let mut list = numbers_around(55, lists, count, 3);
        list.values.iter_mut().step_by(2).for_each(|v| *v = 1.0);
        let z = random(56, samples, 2, &[count, 3]);
        for sum in [false, true] {
            let result = c.backend.put(&c.upload(&z), &c.upload(&list), 2, 0..3, sum);
            let what = format!("{samples} samples, {lists} lists of {count}");
            c.check(&result, &reference::put(&z, &list, 2, 0..3, sum), &what);
        }
    }
    // A list of none, and parts of other tensors.
    let none = c.upload(&random(57, 2, 1, &[0]));
    let x = random(58, 2, 1, &[4, 3]);
    let whole = c.upload(&x);
    let taken = c.backend.take(&whole, &none, 2);
    let expected = reference::take(&x, &Array::zeros(Shape::new(2, 1, &[0])), 2);
    c.check(&taken, &expected, "no entry");
    let put = c.backend.put(&taken, &none, 2, 0..5, true);
    c.check(
        &put,
        &Array::zeros(Shape::new(1, 1, &[5, 3])),
        "no entry, put",
    );
    let list = numbers_around(59, 2, 6, 4);
    let slice = |array: &Array| {
        let part = c.backend.slice(&c.upload(array), 0, 1, 2);
        (part, reference::slice(array, 0, 1, 2))
    };
    let ((x_there, x), (list_there, list)) = (slice(&x), slice(&list));
    let taken = c.backend.take(&x_there, &list_there, 2);
    c.check(&taken, &reference::take(&x, &list, 2), "of a part");
    let expected = reference::put(&reference::take(&x, &list, 2), &list, 2, 0..4, false);
    let put = c.backend.put(&taken, &list_there, 2, 0..4, false);
    c.check(&put, &expected, "a part, put");
}

fn concat_joins_and_broadcasts<B: Contract>(c: &Conformance<B>) {
    for axis in [2, 3, 4] {
        for [s0, d0, s1, d1] in BROADCASTS {
            let mut rests = [[3, 5, 7]; 3];
            rests[1][axis - 2] = 1;
            rests[2][axis - 2] = 11;
            let parts = [
                random(30, s0, d0, &rests[0]),
                random(31, s1, d1, &rests[1]),
                random(32, 1, 1, &rests[2]),
            ];
            let tensors = parts.each_ref().map(|array| c.upload(array));
            let result = c.backend.concat(&tensors.each_ref(), axis);
            let expected = reference::concat(&parts.each_ref(), axis);
            c.check(&result, &expected, &format!("axis {axis}"));
        }
    }
}

fn nothing_is_a_size_too<B: Contract>(c: &Conformance<B>) {
    let none = random(33, 3, 0, &[5, 7]);
    let some = random(34, 3, 1, &[5, 7]);
    let (n, s) = (c.upload(&none), c.upload(&some));
    let product = Expr::input(0) * Expr::input(1);
    c.check(
        &c.backend.multiply(&n, &s),
        &reference::map(&product, &[&none, &some]),
        "map",
    );
    for formula in ["sdti,sdoi->sdto", "sdto,sdti->s1oi", "sdto,sdti->11oi"] {
        let result = c.backend.einsum(&Einsum::new(formula), &n, &s);
        c.check(&result, &reference::einsum(formula, &none, &some), formula);
    }
    for axes in [&[0][..], &[1], &[3]] {
        let result = c.backend.reduce_sum(&n, axes);
        c.check(&result, &reference::reduce_sum(&none, axes), "reduce_sum");
    }
    let result = c.backend.permute(&n, &[1, 0]);
    c.check(&result, &reference::permute(&none, &[1, 0]), "permute");
    let result = c.backend.slice(&n, 3, 2, 4);
    c.check(&result, &reference::slice(&none, 3, 2, 4), "slice");
    let result = c.backend.embed(&n, 1, 1, 2);
    c.check(&result, &reference::embed(&none, 1, 1, 2), "embed");
    let window = window(&[[7, 3, 3, 2, 1, 0]]);
    let result = c.backend.window_sum(&n, &window);
    c.check(
        &result,
        &reference::window_sum(&none, &window),
        "window_sum",
    );
    let weight = random(35, 1, 1, &[2, 7, 3]);
    let image = random(36, 3, 0, &[1, 7, 7]);
    let result = c
        .backend
        .conv(&c.upload(&image), &c.upload(&weight), &window, 1);
    c.check(
        &result,
        &reference::conv(&image, &weight, &window, 1),
        "conv",
    );
    let mut tile = c.backend.accumulator(5, 0);
    let left = c.upload(&random(37, 3, 2, &[5]));
    let right = c.upload(&random(38, 3, 2, &[0]));
    c.backend
        .accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&left, &right));
    let values = c.backend.collect(c.backend.finish(tile));
    assert!(values.expect("the device works").is_empty());
}

fn dense_products_accumulate<B: Contract>(c: &Conformance<B>) {
    for (rows, columns) in [(3, 5), (17, 31), (67, 127), (1, 65)] {
        let (height, width) = (rows + 5, columns + 2);
        let mut expected = vec![0.0; height * width];
        let mut tile = c.backend.accumulator(height, width);
        for (number, [s0, d0, s1, d1]) in BROADCASTS.into_iter().enumerate() {
            let (left, right) = (random(39, s0, d0, &[rows]), random(40, s1, d1, &[columns]));
            let origin = (number % 6, number % 3);
            let (l, r) = (c.upload(&left), c.upload(&right));
            c.backend
                .accumulate_dense(&mut tile, Placement::ADD, origin, (&l, &r));
            reference::dense(&mut expected, width, origin, &left, &right);
        }
        let values = c.backend.collect(c.backend.finish(tile));
        let values = values.expect("the device works");
        c.compare(&values, &expected, &format!("dense {rows}×{columns}"));
    }
    // A long inner dimension.
    let (left, right) = (random(41, 7_000, 10, &[3]), random(42, 7_000, 10, &[5]));
    let mut expected = vec![0.0; 15];
    reference::dense(&mut expected, 5, (0, 0), &left, &right);
    let mut tile = c.backend.accumulator(3, 5);
    let (l, r) = (c.upload(&left), c.upload(&right));
    c.backend
        .accumulate_dense(&mut tile, Placement::ADD, (0, 0), (&l, &r));
    let values = c.backend.collect(c.backend.finish(tile));
    c.compare(&values.expect("the device works"), &expected, "70,000");
}

fn check_outer<B: Contract>(c: &Conformance<B>, samples: [usize; 3], rows: Side, columns: Side) {
    for scaled in [Scaled::Rows, Scaled::Columns] {
        check_outer_scaled(c, samples, rows, columns, scaled);
    }
}

fn check_outer_scaled<B: Contract>(
    c: &Conformance<B>,
    samples: [usize; 3],
    rows: Side,
    columns: Side,
    scaled: Scaled,
) {
    let (height, width) = (rows.extent() + 1, columns.extent() + 2);
    let deltas = [(rows, 43), (columns, 53)]
        .map(|(side, seed)| random(seed, samples[0], 2, &[side.outputs]));
    let pairs = reference::einsum("sdo,sdp->s1op", &deltas[0], &deltas[1]);
    let deltas_there = deltas.each_ref().map(|delta| c.upload(delta));
    let inputs = [(rows, samples[1], 44), (columns, samples[2], 45)]
        .map(|(side, samples, seed)| side.inputs.map(|i| random(seed, samples, 1, &[i])));
    let uploaded = inputs.each_ref().map(|a| a.as_ref().map(|a| c.upload(a)));
    let mut tile = c.backend.accumulator(height, width);
    let mut expected = vec![0.0; height * width];
    // Twice: the second must add.
    for _ in 0..2 {
        let term = OuterTerm {
            row_cotangents: &deltas_there[0],
            column_cotangents: &deltas_there[1],
            row_inputs: uploaded[0].as_ref(),
            column_inputs: uploaded[1].as_ref(),
        };
        let reference_side = |k: usize, side: Side| {
            let axes = side.axes;
            let strides = (axes.output_stride, axes.input_stride);
            (inputs[k].as_ref(), axes.origin, strides.0, strides.1)
        };
        c.backend.accumulate_outer(
            &mut tile,
            Placement::ADD,
            (rows.axes, columns.axes),
            term,
            scaled,
        );
        reference::outer(
            &mut expected,
            width,
            &pairs,
            reference_side(0, rows),
            reference_side(1, columns),
        );
    }
    let values = c.backend.collect(c.backend.finish(tile));
    let what = format!("{samples:?} samples, {rows:?} × {columns:?}");
    c.compare(&values.expect("the device works"), &expected, &what);
}

fn outer_products_accumulate<B: Contract>(c: &Conformance<B>) {
    for (i, rows) in SIDES.into_iter().enumerate() {
        for (j, columns) in SIDES.into_iter().enumerate() {
            if c.takes(i + j) {
                check_outer(c, [5, 5, 5], rows, columns);
            }
        }
    }
    for samples in [
        [1, 5, 5],
        [5, 1, 5],
        [5, 5, 1],
        [1, 1, 1],
        [1, 1, 5],
        [0, 0, 0],
    ] {
        check_outer(c, samples, SIDES[0], SIDES[1]);
        check_outer(c, samples, SIDES[1], SIDES[2]);
    }
    check_outer(
        c,
        [131; 3],
        Side::outputs_first(3, 67, 0),
        Side::outputs_first(2, 129, 3),
    );
    check_outer(
        c,
        [521; 3],
        Side::outputs_first(3, 5, 0),
        Side::inputs_first(5, 131, 3),
    );
    check_outer(
        c,
        [70_000; 3],
        Side::outputs_first(2, 3, 0),
        Side::outputs_first(1, 2, 0),
    );
}

fn outer_products_of_a_site_with_itself_accumulate<B: Contract>(c: &Conformance<B>) {
    for (samples, outputs, inputs) in [(5, 3, 67), (131, 2, 65), (7, 1, 129), (3, 5, 48), (5, 7, 3)]
    {
        let deltas = random(46, samples, 2, &[outputs]);
        let a = random(47, samples, 1, &[inputs]);
        let pairs = reference::einsum("sdo,sdp->s1op", &deltas, &deltas);
        let (d, a_there) = (c.upload(&deltas), c.upload(&a));
        // O×I, I×O, and O×I with a gap; the parts of rows and columns start at different places.
        for (output, input) in [(inputs, 1), (1, outputs), (inputs + 3, 1)] {
            let reach = (outputs - 1) * output + (inputs - 1) * input + 1;
            let (height, width) = (reach + 2, reach + 5);
            let mut tile = c.backend.accumulator(height, width);
            let mut expected = vec![0.0; height * width];
            let axes = |origin| OuterAxes {
                origin,
                output_stride: output,
                input_stride: input,
            };
            let term = OuterTerm {
                row_cotangents: &d,
                column_cotangents: &d,
                row_inputs: Some(&a_there),
                column_inputs: Some(&a_there),
            };
            // Twice: the second must add.
            for _ in 0..2 {
                let sides = (axes(1), axes(4));
                c.backend
                    .accumulate_outer(&mut tile, Placement::ADD, sides, term, Scaled::Alike);
                let side = |origin| (Some(&a), origin, output, input);
                reference::outer(&mut expected, width, &pairs, side(1), side(4));
            }
            let values = c.backend.collect(c.backend.finish(tile));
            let what = format!("{samples} samples, {outputs}×{inputs}, step {input}");
            c.compare(&values.expect("the device works"), &expected, &what);
        }
    }
}

/// One `#[test]` per primitive for a backend: its name, an expression that makes it (`None` where this
/// machine lacks it), and the error it is allowed relative to the greatest value of a result.
macro_rules! conformance {
    ($name:ident, $backend:expr, $tolerance:expr, $share:expr) => {
        conformance!(@tests $name, $backend, $tolerance, $share,
            map_applies_every_unary_function, map_raises_to_powers, map_broadcasts_its_inputs,
            map_runs_long_expressions,
            einsum_agrees_on_the_formulas_in_use, einsum_agrees_on_ragged_sizes,
            einsum_sums_a_long_inner_dimension, conv_agrees, conv_inputs_agrees, conv_weights_agrees,
            depthwise_convolutions_agree_on_large_planes,
            window_sum_and_spread_agree, max_pool_gathers_and_scatters, reduce_sum_agrees,
            layouts_move_every_element, take_and_put_agree, concat_joins_and_broadcasts, nothing_is_a_size_too,
            dense_products_accumulate, outer_products_accumulate,
            outer_products_of_a_site_with_itself_accumulate);
    };
    (@tests $name:ident, $backend:expr, $tolerance:expr, $share:expr, $($test:ident),*) => {
        mod $name {
            use super::*;
            $(
                #[test]
                fn $test() {
                    if let Some(backend) = $backend {
                        let (tolerance, share) = ($tolerance, $share);
                        super::$test(&Conformance { backend, tolerance, share });
                    }
                }
            )*
        }
    };
}

// DESIGN §5 allows f32 2·10⁻⁶ of the greatest value; f64 is the reference itself.
conformance!(cpu_f32, Some(Cpu::<f32>::new()), 2e-6, Share::All);
conformance!(cpu_f64, Some(Cpu::<f64>::new()), 1e-12, Share::All);
// On a software adapter: with the shader checks of debug builds, and without as in release builds; of the tests with many cases
// each takes half.
#[cfg(feature = "gpu")]
conformance!(gpu_checked, common::gpu::open(true), 2e-6, Share::Even);
#[cfg(feature = "gpu")]
conformance!(gpu_unchecked, common::gpu::open(false), 2e-6, Share::Odd);
