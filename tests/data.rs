//! Data sets as a user makes them: files of images and labels, selected, preprocessed, fitted to a network.

use hessblock::Result;
use hessblock::data::{ArraySource, Dataset, MeanImage, Preprocess};
use hessblock::internals::files::npy::write_header;
use hessblock::internals::ops::Broadcast;
use hessblock::loss::{CrossEntropy, Loss, OutputShape, TargetBatch};
use hessblock::network::{Input, Network, Operand};
use ndarray::{Array, Array2, Array3, array};
use std::io::Write;
use std::path::{Path, PathBuf};

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// An IDX file of unsigned bytes, gzipped, as MNIST comes.
fn mnist(folder: &Path, name: &str, shape: &[usize], values: &[u8]) -> PathBuf {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|e| (*e as u32).to_be_bytes()));
    bytes.extend(values);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    write(folder, name, &encoder.finish().unwrap())
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this was to be refused"),
        Err(error) => error.to_string(),
    }
}

/// A network that gives its inputs' first as they are.
fn network(inputs: Vec<Input>) -> Network {
    let output_sample_axis = inputs[0].sample_axis;
    Network {
        inputs,
        output_sample_axis,
        ..Network::default()
    }
}

/// A network of one input of that shape at batch 1.
fn of_shape(rest: &[usize]) -> Network {
    network(vec![Input::new("x", rest)])
}

/// An input of integers, two per sample.
fn tokens() -> Input {
    Input {
        integer: true,
        ..Input::new("tokens", &[1, 2])
    }
}

/// What a network of one input takes.
fn inputs(data: &Dataset, range: std::ops::Range<usize>) -> Result<Vec<f64>> {
    let mut inputs = data.inputs(range)?;
    assert_eq!(inputs.len(), 1);
    Ok(inputs.remove(0))
}

