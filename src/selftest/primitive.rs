//! Every primitive on ragged sizes: primes, around the edges of the tiles (4, 8, 16, 32, 64, 256) and the ends of the
//! chunks that sums are taken in (256 in registers, 4096 per dispatch, 65,535 iterations where software adapters stop).

use super::case::{COPIES, Draft, SUMS, Work};
use super::compare::Measure;
use super::windows;
use crate::tensor::{Expr, Shape};
use crate::trial::{Primitive, Setting};

/// Samples and directions of two operands, in every way in which they broadcast.
const BROADCASTS: [[usize; 4]; 6] = [
    [3, 2, 3, 2],
    [3, 1, 1, 2],
    [1, 2, 3, 1],
    [3, 2, 1, 1],
    [3, 1, 3, 1],
    [1, 1, 1, 1],
];

pub(super) fn drafts() -> Vec<Draft> {
    let mut drafts = Vec::new();
    copies(&mut drafts);
    layouts(&mut drafts);
    lookups(&mut drafts);
    elementwise(&mut drafts);
    sums(&mut drafts);
    products(&mut drafts);
    formulas(&mut drafts);
    windows::convolutions(&mut drafts);
    windows::pools(&mut drafts);
    drafts
}

pub(super) fn draft(
    subject: &str,
    about: impl Into<String>,
    measure: Measure,
    primitive: Primitive,
    shapes: &[Shape],
) -> Draft {
    let shapes = shapes.to_vec();
    let work = Work::Primitive(Setting { primitive, shapes });
    Draft::new(subject, about, measure, work)
}

