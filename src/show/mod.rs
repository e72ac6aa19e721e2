//! A finished result as people look at it: a table of its blocks, heat maps on a signed logarithmic scale, a page.
//!
//! Reads a result through [`Blocks`] alone, once, a bounded number of entries at a time ([`show`]); tables, figures and
//! pages are then made of what that pass left. May use `sink` and `figure`; must not know how results are computed or
//! stored.
//!
//! ```
//! use hessblock::show::{ShowOptions, show};
//! use hessblock::results::{Blocks, PartLayout};
//! # use hessblock::internals::sink::{Files, Sink};
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("block.npy");
//! # let mut sink = Files::<f64>::create(&path)?;
//! # sink.begin(&[PartLayout::matrix("layer=fc", vec![0..2], vec![0..2])])?;
//! # sink.tile(0, 0..2, 0..2, &[3.0, 0.0, 0.0, -4.0], false)?;
//! # sink.finish()?;
//! // A result of two rows: 3, 0 and 0, -4.
//! let shown = show(&Blocks::open(&path)?, "block.npy", &ShowOptions::default())?;
//! assert_eq!(shown.parts[0].statistics.norm, 5.0);
//! assert_eq!(shown.parts[0].statistics.trace, Some(-1.0));
//! assert_eq!(shown.drawing().png()?[1..4], *b"PNG");
//! # Ok::<(), hessblock::Error>(())
//! ```

mod axis;
mod grid;
mod labels;
mod page;
mod panel;
mod scale;
mod scan;
mod select;
mod sheet;
mod statistics;
mod table;
#[cfg(test)]
mod tests;
mod trace_plot;

pub use crate::figure::Drawing;
pub use select::Zoom;
pub use statistics::{Largest, Statistics};

use crate::control::{CancelToken, Control, Progress};
use crate::error::Result;
use crate::figure::grouped;
use crate::sink::{Blocks, Provenance};
use crate::text::line;
use panel::Picture;
use select::View;
use serde::Serialize;
use std::path::Path;

/// Parts that are drawn on one page.
const PICTURES: usize = 9;

/// What to show of a result.
///
/// ```
/// use hessblock::results::Blocks;
/// use hessblock::show::{ShowOptions, show};
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
/// # session.ggn().parts([Part::Layers, Part::Full])?.write(Output::folder(&path))?;
/// let parts = vec!["layer=fc2".into()];
/// let options = ShowOptions { parts, size: 400, ..ShowOptions::default() };
/// let shown = show(&Blocks::open(&path)?, "blocks", &options)?;
/// assert_eq!(shown.parts.len(), 1);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShowOptions {
    /// Names of parts; all where there is none.
    pub parts: Vec<String>,
    /// A rectangle, in the smallest of those parts that has it.
    pub zoom: Option<Zoom>,
    /// Pixels of the longer side of a lone picture's map, from 64 to 4096; several on a page are smaller.
    pub size: usize,
    /// Stops it.
    pub cancel: CancelToken,
}

impl Default for ShowOptions {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            zoom: None,
            size: 800,
            cancel: CancelToken::new(),
        }
    }
}

/// What was found in a result.
///
/// ```
/// use hessblock::results::Blocks;
/// use hessblock::show::{ShowOptions, show};
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
/// # session.ggn().parts([Part::Layers, Part::Full])?.write(Output::folder(&path))?;
/// let shown = show(&Blocks::open(&path)?, "blocks", &ShowOptions::default())?;
/// println!("{}\n{}", shown.title, shown.table());
/// assert_eq!(shown.parts.len(), 3);
/// assert!(shown.html()?.contains("layer=fc2"));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Serialize)]
pub struct Shown {
    /// Where the result is.
    pub out: String,
    /// The matrix and the network: `G of digits/model.onnx`.
    pub title: String,
    /// Loss, samples, device and date.
    pub about: String,
    /// What was computed from what, as the result says.
    pub provenance: serde_json::Value,
    /// The parts, in the order of the result.
    pub parts: Vec<ShownPart>,
    /// Parts that have no picture, because there are too many.
    pub not_drawn: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
    #[serde(skip)]
    size: usize,
}

