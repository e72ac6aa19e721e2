//! The self-test through the library: it passes on the CPU and on the adapter under test, and every primitive and
//! contraction that is made to give one wrong number makes it fail.

#[cfg(feature = "gpu")]
mod common;

use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::{
    Backend, Contract, Einsum, Expr, HostSlice, OuterAxes, OuterTerm, Placement, Scaled, Shape,
    Window,
};
use hessblock::selftest::{TestReport, cases, run, run_on, select, table};
use hessblock::{CancelToken, Device, Error, Precision, Result};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

static GO_ON: AtomicBool = AtomicBool::new(false);

fn passes(report: &TestReport) {
    assert_eq!(report.failed, 0, "{}", table(report));
    assert_eq!(report.passed, cases().len());
    let text = report.json().expect("JSON");
    let back: TestReport = serde_json::from_str(&text).expect("a report");
    let cases = |report: &TestReport| {
        let each = report
            .cases
            .iter()
            .map(|c| (c.name.clone(), c.measure, c.pass));
        each.collect::<Vec<_>>()
    };
    assert_eq!(cases(&back), cases(report));
    assert_eq!(back.device, report.device);
}

#[test]
fn the_cpu_passes_and_is_no_reference_for_itself() {
    let device = Device::cpu(Precision::F32);
    passes(&run(&device, &cases(), &|_| (), &CancelToken::new()).expect("a report"));
    let double = Device::cpu(Precision::F64);
    let refused = run(&double, &cases(), &|_| (), &CancelToken::new());
    assert!(matches!(refused, Err(Error::Request(_))));
    let token = CancelToken::new();
    token.cancel();
    let ended = run(&device, &cases(), &|_| (), &token);
    assert!(matches!(ended, Err(Error::Interrupted)));
}

#[cfg(feature = "gpu")]
#[test]
fn the_adapter_under_test_passes_with_shader_checks_and_without() {
    let Some(gpu) = common::gpu::open(true) else {
        return;
    };
    let report = run(&Device::from(gpu), &cases(), &|_| (), &CancelToken::new()).expect("a report");
    passes(&report);
    let compared = report.cases.iter().filter(|case| case.same_bits.is_some());
    assert!(compared.count() > 100);
    eprintln!("{}", table(&report));
}

#[test]
fn one_wrong_number_of_any_primitive_or_contraction_fails() {
    for fault in FAULTS {
        let group = match fault {
            "dense" | "outer" => "contraction",
            _ => "primitive",
        };
        let own = select(&[format!("{group}/{fault}/")]).expect("it has cases of its own");
        let (sound, spoilt) = (Spoilt::new(""), Spoilt::new(fault));
        let failed = run_on(std::slice::from_ref(&spoilt), &own, &|_| (), &GO_ON).expect("reports");
        let caught = failed.iter().filter(|case| !case.pass).count();
        assert!(caught > 0, "{fault} is wrong, and all {} pass", own.len());
        let passed = run_on(std::slice::from_ref(&sound), &own, &|_| (), &GO_ON).expect("reports");
        assert!(passed.iter().all(|case| case.pass), "{fault}");
        // The same numbers once right and once wrong: shader checks that change what is computed.
        let both = run_on(&[sound, spoilt], &own, &|_| (), &GO_ON).expect("reports");
        assert!(both.iter().any(|case| !case.pass));
        assert!(
            both.iter()
                .all(|case| case.same_bits != Some(true) || case.pass)
        );
    }
    let operations = select(&["operation/".into(), "network/mlp".into()]).expect("cases");
    let failed = run_on(&[Spoilt::new("einsum")], &operations, &|_| (), &GO_ON).expect("reports");
    assert!(failed.iter().filter(|case| !case.pass).count() > 5);
}

/// What can be made wrong, by the names of the trait's methods and the suite's subjects.
const FAULTS: [&str; 23] = [
    "upload",
    "fill",
    "reshape",
    "permute",
    "slice",
    "embed",
    "broadcast",
    "concat",
    "take",
    "put",
    "map",
    "reduce_sum",
    "einsum",
    "conv",
    "conv_inputs",
    "conv_weights",
    "window_sum",
    "window_spread",
    "max_pool_indices",
    "gather",
    "scatter",
    "dense",
    "outer",
];

/// The CPU, of which one primitive gives one wrong number.
#[derive(Clone)]
struct Spoilt {
    inner: Cpu<f32>,
    fault: &'static str,
}

type Tensor = <Cpu<f32> as Backend>::Tensor;
type Indices = <Cpu<f32> as Backend>::Indices;

impl Spoilt {
    fn new(fault: &'static str) -> Spoilt {
        let inner = Cpu::new();
        Spoilt { inner, fault }
    }

    /// The result, its last entry off by a thousandth.
    fn of(&self, primitive: &str, result: Tensor) -> Tensor {
        if self.fault != primitive {
            return result;
        }
        let shape = self.inner.shape(&result);
        let mut values = self.inner.read(&result).expect("the CPU works");
        if let Some(last) = values.last_mut() {
            *last += 1e-3 * last.abs().max(1.0);
        }
        self.inner.upload(&shape, HostSlice::F32(&values))
    }
}

impl Backend for Spoilt {
    type Real = f32;
    type Tensor = Tensor;
    type Indices = Indices;

