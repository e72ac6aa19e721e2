//! The interface as a program uses it: stopped from another thread, watched through a channel, refused and mended.

use hessblock::data::Dataset;
use hessblock::loss::{CrossEntropy, GivenHessian};
use hessblock::network::builder::Builder;
use hessblock::{
    CancelToken, Device, Error, Memory, Output, Part, Precision, Remedy, Session, SessionBuilder,
};
use ndarray::{Array1, Array2, arr1};
use std::sync::mpsc::channel;

const INPUTS: usize = 40;

fn data(samples: usize) -> Dataset {
    let inputs = Array2::from_shape_fn((samples, INPUTS), |(n, k)| {
        ((n * 31 + k * 17) % 23) as f64 / 11.0 - 1.0
    });
    let labels = Array1::from_iter((0..samples as i64).map(|n| n % 10));
    Dataset::from_arrays(inputs, labels)
}

fn builder(hidden: usize, samples: usize) -> SessionBuilder {
    let network = Builder::new(&[INPUTS]).linear("a", hidden).tanh();
    let network = network.linear("b", 10).initialize(0).build();
    Session::builder(network.expect("a network"))
        .data(data(samples))
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F32))
}

#[test]
fn a_run_that_another_thread_cancels_is_gone_on_with_to_the_same_bits() {
    let session = builder(60, 200).build().expect("a session");
    let folder = tempfile::tempdir().expect("a folder");
    let request = |session: &Session| {
        let request = session.ggn().parts([Part::Full]).expect("a part");
        request.tile_rows(128)
    };
    let output = Output::npy(folder.path().join("full.npy"));
    let token = CancelToken::new();
    let (tell, told) = channel();
    let run = {
        let request = request(&session).cancel(&token).progress(move |progress| {
            let _ = tell.send(progress);
        });
        let output = output.clone();
        std::thread::spawn(move || request.write(output))
    };
    // Some tiles are made; then this thread stops the run.
    let seen = told.iter().find(|progress| progress.tiles >= 2);
    let seen = seen.expect("progress");
    assert!(seen.done <= seen.total && seen.tile_count > 2);
    token.cancel();
    let ended = run.join().expect("the thread ends");
    // What was left to do may have been done before the run saw the token.
    if let Err(error) = ended {
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert!(!output.path().exists());
        let left = output.left().expect("tiles that are kept");
        assert!(left.tiles >= 1, "{left:?}");
        let report = request(&session).write(&output).expect("the rest");
        assert!(report.found_tiles >= 1 && report.tiles > 0);
    }
    let whole = Output::npy(folder.path().join("whole.npy"));
    request(&session).write(&whole).expect("a result");
    let bytes = |output: &Output| std::fs::read(output.path()).expect("the file");
    assert!(bytes(&output) == bytes(&whole));
}

#[test]
fn everything_goes_to_other_threads() {
    fn goes<T: Send + Sync + Clone + 'static>() {}
    goes::<Session>();
    goes::<hessblock::Operator>();
    goes::<hessblock::Request>();
    goes::<hessblock::Plan>();
    goes::<Output>();
    goes::<CancelToken>();
    goes::<Device>();
}

#[test]
fn work_in_memory_is_watched_and_stopped_too() {
    let session = builder(20, 50).build().expect("a session");
    let (tell, told) = channel();
    let watched = session.clone().progress(move |progress| {
        let _ = tell.send(progress);
    });
    watched.hessian().diagonal().expect("a diagonal");
    watched.gradient().expect("a gradient");
    drop(watched);
    assert!(told.iter().count() >= 2);
    let token = CancelToken::new();
    token.cancel();
    let stopped = session.cancel(&token);
    let vector = Array1::<f32>::ones(stopped.network().parameter_count());
    for ended in [
        stopped.ggn().apply(vector.view()).map(|_| ()),
        stopped.ggn().diagonal().map(|_| ()),
        stopped.hessian().quadratic_form(vector.view()).map(|_| ()),
        stopped.gradient().map(|_| ()),
        stopped.ggn().estimated_traces(4, 0).map(|_| ()),
    ] {
        assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    }
}

