//! Models whose weights, data and loss are in memory: a graph with arrays beside it, borrowed arrays, derivatives of a loss.

use hessblock::data::{ArraySource, Dataset};
use hessblock::loss::{CrossEntropy, GivenHessian, Loss, Sample, Target};
use hessblock::network::Network;
use hessblock::onnx::{OnnxOptions, Weights, load, load_graph};
use hessblock::{Device, Error, Part, Precision, Session};
use ndarray::{Array2, Array3, Array4};
use std::ops::Range;
use std::sync::Arc;

const MODEL: &str = "examples/digits/model.onnx";

/// The network of the file, its graph with the initializers taken out, and its arrays.
fn digits() -> (Network, Vec<u8>) {
    let network = load(MODEL, &OnnxOptions::default()).expect("the example is there");
    let bytes = std::fs::read(MODEL).expect("the example is there");
    (network, without_initializers(&bytes))
}

/// A protobuf message's fields: number, wire type, and the bytes of the whole field and of its content.
fn fields(bytes: &[u8]) -> Vec<(u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let varint = |at: &mut usize| {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    };
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let start = at;
        let key = varint(&mut at);
        let content = match key & 7 {
            0 => {
                let from = at;
                varint(&mut at);
                from..at
            }
            1 => at..at + 8,
            5 => at..at + 4,
            _ => {
                let length = varint(&mut at) as usize;
                at..at + length
            }
        };
        at = content.end;
        found.push((key >> 3, start..at, content));
    }
    found
}

