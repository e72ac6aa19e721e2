//! `product`.

use super::args::{self, Product};
use super::progress::Reporter;
use super::{CANCEL, open_source, print, print_json, warn_non_finite};
use hessblock::bytes::Bytes;
use hessblock::files::watch::Watch;
use hessblock::import::data::{ArraySource, split_key};
use hessblock::run::Control;
use hessblock::sink::{HashedFile, PartLayout, Sink};
use hessblock::tensor::Real;
use hessblock::{Error, Result, Target};
use ndarray::Array2;
use std::path::Path;

/// `hessblock product`.
pub fn run(command: &Product) -> Result<()> {
    let mut target = Target::new(&command.out, command.force)?;
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let source = command.matrix.of(source)?;
    let (vector_file, key) = split_key(&command.vector);
    let watch = Watch::new([vector_file.clone()]);
    let (session, device) = open_source(&source, &command.run)?;
    let p = session.network().parameter_count();
    // The run counts the vectors: they are not in use already.
    let options = command.run.options();
    let (vectors, several) = read_vectors(&command.vector, p, command.run.host_left())?;
    // Of what is read from here on.
    target.provenance = source.provenance(&session, &device)?;
    let mut vector = serde_json::json!(HashedFile::watched(&vector_file, &watch)?);
    if let Some(key) = key {
        vector["key"] = key.into();
    }
    target.provenance.options.insert("vector".into(), vector);
    let reporter = Reporter::new(command.run.quiet, "samples");
    let control = Control {
        progress: &|progress| reporter.update(progress),
        cancel: &CANCEL,
    };
    let start = std::time::Instant::now();
    let product = session.product(&device, &vectors, options, &control);
    reporter.finish();
    let product = product?;
    warn_non_finite("the product", product.as_slice().unwrap_or_default());
    let seconds = start.elapsed().as_secs_f64();
    watch.check()?;
    session.check_files()?;
    if device.precision() == "f64" {
        write::<f64>(&target, &product, several)?;
    } else {
        write::<f32>(&target, &product, several)?;
    }
    // vᵀ(product), for each vector: a first look at the curvature along it.
    let along = vectors.rows().into_iter().zip(product.rows());
    let along: Vec<f64> = along.map(|(v, h)| v.dot(&h)).collect();
    if command.run.json {
        return print_json(&serde_json::json!({
            "out": command.out,
            "curvature": session.curvature(),
            "rank": session.rank(),
            "vectors": vectors.nrows(),
            "parameters": p,
            "samples": session.dataset().len(),
            "forms": along,
            "seconds": seconds,
            "device": device.name(),
            "precision": device.precision(),
            "warnings": session.network().warnings,
        }));
    }
    if command.run.quiet {
        return Ok(());
    }
    print(&format!(
        "{}: {} times {} vector{} of {p} parameters over {} samples, {seconds:.2} s on {} ({})",
        command.out.display(),
        session.curvature().symbol(),
        vectors.nrows(),
        if vectors.nrows() == 1 { "" } else { "s" },
        session.dataset().len(),
        device.name(),
        device.precision(),
    ))
}

/// Vectors of a file as rows, `[k, p]`, and whether it held `[p, k]`.
///
/// Refuses what does not fit the host's memory before it is read.
pub fn read_vectors(path: &Path, p: usize, host_left: Option<u64>) -> Result<(Array2<f64>, bool)> {
    let host_left = host_left.or_else(hessblock::plan::budget::available_memory);
    let source = ArraySource::open(path)?;
    let (columns, several) = match *source.shape() {
        [rows] if rows == p => (1, false),
        [rows, columns] if rows == p && columns > 0 => (columns, true),
        _ => {
            return Err(Error::file(
                path,
                format!(
                    "it holds an array of shape {:?}: give [{p}], or [{p}, k] for k vectors, in the flat order of the network's {p} parameters",
                    source.shape()
                ),
            ));
        }
    };
    // The file's numbers, the same as rows, the product, and what is written of it.
    let bytes = 8 * 4 * p as u128 * columns as u128;
    if host_left.is_some_and(|left| bytes > left.into()) {
        return Err(Error::Budget(format!(
            "{}: {columns} vectors of {p} numbers take {} of host memory with their products; take fewer, or raise --host-memory",
            path.display(),
            Bytes(bytes)
        )));
    }
    let values = Array2::from_shape_vec((p, columns), source.read_f64(0..p)?);
    let values = values.map_err(|e| Error::Shape(e.to_string()))?;
    if let Some((at, value)) = values.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::file(
            path,
            format!(
                "entry {} of vector {} is {value}: vectors must be finite",
                at.0, at.1
            ),
        ));
    }
    Ok((
        values.reversed_axes().as_standard_layout().into_owned(),
        several,
    ))
}

fn write<R: Real>(target: &Target, product: &Array2<f64>, several: bool) -> Result<()> {
    let mut files = target.files::<R>()?;
    let (k, p) = product.dim();
    let rows = std::iter::once(0..p).collect();
    let values: Vec<R> = product.t().iter().map(|&v| R::from_f64(v)).collect();
    if several {
        let columns = std::iter::once(0..k).collect();
        files.begin(&[PartLayout::matrix("product", rows, columns)])?;
        files.tile(0, 0..p, 0..k, &values, false)?;
    } else {
        files.begin(&[PartLayout::vector("product", rows)])?;
        files.vector(0, &values)?;
    }
    files.finish()
}
