//! G of few parameters below an output of many classes: made forward, and beside parts that are made backwards.

mod common;

use common::runs::run_plan;
use hessblock::data::{ArraySource, Dataset};
use hessblock::internals::ops::{Elementwise, Linear, Lookup, Op};
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::{Plan, Way};
use hessblock::internals::random::Draws;
use hessblock::internals::sink::{Blocks, merge};
use hessblock::internals::tensor::cpu::Cpu;
use hessblock::internals::tensor::expression::{Expr, Unary};
use hessblock::internals::tensor::{Contract, HostArray, Real};
use hessblock::loss::{CrossEntropy, GivenHessian, Loss};
use hessblock::network::builder::Builder;
use hessblock::network::{Input, Network, Operand, Parameter};
use hessblock::{
    CancelToken, Curvature, Device, Error, Operator, Output, Part, Precision, Progress, Request,
    Session,
};
use ndarray::{Array2, ArrayD, IxDyn};

fn numbers(seed: u64, shape: &[usize], scale: f64) -> ArrayD<f64> {
    let mut draws = Draws::new(seed, 0, 0);
    let count = shape.iter().product();
    let values = (0..count).map(|_| draws.normal() * scale).collect();
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("the count fits")
}

fn whole_numbers(seed: u64, shape: &[usize], below: usize) -> ArrayD<i64> {
    let mut draws = Draws::new(seed, 1, 0);
    let count = shape.iter().product();
    let values = (0..count).map(|_| (draws.uniform() * below as f64) as i64);
    ArrayD::from_shape_vec(IxDyn(shape), values.collect()).expect("the count fits")
}

const POSITIONS: usize = 3;
const TOKENS: usize = 6;

/// A table of 6 rows, `a` of width² + width parameters, tanh, and a head of so many classes at 3 positions.
fn language_model(classes: usize, width: usize) -> Network {
    let mut network = Network {
        inputs: vec![Input {
            name: "tokens".into(),
            rest: vec![1, POSITIONS],
            sample_axis: 0,
            integer: true,
            limit: None,
        }],
        ..Network::default()
    };
    let mut offset = 0;
    for (k, (name, shape)) in [
        ("table.weight", vec![TOKENS, width]),
        ("a.weight", vec![width, width]),
        ("a.bias", vec![width]),
        ("head.weight", vec![classes, width]),
    ]
    .into_iter()
    .enumerate()
    {
        let values = numbers(20 + k as u64, &shape, 0.7);
        let values = values.iter().map(|&v| v as f32).collect();
        network.parameters.push(Parameter {
            name: name.into(),
            layer: name.split('.').next().expect("a name").into(),
            offset,
            data: HostArray::f32(&shape, values),
        });
        offset = network.parameters[k].range().end;
    }
    let linear = || Linear {
        outputs_first: true,
    };
    let x = Expr::input;
    let nodes: Vec<(Op, Vec<Operand>)> = vec![
        (
            Lookup { axis: 0 }.into(),
            vec![Operand::Parameter(0), Operand::Value(0)],
        ),
        (
            linear().into(),
            vec![Operand::Value(1), Operand::Parameter(1)],
        ),
        (
            Elementwise::new(x(0) + x(1)).into(),
            vec![Operand::Value(2), Operand::Parameter(2)],
        ),
        (
            Elementwise::new(x(0).unary(Unary::Tanh)).into(),
            vec![Operand::Value(3)],
        ),
        (
            linear().into(),
            vec![Operand::Value(4), Operand::Parameter(3)],
        ),
    ];
    for (op, inputs) in nodes {
        network.output = network
            .append("node", "Op", op, &inputs)
            .expect("operands that fit");
    }
    network
}