/// What was found in a part, or in a rectangle of it.
///
/// ```
/// use hessblock::results::Blocks;
/// use hessblock::show::{ShowOptions, show};
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
/// # session.ggn().parts([Part::Layers, Part::Full])?.write(Output::folder(&path))?;
/// let shown = show(&Blocks::open(&path)?, "blocks", &ShowOptions::default())?;
/// let part = &shown.parts[1];
/// assert_eq!((part.part.as_str(), &part.shape[..]), ("layer=fc2", &[10, 10][..]));
/// assert_eq!(part.rows, [(16, 26)]);
/// println!("its norm is {:.3}", part.statistics.norm);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Serialize)]
pub struct ShownPart {
    /// Its name.
    pub part: String,
    /// What of it, where not all.
    pub zoom: Option<String>,
    /// Rows and columns; rows of a vector.
    pub shape: Vec<usize>,
    /// Flat indices of the rows, half-open.
    pub rows: Vec<(usize, usize)>,
    /// Those of the columns; none for a vector.
    pub columns: Option<Vec<(usize, usize)>>,
    /// Of all its entries.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// The share of exact zeros.
    pub zero_share: f64,
    /// By layer, in the order of the matrix; none where the result does not name its parameters.
    pub blocks: Vec<ShownBlock>,
    #[serde(skip)]
    picture: Option<Picture>,
}

/// What was found between two layers; of a vector, in one.
///
/// ```
/// use hessblock::results::Blocks;
/// use hessblock::show::{ShowOptions, show};
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
/// # session.ggn().parts([Part::Layers, Part::Full])?.write(Output::folder(&path))?;
/// let options = ShowOptions { parts: vec!["full".into()], ..ShowOptions::default() };
/// let shown = show(&Blocks::open(&path)?, "blocks", &options)?;
/// for block in &shown.parts[0].blocks {
///     println!("{} × {}: {:.3}", block.row_layer, block.column_layer, block.statistics.norm);
/// }
/// assert_eq!(shown.parts[0].blocks[0].shape, [16, 16]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct ShownBlock {
    /// The layer of the rows.
    pub row_layer: String,
    /// The layer of the columns; of a vector, that of the rows.
    pub column_layer: String,
    /// Rows and columns; rows of a vector.
    pub shape: Vec<usize>,
    /// Of its entries.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// The share of exact zeros.
    pub zero_share: f64,
}

/// Reads a result once and keeps what tables and pictures need. `out` is where it is, for the reader.
///
/// Memory: 64 MiB of entries and what reading them takes, and for each picture two numbers per pixel. Compressed results are
/// decoded by whole chunks, of which one is kept at least, and as many as make up a row of them up to 512 MiB. Where there
/// are more than 262,144 pairs of layers, only blocks of a layer with itself are told apart, as a note then says.
///
/// # Errors
/// [`crate::Error::Request`] for a part, layer or range that is not there, [`crate::Error::Io`] where reading fails.
pub fn show(blocks: &Blocks, out: &str, options: &ShowOptions) -> Result<Shown> {
    show_with(
        blocks,
        out,
        options,
        &Control::stopped_by(options.cancel.flag()),
    )
}

/// [`show`] that can be watched and stopped.
pub(crate) fn show_with(
    blocks: &Blocks,
    out: &str,
    options: &ShowOptions,
    control: &Control<'_>,
) -> Result<Shown> {
    let places = select::places(blocks);
    let views = select::views(blocks, &places, &options.parts, options.zoom.as_ref())?;
    let drawn = drawn(&views);
    let size = options.size.clamp(64, 4096);
    let side = sheet::side(drawn.iter().filter(|d| **d).count(), size);
    let count = |entries: u128| u64::try_from(entries).unwrap_or(u64::MAX);
    let total = count(views.iter().map(View::entries).sum());
    let mut done = 0;
    let mut advance = |entries: u64| {
        done += entries;
        (control.progress)(Progress {
            done,
            total,
            tiles: 0,
            tile_count: 0,
        });
        control.check()
    };
    let mut parts = Vec::new();
    let mut not_drawn = Vec::new();
    let mut same_only = Vec::new();
    for (view, drawn) in views.into_iter().zip(drawn) {
        let most = match drawn {
            true => panel::cells(&view, side),
            // A few bands, which the cores share.
            false => (64, 1),
        };
        let found = scan::scan(blocks, &view, &places, most, &mut advance)?;
        if !drawn {
            not_drawn.push(view.name.clone());
        }
        if found.same_only {
            same_only.push(crate::figure::shortened(&view.name, 40));
        }
        parts.push(ShownPart::new(view, found, &places, drawn));
    }
    let mut notes = Vec::new();
    if places.is_empty() {
        notes.push(
            "the result does not name its parameters (an older hessblock made it): layers are not told apart".into(),
        );
    }
    let broken: u64 = parts.iter().map(|p| p.statistics.non_finite).sum();
    if broken > 0 {
        let all: u64 = parts.iter().map(|p| p.statistics.entries).sum();
        notes.push(format!("{broken} of {all} entries are NaN or infinite; norms, traces and largest entries are those of the others"));
    }
    if let Some(first) = same_only.first() {
        let more = match same_only.len() {
            1 => String::new(),
            parts => format!(" and {} more", parts - 1),
        };
        notes.push(format!(
            "there are so many layers that only blocks of a layer with itself are told apart in {first}{more}; --layer NAME,NAME shows \
             those of two"
        ));
    }
    let (title, about) = headline(blocks.provenance());
    Ok(Shown {
        out: out.into(),
        title,
        about,
        provenance: blocks.provenance().clone(),
        parts,
        not_drawn,
        notes,
        size,
    })
}

