//! G of few parameters below an output of many classes: made forward, and beside parts that are made backwards.

mod common;

use hessblock::import::data::{ArraySource, Dataset};
use hessblock::loss::{CrossEntropy, GivenHessian, Loss, Reduction};
use hessblock::network::builder::Builder;
use hessblock::network::{Input, Network, Operand, Parameter};
use hessblock::ops::{Elementwise, Linear, Lookup, Op};
use hessblock::plan::Plan;
use hessblock::plan::Way;
use hessblock::random::Draws;
use hessblock::run::{Control, Progress};
use hessblock::sink::{Blocks, FilesOptions, Memory, Shard, Sink, merge};
use hessblock::tensor::cpu::Cpu;
use hessblock::tensor::expression::{Expr, Unary};
use hessblock::tensor::{Contract, HostArray, Real};
use hessblock::{Curvature, Device, Error, Part, Precision, RunOptions, Session, Target};
use ndarray::{Array2, ArrayD, IxDyn};
use std::sync::atomic::{AtomicBool, Ordering};

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

fn parts(texts: &[&str]) -> Vec<Part> {
    let part = |text: &&str| text.parse().expect("a part");
    texts.iter().map(part).collect()
}

fn of_way(way: Option<Way>) -> RunOptions {
    RunOptions {
        way,
        ..RunOptions::default()
    }
}