#[test]
fn mnist_files_fit_a_convolutional_network() {
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..5 * 6).map(|k| k * 8).collect();
    let images = mnist(
        folder.path(),
        "train-images-idx3-ubyte.gz",
        &[5, 2, 3],
        &pixels,
    );
    let labels = mnist(
        folder.path(),
        "train-labels-idx1-ubyte.gz",
        &[5],
        &[3, 1, 4, 1, 5],
    );
    let mut data = Dataset::open(&images)
        .and_then(|d| d.with_targets(&labels))
        .and_then(|d| d.with_samples(1..4))
        .unwrap()
        .with_preprocess(Preprocess {
            scale: 1.0 / 255.0,
            mean: vec![0.1307],
            std: vec![0.3081],
            ..Default::default()
        });
    // [N, 2, 3] becomes [1, 2, 3] per sample.
    data.bind(&of_shape(&[1, 1, 2, 3])).unwrap();
    assert_eq!((data.len(), data.sample_range()), (3, 1..4));
    let values = inputs(&data, 1..3).unwrap();
    let expected: Vec<f64> = pixels[12..24]
        .iter()
        .map(|p| (f64::from(*p) * (1.0 / 255.0) - 0.1307) / 0.3081)
        .collect();
    assert_eq!(values, expected);
    let targets = data.targets(1..3).unwrap();
    let classes = TargetBatch::Classes {
        first: 2,
        shape: vec![],
        values: vec![4, 1],
    };
    assert_eq!(targets, classes);
    // The loss names the sample by its place in the file.
    let mut batches = vec![targets];
    let error = message(
        CrossEntropy::default().prepare(&OutputShape::new(&[4]), &mut || Ok(batches.pop())),
    );
    assert!(error.contains("sample 2 is 4"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_and_a_hint() {
    let bind = |file: &[usize], rest: &[usize]| {
        let mut data = Dataset::from_inputs(Array::<f32, _>::zeros(file));
        data.bind(&of_shape(rest))
    };
    bind(&[4, 64], &[1, 64]).unwrap();
    bind(&[4, 1, 8, 8], &[1, 1, 8, 8]).unwrap();
    bind(&[4, 8, 8, 1], &[1, 1, 8, 8]).unwrap();
    bind(&[4], &[1, 1]).unwrap();
    let flattened = message(bind(&[4, 8, 8], &[1, 64]));
    assert!(
        flattened.contains("[8, 8]") && flattened.contains("[64]"),
        "{flattened}"
    );
    assert!(flattened.contains("numpy.reshape"), "{flattened}");
    assert!(message(bind(&[4, 8, 9, 3], &[1, 3, 8, 9])).contains("numpy.transpose"));
    assert!(message(bind(&[4, 28, 28], &[1, 1, 32, 32])).contains("another size"));
    assert!(message(bind(&[], &[1, 3])).contains("[3]"));
}

#[test]
fn samples_may_lie_on_another_axis_as_in_the_network() {
    // Sequence first: [T, N, D].
    let array = Array3::from_shape_fn((2, 3, 2), |(t, n, d)| (100 * n + 10 * t + d) as f64);
    let sequence = network(vec![Input {
        sample_axis: 1,
        ..Input::new("x", &[2, 1, 2])
    }]);
    let mut data = Dataset::from_inputs(array.clone());
    data.bind(&sequence).unwrap();
    assert_eq!(data.len(), 3);
    let expected = [100.0, 101.0, 110.0, 111.0, 200.0, 201.0, 210.0, 211.0];
    assert_eq!(inputs(&data, 1..3).unwrap(), expected);
    // Samples first works as well.
    let first = array
        .permuted_axes([1, 0, 2])
        .as_standard_layout()
        .into_owned();
    let mut data = Dataset::from_inputs(first);
    data.bind(&sequence).unwrap();
    assert_eq!(inputs(&data, 1..3).unwrap(), expected);
}

#[test]
fn counts_and_ranges_are_checked_with_their_numbers() {
    let zeros = || Array2::<f64>::zeros((5, 3));
    let mut data = Dataset::from_arrays(zeros(), array![1i64, 2, 3, 4]);
    let error = message(data.bind(&of_shape(&[1, 3])));
    assert!(
        error.contains("5 samples") && error.contains("4 targets"),
        "{error}"
    );
    let mut data = Dataset::from_inputs(zeros()).with_samples(3..6).unwrap();
    let error = message(data.bind(&of_shape(&[1, 3])));
    assert!(error.contains("3..6") && error.contains("0..5"), "{error}");
    assert!(message(Dataset::from_inputs(zeros()).with_samples(2..2)).contains("2..2"));
    let mut data = Dataset::from_inputs(Array2::<f64>::zeros((0, 3)));
    assert!(message(data.bind(&of_shape(&[1, 3]))).contains("no samples"));
    let mut data = Dataset::from_inputs(zeros());
    assert!(message(inputs(&data, 0..1)).contains("not bound"));
    data.bind(&of_shape(&[1, 3])).unwrap();
    assert!(message(inputs(&data, 4..6)).contains("5 selected"));
    assert_eq!(data.targets(0..2).unwrap(), TargetBatch::None(2));
}

#[test]
fn values_that_are_not_finite_are_named_by_sample() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = write_header("<f4", &[4, 2]);
    let values = [0.0, 1.0, 2.0, 3.0, 4.0, f32::NAN, 6.0, 7.0];
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let path = write(folder.path(), "x.npy", &bytes);
    let mut data = Dataset::open(&path).unwrap().with_samples(1..4).unwrap();
    data.bind(&of_shape(&[1, 2])).unwrap();
    assert_eq!(inputs(&data, 0..1).unwrap(), [2.0, 3.0]);
    let error = message(inputs(&data, 0..3));
    assert!(
        error.contains("x.npy") && error.contains("sample 2 holds NaN"),
        "{error}"
    );
}

#[test]
fn inputs_of_integers_stay_integers() {
    let network = network(vec![tokens()]);
    let mut data = Dataset::from_inputs(array![[5i64, 6], [7, 8]]);
    data.bind(&network).unwrap();
    assert_eq!(inputs(&data, 1..2).unwrap(), [7.0, 8.0]);
    let mut data = data.with_preprocess(Preprocess {
        scale: 0.5,
        ..Default::default()
    });
    assert!(message(data.bind(&network)).contains("tokens"));
    let mut data = Dataset::from_inputs(array![[5.0, 6.5]]);
    data.bind(&network).unwrap();
    assert!(message(inputs(&data, 0..1)).contains("holds 6.5"));
}

#[test]
fn integers_outside_the_table_are_refused_by_file_sample_and_value() {
    let table = network(vec![Input {
        limit: Some(10),
        ..tokens()
    }]);
    let read = |network: &Network, values: [[i64; 2]; 2]| {
        let mut data = Dataset::from_inputs(ndarray::arr2(&values));
        data.bind(network).and_then(|()| inputs(&data, 0..2))
    };
    assert_eq!(
        read(&table, [[0, 9], [-10, -1]]).unwrap(),
        [0.0, 9.0, -10.0, -1.0]
    );
    for (values, value) in [([[0, 1], [2, 10]], "holds 10"), ([[0, 1], [-11, 2]], "-11")] {
        let error = message(read(&table, values));
        for part in [
            "memory",
            "sample 1",
            value,
            "10 rows",
            "0 to 9",
            "-10 to -1",
            "tokens",
        ] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    }
    // Without a table: what single precision holds exactly.
    let any = network(vec![tokens()]);
    assert_eq!(
        read(&any, [[1 << 24, -(1 << 24)], [0, 0]]).unwrap()[0],
        16_777_216.0
    );
    let error = message(read(&any, [[0, 0], [(1 << 24) + 1, 0]]));
    assert!(error.contains("sample 1 holds 16777217"), "{error}");
    // A table larger than that.
    let large = network(vec![Input {
        limit: Some(1 << 25),
        ..tokens()
    }]);
    assert!(message(read(&large, [[0, 0], [0, (1 << 24) + 1]])).contains("exact"));
}

#[test]
fn booleans_are_zero_and_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = write_header("|b1", &[2, 2]);
    bytes.extend([1, 0, 0, 1]);
    let path = write(folder.path(), "mask.npy", &bytes);
    let mut data = Dataset::open(&path).unwrap();
    data.bind(&network(vec![tokens()])).unwrap();
    assert_eq!(inputs(&data, 0..2).unwrap(), [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn several_inputs_are_matched_by_name() {
    let network = network(vec![tokens(), Input::new("image", &[1, 3])]);
    let ids = || array![[5i64, 6], [7, 8]];
    let image = || array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let half = Preprocess {
        scale: 0.5,
        ..Default::default()
    };
    let mut data = Dataset::new()
        .with_input("image", image())
        .with_input("tokens", ids())
        .with_preprocess(half.clone());
    data.bind(&network).unwrap();
    // In the network's order; integers are not scaled.
    assert_eq!(
        data.inputs(1..2).unwrap(),
        [vec![7.0, 8.0], vec![2.0, 2.5, 3.0]]
    );
    let refused = |mut data: Dataset, parts: &[&str]| {
        let error = message(data.bind(&network));
        for part in parts {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    };
    refused(
        Dataset::new().with_input("tokens", ids()),
        &[
            "\"tokens\" [2] (integers)",
            "\"image\" [3]",
            "no array for image",
        ],
    );
    refused(
        Dataset::from_inputs(image()),
        &["no array for tokens, image", "without a name", "NAME=FILE"],
    );
    let both = || {
        Dataset::new()
            .with_input("tokens", ids())
            .with_input("image", image())
    };
    refused(both().with_input("mask", ids()), &["no input \"mask\""]);
    refused(
        both().with_input("tokens", ids()),
        &["given once more: \"tokens\""],
    );
    refused(
        Dataset::new()
            .with_input("tokens", array![[1i64, 2]])
            .with_input("image", image()),
        &["holds 1 samples", "holds 2", "\"tokens\"", "\"image\""],
    );
    refused(
        both().with_target_array(array![0i64, 1, 2]),
        &["2 samples", "3 targets"],
    );
}

#[test]
fn preprocessing_needs_one_input_of_real_numbers() {
    let network = network(vec![Input::new("a", &[1, 2]), Input::new("b", &[1, 2])]);
    let zeros = || Array2::<f64>::zeros((2, 2));
    let mut data = Dataset::new()
        .with_input("a", zeros())
        .with_input("b", zeros());
    data.bind(&network).unwrap();
    let mut data = data.with_preprocess(Preprocess {
        mean: vec![1.0],
        ..Default::default()
    });
    let error = message(data.bind(&network));
    assert!(
        error.contains("(a, b)") && error.contains("leave them out"),
        "{error}"
    );
}

#[test]
fn targets_of_merged_samples_and_positions_come_flat_or_not() {
    // The output is [N·3, 2].
    let mut merged = of_shape(&[1, 2]);
    let repeat = Broadcast { rest: vec![3, 2] };
    let output = merged.append("repeat", "Expand", repeat, &[Operand::Value(0)]);
    merged.output = output.unwrap();
    assert_eq!(merged.output_positions(), 3);
    let targets = |shape: &[usize]| {
        let count = shape.iter().product::<usize>() as i64;
        let labels = Array::from_iter(0..count)
            .into_shape_with_order(shape)
            .unwrap();
        let mut data =
            Dataset::from_arrays(Array2::<f64>::zeros((4, 2)), labels).with_samples(1..3)?;
        data.bind(&merged)?;
        data.targets(0..2)
    };
    let expected = TargetBatch::Classes {
        first: 1,
        shape: vec![3],
        values: (3..9).collect(),
    };
    assert_eq!(targets(&[4, 3]).unwrap(), expected);
    assert_eq!(targets(&[12]).unwrap(), expected);
    let error = message(targets(&[11]));
    assert!(
        error.contains("[4, 3, …]") && error.contains("12 rows"),
        "{error}"
    );
}

#[test]
fn means_are_taken_off_per_channel_and_per_pixel() {
    // Two channels of two pixels.
    let array = Array3::from_shape_vec((2, 2, 2), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let array = array.unwrap();
    let with = |preprocess: Preprocess| {
        let mut data = Dataset::from_inputs(array.clone()).with_preprocess(preprocess);
        data.bind(&of_shape(&[1, 2, 2]))
            .and_then(|()| inputs(&data, 0..2))
    };
    let channels = with(Preprocess {
        mean: vec![1.0, 2.0],
        std: vec![1.0, 10.0],
        ..Default::default()
    });
    assert_eq!(channels.unwrap(), [0.0, 1.0, 0.1, 0.2, 4.0, 5.0, 0.5, 0.6]);
    let centred = with(Preprocess {
        scale: 0.5,
        mean_image: MeanImage::SelfMean,
        ..Default::default()
    });
    assert_eq!(
        centred.unwrap(),
        [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
    );
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = write_header("|u1", &[1, 2, 2]);
    bytes.extend([1, 2, 3, 4]);
    let image = write(folder.path(), "mean.npy", &bytes);
    let taken = with(Preprocess {
        mean_image: MeanImage::File(image.clone()),
        ..Default::default()
    });
    assert_eq!(taken.unwrap(), [0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 4.0]);
    let three = Preprocess {
        mean: vec![0.0; 3],
        ..Default::default()
    };
    assert!(message(with(three)).contains("2 channel(s)"));
    let zero = Preprocess {
        std: vec![0.0],
        ..Default::default()
    };
    assert!(message(with(zero)).contains("std not 0"));
    let mut other =
        Dataset::from_inputs(Array2::<f32>::zeros((2, 3))).with_preprocess(Preprocess {
            mean_image: MeanImage::File(image),
            ..Default::default()
        });
    assert!(message(other.bind(&of_shape(&[1, 3]))).contains("mean.npy"));
}

#[test]
fn the_mean_over_selected_samples_is_that_of_one_pass_over_shards() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for shard in 0..3u8 {
        let values: Vec<f32> = (0..20)
            .map(|k| f32::from(shard) * 10.0 + k as f32)
            .collect();
        let mut bytes = write_header("<f4", &[10, 2]);
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        write(folder.path(), &format!("part-{shard}.npy"), &bytes);
        all.extend(values);
    }
    let mut data = Dataset::open(folder.path())
        .and_then(|d| d.with_samples(5..25))
        .unwrap()
        .with_preprocess(Preprocess {
            mean_image: MeanImage::SelfMean,
            ..Default::default()
        });
    data.bind(&of_shape(&[1, 2])).unwrap();
    let inputs = inputs(&data, 0..20).unwrap();
    let sum: f64 = inputs.iter().sum();
    assert!(sum.abs() < 1e-9);
    let step = f64::from(all[14] - all[10]);
    assert!((inputs[4] - inputs[0] - step).abs() < 1e-12);
}

/// The real files, where this machine has them.
#[test]
fn real_digits_and_fashion_images_are_read() {
    let shared = Path::new("/work/shared/data");
    if !shared.exists() {
        return;
    }
    let mut data = Dataset::open(shared.join("digits/images.npy"))
        .and_then(|d| d.with_targets(shared.join("digits/labels.npy")))
        .unwrap();
    let (_, source) = data.input_sources().next().unwrap();
    let shape = source.shape().to_vec();
    assert_eq!(shape[0], 1797);
    let mut rest = shape.clone();
    rest[0] = 1;
    data.bind(&of_shape(&rest)).unwrap();
    assert!(inputs(&data, 0..1797).unwrap().iter().all(|x| *x <= 16.0));
    let fashion = shared.join("fashion-mnist-900");
    let images = ArraySource::open(fashion.join("train-images-idx3-ubyte.gz")).unwrap();
    let labels = ArraySource::open(fashion.join("train-labels-idx1-ubyte.gz")).unwrap();
    assert_eq!(images.shape(), [900, 28, 28]);
    assert_eq!(labels.read_i64(0..5).unwrap(), [6, 7, 8, 8, 0]);
    assert!(labels.integer() && images.read_f64(899..900).unwrap().contains(&255.0));
}
