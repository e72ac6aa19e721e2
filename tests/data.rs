//! Data sets as a user makes them: files of images and labels, selected, preprocessed, fitted to a network.

use hessblock::Result;
use hessblock::files::npy::write_header;
use hessblock::import::data::{ArraySource, Dataset, MeanImage, Preprocess};
use hessblock::loss::{CrossEntropy, Loss, TargetBatch};
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
    data.bind(&[1, 1, 2, 3], 0).unwrap();
    assert_eq!((data.len(), data.sample_range()), (3, 1..4));
    let inputs = data.inputs(1..3).unwrap();
    let expected: Vec<f64> = pixels[12..24]
        .iter()
        .map(|p| (f64::from(*p) * (1.0 / 255.0) - 0.1307) / 0.3081)
        .collect();
    assert_eq!(inputs, expected);
    let targets = data.targets(1..3).unwrap();
    let classes = TargetBatch::Classes {
        first: 2,
        positions: 1,
        values: vec![4, 1],
    };
    assert_eq!(targets, classes);
    // The loss names the sample by its place in the file.
    let mut batches = vec![targets];
    let error = message(CrossEntropy::default().prepare(&[4], &mut || Ok(batches.pop())));
    assert!(error.contains("sample 2 is 4"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_and_a_hint() {
    let bind = |file: &[usize], rest: &[usize]| {
        let mut data = Dataset::from_inputs(Array::<f32, _>::zeros(file));
        data.bind(rest, 0)
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
    let mut data = Dataset::from_inputs(array.clone());
    data.bind(&[2, 1, 2], 1).unwrap();
    assert_eq!(data.len(), 3);
    let expected = [100.0, 101.0, 110.0, 111.0, 200.0, 201.0, 210.0, 211.0];
    assert_eq!(data.inputs(1..3).unwrap(), expected);
    // Samples first works as well.
    let first = array
        .permuted_axes([1, 0, 2])
        .as_standard_layout()
        .into_owned();
    let mut data = Dataset::from_inputs(first);
    data.bind(&[2, 1, 2], 1).unwrap();
    assert_eq!(data.inputs(1..3).unwrap(), expected);
}

#[test]
fn counts_and_ranges_are_checked_with_their_numbers() {
    let inputs = || Array2::<f64>::zeros((5, 3));
    let mut data = Dataset::from_arrays(inputs(), array![1i64, 2, 3, 4]);
    let error = message(data.bind(&[1, 3], 0));
    assert!(
        error.contains("5 samples") && error.contains("4 targets"),
        "{error}"
    );
    let mut data = Dataset::from_inputs(inputs()).with_samples(3..6).unwrap();
    let error = message(data.bind(&[1, 3], 0));
    assert!(error.contains("3..6") && error.contains("0..5"), "{error}");
    assert!(message(Dataset::from_inputs(inputs()).with_samples(2..2)).contains("2..2"));
    let mut data = Dataset::from_inputs(Array2::<f64>::zeros((0, 3)));
    assert!(message(data.bind(&[1, 3], 0)).contains("no samples"));
    let mut data = Dataset::from_inputs(inputs());
    assert!(message(data.inputs(0..1)).contains("not bound"));
    data.bind(&[1, 3], 0).unwrap();
    assert!(message(data.inputs(4..6)).contains("5 selected"));
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
    data.bind(&[1, 2], 0).unwrap();
    assert_eq!(data.inputs(0..1).unwrap(), [2.0, 3.0]);
    let error = message(data.inputs(0..3));
    assert!(
        error.contains("x.npy") && error.contains("sample 2 holds NaN"),
        "{error}"
    );
}

#[test]
fn inputs_of_integers_stay_integers() {
    let input = hessblock::network::Input {
        name: "tokens".into(),
        rest: vec![1, 2],
        sample_axis: 0,
        integer: true,
        limit: None,
    };
    let mut data = Dataset::from_inputs(array![[5i64, 6], [7, 8]]);
    data.bind_input(&input).unwrap();
    assert_eq!(data.inputs(1..2).unwrap(), [7.0, 8.0]);
    let mut data = data.with_preprocess(Preprocess {
        scale: 0.5,
        ..Default::default()
    });
    assert!(message(data.bind_input(&input)).contains("tokens"));
    let mut data = Dataset::from_inputs(array![[5.0, 6.5]]);
    data.bind_input(&input).unwrap();
    assert!(message(data.inputs(0..1)).contains("holds 6.5"));
}

#[test]
fn means_are_taken_off_per_channel_and_per_pixel() {
    // Two channels of two pixels.
    let array = Array3::from_shape_vec((2, 2, 2), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let array = array.unwrap();
    let with = |preprocess: Preprocess| {
        let mut data = Dataset::from_inputs(array.clone()).with_preprocess(preprocess);
        data.bind(&[1, 2, 2], 0).and_then(|()| data.inputs(0..2))
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
    assert!(message(other.bind(&[1, 3], 0)).contains("mean.npy"));
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
    data.bind(&[1, 2], 0).unwrap();
    let inputs = data.inputs(0..20).unwrap();
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
    let shape = data.input_source().shape().to_vec();
    assert_eq!(shape[0], 1797);
    let mut rest = shape.clone();
    rest[0] = 1;
    data.bind(&rest, 0).unwrap();
    assert!(data.inputs(0..1797).unwrap().iter().all(|x| *x <= 16.0));
    let fashion = shared.join("fashion-mnist-900");
    let images = ArraySource::open(fashion.join("train-images-idx3-ubyte.gz")).unwrap();
    let labels = ArraySource::open(fashion.join("train-labels-idx1-ubyte.gz")).unwrap();
    assert_eq!(images.shape(), [900, 28, 28]);
    assert_eq!(labels.read_i64(0..5).unwrap(), [6, 7, 8, 8, 0]);
    assert!(labels.integer() && images.read_f64(899..900).unwrap().contains(&255.0));
}
