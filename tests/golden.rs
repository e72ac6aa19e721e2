//! PyTorch's own numbers, in double precision, for every network, exporter and loss of `tests/golden`.
//!
//! `tests/golden/make_goldens.py` made models and arrays; `index.json` lists the cases: the model, its data
//! (`inputs`, or `inputs.NAME` for each of `"inputs": [NAME…]`), the `output` where there are several, the loss
//! with its `class_axis`; and models that are to be refused, with what the refusal must say.

mod common;

use common::golden::{archive, cases, folder, index, session, text, words};
use common::pytorch::{Numbers, compare, greatest, values, worst};
use hessblock::internals::plan::Way;
use hessblock::internals::tensor::Real;
use hessblock::onnx::{self, OnnxOptions};
use hessblock::{Device, Operator, Part, Precision};
use ndarray::Array2;

/// Up to this many parameters the whole matrix is asked for, beyond it only rows.
const WHOLE: usize = 400;

/// The parts of a matrix that cases have numbers of.
struct Blocks {
    /// `[p]`.
    diagonal: Vec<f64>,
    /// `[rows, p]`.
    rows: Vec<f64>,
    /// The whole, where it was asked for.
    full: Option<Array2<f64>>,
}

impl Blocks {
    /// Blocks of a matrix; of G by either way, or by the cheaper.
    fn of(name: &str, operator: &Operator, rows: &[usize], way: Option<Way>) -> Blocks {
        let p = operator.size();
        let mut parts = vec![Part::Diagonal];
        if p <= WHOLE {
            parts.push(Part::Full);
        } else {
            parts.extend(rows.iter().map(|&i| Part::Range(i..i + 1, 0..p)));
        }
        let mut request = operator.parts(parts).expect("a loss with a gradient");
        if let Some(way) = way {
            request = request.way(way);
        }
        let blocks = request.to_arrays::<f64>();
        let mut blocks = blocks.unwrap_or_else(|e| panic!("{name}: {e}")).into_iter();
        let diagonal = blocks.next().expect("the diagonal").array;
        let mut blocks: Vec<_> = blocks.map(|block| block.into_matrix()).collect();
        let full = (p <= WHOLE).then(|| blocks.remove(0));
        let row = |(k, i): (usize, &usize)| match &full {
            Some(full) => full.row(*i).to_vec(),
            None => blocks[k].row(0).to_vec(),
        };
        Blocks {
            diagonal: diagonal.into_iter().collect(),
            rows: rows.iter().enumerate().flat_map(row).collect(),
            full,
        }
    }
}

/// Loss, gradient, rows and diagonal of G of each case, and DESIGN §5's entry-by-entry bound.
fn agree_with_pytorch(device: &Device, tolerance: f64, chosen: impl Fn(&str) -> bool) {
    agree_with_pytorch_by(None, device, tolerance, chosen);
}