fn planned(session: &Session, texts: &[&str], options: RunOptions) -> Plan {
    let parts = resolve(session.network(), &parts(texts)).expect("parts");
    let device = Device::cpu(Precision::F64);
    session
        .with_device(device.clone())
        .ggn()
        .plan_with(parts, options)
        .expect("a plan")
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

fn made<B: Contract>(session: &Session, backend: &B, plan: &Plan) -> Vec<Array2<f64>> {
    let mut sink = Memory::<B::Real>::new();
    let run = session.run_on(backend, plan, &mut sink, &Control::none());
    run.expect("a run");
    sink.finish().expect("all of it");
    let parts = sink.into_parts().into_iter();
    parts.map(|(_, block)| block.mapv(Real::to_f64)).collect()
}

/// Blocks by one way, or by the cheaper, on a device.
fn blocks(
    session: &Session,
    device: &Device,
    texts: &[&str],
    way: Option<Way>,
) -> Vec<Array2<f64>> {
    let blocks = session.blocks_with(device, &parts(texts), of_way(way));
    let blocks = blocks.expect("blocks").into_iter();
    blocks.map(|(_, block)| block).collect()
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
    let wide = language(4, 50, 2);
    for part in ["layer=a", "layer=table", "layer=a,head"] {
        assert_eq!(
            ways(&planned(&wide, &[part], of_way(None))),
            [Forward],
            "{part}"
        );
    }
    let counted = planned(&wide, &["layer=a"], of_way(None)).parts[0].counted;
    let counted = counted.expect("there was a choice");
    // 150 directions against 6 tangents, each forward and back.
    let ratio = counted.backward() as f64 / counted.forward as f64;
    assert!(ratio > 8.0 && ratio < 50.0, "{ratio}");
    // As many classes as parameters make the blocks of whole layers no cheaper.
    let narrow = language(4, 2, 5);
    assert_eq!(
        ways(&planned(&narrow, &["layers"], of_way(None))),
        [Backward; 3]
    );
    assert!(
        planned(&narrow, &["full"], of_way(None)).parts[0]
            .counted
            .is_none()
    );
    // Two rows of the whole matrix are two columns.
    let p = narrow.network().parameter_count();
    let rows = format!("range=3..5,0..{p}");
    assert_eq!(ways(&planned(&narrow, &[&rows], of_way(None))), [Forward]);
    // Neither samples nor memory nor the device have a say.
    for samples in [1, 9] {
        let session = language(samples, 50, 2);
        for (memory, tile) in [(None, 2048), (Some(4 << 20), 16)] {
            let mut options = of_way(None);
            (options.host_memory, options.tiling.side) = (memory, tile);
            let plan = planned(&session, &["layer=a", "layer=head"], options);
            assert_eq!(ways(&plan), [Forward, Forward]);
        }
    }
}

#[test]
fn both_ways_give_the_definition() {
    let device = |precision| Device::cpu(precision);
    for (name, session) in [
        ("language", language(7, 19, 3)),
        ("layered", layered(9, 30, None)),
    ] {
        let p = session.network().parameter_count();
        let (first, last) = match name {
            "language" => ("a", "head"),
            _ => ("narrow", "wide"),
        };
        let texts = [
            "full".to_string(),
            "diag".into(),
            format!("layer={first}"),
            format!("layer={first},{last}"),
            format!("layer={last},{first}"),
            format!("range=2..9,5..{p}"),
        ];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let pairs: Vec<(usize, usize)> = (0..p).map(|i| (i, (i * 7) % p)).collect();
        let entries = session.entries(&pairs, &Control::none()).expect("entries");
        let backward = blocks(
            &session,
            &device(Precision::F64),
            &texts,
            Some(Way::Backward),
        );
        for way in [Some(Way::Forward), None] {
            let found = blocks(&session, &device(Precision::F64), &texts, way);
            check(&found, &backward, 1e-13, name);
            assert_eq!(found[0], found[0].t(), "{name}: symmetric to the bit");
            for (pair, entry) in pairs.iter().zip(&entries) {
                let off = (found[0][*pair] - entry).abs();
                assert!(off <= 1e-13 * greatest(&found[0]), "{name}: {pair:?}");
            }
            let single = blocks(&session, &device(Precision::F32), &texts, way);
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
    let texts = ["full", "diag", "layer=narrow", "layer=wide,narrow"];
    let expected = blocks(
        &session,
        &Device::cpu(Precision::F64),
        &texts,
        Some(Way::Backward),
    );
    let mut options = of_way(Some(Way::Forward));
    options.tiling.side = 64;
    let device = Device::from(gpu.clone());
    let parts = resolve(session.network(), &parts(&texts)).expect("parts");
    for memory in [None, Some(1 << 20)] {
        options.memory = memory;
        let plan = session
            .with_device(device.clone())
            .ggn()
            .plan_with(parts.clone(), options)
            .expect("a plan");
        check(&made(&session, &gpu, &plan), &expected, 2e-6, "on a GPU");
    }
}

#[test]
fn a_pre_activation_stands_for_the_parameters_behind_it() {
    // 100 classes: 20 entries of the wide layer's pre-activation, 80 parameters behind them.
    let session = layered(5, 100, None);
    let plan = planned(&session, &["layer=wide"], of_way(None));
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
    let mut session = Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session");
    let part = ["layer=wide,narrow"];
    let moved = |session: &Session| {
        let plan = planned(session, &part, of_way(Some(Way::Forward)));
        let routes = plan.routes.expect("forward");
        let outputs: Vec<usize> = routes
            .pre_activations
            .iter()
            .map(|own| own.outputs)
            .collect();
        outputs
    };
    assert_eq!(moved(&session), [2]);
    let device = Device::cpu(Precision::F64);
    let [forward, backward] =
        [Way::Forward, Way::Backward].map(|way| blocks(&session, &device, &part, Some(way)));
    check(&forward, &backward, 1e-13, "wide, narrow");
    session.set_curvature(Curvature::Exact).expect("a gradient");
    assert_eq!(moved(&session), [20]);
}

#[test]
fn every_matrix_is_the_same_by_either_way() {
    let texts = ["layer=narrow", "layer=narrow,head", "diag"];
    let device = Device::cpu(Precision::F64);
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
        let session = layered(6, 40, None).with_curvature(curvature);
        let session = session.expect("a gradient");
        let plan = planned(&session, &["layer=narrow"], of_way(None));
        assert_eq!(ways(&plan), [chosen], "{curvature:?}");
        let [forward, backward] =
            [Way::Forward, Way::Backward].map(|way| blocks(&session, &device, &texts, Some(way)));
        check(&forward, &backward, 1e-12, &curvature.to_string());
    }
    // ∇²ℓ of both signs.
    let given = layered(6, 12, Some(Box::new(GivenHessian::default())));
    let [forward, backward] =
        [Way::Forward, Way::Backward].map(|way| blocks(&given, &device, &texts, Some(way)));
    assert!(backward[2].iter().any(|v| *v < 0.0), "indefinite");
    check(&forward, &backward, 1e-12, "given");
}

#[test]
fn a_cut_factor_stays_one_and_is_the_same_forward() {
    let session = layered(6, 60, None);
    let cpu = Device::cpu(Precision::F64);
    let cut = session.with_rank_tolerance(0.3, &cpu, RunOptions::default(), &Control::none());
    let cut = cut.expect("a cut");
    let plan = planned(&cut, &["layer=narrow"], of_way(None));
    assert_eq!(ways(&plan), [Way::Backward]);
    let texts = ["layer=narrow", "diag"];
    let backward = blocks(&cut, &cpu, &texts, None);
    check(
        &blocks(&cut, &cpu, &texts, Some(Way::Forward)),
        &backward,
        1e-12,
        "cut",
    );
}

/// Parts of a network of 40 classes: a narrow layer forward beside a head that is far cheaper backwards, as its passes go back
/// to it alone.
const MIXED: [&str; 4] = [
    "layer=head",
    "layer=narrow",
    "range=0..3,0..700",
    "param=head.weight",
];

#[test]
fn parts_of_both_ways_are_made_in_one_run_and_are_what_each_is_alone() {
    let session = layered(23, 40, None);
    let mut options = of_way(None);
    options.tiling.side = 512;
    let plan = planned(&session, &MIXED, options);
    use Way::{Backward, Forward};
    assert_eq!(ways(&plan), [Backward, Forward, Forward, Backward]);
    let names = |plan: &Plan| -> Vec<String> {
        let layouts = plan.layouts().into_iter();
        layouts.map(|layout| layout.name).collect()
    };
    assert_eq!(names(&plan), MIXED);
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
    let found = made(&session, &Cpu::<f64>::new(), &plan);
    for (k, part) in MIXED.into_iter().enumerate() {
        let plan = planned(&session, &[part], options);
        let alone = made(&session, &Cpu::<f64>::new(), &plan);
        check(&found[k..=k], &alone, 1e-13, part);
        let plan = planned(
            &session,
            &[part],
            RunOptions {
                way: Some(Backward),
                ..options
            },
        );
        check(
            &found[k..=k],
            &made(&session, &Cpu::<f64>::new(), &plan),
            1e-12,
            part,
        );
    }
    let whole = session
        .blocks(&Device::cpu(Precision::F64), &parts(&MIXED))
        .expect("blocks");
    let whole: Vec<_> = whole.into_iter().map(|(_, block)| block).collect();
    check(&whole, &found, 1e-13, "in memory");
}

#[test]
fn a_plan_of_both_ways_keeps_within_its_budget_and_counts_both() {
    let session = layered(40, 40, None);
    let plan = |bytes: Option<u64>| {
        let parts = resolve(session.network(), &parts(&MIXED)).expect("parts");
        let mut options = of_way(None);
        (options.host_memory, options.tiling.side) = (bytes, 64);
        session
            .with_device(Device::cpu(Precision::F64))
            .ggn()
            .plan_with(parts, options)
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
        &made(&session, &Cpu::<f64>::new(), &tight),
        &made(&session, &Cpu::<f64>::new(), &plenty),
        1e-12,
        "tight",
    );
    // Units of a run that is resumed hold for both.
    let again = plenty.in_units(session.network(), tight.units(), u64::MAX);
    let again = again.expect("the units fit");
    assert_eq!(again.units(), tight.units());
    assert_eq!(again.order(), tight.order());
    assert_eq!(
        made(&session, &Cpu::<f64>::new(), &again),
        made(&session, &Cpu::<f64>::new(), &tight)
    );
}

/// Runs to files, stops after so many tiles where there is a limit, and returns what was left out or the result.
fn to_files(session: &Session, target: &Target, most: Option<usize>) -> hessblock::Result<usize> {
    let options = RunOptions {
        tiling: hessblock::plan::tiles::Tiling {
            side: 64,
            regular: false,
        },
        ..RunOptions::default()
    };
    let device = Device::cpu(Precision::F32);
    let options = target.run_options(options)?;
    let plan = session
        .with_device(device.clone())
        .ggn()
        .plan_with(resolve(session.network(), &parts(&MIXED))?, options)?;
    assert!(plan.rest.is_some(), "parts of both ways");
    let cancel = AtomicBool::new(false);
    let progress = |progress: Progress| {
        assert!(progress.done <= progress.total && progress.tiles <= progress.tile_count);
        if most.is_some_and(|most| progress.tiles >= most) {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let control = Control {
        progress: &progress,
        cancel: &cancel,
    };
    let report = session.run_to_files(&device, &plan, target, &control)?;
    assert_eq!(report.tiles + report.found_tiles, plan.tile_count());
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
    let target = |name: &str| Target::new(folder.path().join(name), false).expect("a place");
    to_files(&session, &target("whole"), None).expect("a run");
    let expected = values(&folder.path().join("whole"));
    // The forward parts' tiles are the last.
    let parts = resolve(session.network(), &parts(&MIXED)).expect("parts");
    let mut tiled = RunOptions::default();
    tiled.tiling.side = 64;
    let plan = session
        .with_device(Device::cpu(Precision::F32))
        .ggn()
        .plan_with(parts, tiled)
        .expect("a plan");
    let (back, all) = (plan.tiles.len(), plan.tile_count());
    assert!(all - back >= 4, "{back} of {all}");
    for stops in [vec![1], vec![back - 1, back + 2], vec![all - 2]] {
        let name = format!("stopped at {stops:?}");
        for most in &stops {
            let stopped = to_files(&session, &target(&name), Some(*most));
            assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        }
        let found = to_files(&session, &target(&name), None).expect("the rest");
        assert!(found >= stops[stops.len() - 1], "{name}: {found}");
        assert_eq!(values(&folder.path().join(&name)), expected, "{name}");
    }
}

#[test]
fn processes_share_the_tiles_of_both_ways() {
    let session = layered(13, 40, None);
    let folder = tempfile::tempdir().expect("a folder");
    let whole = Target::new(folder.path().join("whole"), false).expect("a place");
    to_files(&session, &whole, None).expect("a run");
    let path = folder.path().join("shared");
    for index in [2, 1] {
        let options = FilesOptions {
            shard: Shard { index, of: 2 },
            ..FilesOptions::default()
        };
        let target = Target::with_options(&path, options).expect("a place");
        let parts = resolve(session.network(), &parts(&MIXED)).expect("parts");
        let mut tiled = RunOptions::default();
        tiled.tiling.side = 64;
        let device = Device::cpu(Precision::F32);
        let options = target.run_options(tiled).expect("options");
        let plan = session
            .with_device(device.clone())
            .ggn()
            .plan_with(parts, options)
            .expect("a plan");
        let report = session.run_to_files(&device, &plan, &target, &Control::none());
        let report = report.expect("a share");
        assert!(report.tiles > 0 && report.tiles < plan.tile_count());
    }
    merge(&path, false, &mut |_, _| Ok(())).expect("all is there");
    assert_eq!(values(&path), values(&folder.path().join("whole")));
}
