//! The library's own times of what `python/benches/python.py` times in Python, on the same files, in turns with it.
//!
//! `cargo bench --bench beside_python -- MODEL.onnx INPUTS.npy TARGETS.npy` reads a task per line from its input, `block LAYER`
//! or `product`, and prints the milliseconds that one call took: from a request to the numbers in memory.

use hessblock::data::Dataset;
use hessblock::loss::CrossEntropy;
use hessblock::{Device, Operator, Part, Precision, Session, onnx};
use ndarray::Array1;
use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

fn block(ggn: &Operator, layer: &str) -> hessblock::Result<()> {
    let blocks = ggn.parts([Part::layer(layer)])?.to_arrays::<f32>()?;
    std::hint::black_box(blocks);
    Ok(())
}

fn product(ggn: &Operator, vector: &Array1<f64>) -> hessblock::Result<()> {
    std::hint::black_box(ggn.apply(vector.view())?);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let files: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let [model, inputs, targets] = files.as_slice() else {
        println!("started by python/benches/python.py, with a model, inputs and targets");
        return Ok(());
    };
    let network = onnx::load(model, &Default::default())?;
    let data = Dataset::open(inputs)?.with_targets(targets)?;
    let session = Session::builder(network)
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F32))
        .build()?;
    let ggn = session.ggn();
    let vector = Array1::from_shape_fn(ggn.size(), |entry| (1.0 + entry as f64).cos());
    for task in stdin().lock().lines() {
        let task = task?;
        let start = Instant::now();
        match task.split_once(' ') {
            Some(("block", layer)) => block(&ggn, layer)?,
            _ => product(&ggn, &vector)?,
        }
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
        stdout().flush()?;
    }
    Ok(())
}
