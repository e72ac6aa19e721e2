//! Checks a result on disk: random entries recomputed in CPU f64 straight from the definition.

use crate::control::{CancelToken, Control, Progress};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::loss::RankReport;
use crate::plan::request::Part;
use crate::precision::Precision;
use crate::session::{Operator, Session};
use crate::setting::INPUTS;
use crate::sink::{Blocks, Provenance};
use crate::source::{InputFile, Source};
use serde::Serialize;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where files are that are no longer where they were, and which entries are taken.
///
/// ```
/// use hessblock::results::{VerifyOptions, verify};
/// # use hessblock::{Device, Output, Part, Precision, Source};
/// # let source = Source {
/// #     model: "examples/digits/model.onnx".into(),
/// #     inputs: vec!["examples/digits/images.npy".parse()?],
/// #     targets: Some("examples/digits/labels.npy".into()),
/// #     samples: Some((0, 2)),
/// #     loss: Some("cross-entropy".into()),
/// #     ..Source::default()
/// # };
/// # let session = source.session()?.device(Device::cpu(Precision::F32)).build()?;
/// # let g = source.operator(&session)?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// # let output = Output::folder(&path).provenance(source.provenance(&g)?);
/// # g.parts([Part::layer("head")])?.write(output)?;
/// # let moved = folder.path().join("moved.onnx");
/// # std::fs::copy("examples/digits/model.onnx", &moved).map_err(hessblock::Error::io(&moved))?;
/// // The model's file was moved after the result was written.
/// let options = VerifyOptions {
///     model: Some(moved),
///     entries: 16,
///     ..VerifyOptions::default()
/// };
/// assert!(verify(&path, &options)?.passed);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The network.
    pub model: Option<PathBuf>,
    /// The weights.
    pub weights: Option<PathBuf>,
    /// Files of inputs: by name, or without one where the result was made from one file.
    pub inputs: Vec<InputFile>,
    /// The targets.
    pub targets: Option<PathBuf>,
    /// The given Hessian of the loss.
    pub loss_hessian: Option<PathBuf>,
    /// The given gradient of the loss.
    pub loss_gradient: Option<PathBuf>,
    /// The weights of the classes.
    pub class_weights: Option<PathBuf>,
    /// The weight of positive labels.
    pub positive_weight: Option<PathBuf>,
    /// The mean image.
    pub mean_image: Option<PathBuf>,
    /// How many entries.
    pub entries: usize,
    /// Which entries.
    pub seed: u64,
    /// Stops it.
    pub cancel: CancelToken,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            model: None,
            weights: None,
            inputs: Vec::new(),
            targets: None,
            loss_hessian: None,
            loss_gradient: None,
            class_weights: None,
            positive_weight: None,
            mean_image: None,
            entries: 64,
            seed: 0,
            cancel: CancelToken::new(),
        }
    }
}

impl VerifyOptions {
    /// Puts the files that were moved in their place.
    ///
    /// # Errors
    /// [`Error::Request`] for inputs that the result was not made from.
    fn apply(&self, source: &mut Source) -> Result<()> {
        if let Some(moved) = &self.model {
            source.model.clone_from(moved);
        }
        for moved in &self.inputs {
            let single = source.inputs.len() == 1;
            let same = |file: &&mut InputFile| {
                file.name == moved.name || single && (file.name.is_none() || moved.name.is_none())
            };
            let Some(file) = source.inputs.iter_mut().find(same) else {
                let names = source.inputs.iter().filter_map(|f| f.name.as_deref());
                let names: Vec<&str> = names.collect();
                return Err(Error::Request(format!(
                    "{INPUTS} {}: the result was made from inputs {}; give a file that was moved as NAME=FILE",
                    moved.path.display(),
                    names.join(", ")
                )));
            };
            file.path.clone_from(&moved.path);
        }
        let optional = [
            (&mut source.weights, &self.weights),
            (&mut source.targets, &self.targets),
            (&mut source.loss_hessian, &self.loss_hessian),
            (&mut source.loss_gradient, &self.loss_gradient),
            (&mut source.class_weights, &self.class_weights),
            (&mut source.positive_weight, &self.positive_weight),
        ];
        for (file, moved) in optional {
            if moved.is_some() {
                file.clone_from(moved);
            }
        }
        if let Some(moved) = &self.mean_image {
            source.mean_image = Some(moved.display().to_string());
        }
        Ok(())
    }
}