fn language(samples: usize, classes: usize, width: usize) -> Session {
    let data = Dataset::from_arrays(
        ArraySource::from(whole_numbers(3, &[samples, POSITIONS], TOKENS).mapv(|v| v as f64)),
        ArraySource::from(whole_numbers(4, &[samples, POSITIONS], classes)),
    );
    let loss = CrossEntropy::mean().class_axis(-1);
    Session::builder(language_model(classes, width))
        .data(data)
        .loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

/// Layers at one position: `narrow` has 3 outputs, `wide` 20, `head` so many as there are classes.
fn layered(samples: usize, classes: usize, loss: Option<Box<dyn Loss>>) -> Session {
    let network = Builder::new(&[4])
        .linear("narrow", 3)
        .tanh()
        .linear("wide", 20)
        .softplus()
        .linear("head", classes)
        .initialize(2)
        .build()
        .expect("a network");
    let inputs = ArraySource::from(numbers(5, &[samples, 4], 1.0));
    let (targets, loss): (ArraySource, Box<dyn Loss>) = match loss {
        Some(loss) => {
            // Symmetric, of both signs.
            let mut given = numbers(6, &[samples, classes, classes], 1.0);
            let turned = given.clone().permuted_axes(vec![0, 2, 1]);
            given += &turned;
            (ArraySource::from(given), loss)
        }
        None => (
            ArraySource::from(whole_numbers(6, &[samples], classes)),
            Box::new(CrossEntropy::mean()),
        ),
    };
    Session::builder(network)
        .data(Dataset::from_arrays(inputs, targets))
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

fn of_way(way: Option<Way>) -> RunOptions {
    RunOptions {
        way,
        ..RunOptions::default()
    }
}

fn planned(operator: &Operator, parts: &[Part], options: RunOptions) -> Plan {
    let parts = resolve(operator.session().network(), parts).expect("parts");
    operator.plan_with(parts, options).expect("a plan")
}

/// The way of each part, in the order of the request.
fn ways(plan: &Plan) -> Vec<Way> {
    let of = |stage: &Plan| {
        stage
            .parts
            .iter()
            .map(|p| (p.number, stage.way()))
            .collect()
    };
    let mut ways: Vec<(usize, Way)> = plan.stages().flat_map::<Vec<_>, _>(of).collect();
    ways.sort_by_key(|(number, _)| *number);
    ways.into_iter().map(|(_, way)| way).collect()
}

fn made<B: Contract>(operator: &Operator, backend: &B, plan: &Plan) -> Vec<Array2<f64>> {
    let run = run_plan(operator, &[backend], plan);
    let parts = run.expect("a run").1.into_iter();
    parts.map(|(_, block)| block.mapv(Real::to_f64)).collect()
}

/// Blocks by one way, or by the cheaper.
fn blocks(operator: &Operator, parts: &[Part], way: Option<Way>) -> Vec<Array2<f64>> {
    let mut request = operator.parts(parts.to_vec()).expect("parts");
    if let Some(way) = way {
        request = request.way(way);
    }
    let blocks = request.to_arrays().expect("blocks").into_iter();
    blocks.map(|block| block.into_matrix()).collect()
}

fn greatest(block: &Array2<f64>) -> f64 {
    block.iter().fold(0.0, |most, v| most.max(v.abs()))
}

fn check(found: &[Array2<f64>], expected: &[Array2<f64>], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.dim(), expected.dim(), "{what}, part {k}");
        let off = greatest(&(found - expected)) / greatest(expected);
        assert!(off <= tolerance, "{what}, part {k}: off by {off:e}");
    }
}

#[test]
fn few_parameters_below_many_classes_go_forward_and_many_below_few_backwards() {
    use Way::{Backward, Forward};
    let wide = language(4, 50, 2).ggn();
    for part in [
        Part::layer("a"),
        Part::layer("table"),
        Part::between("a", "head"),
    ] {
        assert_eq!(
            ways(&planned(&wide, std::slice::from_ref(&part), of_way(None))),
            [Forward],
            "{part}"
        );
    }
    let counted = planned(&wide, &[Part::layer("a")], of_way(None)).parts[0].counted;
    let counted = counted.expect("there was a choice");
    // 150 directions against 6 tangents, each forward and back.
    let ratio = counted.backward() as f64 / counted.forward as f64;
    assert!(ratio > 8.0 && ratio < 50.0, "{ratio}");
    // As many classes as parameters make the blocks of whole layers no cheaper.
    let narrow = language(4, 2, 5).ggn();
    assert_eq!(
        ways(&planned(&narrow, &[Part::Layers], of_way(None))),
        [Backward; 3]
    );
    assert!(
        planned(&narrow, &[Part::Full], of_way(None)).parts[0]
            .counted
            .is_none()
    );
    // Two rows of the whole matrix are two columns.
    let rows = [Part::range(3..5, 0..narrow.size())];
    assert_eq!(ways(&planned(&narrow, &rows, of_way(None))), [Forward]);
    // Neither samples nor memory nor the device have a say.
    for samples in [1, 9] {
        let g = language(samples, 50, 2).ggn();
        for (memory, tile) in [(None, 2048), (Some(4 << 20), 16)] {
            let mut options = of_way(None);
            (options.host_memory, options.tiling.side) = (memory, tile);
            let plan = planned(&g, &[Part::layer("a"), Part::layer("head")], options);
            assert_eq!(ways(&plan), [Forward, Forward]);
        }
    }
}