    fn shape(&self, tensor: &Tensor) -> Shape {
        self.inner.shape(tensor)
    }
    fn upload(&self, shape: &Shape, values: HostSlice<'_>) -> Tensor {
        self.of("upload", self.inner.upload(shape, values))
    }
    fn fill(&self, shape: &Shape, value: f64) -> Tensor {
        self.of("fill", self.inner.fill(shape, value))
    }
    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        self.inner.read(tensor)
    }
    fn map(&self, expr: &Expr, inputs: &[&Tensor]) -> Tensor {
        self.of("map", self.inner.map(expr, inputs))
    }
    fn einsum(&self, einsum: &Einsum, left: &Tensor, right: &Tensor) -> Tensor {
        self.of("einsum", self.inner.einsum(einsum, left, right))
    }
    fn conv(&self, x: &Tensor, w: &Tensor, window: &Window, groups: usize) -> Tensor {
        self.of("conv", self.inner.conv(x, w, window, groups))
    }
    fn conv_inputs(&self, z: &Tensor, w: &Tensor, window: &Window, groups: usize) -> Tensor {
        self.of("conv_inputs", self.inner.conv_inputs(z, w, window, groups))
    }
    fn conv_weights(
        &self,
        z: &Tensor,
        x: &Tensor,
        window: &Window,
        groups: usize,
        sum: bool,
    ) -> Tensor {
        let result = self.inner.conv_weights(z, x, window, groups, sum);
        self.of("conv_weights", result)
    }
    fn window_sum(&self, x: &Tensor, window: &Window) -> Tensor {
        self.of("window_sum", self.inner.window_sum(x, window))
    }
    fn window_spread(&self, z: &Tensor, window: &Window) -> Tensor {
        self.of("window_spread", self.inner.window_spread(z, window))
    }
    fn max_pool_indices(&self, x: &Tensor, window: &Window) -> Indices {
        match self.fault {
            // The least in place of the largest.
            "max_pool_indices" => {
                let negated = self.inner.map(&-Expr::input(0), &[x]);
                self.inner.max_pool_indices(&negated, window)
            }
            _ => self.inner.max_pool_indices(x, window),
        }
    }
    fn gather(&self, x: &Tensor, indices: &Indices, window: &Window) -> Tensor {
        self.of("gather", self.inner.gather(x, indices, window))
    }
    fn scatter(&self, z: &Tensor, indices: &Indices, window: &Window) -> Tensor {
        self.of("scatter", self.inner.scatter(z, indices, window))
    }
    fn reduce_sum(&self, x: &Tensor, axes: &[usize]) -> Tensor {
        self.of("reduce_sum", self.inner.reduce_sum(x, axes))
    }
    fn broadcast(&self, x: &Tensor, rest: &[usize]) -> Tensor {
        self.of("broadcast", self.inner.broadcast(x, rest))
    }
    fn reshape(&self, x: &Tensor, rest: &[usize]) -> Tensor {
        self.of("reshape", self.inner.reshape(x, rest))
    }
    fn permute(&self, x: &Tensor, order: &[usize]) -> Tensor {
        self.of("permute", self.inner.permute(x, order))
    }
    fn slice(&self, x: &Tensor, axis: usize, start: usize, stop: usize) -> Tensor {
        self.of("slice", self.inner.slice(x, axis, start, stop))
    }
    fn embed(&self, x: &Tensor, axis: usize, start: usize, extent: usize) -> Tensor {
        self.of("embed", self.inner.embed(x, axis, start, extent))
    }
    fn take(&self, x: &Tensor, indices: &Tensor, axis: usize) -> Tensor {
        self.of("take", self.inner.take(x, indices, axis))
    }
    fn put(
        &self,
        z: &Tensor,
        indices: &Tensor,
        axis: usize,
        range: Range<usize>,
        sum: bool,
    ) -> Tensor {
        self.of("put", self.inner.put(z, indices, axis, range, sum))
    }
    fn concat(&self, inputs: &[&Tensor], axis: usize) -> Tensor {
        self.of("concat", self.inner.concat(inputs, axis))
    }
}

impl Contract for Spoilt {
    type Accumulator = <Cpu<f32> as Contract>::Accumulator;
    type Pending = <Cpu<f32> as Contract>::Pending;

    fn accumulator(&self, rows: usize, columns: usize) -> Self::Accumulator {
        self.inner.accumulator(rows, columns)
    }
    fn accumulates_in_host_memory(&self) -> bool {
        self.inner.accumulates_in_host_memory()
    }
    fn accumulate_dense(
        &self,
        tile: &mut Self::Accumulator,
        how: Placement,
        origin: (usize, usize),
        sides: (&Tensor, &Tensor),
    ) {
        // Forgotten where it is wrong.
        if self.fault != "dense" {
            self.inner.accumulate_dense(tile, how, origin, sides);
        }
    }
    fn accumulate_outer(
        &self,
        tile: &mut Self::Accumulator,
        how: Placement,
        sides: (OuterAxes, OuterAxes),
        term: OuterTerm<'_, Tensor>,
        scaled: Scaled,
    ) {
        // Added twice where it is wrong.
        let times = if self.fault == "outer" { 2 } else { 1 };
        for _ in 0..times {
            self.inner.accumulate_outer(tile, how, sides, term, scaled);
        }
    }
    fn finish(&self, tile: Self::Accumulator) -> Self::Pending {
        self.inner.finish(tile)
    }
    fn collect(&self, pending: Self::Pending) -> Result<Vec<f32>> {
        self.inner.collect(pending)
    }
}