/// One entry, as it was found and as the definition gives it.
///
/// ```
/// use hessblock::results::{VerifyOptions, verify};
/// # use hessblock::{Device, Output, Part, Precision, Source};
/// # let source = Source {
/// #     model: "examples/digits/model.onnx".into(),
/// #     inputs: vec!["examples/digits/images.npy".parse()?],
/// #     targets: Some("examples/digits/labels.npy".into()),
/// #     samples: Some((0, 2)),
/// #     loss: Some("cross-entropy".into()),
/// #     ..Source::default()
/// # };
/// # let session = source.session()?.device(Device::cpu(Precision::F32)).build()?;
/// # let g = source.operator(&session)?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// # let output = Output::folder(&path).provenance(source.provenance(&g)?);
/// # g.parts([Part::layer("head")])?.write(output)?;
/// let worst = verify(&path, &VerifyOptions { entries: 16, ..VerifyOptions::default() })?.worst;
/// println!("({}, {}): {} on disk, {} expected", worst.row, worst.column, worst.found, worst.expected);
/// assert_eq!(worst.part, "layer=head");
/// assert!(worst.error < 1e-5);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// The part.
    pub part: String,
    /// Row in the flat order.
    pub row: usize,
    /// Column in the flat order.
    pub column: usize,
    /// The value on disk.
    pub found: f64,
    /// The value by the definition.
    pub expected: f64,
    /// |found − expected| over the entry's scale: √(G_ii·G_jj), or what [`verify`] takes in its place.
    pub error: f64,
}

/// What `verify` found.
///
/// ```
/// use hessblock::results::{VerifyOptions, verify};
/// # use hessblock::{Device, Output, Part, Precision, Source};
/// # let source = Source {
/// #     model: "examples/digits/model.onnx".into(),
/// #     inputs: vec!["examples/digits/images.npy".parse()?],
/// #     targets: Some("examples/digits/labels.npy".into()),
/// #     samples: Some((0, 2)),
/// #     loss: Some("cross-entropy".into()),
/// #     ..Source::default()
/// # };
/// # let session = source.session()?.device(Device::cpu(Precision::F32)).build()?;
/// # let g = source.operator(&session)?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// # let output = Output::folder(&path).provenance(source.provenance(&g)?);
/// # g.parts([Part::layer("head")])?.write(output)?;
/// let verdict = verify(&path, &VerifyOptions { entries: 16, ..VerifyOptions::default() })?;
/// assert!(verdict.passed && verdict.worst.error <= verdict.tolerance);
/// assert_eq!(verdict.entries, 16);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Entries compared.
    pub entries: usize,
    /// The entry with the largest error.
    pub worst: Entry,
    /// The largest |found − expected| over the largest |expected|.
    pub worst_of_largest: f64,
    /// What `worst.error` may be (DESIGN §5), or five times `rounding` where that is more.
    pub tolerance: f64,
    /// How far single precision alone takes these entries, by the definition evaluated in it, as `worst.error` is
    /// measured; looked at where a result in single precision is off by more than DESIGN §5 says.
    pub rounding: Option<f64>,
    /// What was cut off the loss factor: entries are compared with those of the matrix that is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<RankReport>,
    /// Whether it is within the tolerance.
    pub passed: bool,
    /// Things a user should know of the network.
    pub warnings: Vec<String>,
}

/// Entry-by-entry tolerance in single precision (DESIGN §5).
const TOLERANCE_F32: f64 = 1e-5;
/// Entry-by-entry tolerance in double precision.
const TOLERANCE_F64: f64 = 1e-11;
/// The least scale that an entry is measured by, of the largest entry: in a deep network cotangents nearly cancel
/// here and there, and single precision loses digits of the smallest entries.
const FLOOR_F32: f64 = 1e-4;
/// The same in double precision.
const FLOOR_F64: f64 = 1e-7;
/// Entries of the diagonal, spread over all of it, that say how large the matrix is.
const SPREAD: usize = 16;
/// A scale below this of the largest entry is that of rounding alone.
const VANISHING: f64 = 1e-12;

