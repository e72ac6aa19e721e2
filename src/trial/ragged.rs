//! Every primitive on ragged sizes: primes, around the edges of the tiles (4, 8, 16, 32, 64, 256) and the ends of the
//! chunks that sums are taken in (256 in registers, 4096 per dispatch, 65,535 iterations where software adapters stop).

use super::primitive::{Primitive, Setting};
use super::products::{BROADCASTS, FORMULAS, PRODUCTS, RESTS, extent};
use super::windows::{CONVOLUTIONS, POOLS, Pool, window};
use crate::tensor::{Expr, Shape, Window};

/// What a primitive does to numbers, which says how far backends may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// They are only moved.
    Copies,
    /// They are computed, and rounded.
    Rounds,
}
use Effect::{Copies, Rounds};

/// A primitive on ragged sizes, by name.
pub(crate) struct Named {
    /// The primitive's name: `einsum`, `take`.
    pub subject: String,
    /// Its sizes, or what is particular about them.
    pub about: String,
    pub effect: Effect,
    pub setting: Setting,
}

/// Returns all of them, in order.
pub(crate) fn ragged() -> Vec<Named> {
    let mut cases = Vec::new();
    copies(&mut cases);
    layouts(&mut cases);
    lookups(&mut cases);
    elementwise(&mut cases);
    sums(&mut cases);
    products(&mut cases);
    formulas(&mut cases);
    convolutions(&mut cases);
    pools(&mut cases);
    cases
}

fn named(
    subject: &str,
    about: impl Into<String>,
    effect: Effect,
    primitive: Primitive,
    shapes: &[Shape],
) -> Named {
    Named {
        subject: subject.into(),
        about: about.into(),
        effect,
        setting: Setting {
            primitive,
            shapes: shapes.to_vec(),
        },
    }
}

fn shape(samples: usize, directions: usize, rest: &[usize]) -> Shape {
    Shape::new(samples, directions, rest)
}

/// `3x2 5x67`: samples and directions, then the rest.
fn sizes(shape: &Shape) -> String {
    let axes = |axes: &[usize]| {
        let each: Vec<String> = axes.iter().map(usize::to_string).collect();
        each.join("x")
    };
    let rest = match shape.rest.is_empty() {
        true => "scalar".into(),
        false => axes(&shape.rest),
    };
    format!("{}x{} {rest}", shape.samples, shape.directions)
}

fn copies(cases: &mut Vec<Named>) {
    for of in [
        shape(1, 1, &[]),
        shape(3, 2, &[131]),
        shape(1, 1, &[70_001]),
    ] {
        cases.push(named("upload", sizes(&of), Copies, Primitive::Read, &[of]));
    }
    for (of, value) in [(shape(3, 2, &[131]), -0.375), (shape(1, 1, &[70_001]), 2.5)] {
        let about = sizes(&of);
        cases.push(named("fill", about, Copies, Primitive::Fill(value), &[of]));
    }
}

/// What moves numbers and does nothing else.
fn layouts(cases: &mut Vec<Named>) {
    use Primitive as P;
    let x = shape(3, 2, &[5, 7, 11]);
    let mut add = |subject: &str, about: &str, primitive, shapes: &[Shape]| {
        cases.push(named(subject, about, Copies, primitive, shapes));
    };
    let of = std::slice::from_ref(&x);
    add("reshape", "to 77x5", P::Reshape(vec![77, 5]), of);
    for order in [[0, 2, 1], [2, 1, 0], [1, 2, 0]] {
        let about = format!("axes {order:?}");
        add("permute", &about, P::Permute(order.to_vec()), of);
    }
    let many = shape(2, 1, &[2, 3, 2, 5, 3, 2]);
    let order = vec![5, 0, 4, 1, 3, 2];
    add("permute", "six axes", P::Permute(order), &[many]);
    add("slice", "samples", P::Slice(0, 1, 3), of);
    add("slice", "directions", P::Slice(1, 1, 2), of);
    add("slice", "last axis", P::Slice(4, 3, 10), of);
    add("slice", "middle axis", P::Slice(3, 6, 7), of);
    add("embed", "last axis", P::Embed(4, 3, 17), of);
    add("embed", "first axis", P::Embed(2, 0, 6), of);
    let (rows, row) = (shape(3, 1, &[7, 1]), shape(1, 2, &[1]));
    add(
        "broadcast",
        "inner axis",
        P::Broadcast(vec![7, 67]),
        &[rows],
    );
    add(
        "broadcast",
        "new axes",
        P::Broadcast(vec![5, 3, 31]),
        &[row],
    );
    let (left, right) = (shape(3, 1, &[5, 2, 7]), shape(1, 2, &[5, 3, 7]));
    add(
        "concat",
        "samples and directions broadcast",
        P::Concat(3),
        &[left.clone(), right],
    );
    let three = [left.clone(), shape(3, 1, &[5, 2, 1]), left];
    add("concat", "three along the last axis", P::Concat(4), &three);
}