/// The same with blocks of G by one way.
fn agree_with_pytorch_by(
    way: Option<Way>,
    device: &Device,
    tolerance: f64,
    chosen: impl Fn(&str) -> bool,
) {
    let mut tried = 0;
    let mut faults = Vec::new();
    for case in cases() {
        let name = text(&case["name"]);
        if !chosen(name) {
            continue;
        }
        tried += 1;
        let session = match session(&case) {
            Ok(session) => session.with_device(device.clone()),
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        let p = session.network().parameter_count();
        if Some(p as u64) != case["p"].as_u64() {
            faults.push(format!("{name}: {p} parameters, not {}", case["p"]));
            continue;
        }
        let archive = archive(&case);
        let rows = values(&archive, "rows");
        let rows: Vec<usize> = rows.into_iter().map(|r| r as usize).collect();
        let expected = Numbers {
            loss: values(&archive, "loss").first().copied(),
            gradient: values(&archive, "gradient"),
            rows: values(&archive, "G_rows"),
            diagonal: values(&archive, "G_diagonal"),
        };
        let gradient = match session.gradient() {
            Ok(gradient) => gradient,
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        let blocks = Blocks::of(name, &session.ggn(), &rows, way);
        if blocks.full.is_some_and(|full| full != full.t()) {
            faults.push(format!("{name}: G is not symmetric"));
        }
        let found = Numbers {
            loss: Some(gradient.loss),
            gradient: gradient.values,
            rows: blocks.rows,
            diagonal: blocks.diagonal,
        };
        // The batch norms of the first take off means that are near their inputs, the weights of one unit of the second
        // nearly cancel: single precision itself loses two digits there, on the CPU as on the GPU. x − tanh x of small x
        // makes of half an ulp of tanh, which is correctly rounded here, 3/x² times as much. The classes of summed bags are
        // nearly certain, so that 1 − π loses two digits.
        let slack = match name {
            _ if ["fused_norm", "act_celu_nobias", "bag_sum"]
                .iter()
                .any(|of| name.starts_with(of)) =>
            {
                3.0
            }
            _ if name.starts_with("act_tanhshrink_nobias") => 15.0,
            _ => 1.0,
        };
        // Constants of the file that are rounded to single precision where the module's are not.
        let tolerance = match text(&case["tolerance"]) {
            "single" => tolerance.max(1e-6),
            _ => tolerance,
        };
        let mut errors = compare(&found, &expected, &rows, tolerance * slack);
        let entry = errors.entry.take();
        let all = errors.faults(tolerance).into_iter().chain(entry);
        faults.extend(all.map(|fault| format!("{name}: {fault}")));
    }
    assert!(tried > 10, "only {tried} cases");
    assert!(
        faults.is_empty(),
        "{} of {tried} cases:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// A matrix of a case as PyTorch has it.
struct Expected<'a> {
    rows: &'a [usize],
    /// `[rows, p]`.
    of_rows: Vec<f64>,
    /// `[p]`; of G it is tried elsewhere.
    diagonal: Option<Vec<f64>>,
    /// What errors are relative to.
    most: f64,
    tolerance: f64,
}

impl Expected<'_> {
    /// Checks rows as products with unit vectors and as blocks, the diagonal, and entries by forward mode alone.
    fn faults(&self, name: &str, operator: &Operator) -> Vec<String> {
        let (p, curvature) = (operator.size(), operator.curvature());
        let mut faults = Vec::new();
        let mut check = |what: String, found: &[f64], expected: &[f64]| {
            let off = worst(found, expected) / self.most;
            if off.is_nan() || off > self.tolerance {
                faults.push(format!("{name}: {what} are off by {off:.1e}"));
            }
        };
        let mut units = Array2::<f64>::zeros((p, self.rows.len()));
        for (k, &i) in self.rows.iter().enumerate() {
            units[[i, k]] = 1.0;
        }
        let product = operator.apply(units.view());
        let product = product.unwrap_or_else(|e| panic!("{name}: {e}"));
        let product: Vec<f64> = product.reversed_axes().into_iter().collect();
        check(format!("{curvature} products"), &product, &self.of_rows);
        let Some(diagonal) = &self.diagonal else {
            return faults;
        };
        let blocks = Blocks::of(name, operator, self.rows, None);
        check(format!("rows of {curvature}"), &blocks.rows, &self.of_rows);
        let what = format!("the diagonal's entries of {curvature}");
        check(what, &blocks.diagonal, diagonal);
        let pairs = self.rows.iter().flat_map(|&i| [(i, 0), (i, p - 1)]);
        let entries = operator.entries(&pairs.collect::<Vec<_>>());
        let wanted = (0..self.rows.len())
            .flat_map(|k| [self.of_rows[k * p], self.of_rows[k * p + p - 1]])
            .collect::<Vec<_>>();
        let what = format!("{curvature} entries");
        check(what, &entries.expect("entries"), &wanted);
        if blocks.full.is_some_and(|full| full != full.t()) {
            faults.push(format!("{name}: {curvature} is not symmetric"));
        }
        faults
    }
}

/// H, H − G as itself, and G.
fn agree_with_pytorch_exactly(device: &Device, tolerance: f64, chosen: impl Fn(&str) -> bool) {
    let mut tried = 0;
    let mut faults = Vec::new();
    for case in cases() {
        let name = text(&case["name"]);
        if !chosen(name) || !words(&case["keys"]).contains(&"H_rows".into()) {
            continue;
        }
        tried += 1;
        let session = session(&case).unwrap_or_else(|e| panic!("{name}: {e}"));
        let session = session.with_device(device.clone());
        let archive = archive(&case);
        let rows: Vec<usize> = (values(&archive, "rows").iter().map(|&r| r as usize)).collect();
        let [exact, ggn, exact_diagonal, ggn_diagonal] =
            ["H_rows", "G_rows", "H_diagonal", "G_diagonal"].map(|key| values(&archive, key));
        let difference = |h: &[f64], g: &[f64]| h.iter().zip(g).map(|(h, g)| h - g).collect();
        let residual: Vec<f64> = difference(&exact, &ggn);
        let residual_diagonal: Vec<f64> = difference(&exact_diagonal, &ggn_diagonal);
        let most = [&exact_diagonal, &ggn_diagonal, &exact].map(|of| greatest(of));
        let most = greatest(&most);
        let tolerance = match text(&case["tolerance"]) {
            "single" => tolerance.max(1e-6),
            _ => tolerance,
        };
        for (operator, of_rows, diagonal) in [
            (session.hessian(), exact, Some(exact_diagonal)),
            (session.residual(), residual, Some(residual_diagonal)),
            (session.ggn(), ggn, None),
        ] {
            let expected = Expected {
                rows: &rows,
                of_rows,
                diagonal,
                most,
                tolerance,
            };
            faults.extend(expected.faults(name, &operator));
        }
    }
    assert!(tried > 10, "only {tried} cases");
    assert!(
        faults.is_empty(),
        "{} of {tried} cases:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn the_exact_hessian_agrees_with_pytorch_to_1e_11() {
    agree_with_pytorch_exactly(&Device::cpu(Precision::F64), 1e-11, |_| true);
}

#[test]
fn the_exact_hessian_in_f32_agrees_with_pytorch() {
    agree_with_pytorch_exactly(&Device::cpu(Precision::F32), 2e-6, |_| true);
}

#[cfg(feature = "gpu")]
#[test]
fn the_exact_hessian_on_a_gpu_agrees_with_pytorch() {
    if let Some(gpu) = common::gpu::open(false) {
        let chosen = |name: &str| name.ends_with(".new");
        agree_with_pytorch_exactly(&Device::from(gpu), 2e-6, chosen);
    }
}

#[test]
fn models_that_cannot_be_taken_are_refused_with_what_is_at_fault() {
    let index = index();
    let refused = index["refused"].as_array();
    let mut faults = Vec::new();
    for case in refused.into_iter().flatten() {
        let model = text(&case["model"]);
        match onnx::load(folder().join(model), &OnnxOptions::default()) {
            Ok(_) => faults.push(format!("{model} was taken")),
            Err(error) => {
                let error = error.to_string();
                let says = case["says"].as_array().expect("a list of words");
                let missing = says.iter().map(text).filter(|word| !error.contains(word));
                faults.extend(missing.map(|word| format!("{model}: no {word:?} in {error}")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn cpu_f64_agrees_with_pytorch_to_1e_11() {
    agree_with_pytorch(&Device::cpu(Precision::F64), 1e-11, |_| true);
}

#[test]
fn cpu_f32_agrees_with_pytorch() {
    agree_with_pytorch(&Device::cpu(Precision::F32), 2e-6, |_| true);
}

/// The software device is slow, most of it its compiler: one file for every network, as import is the same for all devices.
#[cfg(feature = "gpu")]
#[test]
fn gpu_agrees_with_pytorch() {
    if let Some(gpu) = common::gpu::open(false) {
        let chosen = |name: &str| name.ends_with(".new");
        agree_with_pytorch(&Device::from(gpu), 2e-6, chosen);
    }
}

/// One file for every network: what it is made from is import's.
fn newest(name: &str) -> bool {
    name.ends_with(".new")
}

#[test]
fn g_by_either_way_agrees_with_pytorch_to_1e_11() {
    for way in [Way::Forward, Way::Backward] {
        agree_with_pytorch_by(Some(way), &Device::cpu(Precision::F64), 1e-11, newest);
    }
}

#[test]
fn g_made_forward_agrees_with_pytorch_in_f32() {
    let device = Device::cpu(Precision::F32);
    agree_with_pytorch_by(Some(Way::Forward), &device, 2e-6, newest);
}

#[cfg(feature = "gpu")]
#[test]
fn g_made_forward_on_a_gpu_agrees_with_pytorch() {
    if let Some(gpu) = common::gpu::open(false) {
        // A third of the networks: kernels are those of the exact Hessian.
        let chosen = |name: &str| newest(name) && name.len().is_multiple_of(3);
        agree_with_pytorch_by(Some(Way::Forward), &Device::from(gpu), 2e-6, chosen);
    }
}

#[test]
fn f32_rounds_where_f64_does_not() {
    // Guards the two tests above against comparing a device with itself.
    let case = &cases()[0];
    let session = session(case).expect("a session");
    let row = |precision| {
        let operator = session.with_device(Device::cpu(precision)).ggn();
        let request = operator.parts([Part::Full]).expect("a part");
        request.to_arrays::<f64>().expect("a block").remove(0).array
    };
    assert_ne!(row(Precision::F32), row(Precision::F64));
    assert_eq!(f32::NAME, "f32");
}