/// Recomputes random entries of a result and compares.
///
/// Each entry's error is taken against √(G_ii·G_jj), which bounds |G_ij| where G is positive
/// semi-definite, or 1e-4 (1e-7 in double precision) of the largest entry met where that is more; against the
/// largest entry for entries that vanish by cancellation, and that of the part where the matrix is indefinite (H,
/// H − G, a loss's Hessian that is).
///
/// # Errors
/// [`Error::File`] where a file is not the one that the result was made from; what opening reports.
pub fn verify(path: &Path, options: &VerifyOptions) -> Result<Verdict> {
    let control = Control::stopped_by(options.cancel.flag());
    verify_with(path, options, &control)
}

/// [`verify`], whose progress is told to `progress`.
///
/// # Errors
/// As [`verify`].
pub fn verify_with_progress(
    path: &Path,
    options: &VerifyOptions,
    progress: &dyn Fn(Progress),
) -> Result<Verdict> {
    let control = Control {
        progress,
        cancel: options.cancel.flag(),
    };
    verify_with(path, options, &control)
}

/// [`verify`] that is watched and stopped through a control.
pub(crate) fn verify_with(
    path: &Path,
    options: &VerifyOptions,
    control: &Control<'_>,
) -> Result<Verdict> {
    let blocks = Blocks::open(path)?;
    let operator = opened(path, &blocks, options)?;
    let verdict = judge(path, &blocks, &operator, options, control)?;
    operator.session().check_files()?;
    Ok(verdict)
}

/// As [`verify`], of a result whose network and data are in memory: `operator` is the matrix that it was made of.
///
/// ```
/// use hessblock::results::{Blocks, VerifyOptions, verify_against};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F32)).build()?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("blocks");
/// let g = session.ggn();
/// g.parts([Part::Layers])?.write(Output::folder(&path).provenance(g.provenance()))?;
/// assert!(verify_against(&Blocks::open(&path)?, &g, &VerifyOptions::default())?.passed);
/// assert!(!verify_against(&Blocks::open(&path)?, &session.residual(), &VerifyOptions::default())?.passed);
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] where the data gives no finite entry; [`Error::File`] for entries outside the matrix; what the data reports.
pub fn verify_against(
    blocks: &Blocks,
    operator: &Operator,
    options: &VerifyOptions,
) -> Result<Verdict> {
    let operator = operator.clone().cancel(&options.cancel);
    let watcher = operator.session().watcher();
    watcher.control(|control| judge(Path::new("(result)"), blocks, &operator, options, control))
}

/// Compares entries of a result with those of the matrix that it was made of. `path` is for messages.
fn judge(
    path: &Path,
    blocks: &Blocks,
    operator: &Operator,
    options: &VerifyOptions,
    control: &Control<'_>,
) -> Result<Verdict> {
    let session = operator.session();
    let places = choose(blocks, options.entries, options.seed);
    check_places(path, &places, session.network().parameter_count())?;
    let expected = Expected::new(operator, &places, control)?;
    let (mut tolerance, floor) = match blocks.provenance()["precision"].as_str() {
        Some("f64") => (TOLERANCE_F64, FLOOR_F64),
        _ => (TOLERANCE_F32, FLOOR_F32),
    };
    let curvature = operator.curvature();
    let indefinite = session.loss().signed() || curvature.needs_second_derivatives();
    let scales = match indefinite {
        true => expected.scales_of_parts(&places, blocks.parts().len()),
        false => expected.scales_of_entries(floor),
    };
    let (worst, worst_of_largest) = compare(blocks, &places, &expected, &scales)?;
    // A deep network may lose more digits than DESIGN §5 allows for, whatever computes it.
    let single = tolerance == TOLERANCE_F32;
    let mut rounding = None;
    if single && worst.error > tolerance && worst.error.is_finite() {
        let off = expected.rounding(operator, &places, &scales, control)?;
        tolerance = tolerance.max(5.0 * off);
        rounding = Some(off);
    }
    Ok(Verdict {
        entries: places.len(),
        passed: worst.error <= tolerance,
        worst,
        worst_of_largest,
        tolerance,
        rounding,
        rank: operator.rank().cloned(),
        warnings: session.network().warnings.clone(),
    })
}