/// Which views have a picture: all, or the largest of many.
fn drawn(views: &[View]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|&k| (std::cmp::Reverse(views[k].entries()), k));
    let mut drawn = vec![false; views.len()];
    for &k in order.iter().take(PICTURES) {
        drawn[k] = true;
    }
    drawn
}

impl ShownPart {
    fn new(
        view: View,
        found: scan::Scanned,
        places: &[crate::sink::ParameterPlace],
        drawn: bool,
    ) -> ShownPart {
        let pairs = |ranges: Vec<std::ops::Range<usize>>| -> Vec<(usize, usize)> {
            ranges.into_iter().map(|r| (r.start, r.end)).collect()
        };
        let shape = |rows: usize, columns: usize| match view.vector {
            true => vec![rows],
            false => vec![rows, columns],
        };
        let blocks = found.blocks.into_iter().map(|block| ShownBlock {
            row_layer: block.row_layer,
            column_layer: block.column_layer,
            shape: shape(block.shape.0, block.shape.1),
            zero_share: block.statistics.zero_share(),
            statistics: block.statistics,
        });
        ShownPart {
            part: view.name.clone(),
            zoom: view.zoom.clone(),
            shape: shape(view.rows.len(), view.columns.len()),
            rows: pairs(view.rows.ranges()),
            columns: (!view.vector).then(|| pairs(view.columns.ranges())),
            zero_share: found.whole.zero_share(),
            blocks: blocks.collect(),
            picture: drawn.then(|| Picture::new(view, found.grid, places, &found.whole)),
            statistics: found.whole,
        }
    }
}

impl Shown {
    /// The table: of every part, the blocks between its layers.
    pub fn table(&self) -> String {
        table::table(self)
    }

    /// All pictures on one page.
    pub fn drawing(&self) -> Drawing {
        sheet::draw(self)
    }

    /// A page that needs no other file: pictures that say under the pointer which entries a pixel stands for, and the
    /// tables.
    ///
    /// # Errors
    /// [`crate::Error::Value`] where a picture cannot be drawn.
    pub fn html(&self) -> Result<String> {
        page::html(self)
    }

    fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.parts.iter().filter_map(|p| p.picture.as_ref())
    }

    /// What stands below the pictures.
    fn picture_notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if !self.not_drawn.is_empty() {
            notes.push(format!(
                "the {PICTURES} largest of {} parts are drawn; --part NAME draws others, such as {}",
                self.parts.len(),
                crate::figure::shortened(&self.not_drawn[0], 40)
            ));
        }
        notes
    }
}

/// Title and the line below it.
fn headline(provenance: &serde_json::Value) -> (String, String) {
    // A result of another program may say something else, or nothing.
    let known: Provenance = serde_json::from_value(provenance.clone()).unwrap_or_default();
    let matrix = match known.curvature.as_deref() {
        None => "Result".to_string(),
        Some("ggn") => "G (generalized Gauss–Newton)".into(),
        Some("exact") => "H (exact Hessian)".into(),
        Some("residual") => "H − G (residual)".into(),
        Some(other) => other.to_string(),
    };
    let title = match known.model.first() {
        Some(model) => format!("{matrix} of {}", tail(&model.path)),
        None => matrix,
    };
    let mut about: Vec<String> = Vec::new();
    about.extend(known.loss);
    if let Some((from, to)) = known.samples {
        about.push(match from {
            0 => format!("{} samples", grouped(to)),
            _ => format!("samples {from}..{to}"),
        });
    }
    match (known.precision, known.device) {
        (Some(precision), Some(device)) => about.push(format!("{precision} on {device}")),
        (precision, device) => about.extend(precision.or(device)),
    }
    about.push(known.date.replace('T', " ").replace('Z', " UTC"));
    about.retain(|text| !text.is_empty());
    (
        line(&title).into_owned(),
        line(&about.join(" · ")).into_owned(),
    )
}

/// The end of a path: the folder's name says more than `model.onnx`.
fn tail(path: &str) -> String {
    let names: Vec<_> = Path::new(path).iter().rev().take(2).collect();
    let names = names.into_iter().rev().map(|n| n.to_string_lossy());
    names
        .filter(|n| n != "/" && n != "\\")
        .collect::<Vec<_>>()
        .join("/")
}