pub(super) fn shape(samples: usize, directions: usize, rest: &[usize]) -> Shape {
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

fn copies(drafts: &mut Vec<Draft>) {
    for of in [
        shape(1, 1, &[]),
        shape(3, 2, &[131]),
        shape(1, 1, &[70_001]),
    ] {
        drafts.push(draft("upload", sizes(&of), COPIES, Primitive::Read, &[of]));
    }
    for (of, value) in [(shape(3, 2, &[131]), -0.375), (shape(1, 1, &[70_001]), 2.5)] {
        let about = sizes(&of);
        drafts.push(draft("fill", about, COPIES, Primitive::Fill(value), &[of]));
    }
}

/// What moves numbers and does nothing else.
fn layouts(drafts: &mut Vec<Draft>) {
    use Primitive as P;
    let x = shape(3, 2, &[5, 7, 11]);
    let mut add = |subject: &str, about: &str, primitive, shapes: &[Shape]| {
        drafts.push(draft(subject, about, COPIES, primitive, shapes));
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

fn lookups(drafts: &mut Vec<Draft>) {
    use Primitive as P;
    let (x, list) = (shape(3, 2, &[5, 13, 3]), shape(3, 1, &[31]));
    let (table, shared) = (shape(1, 1, &[67, 5]), shape(1, 1, &[131]));
    let mut add = |subject: &str, about: &str, measure, primitive, shapes: &[&Shape]| {
        let shapes: Vec<Shape> = shapes.iter().map(|&s| s.clone()).collect();
        drafts.push(draft(subject, about, measure, primitive, &shapes));
    };
    let rows = "rows of a table";
    add(
        "take",
        "a list per sample",
        COPIES,
        P::Take(3),
        &[&x, &list],
    );
    add(
        "take",
        "one list for all",
        COPIES,
        P::Take(2),
        &[&x, &shared],
    );
    add("take", rows, COPIES, P::Take(2), &[&table, &list]);
    let z = shape(3, 2, &[5, 31, 3]);
    let each = P::Put(3, 2..11, false);
    add("put", "a range, each sample", SUMS, each, &[&z, &list]);
    let sum = P::Put(3, 0..13, true);
    add("put", "summed over samples", SUMS, sum, &[&z, &list]);
    let wide = shape(3, 1, &[131, 5]);
    let one = P::Put(2, 0..67, true);
    add("put", "one list for all", SUMS, one, &[&wide, &shared]);
    // More entries than one invocation goes through.
    let (long, entries) = (shape(2, 1, &[9001, 2]), shape(2, 1, &[9001]));
    let many = P::Put(2, 0..3, true);
    add(
        "put",
        "9001 entries in 3 rows",
        SUMS,
        many,
        &[&long, &entries],
    );
}

fn elementwise(drafts: &mut Vec<Draft>) {
    let (x, y, z) = (Expr::input(0), Expr::input(1), Expr::input(2));
    let two = Expr::constant(2.0);
    let sum = x.clone() * y.clone() - z.clone() / (two.clone() + x.clone() * x.clone());
    let branch = Expr::if_less_equal(x, y, sum, z * two);
    let rests: [[&[usize]; 3]; 5] = [
        [&[5, 67], &[5, 67], &[5, 67]],
        [&[5, 67], &[67], &[5, 1]],
        [&[7, 3, 1], &[1, 31], &[1]],
        [&[131], &[], &[1]],
        [&[2, 3, 5, 7], &[3, 1, 7], &[2, 1, 5, 1]],
    ];
    for (rest, [s, d, t, e]) in rests.into_iter().zip(BROADCASTS) {
        let of = [
            shape(s, d, rest[0]),
            shape(t, e, rest[1]),
            shape(1, e, rest[2]),
        ];
        let about = of.each_ref().map(sizes).join(", ");
        let map = Primitive::Map(branch.clone());
        drafts.push(draft("map", about, SUMS, map, &of));
    }
}

fn sums(drafts: &mut Vec<Draft>) {
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
        drafts.push(draft(
            "reduce_sum",
            about,
            SUMS,
            sum,
            std::slice::from_ref(of),
        ));
    }
}

/// Products around every tile's edges, and sums of ever more terms.
fn products(drafts: &mut Vec<Draft>) {
    for (batches, m, n, k) in [
        (1, 1, 1, 1),
        (1, 15, 17, 16),
        (1, 31, 33, 257),
        (1, 63, 65, 31),
        (1, 127, 129, 67),
        (1, 61, 300, 131),
        // Thin operands.
        (1, 3, 257, 19),
        (1, 259, 3, 17),
        // Batches of small products.
        (7, 13, 17, 9),
        (67, 7, 9, 13),
        (131, 3, 5, 11),
        // Beyond the chunks.
        (1, 5, 67, 4099),
        (3, 17, 19, 8209),
        (1, 3, 5, 70_001),
    ] {
        for (formula, left, turned) in [
            ("sdmk,sdkn->sdmn", [m, k], ""),
            ("sdkm,sdkn->sdmn", [k, m], ", transposed"),
        ] {
            let about = format!("{batches} of {m}x{n}, {k} terms{turned}");
            let of = [shape(batches, 1, &left), shape(batches, 1, &[k, n])];
            let einsum = Primitive::Einsum(formula);
            drafts.push(draft("einsum", about, SUMS, einsum, &of));
        }
    }
}

/// The formulas in use, with operands that broadcast.
fn formulas(drafts: &mut Vec<Draft>) {
    let formulas = [
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
    let extent = |label: char| match label {
        't' => 3,
        'o' => 17,
        'i' => 31,
        'k' => 29,
        'm' => 13,
        'n' => 7,
        'h' => 2,
        _ => 5,
    };
    for (formula, [s, d, t, e]) in formulas.into_iter().zip(BROADCASTS.into_iter().cycle()) {
        let labels: Vec<&str> = formula.split([',', '-']).take(2).collect();
        let rest = |k: usize| labels[k][2..].chars().map(extent).collect::<Vec<usize>>();
        let of = [shape(s, d, &rest(0)), shape(t, e, &rest(1))];
        let einsum = Primitive::Einsum(formula);
        drafts.push(draft("einsum", formula, SUMS, einsum, &of));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Backend;
    use crate::tensor::cpu::Cpu;
    use crate::trial::{Loaded, entry};

    #[test]
    fn cpu_f64_agrees_with_the_definition_of_every_primitive() {
        let cpu = Cpu::<f64>::new();
        for draft in drafts() {
            let Work::Primitive(setting) = &draft.work else {
                unreachable!("these are primitives")
            };
            let arrays = setting.arrays();
            let result = Loaded::new(&cpu, &setting.primitive, &arrays).apply(&cpu);
            let (shape, values) = (cpu.shape(&result), cpu.read(&result).unwrap());
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            // A step that shares no factor with the extents walks through all axes.
            let places = (0..values.len()).step_by(1 + values.len() / 23);
            for at in places.chain([values.len() - 1]) {
                let expected = entry(&setting.primitive, &arrays, &shape, at);
                let error = (values[at] - expected).abs();
                let name = format!("{}, {}: entry {at}", draft.subject, draft.about);
                assert!(
                    error <= 1e-12 * largest,
                    "{name}: {} {expected}",
                    values[at]
                );
            }
        }
    }
}