/// Opens what a result was made from, and checks that it is what it was.
fn opened(path: &Path, blocks: &Blocks, options: &VerifyOptions) -> Result<Operator> {
    let provenance: Provenance = serde_json::from_value(blocks.provenance().clone())
        .map_err(|e| Error::file(path, format!("its provenance cannot be read: {e}")))?;
    let mut source = Source::from_provenance(&provenance)?;
    options.apply(&mut source)?;
    if let Some(part) = blocks
        .parts()
        .iter()
        .find(|p| !Part::has_name(&p.layout.name))
    {
        return Err(Error::file(
            path,
            format!(
                "it holds {:?}, which is no part of a matrix; verify takes what `blocks` made",
                part.layout.name
            ),
        ));
    }
    let cpu = Device::cpu(Precision::F64);
    let session = source.session()?.device(cpu).build()?;
    let operator = source.operator(&session)?;
    check_files(path, &provenance, &source, &session)?;
    Ok(operator)
}

/// Refuses a result without entries, and entries outside a matrix of `p` rows.
fn check_places(path: &Path, places: &[Place], p: usize) -> Result<()> {
    if places.is_empty() {
        return Err(Error::file(path, "it holds no entries to verify"));
    }
    if let Some(place) = places
        .iter()
        .find(|e| e.flat_row >= p || e.flat_column >= p)
    {
        return Err(Error::file(
            path,
            format!(
                "entry ({}, {}) lies outside the network's {p} parameters",
                place.flat_row, place.flat_column
            ),
        ));
    }
    Ok(())
}

/// Entries by the definition.
struct Expected {
    /// For each place (i, j) the entries (i, j), (i, i) and (j, j).
    values: Vec<f64>,
    /// The largest magnitude of these, and not less than `least_scale`.
    largest: f64,
    /// The scale of what is left of zeros by rounding.
    least_scale: f64,
}

impl Expected {
    fn new(operator: &Operator, places: &[Place], control: &Control<'_>) -> Result<Expected> {
        let mut pairs = Vec::with_capacity(3 * places.len());
        for place in places {
            let (i, j) = (place.flat_row, place.flat_column);
            pairs.extend([(i, j), (i, i), (j, j)]);
        }
        // A part may hold nothing but what rounding leaves of zeros: such numbers are measured by those of the rest.
        let p = operator.size();
        let count = pairs.len();
        pairs.extend((0..SPREAD).map(|k| k * p / SPREAD).map(|i| (i, i)));
        let mut values = operator.entries_in::<f64>(&pairs, control)?;
        let greatest = |values: &[f64]| values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let least_scale = VANISHING * greatest(&values);
        values.truncate(count);
        let largest = greatest(&values).max(least_scale);
        Ok(Expected {
            values,
            largest,
            least_scale,
        })
    }

    /// The scale of each entry in an indefinite matrix: the largest entry of its part.
    fn scales_of_parts(&self, places: &[Place], parts: usize) -> Vec<f64> {
        let largest = largest_by_part(places, &self.values, parts);
        let scale = |place: &Place| largest[place.part].max(self.least_scale);
        places.iter().map(scale).collect()
    }

    /// The scale of each entry in a positive semi-definite matrix: √(G_ii·G_jj), but not less than `floor` of the largest entry.
    fn scales_of_entries(&self, floor: f64) -> Vec<f64> {
        let scale = |values: &[f64]| {
            let own = (values[1].max(0.0) * values[2].max(0.0)).sqrt();
            // Entries that vanish by cancellation (a bias before a norm) have no scale of their own.
            match own < self.largest * VANISHING {
                true => self.largest,
                false => own.max(self.largest * floor),
            }
        };
        self.values.chunks_exact(3).map(scale).collect()
    }

    /// How far single precision alone takes these entries, at most, over their scales.
    fn rounding(
        &self,
        operator: &Operator,
        places: &[Place],
        scales: &[f64],
        control: &Control<'_>,
    ) -> Result<f64> {
        let own: Vec<(usize, usize)> = places.iter().map(|e| (e.flat_row, e.flat_column)).collect();
        let rounded = operator.entries_in::<f32>(&own, control)?;
        let exact = self.values.iter().step_by(3);
        let off = rounded.iter().zip(exact).zip(scales);
        Ok(off.fold(0.0f64, |worst, ((rounded, exact), scale)| {
            worst.max((rounded - exact).abs() / scale)
        }))
    }
}