fn without_initializers(model: &[u8]) -> Vec<u8> {
    const GRAPH: u64 = 7;
    const INITIALIZER: u64 = 5;
    let mut out = Vec::new();
    for (number, whole, content) in fields(model) {
        if number != GRAPH {
            out.extend_from_slice(&model[whole]);
            continue;
        }
        let graph = &model[content];
        let kept = fields(graph)
            .into_iter()
            .filter(|(n, ..)| *n != INITIALIZER);
        let kept: Vec<u8> = kept
            .flat_map(|(_, whole, _)| graph[whole].to_vec())
            .collect();
        out.push((GRAPH << 3 | 2) as u8);
        let mut length = kept.len();
        while length >= 128 {
            out.push((length & 127 | 128) as u8);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(kept);
    }
    out
}

fn weights(network: &Network, scale: f64, constant: &[&str]) -> Weights {
    let mut weights = Weights::default();
    for parameter in &network.parameters {
        let values: Vec<f64> = parameter.data.to_f64().iter().map(|v| v * scale).collect();
        let (name, shape) = (parameter.name.clone(), &parameter.data.shape);
        weights = match constant.contains(&name.as_str()) {
            true => weights.constant(name, shape, values),
            false => weights.parameter(name, shape, values),
        };
    }
    weights
}

fn session(network: Network) -> Session {
    let data = Dataset::open("examples/digits/images.npy")
        .and_then(|data| data.with_targets("examples/digits/labels.npy"))
        .and_then(|data| data.with_samples(0..20));
    Session::builder(network)
        .data(data.expect("the example is there"))
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

#[test]
fn graph_with_its_arrays_beside_it_is_the_file() {
    let (file, graph) = digits();
    let given = weights(&file, 1.0, &[]);
    let network = load_graph(graph, "digits", given, &OnnxOptions::default()).expect("a network");
    let names = |n: &Network| -> Vec<(String, String, usize)> {
        let each = n.parameters.iter();
        each.map(|p| (p.name.clone(), p.layer.clone(), p.offset))
            .collect()
    };
    assert_eq!(names(&network), names(&file));
    let (own, other) = (session(network), session(file));
    assert_eq!(
        own.ggn().diagonal().unwrap(),
        other.ggn().diagonal().unwrap()
    );
    assert_eq!(own.outputs().unwrap(), other.outputs().unwrap());
}

#[test]
fn array_given_as_a_constant_is_no_parameter_and_an_unused_parameter_has_rows_of_zeros() {
    let (file, graph) = digits();
    let given = weights(&file, 1.0, &["dense1.weight"]).parameter("spare", &[3], vec![1.0f32; 3]);
    let network = load_graph(graph, "digits", given, &OnnxOptions::default()).expect("a network");
    let p = file.parameter_count() - 16 * 64 + 3;
    assert_eq!(network.parameter_count(), p);
    assert!(network.parameter("dense1.weight").is_err());
    assert!(network.warnings.iter().any(|w| w.contains("spare")));
    let spare = network.parameters[network.parameter("spare").unwrap()].range();
    let session = session(network);
    for matrix in [session.ggn(), session.hessian(), session.empirical_fisher()] {
        let blocks = matrix
            .parts([Part::Full])
            .unwrap()
            .to_arrays::<f64>()
            .unwrap();
        let full = blocks[0].matrix();
        assert!(
            spare
                .clone()
                .all(|row| full.row(row).iter().all(|v| *v == 0.0))
        );
        assert!(full.iter().any(|v| *v != 0.0));
        assert_eq!(
            matrix
                .apply(ndarray::Array1::<f64>::ones(p).view())
                .unwrap()[spare.start],
            0.0
        );
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused_by_name() {
    let (file, graph) = digits();
    let refused = |weights: Weights| {
        let loaded = load_graph(graph.clone(), "digits", weights, &OnnxOptions::default());
        loaded.expect_err("it does not fit").to_string()
    };
    let all = || weights(&file, 1.0, &[]);
    let cases = [
        (
            all().constant("head.bias", &[10], vec![0.0f32; 10]),
            "head.bias",
        ),
        (all().parameter("steps", &[2], vec![1i64, 2]), "steps"),
        (all().constant("mean", &[3], vec![0.0f32; 2]), "mean"),
        (weights(&file, f64::NAN, &[]), "dense1.weight"),
        (Weights::default(), "dense1.weight"),
    ];
    for (weights, name) in cases {
        let message = refused(weights);
        assert!(
            message.contains("digits") && message.contains(name),
            "{message}"
        );
    }
}

#[test]
fn session_with_another_network_is_a_new_session_of_it_and_another_model_is_refused() {
    let (file, graph) = digits();
    let half = || {
        load_graph(
            graph.clone(),
            "digits",
            weights(&file, 0.5, &[]),
            &OnnxOptions::default(),
        )
    };
    let first = session(file.clone());
    let second = first.with_network(half().unwrap()).expect("the same model");
    let fresh = session(half().unwrap());
    assert_eq!(
        second.gradient().unwrap().values,
        fresh.gradient().unwrap().values
    );
    assert_ne!(
        second.gradient().unwrap().values,
        first.gradient().unwrap().values
    );
    let spare = weights(&file, 1.0, &[]).parameter("spare", &[3], vec![1.0f32; 3]);
    let spare = load_graph(graph, "digits", spare, &OnnxOptions::default()).unwrap();
    let Err(Error::Shape(message)) = first.with_network(spare) else {
        panic!("another model");
    };
    assert!(message.contains("parameters"), "{message}");
}

#[test]
fn outputs_are_those_that_derivatives_of_a_loss_can_be_given_at() {
    let (file, _) = digits();
    let own = session(file.clone());
    let outputs = own.outputs().unwrap();
    let labels = ArraySource::open("examples/digits/labels.npy")
        .unwrap()
        .read_i64(0..20)
        .unwrap();
    let loss = CrossEntropy::sum();
    let mut gradients = Array2::<f64>::zeros((20, 10));
    let mut hessians = Array3::<f64>::zeros((20, 10, 10));
    let mut values = vec![0.0; 20];
    for n in 0..20 {
        let row = outputs.row(n);
        let sample = Sample {
            index: n,
            outputs: row.as_slice().unwrap(),
            target: Target::Classes(&labels[n..n + 1]),
        };
        values[n] = loss.value(&sample) / 20.0;
        loss.gradient(&sample, gradients.row_mut(n).as_slice_mut().unwrap());
        let hessian = loss.dense_hessian(&sample);
        hessians
            .index_axis_mut(ndarray::Axis(0), n)
            .iter_mut()
            .zip(hessian)
            .for_each(|(to, v)| *to = v / 20.0);
    }
    gradients /= 20.0;
    let flat = |g: &Array2<f64>| g.iter().copied().collect::<Vec<f64>>();
    let build = |loss: GivenHessian| {
        let images = ArraySource::open("examples/digits/images.npy").unwrap();
        let images = Array4::from_shape_vec((20, 1, 8, 8), images.read_f64(0..20).unwrap());
        let data = Dataset::from_inputs(images.unwrap());
        Session::builder(file.clone())
            .data(data.with_target_array(hessians.clone()))
            .loss(loss)
            .device(Device::cpu(Precision::F64))
            .build()
    };
    let given =
        build(GivenHessian::with_gradient(flat(&gradients)).with_values(values.clone())).unwrap();
    let (a, b) = (own.gradient().unwrap(), given.gradient().unwrap());
    assert!((a.loss - b.loss).abs() < 1e-14);
    let near = |a: &[f64], b: &[f64]| {
        let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= 1e-12 * largest)
    };
    assert!(near(&a.values, &b.values));
    for (x, y) in [(own.ggn(), given.ggn()), (own.hessian(), given.hessian())] {
        assert!(near(
            &x.diagonal().unwrap().to_vec(),
            &y.diagonal().unwrap().to_vec()
        ));
    }
    // The weight of the mean is in the gradients, and the empirical Fisher matrix takes it out again once.
    let weighted = GivenHessian::with_gradient(flat(&gradients)).with_weight(1.0 / 20.0);
    let (x, y) = (
        own.empirical_fisher(),
        build(weighted).unwrap().empirical_fisher(),
    );
    assert!(near(
        &x.diagonal().unwrap().to_vec(),
        &y.diagonal().unwrap().to_vec()
    ));
    for bad in [vec![0.0; 19], vec![f64::NAN; 20]] {
        assert!(build(GivenHessian::with_gradient(flat(&gradients)).with_values(bad)).is_err());
    }
}

#[test]
fn borrowed_array_is_read_where_it_lies() {
    let bytes: Arc<Vec<u8>> =
        Arc::new([1i64, 5, -7].iter().flat_map(|v| v.to_le_bytes()).collect());
    let source = ArraySource::shared(&[3], "<i8", bytes.clone()).unwrap();
    assert!(source.integer() && source.file().is_none());
    assert_eq!(source.read_i64(1..3).unwrap(), [5, -7]);
    assert_eq!(Arc::strong_count(&bytes), 2);
    assert!(matches!(
        ArraySource::shared(&[4], "<i8", bytes.clone()),
        Err(Error::Shape(_))
    ));
    assert!(matches!(
        ArraySource::shared(&[3], "<c8", bytes),
        Err(Error::Value(_))
    ));
}

#[test]
fn rectangle_of_several_ranges_is_the_entries_of_the_whole() {
    let (file, _) = digits();
    let g = session(file).ggn();
    let full = g.parts([Part::Full]).unwrap().to_arrays::<f64>().unwrap();
    let (rows, columns) = (vec![3..5, 5..6, 1200..1203], vec![0..2, 1300..1310]);
    let request = g
        .parts([Part::Rectangle(rows.clone(), columns.clone())])
        .unwrap();
    assert_eq!(
        request.names().next(),
        Some("range=3..5+5..6+1200..1203,0..2+1300..1310")
    );
    let block = request.to_arrays::<f64>().unwrap().remove(0);
    assert_eq!(block.rows, [3..6, 1200..1203]);
    for (i, row) in rows.into_iter().flatten().enumerate() {
        for (j, column) in columns.clone().into_iter().flatten().enumerate() {
            let (found, expected) = (block.matrix()[[i, j]], full[0].matrix()[[row, column]]);
            assert!((found - expected).abs() < 1e-14, "{row} {column}");
        }
    }
    let one = |start, end| std::iter::once(start..end).collect::<Vec<Range<usize>>>();
    for (rows, columns) in [
        (vec![], one(0, 1)),
        (vec![0..3, 2..4], one(0, 1)),
        (one(0, 1), one(9, 9)),
        (one(0, 9999), one(0, 1)),
    ] {
        let refused = g.parts([Part::Rectangle(rows, columns)]);
        assert!(matches!(refused, Err(Error::Request(_))));
    }
}