#[test]
fn a_budget_that_is_too_small_is_mended_by_what_the_error_asks_for() {
    let small = Memory::default().host("2MiB".parse().expect("a size"));
    let session = builder(60, 200).memory(small).build().expect("a session");
    let request = session.ggn().parts([Part::layer("a")]).expect("a part");
    let folder = tempfile::tempdir().expect("a folder");
    let output = Output::npy(folder.path().join("a.npy"));
    for refused in [
        request.to_arrays::<f32>().map(|_| ()),
        request.write(&output).map(|_| ()),
        request.plan().map(|_| ()),
    ] {
        let Err(Error::Budget {
            needed,
            available,
            remedies,
            ..
        }) = refused
        else {
            panic!("{refused:?}")
        };
        assert!(needed > available && available == 2 << 20);
        assert!(!remedies.is_empty());
    }
    assert!(!output.path().exists());
    // Followed until nothing is refused any more: a larger result may ask for more than the first look said.
    let mut session = session;
    for _ in 0..3 {
        let request = session.ggn().parts([Part::layer("a")]).expect("a part");
        match request.to_arrays::<f32>() {
            Ok(blocks) => {
                assert_eq!(blocks[0].matrix().dim(), (2460, 2460));
                return;
            }
            Err(Error::Budget { remedies, .. }) => {
                let least = remedies.iter().find_map(|remedy| match remedy {
                    Remedy::HostMemory(least) => Some(*least),
                    _ => None,
                });
                let least = least.expect("more memory would do");
                session = session.with_memory(Memory::default().host(least));
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("what the errors ask for does not do");
}

#[test]
fn a_session_does_not_change_and_its_relatives_share_what_they_can() {
    let session = builder(5, 20).build().expect("a session");
    let before = session.gradient().expect("a gradient").loss;
    let values: Vec<f64> = session.network().parameter_values();
    let halved: Vec<f64> = values.iter().map(|v| v / 2.0).collect();
    let other = session.with_parameters(&halved).expect("a session");
    assert_ne!(other.gradient().expect("a gradient").loss, before);
    assert_eq!(session.gradient().expect("a gradient").loss, before);
    assert!(matches!(
        session.with_parameters(&halved[1..]),
        Err(Error::Shape(_))
    ));
    let double = session.with_device(Device::cpu(Precision::F64));
    let exact = double.gradient().expect("a gradient").loss;
    assert!((exact - before).abs() < 1e-6 && exact != before);
}

#[test]
fn vectors_are_one_or_several_in_either_precision() {
    let session = builder(5, 20).device(Device::cpu(Precision::F64));
    let session = session.build().expect("a session");
    let g = session.hessian();
    let p = g.size();
    let vectors = Array2::from_shape_fn((p, 3), |(i, k)| ((i * 7 + k * 3) % 5) as f64 - 2.0);
    let products = g.apply(vectors.view()).expect("products");
    let forms = g.quadratic_form(vectors.view()).expect("forms");
    let full = &g.parts([Part::Full]).expect("a part");
    let full = full.to_arrays::<f64>().expect("H").remove(0).into_matrix();
    for k in 0..3 {
        let own = g.apply(vectors.column(k)).expect("a product");
        let expected = full.dot(&vectors.column(k));
        let scale = expected.iter().fold(1e-300f64, |m, v| m.max(v.abs()));
        for i in 0..p {
            assert!((own[i] - expected[i]).abs() < 1e-12 * scale);
            assert!((products[[i, k]] - expected[i]).abs() < 1e-12 * scale);
        }
        let form = vectors.column(k).dot(&expected);
        assert!((forms[k] - form).abs() < 1e-10 * form.abs().max(1.0));
    }
    let single = vectors.mapv(|v| v as f32);
    let rounded: Array2<f32> = g.apply(single.view()).expect("products");
    assert!((f64::from(rounded[[0, 0]]) - products[[0, 0]]).abs() < 1e-6);
    // None are none, and vectors of another length are refused, also where several make up a multiple of p.
    let none = Array2::<f64>::zeros((p, 0));
    assert_eq!(g.apply(none.view()).expect("nothing").dim(), (p, 0));
    let long = Array2::<f64>::zeros((2 * p, 1));
    assert!(matches!(g.apply(long.view()), Err(Error::Shape(_))));
    assert!(matches!(
        g.quadratic_form(arr1(&[1.0f64]).view()),
        Err(Error::Shape(_))
    ));
}

#[test]
fn what_is_missing_or_impossible_is_said() {
    let network = || Builder::new(&[3]).linear("a", 2).initialize(0).build();
    let network = || network().expect("a network");
    let missing = Session::builder(network())
        .loss(CrossEntropy::mean())
        .build();
    let text = missing.expect_err("no data").to_string();
    assert!(text.contains(".data("), "{text}");
    let inputs = || Array2::<f64>::ones((2, 3));
    let data = Dataset::from_arrays(inputs(), arr1(&[0i64, 1]));
    let text = Session::builder(network()).data(data).build();
    let text = text.expect_err("no loss").to_string();
    assert!(text.contains(".loss("), "{text}");
    // A loss without gradient has G, and says what else needs one.
    let hessians = ndarray::Array3::<f64>::ones((2, 2, 2));
    let session = Session::builder(network())
        .data(Dataset::from_arrays(inputs(), hessians))
        .loss(GivenHessian::default())
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session");
    assert!(session.ggn().diagonal().is_ok());
    assert!(matches!(
        session.hessian().diagonal(),
        Err(Error::Request(_))
    ));
    assert!(matches!(session.gradient(), Err(Error::Request(_))));
    for (output, word) in [
        (Output::npy("x.zarr"), ".npy"),
        (Output::folder("x.npy"), "folder"),
        (Output::zarr("x"), ".zarr"),
        (Output::safetensors("x.npy"), ".safetensors"),
    ] {
        let request = session.ggn().parts([Part::Full]).expect("a part");
        let error = request.write(output).expect_err("another ending");
        assert!(error.to_string().contains(word), "{error}");
    }
    let unknown = session.ggn().parts([Part::layer("b")]);
    let text = unknown.expect_err("unknown").to_string();
    assert!(
        text.contains("layer \"b\"") || text.contains("layer b"),
        "{text}"
    );
    assert!(Output::zarr("x.zarr").shard(3, 2).is_err());
    for output in [
        Output::zarr("x.zarr").compress(99),
        Output::zarr("x.zarr").chunks_per_file(0),
        Output::npy("x.npy").compress(3),
    ] {
        assert!(matches!(output.check(), Err(Error::Request(_))));
    }
    let outside = session.ggn().entries(&[(0, 0), (8, 0)]);
    assert!(matches!(outside, Err(Error::Request(_))));
    let turned = ndarray::Array3::<f64>::zeros((2, 2, 1));
    let turned = session.jacobian_transpose_product(&turned);
    assert!(matches!(turned, Err(Error::Shape(_))));
    let (none, left_out) = session
        .ggn()
        .parts([Part::Full])
        .expect("a part")
        .without_larger("1".parse().expect("a size"));
    assert_eq!(left_out.len(), 1);
    assert!(matches!(none.to_arrays::<f64>(), Err(Error::Request(_))));
}