/// Returns the entry with the largest error, and the largest error of any over the largest entry.
fn compare(
    blocks: &Blocks,
    places: &[Place],
    expected: &Expected,
    scales: &[f64],
) -> Result<(Entry, f64)> {
    let mut worst = Entry {
        error: -1.0,
        ..Entry::default()
    };
    let mut worst_of_largest = 0.0f64;
    let values = expected.values.iter().step_by(3);
    for ((place, &expected_value), scale) in places.iter().zip(values).zip(scales) {
        let found = blocks.entry(place.part, place.row, place.column)?;
        let difference = (found - expected_value).abs();
        // Where both are 0, the scale may be 0 too.
        let over = |scale: f64| match difference == 0.0 {
            true => 0.0,
            false => difference / scale,
        };
        let error = over(*scale);
        worst_of_largest = worst_of_largest.max(over(expected.largest));
        // A NaN on disk is the worst there is.
        if error > worst.error || error.is_nan() {
            worst = Entry {
                part: blocks.parts()[place.part].layout.name.clone(),
                row: place.flat_row,
                column: place.flat_column,
                found,
                expected: expected_value,
                error: if error.is_nan() { f64::INFINITY } else { error },
            };
        }
    }
    Ok((worst, worst_of_largest))
}

/// The largest magnitude met in each part, the diagonal entries of its rows and columns included.
fn largest_by_part(places: &[Place], values: &[f64], parts: usize) -> Vec<f64> {
    let mut largest = vec![0.0f64; parts];
    for (place, values) in places.iter().zip(values.chunks_exact(3)) {
        let own = &mut largest[place.part];
        *own = values.iter().fold(*own, |most, v| most.max(v.abs()));
    }
    largest
}

/// Refuses files whose content is not what the result was made from.
fn check_files(
    path: &Path,
    provenance: &Provenance,
    source: &Source,
    session: &Session,
) -> Result<()> {
    let (model, data) = source.hashes(session)?;
    for (then, now) in [(&provenance.model, &model), (&provenance.data, &data)] {
        for k in 0..then.len().max(now.len()) {
            let fault = match (then.get(k), now.get(k)) {
                (Some(then), Some(now)) if then.sha256 == now.sha256 => continue,
                (Some(_), Some(now)) => format!(
                    "{} is not the file that it was made from (its SHA-256 differs)",
                    now.path
                ),
                (None, Some(now)) => format!("{} is no file that it was made from", now.path),
                (Some(then), _) => format!("it was made from {} too", then.path),
                (None, None) => continue,
            };
            return Err(Error::file(path, fault));
        }
    }
    Ok(())
}

/// An entry to compare.
struct Place {
    part: usize,
    row: usize,
    column: usize,
    flat_row: usize,
    flat_column: usize,
}

/// Random entries, spread evenly over the parts.
fn choose(blocks: &Blocks, entries: usize, seed: u64) -> Vec<Place> {
    let parts = blocks.parts();
    let mut state = seed;
    let mut places = Vec::new();
    for k in 0..entries.max(parts.len()) {
        let part = k % parts.len().max(1);
        let Some(layout) = parts.get(part).map(|p| &p.layout) else {
            break;
        };
        let rows = layout.row_count();
        let columns = layout.columns.as_ref().map(|_| layout.column_count());
        if rows == 0 || columns == Some(0) {
            continue;
        }
        let row = (split_mix(&mut state) % rows as u64) as usize;
        let (column, flat_column) = match (&layout.columns, columns) {
            (Some(ranges), Some(columns)) => {
                let column = (split_mix(&mut state) % columns as u64) as usize;
                (column, flat(ranges, column))
            }
            _ => (0, flat(&layout.rows, row)),
        };
        places.push(Place {
            part,
            row,
            column,
            flat_row: flat(&layout.rows, row),
            flat_column,
        });
    }
    places
}

/// The flat index of a position in ascending ranges.
fn flat(ranges: &[Range<usize>], mut position: usize) -> usize {
    for range in ranges {
        if position < range.len() {
            return range.start + position;
        }
        position -= range.len();
    }
    usize::MAX
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough to scatter entries.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