#[test]
fn both_ways_give_the_definition() {
    for (name, session) in [
        ("language", language(7, 19, 3)),
        ("layered", layered(9, 30, None)),
    ] {
        let p = session.network().parameter_count();
        let (first, last) = match name {
            "language" => ("a", "head"),
            _ => ("narrow", "wide"),
        };
        let parts = [
            Part::Full,
            Part::Diagonal,
            Part::layer(first),
            Part::between(first, last),
            Part::between(last, first),
            Part::range(2..9, 5..p),
        ];
        let g = session.ggn();
        let single = session.with_device(Device::cpu(Precision::F32)).ggn();
        let pairs: Vec<(usize, usize)> = (0..p).map(|i| (i, (i * 7) % p)).collect();
        let entries = g.entries(&pairs).expect("entries");
        let backward = blocks(&g, &parts, Some(Way::Backward));
        for way in [Some(Way::Forward), None] {
            let found = blocks(&g, &parts, way);
            check(&found, &backward, 1e-13, name);
            assert_eq!(found[0], found[0].t(), "{name}: symmetric to the bit");
            for (pair, entry) in pairs.iter().zip(&entries) {
                let off = (found[0][*pair] - entry).abs();
                assert!(off <= 1e-13 * greatest(&found[0]), "{name}: {pair:?}");
            }
            let single = blocks(&single, &parts, way);
            check(&single, &backward, 2e-6, name);
        }
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_gpu_makes_the_same_forward_and_within_its_budget() {
    let Some(gpu) = common::gpu::open(false) else {
        return;
    };
    let session = layered(21, 30, None);
    let parts = [
        Part::Full,
        Part::Diagonal,
        Part::layer("narrow"),
        Part::between("wide", "narrow"),
    ];
    let expected = blocks(&session.ggn(), &parts, Some(Way::Backward));
    let mut options = of_way(Some(Way::Forward));
    options.tiling.side = 64;
    let g = session.with_device(Device::from(gpu.clone())).ggn();
    for memory in [None, Some(1 << 20)] {
        options.memory = memory;
        let plan = planned(&g, &parts, options);
        check(&made(&g, &gpu, &plan), &expected, 2e-6, "on a GPU");
    }
}

#[test]
fn a_pre_activation_stands_for_the_parameters_behind_it() {
    // 100 classes: 20 entries of the wide layer's pre-activation, 80 parameters behind them.
    let g = layered(5, 100, None).ggn();
    let plan = planned(&g, &[Part::layer("wide")], of_way(None));
    let routes = plan.routes.as_ref().expect("forward");
    assert_eq!(
        (
            routes.pre_activations.len(),
            routes.pre_activations[0].outputs
        ),
        (1, 20)
    );
    assert_eq!(
        (
            routes.pre_activations[0].behind.len(),
            routes.column_pairs()
        ),
        (2, 0)
    );
    // Unlike for H, also where the other layer makes what this one reads.
    let network = Builder::new(&[4])
        .linear("wide", 20)
        .tanh()
        .linear("narrow", 2)
        .tanh()
        .linear("head", 50)
        .initialize(2)
        .build()
        .expect("a network");
    let data = Dataset::from_arrays(
        ArraySource::from(numbers(5, &[7, 4], 1.0)),
        ArraySource::from(whole_numbers(6, &[7], 50)),
    );
    let loss = Box::new(CrossEntropy::mean());
    let session = Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session");
    let part = [Part::between("wide", "narrow")];
    let moved = |operator: &Operator| {
        let plan = planned(operator, &part, of_way(Some(Way::Forward)));
        let routes = plan.routes.expect("forward");
        let outputs: Vec<usize> = routes
            .pre_activations
            .iter()
            .map(|own| own.outputs)
            .collect();
        outputs
    };
    assert_eq!(moved(&session.ggn()), [2]);
    let [forward, backward] =
        [Way::Forward, Way::Backward].map(|way| blocks(&session.ggn(), &part, Some(way)));
    check(&forward, &backward, 1e-13, "wide, narrow");
    assert_eq!(moved(&session.hessian()), [20]);
}

#[test]
fn every_matrix_is_the_same_by_either_way() {
    let parts = [
        Part::layer("narrow"),
        Part::between("narrow", "head"),
        Part::Diagonal,
    ];
    for (curvature, chosen) in [
        (Curvature::Ggn, Way::Forward),
        (Curvature::EmpiricalFisher, Way::Backward),
        (
            Curvature::McGgn {
                samples: 3,
                seed: 5,
            },
            Way::Backward,
        ),
        (
            Curvature::McGgn {
                samples: 900,
                seed: 5,
            },
            Way::Forward,
        ),
    ] {
        let operator = layered(6, 40, None).operator(curvature);
        let plan = planned(&operator, &[Part::layer("narrow")], of_way(None));
        assert_eq!(ways(&plan), [chosen], "{curvature:?}");
        let [forward, backward] =
            [Way::Forward, Way::Backward].map(|way| blocks(&operator, &parts, Some(way)));
        check(&forward, &backward, 1e-12, &curvature.to_string());
    }
    // ∇²ℓ of both signs.
    let given = layered(6, 12, Some(Box::new(GivenHessian::default()))).ggn();
    let [forward, backward] =
        [Way::Forward, Way::Backward].map(|way| blocks(&given, &parts, Some(way)));
    assert!(backward[2].iter().any(|v| *v < 0.0), "indefinite");
    check(&forward, &backward, 1e-12, "given");
}

#[test]
fn a_cut_factor_stays_one_and_is_the_same_forward() {
    let cut = layered(6, 60, None).ggn().with_rank_tolerance(0.3);
    let cut = cut.expect("a cut");
    let plan = planned(&cut, &[Part::layer("narrow")], of_way(None));
    assert_eq!(ways(&plan), [Way::Backward]);
    let parts = [Part::layer("narrow"), Part::Diagonal];
    let backward = blocks(&cut, &parts, None);
    check(
        &blocks(&cut, &parts, Some(Way::Forward)),
        &backward,
        1e-12,
        "cut",
    );
}

/// Parts of a network of 40 classes: a narrow layer forward beside a head that is far cheaper backwards, as its passes go back
/// to it alone.
fn mixed() -> [Part; 4] {
    [
        Part::layer("head"),
        Part::layer("narrow"),
        Part::range(0..3, 0..700),
        Part::parameter("head.weight"),
    ]
}

#[test]
fn parts_of_both_ways_are_made_in_one_run_and_are_what_each_is_alone() {
    let g = layered(23, 40, None).ggn();
    let mut options = of_way(None);
    options.tiling.side = 512;
    let plan = planned(&g, &mixed(), options);
    use Way::{Backward, Forward};
    assert_eq!(ways(&plan), [Backward, Forward, Forward, Backward]);
    let names = |plan: &Plan| -> Vec<String> {
        let layouts = plan.layouts().into_iter();
        layouts.map(|layout| layout.name).collect()
    };
    assert_eq!(names(&plan), mixed().map(|part| part.to_string()));
    let rest = plan.rest.as_ref().expect("parts of the other way");
    assert_eq!(plan.tile_count(), plan.tiles.len() + rest.tiles.len());
    assert_eq!(plan.entries(), 840 * 840 + 15 * 15 + 3 * 700 + 800 * 800);
    let described = plan.describe(8);
    assert_eq!(described.parts.len(), 4);
    assert_eq!(described.parts[1].way, Some(Forward));
    assert_eq!(described.tiles, plan.tile_count());
    let said = described.to_string();
    assert!(
        said.contains("2 parts forward") && said.contains("2 parts backwards"),
        "{said}"
    );
    let found = made(&g, &Cpu::<f64>::new(), &plan);
    for (k, part) in mixed().into_iter().enumerate() {
        let (name, part) = (part.to_string(), [part]);
        let plan = planned(&g, &part, options);
        let alone = made(&g, &Cpu::<f64>::new(), &plan);
        check(&found[k..=k], &alone, 1e-13, &name);
        let plan = planned(
            &g,
            &part,
            RunOptions {
                way: Some(Backward),
                ..options
            },
        );
        check(
            &found[k..=k],
            &made(&g, &Cpu::<f64>::new(), &plan),
            1e-12,
            &name,
        );
    }
    let whole = blocks(&g, &mixed(), None);
    check(&whole, &found, 1e-13, "in memory");
}

#[test]
fn a_plan_of_both_ways_keeps_within_its_budget_and_counts_both() {
    let session = layered(40, 40, None);
    let g = session.ggn();
    let plan = |bytes: Option<u64>| {
        let parts = resolve(session.network(), &mixed()).expect("parts");
        let mut options = of_way(None);
        (options.host_memory, options.tiling.side) = (bytes, 64);
        g.plan_with(parts, options)
    };
    let plenty = plan(None).expect("a plan");
    let most = plenty.describe(8).host_bytes;
    let tight = plan(Some(most / 3)).expect("a smaller plan");
    assert!(tight.describe(8).host_bytes <= most / 3);
    for (stage, plenty) in tight.stages().zip(plenty.stages()) {
        assert!(stage.host_bytes <= most / 3 && stage.unit <= plenty.unit);
    }
    assert_ne!(tight.units(), plenty.units());
    check(
        &made(&g, &Cpu::<f64>::new(), &tight),
        &made(&g, &Cpu::<f64>::new(), &plenty),
        1e-12,
        "tight",
    );
    // Units of a run that is resumed hold for both.
    let again = plenty.in_units(session.network(), tight.units(), u64::MAX);
    let again = again.expect("the units fit");
    assert_eq!(again.units(), tight.units());
    assert_eq!(again.order(), tight.order());
    assert_eq!(
        made(&g, &Cpu::<f64>::new(), &again),
        made(&g, &Cpu::<f64>::new(), &tight)
    );
}

/// The parts of both ways in single precision.
fn request(session: &Session) -> Request {
    let single = session.with_device(Device::cpu(Precision::F32));
    let request = single.ggn().parts(mixed()).expect("parts");
    request.tile_rows(64)
}

/// Runs to files, stops after so many tiles where there is a limit, and returns what was left out or the result.
fn to_files(session: &Session, output: &Output, most: Option<usize>) -> hessblock::Result<usize> {
    let request = request(session);
    let plan = request.plan_for(output)?;
    assert!(plan.tiles().rest.is_some(), "parts of both ways");
    let token = CancelToken::new();
    let stop = token.clone();
    let progress = move |progress: Progress| {
        assert!(progress.done <= progress.total && progress.tiles <= progress.tile_count);
        if most.is_some_and(|most| progress.tiles >= most) {
            stop.cancel();
        }
    };
    let report = request.progress(progress).cancel(&token).write(output)?;
    assert_eq!(report.tiles + report.found_tiles, plan.tiles().tile_count());
    Ok(report.found_tiles)
}

fn values(path: &std::path::Path) -> Vec<Vec<f64>> {
    let blocks = Blocks::open(path).expect("a result");
    let of = |part: usize| {
        let shape = blocks.parts()[part].layout.shape();
        blocks
            .rows(part, 0..shape[0])
            .expect("rows")
            .into_iter()
            .collect()
    };
    (0..blocks.parts().len()).map(of).collect()
}

#[test]
fn a_run_of_both_ways_that_is_stopped_anywhere_ends_with_the_same_bits() {
    let session = layered(13, 40, None);
    let folder = tempfile::tempdir().expect("a folder");
    let output = |name: &str| Output::folder(folder.path().join(name));
    to_files(&session, &output("whole"), None).expect("a run");
    let expected = values(&folder.path().join("whole"));
    // The forward parts' tiles are the last.
    let plan = request(&session).plan_for(&output("planned"));
    let plan = plan.expect("a plan").tiles().clone();
    let (back, all) = (plan.tiles.len(), plan.tile_count());
    assert!(all - back >= 4, "{back} of {all}");
    for stops in [vec![1], vec![back - 1, back + 2], vec![all - 2]] {
        let name = format!("stopped at {stops:?}");
        for most in &stops {
            let stopped = to_files(&session, &output(&name), Some(*most));
            assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        }
        let found = to_files(&session, &output(&name), None).expect("the rest");
        assert!(found >= stops[stops.len() - 1], "{name}: {found}");
        assert_eq!(values(&folder.path().join(&name)), expected, "{name}");
    }
}

#[test]
fn processes_share_the_tiles_of_both_ways() {
    let session = layered(13, 40, None);
    let folder = tempfile::tempdir().expect("a folder");
    let whole = Output::folder(folder.path().join("whole"));
    to_files(&session, &whole, None).expect("a run");
    let path = folder.path().join("shared");
    for index in [2, 1] {
        let output = Output::folder(&path).shard(index, 2).expect("a share");
        let request = request(&session);
        let plan = request.plan_for(&output).expect("a plan");
        let report = request.write(&output).expect("a share");
        assert!(report.tiles > 0 && report.tiles < plan.tiles().tile_count());
    }
    merge(&path, false, &mut |_, _| Ok(())).expect("all is there");
    assert_eq!(values(&path), values(&folder.path().join("whole")));
}