fn lookups(cases: &mut Vec<Named>) {
    use Primitive as P;
    let (x, list) = (shape(3, 2, &[5, 13, 3]), shape(3, 1, &[31]));
    let (table, shared) = (shape(1, 1, &[67, 5]), shape(1, 1, &[131]));
    let mut add = |subject: &str, about: &str, effect, primitive, shapes: &[&Shape]| {
        let shapes: Vec<Shape> = shapes.iter().map(|&s| s.clone()).collect();
        cases.push(named(subject, about, effect, primitive, &shapes));
    };
    let rows = "rows of a table";
    add(
        "take",
        "a list per sample",
        Copies,
        P::Take(3),
        &[&x, &list],
    );
    add(
        "take",
        "one list for all",
        Copies,
        P::Take(2),
        &[&x, &shared],
    );
    add("take", rows, Copies, P::Take(2), &[&table, &list]);
    let z = shape(3, 2, &[5, 31, 3]);
    let each = P::Put(3, 2..11, false);
    add("put", "a range, each sample", Rounds, each, &[&z, &list]);
    let sum = P::Put(3, 0..13, true);
    add("put", "summed over samples", Rounds, sum, &[&z, &list]);
    let wide = shape(3, 1, &[131, 5]);
    let one = P::Put(2, 0..67, true);
    add("put", "one list for all", Rounds, one, &[&wide, &shared]);
    // More entries than one invocation goes through.
    let (long, entries) = (shape(2, 1, &[9001, 2]), shape(2, 1, &[9001]));
    let many = P::Put(2, 0..3, true);
    add(
        "put",
        "9001 entries in 3 rows",
        Rounds,
        many,
        &[&long, &entries],
    );
}

fn elementwise(cases: &mut Vec<Named>) {
    let (x, y, z) = (Expr::input(0), Expr::input(1), Expr::input(2));
    let two = Expr::constant(2.0);
    let sum = x.clone() * y.clone() - z.clone() / (two.clone() + x.clone() * x.clone());
    let branch = Expr::if_less_equal(x, y, sum, z * two);
    for (rest, [s, d, t, e]) in RESTS.into_iter().zip(BROADCASTS) {
        let of = [
            shape(s, d, rest[0]),
            shape(t, e, rest[1]),
            shape(1, e, rest[2]),
        ];
        let about = of.each_ref().map(sizes).join(", ");
        let map = Primitive::Map(branch.clone());
        cases.push(named("map", about, Rounds, map, &of));
    }
}

fn sums(cases: &mut Vec<Named>) {
    let x = shape(5, 2, &[7, 31, 3]);
    for (axes, of) in [
        (vec![0], &x),
        (vec![1], &x),
        (vec![2, 4], &x),
        (vec![3], &x),
        (vec![0, 1, 2, 3, 4], &x),
        (vec![2], &shape(1, 3, &[4099, 5])),
        (vec![2], &shape(1, 1, &[70_001])),
    ] {
        let about = format!("axes {axes:?} of {}", sizes(of));
        let sum = Primitive::ReduceSum(axes);
        cases.push(named(
            "reduce_sum",
            about,
            Rounds,
            sum,
            std::slice::from_ref(of),
        ));
    }
}

