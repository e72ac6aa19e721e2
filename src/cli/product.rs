//! `product`.

use super::args::{self, Product};
use super::progress::Reporter;
use super::{open_source, print, print_json, warn_non_finite};
use crate::bytes::Bytes;
use crate::files::watch::Watch;
use crate::import::data::{ArraySource, split_key};
use crate::sink::{HashedFile, PartLayout, Sink};
use crate::tensor::Real;
use crate::{Error, Output, Precision, Remedy, Result};
use ndarray::Array2;
use std::path::Path;

/// `hessblock product`.
pub fn run(command: &Product) -> Result<()> {
    let output = Output::new(&command.out).overwrite(command.force);
    output.check()?;
    let source = args::source(&command.model, &command.data, &command.loss, &command.run);
    let source = command.matrix.of(source)?;
    let (vector_file, key) = split_key(&command.vector);
    let watch = Watch::new([vector_file.clone()]);
    // The run counts the vectors: they are not in use already.
    let operator = open_source(&source, &command.run)?;
    let (session, device) = (operator.session(), operator.session().device());
    let p = operator.size();
    let (vectors, several) = read_vectors(&command.vector, p, command.run.host_left())?;
    // Of what is read from here on.
    let mut provenance = source.provenance(&operator)?;
    let mut vector = serde_json::json!(HashedFile::watched(&vector_file, &watch)?);
    if let Some(key) = key {
        vector["key"] = key.into();
    }
    provenance.options.insert("vector".into(), vector);
    let output = output.provenance(provenance);
    let reporter = Reporter::new(command.run.quiet, "samples");
    let start = std::time::Instant::now();
    let watched = operator.clone().progress(reporter.watch());
    let product = watched.apply(vectors.view());
    reporter.finish();
    let product = product?;
    warn_non_finite("the product", product.as_slice().unwrap_or_default());
    let seconds = start.elapsed().as_secs_f64();
    watch.check()?;
    session.check_files()?;
    match device.precision() {
        Precision::F32 => write::<f32>(&output, &product, several)?,
        Precision::F64 => write::<f64>(&output, &product, several)?,
    }
    // vᵀ(product), for each vector: a first look at the curvature along it.
    let along = vectors.columns().into_iter().zip(product.columns());
    let along: Vec<f64> = along.map(|(v, h)| v.dot(&h)).collect();
    if command.run.json {
        return print_json(&serde_json::json!({
            "out": command.out,
            "curvature": operator.curvature(),
            "rank": operator.rank(),
            "vectors": vectors.ncols(),
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
        operator.curvature().symbol(),
        vectors.ncols(),
        if vectors.ncols() == 1 { "" } else { "s" },
        session.dataset().len(),
        device.name(),
        device.precision(),
    ))
}

/// Vectors of a file as columns, `[p, k]`, and whether it held several.
///
/// Refuses what does not fit the host's memory before it is read.
pub fn read_vectors(path: &Path, p: usize, host_left: Option<u64>) -> Result<(Array2<f64>, bool)> {
    let host_left = host_left.or_else(crate::plan::budget::available_memory);
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
    // The file's numbers, the same vector by vector, the product, and what is written of it.
    let bytes = 8 * 4 * p as u128 * columns as u128;
    if host_left.is_some_and(|left| bytes > left.into()) {
        let message = format!(
            "{}: {columns} vectors of {p} numbers take {} of host memory with their products; take fewer, or raise --host-memory",
            path.display(),
            Bytes(bytes)
        );
        let needed = u64::try_from(bytes).unwrap_or(u64::MAX);
        let remedies = vec![Remedy::Fewer, Remedy::HostMemory(Bytes(bytes))];
        return Err(Error::budget(
            (needed, host_left.unwrap_or(0)),
            remedies,
            message,
        ));
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
    Ok((values, several))
}

fn write<R: Real>(output: &Output, product: &Array2<f64>, several: bool) -> Result<()> {
    let mut files = output.files::<R>()?;
    let (p, k) = product.dim();
    let rows = std::iter::once(0..p).collect();
    let values: Vec<R> = product.iter().map(|&v| R::from_f64(v)).collect();
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