/// Products around every tile's edges, and sums of ever more terms.
fn products(cases: &mut Vec<Named>) {
    for [batches, m, n, k] in PRODUCTS {
        for (formula, left, turned) in [
            ("sdmk,sdkn->sdmn", [m, k], ""),
            ("sdkm,sdkn->sdmn", [k, m], ", transposed"),
        ] {
            let about = format!("{batches} of {m}x{n}, {k} terms{turned}");
            let of = [shape(batches, 1, &left), shape(batches, 1, &[k, n])];
            let einsum = Primitive::Einsum(formula);
            cases.push(named("einsum", about, Rounds, einsum, &of));
        }
    }
}

/// The formulas in use, with operands that broadcast.
fn formulas(cases: &mut Vec<Named>) {
    for (formula, [s, d, t, e]) in FORMULAS.into_iter().zip(BROADCASTS.into_iter().cycle()) {
        let labels: Vec<&str> = formula.split([',', '-']).take(2).collect();
        let rest = |k: usize| labels[k][2..].chars().map(extent).collect::<Vec<usize>>();
        let of = [shape(s, d, &rest(0)), shape(t, e, &rest(1))];
        let einsum = Primitive::Einsum(formula);
        cases.push(named("einsum", formula, Rounds, einsum, &of));
    }
}

/// Convolutions with their two transposes, the second of each sample and summed over them.
fn convolutions(cases: &mut Vec<Named>) {
    for case in &CONVOLUTIONS {
        let (window, groups) = (window(case.axes), case.groups);
        let rest = |channels: usize, plane: &[usize]| [&[case.batch, channels], plane].concat();
        let weights = [&[case.outputs, case.channels / groups], &window.kernel[..]].concat();
        let x = shape(3, 1, &rest(case.channels, &window.input));
        let delta = shape(3, 2, &rest(case.outputs, &window.output));
        let w = shape(1, 1, &weights);
        let mut add = |subject: &str, more: &str, primitive, of: [&Shape; 2]| {
            let of = of.map(Clone::clone);
            let about = format!("{}{more}", case.about);
            cases.push(named(subject, about, Rounds, primitive, &of));
        };
        use Primitive as P;
        let of = |make: fn(Window, usize) -> P| make(window.clone(), groups);
        add("conv", "", of(P::Conv), [&x, &w]);
        add("conv_inputs", "", of(P::ConvInputs), [&delta, &w]);
        for (more, sum) in [("", false), (", summed", true)] {
            let weights = P::ConvWeights(window.clone(), groups, sum);
            add("conv_weights", more, weights, [&delta, &x]);
        }
    }
}

/// Sums and maxima over windows, with their transposes.
fn pools(cases: &mut Vec<Named>) {
    for Pool { about, lead, axes } in &POOLS {
        let window = window(axes);
        let of = |samples, directions, plane: &[usize]| {
            shape(samples, directions, &[lead, plane].concat())
        };
        let value = of(3, 1, &window.input);
        let (x, z) = (of(3, 2, &window.input), of(3, 2, &window.output));
        let mut add = |subject: &str, effect, make: fn(Window) -> Primitive, of: &[&Shape]| {
            let of: Vec<Shape> = of.iter().map(|&s| s.clone()).collect();
            cases.push(named(subject, *about, effect, make(window.clone()), &of));
        };
        use Primitive as P;
        add("window_sum", Rounds, P::WindowSum, &[&x]);
        add("window_spread", Rounds, P::WindowSpread, &[&z]);
        add("max_pool_indices", Copies, P::MaxPoolIndices, &[&value]);
        add("gather", Copies, P::Gather, &[&x, &value]);
        add("scatter", Rounds, P::Scatter, &[&z, &value]);
    }
    let long = window(&[[9001, 1, 9001, 1, 1, 0]]);
    let of = [shape(1, 3, &[2, 9001])];
    let about = "9001 in one window";
    let sum = Primitive::WindowSum(long);
    cases.push(named("window_sum", about, Rounds, sum, &of));
}
