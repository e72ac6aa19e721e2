//! What is shown: parts by name, or the entries of layers or ranges in whichever part has them.

use super::axis::{Axis, By};
use crate::error::{Error, Result};
use crate::setting::RANGE;
use crate::sink::{Blocks, ParameterPlace};
use std::fmt;
use std::ops::Range;

/// A rectangle to zoom to.
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
/// use hessblock::show::Zoom;
/// let zoom = Zoom::Layer("fc1".into(), Some("fc2".into()));
/// assert_eq!(zoom.to_string(), "fc1 × fc2");
/// let options = ShowOptions { zoom: Some(zoom), ..ShowOptions::default() };
/// let shown = show(&Blocks::open(&path)?, "blocks", &options)?;
/// assert_eq!(shown.parts[0].shape, [16, 10]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Zoom {
    /// The block of one layer, or between two.
    Layer(String, Option<String>),
    /// Rows and columns by flat index, half-open and zero-based.
    Range(Range<usize>, Range<usize>),
}

impl fmt::Display for Zoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zoom::Layer(row, None) => f.write_str(row),
            Zoom::Layer(row, Some(column)) => write!(f, "{row} × {column}"),
            Zoom::Range(rows, columns) => write!(
                f,
                "{}..{} × {}..{}",
                rows.start, rows.end, columns.start, columns.end
            ),
        }
    }
}

/// Some entries of one part.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) part: usize,
    /// The part's name.
    pub(super) name: String,
    /// What of it, where not all.
    pub(super) zoom: Option<String>,
    /// Of one column, which `columns` then is.
    pub(super) vector: bool,
    pub(super) rows: Axis,
    pub(super) columns: Axis,
}

impl View {
    /// As a `u128`, since a manifest may be absurd.
    pub(super) fn entries(&self) -> u128 {
        self.rows.len() as u128 * self.columns.len() as u128
    }
}

/// The parameters in the order of their entries.
pub(super) fn places(blocks: &Blocks) -> Vec<ParameterPlace> {
    let places = blocks.parameters().iter().filter(|p| p.count > 0);
    let mut places: Vec<ParameterPlace> = places.cloned().collect();
    places.sort_by_key(|p| p.offset);
    places
}

/// The views of a result: its parts of these names (all where there is none), or a zoom into the smallest that has it.
///
/// # Errors
/// [`Error::Request`] for a name that is none, or a zoom that no part has.
pub(super) fn views(
    blocks: &Blocks,
    places: &[ParameterPlace],
    names: &[String],
    zoom: Option<&Zoom>,
) -> Result<Vec<View>> {
    let mut parts = Vec::new();
    for name in names {
        let part = blocks.find(name)?;
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if names.is_empty() {
        parts = (0..blocks.parts().len()).collect();
    }
    match zoom {
        None => Ok(parts.into_iter().map(|p| whole(blocks, p)).collect()),
        Some(zoom) => Ok(vec![zoomed(blocks, places, &parts, zoom)?]),
    }
}

fn whole(blocks: &Blocks, part: usize) -> View {
    let layout = &blocks.parts()[part].layout;
    let columns = layout.columns.as_deref();
    View {
        part,
        name: layout.name.clone(),
        zoom: None,
        vector: columns.is_none(),
        rows: Axis::whole(&layout.rows),
        columns: columns.map_or_else(Axis::one, Axis::whole),
    }
}

fn zoomed(
    blocks: &Blocks,
    places: &[ParameterPlace],
    parts: &[usize],
    zoom: &Zoom,
) -> Result<View> {
    let (rows, columns) = match zoom {
        Zoom::Layer(row, column) => {
            let rows = layer(places, row)?;
            let columns = column.as_ref().map(|name| layer(places, name));
            (rows.clone(), columns.unwrap_or(Ok(rows))?)
        }
        Zoom::Range(rows, columns) => (vec![rows.clone()], vec![columns.clone()]),
    };
    let covers = |part: usize, rows: &[Range<usize>], columns: &[Range<usize>]| {
        let layout = &blocks.parts()[part].layout;
        let vector = layout.columns.is_none();
        let columns = match &layout.columns {
            Some(ranges) => Axis::of(ranges, columns)?,
            // A vector has what lies on the diagonal.
            None if rows == columns => Axis::one(),
            None => return None,
        };
        Some(View {
            part,
            name: layout.name.clone(),
            zoom: Some(zoom.to_string()),
            vector,
            rows: Axis::of(&layout.rows, rows)?,
            columns,
        })
    };
    let found = parts.iter().filter_map(|&p| covers(p, &rows, &columns));
    // Where a matrix has it, the diagonal alone is not what was meant.
    let smallest = found.min_by_key(|view| (view.vector, whole(blocks, view.part).entries()));
    smallest.ok_or_else(|| {
        let turned = parts.iter().any(|&p| covers(p, &columns, &rows).is_some());
        let turned = match (turned, zoom) {
            (true, Zoom::Layer(a, Some(b))) => {
                format!("; there is its transpose, {b},{a}")
            }
            (true, Zoom::Range(a, b)) => format!(
                "; there is its transpose, {}..{},{}..{}",
                b.start, b.end, a.start, a.end
            ),
            _ => String::new(),
        };
        let known: Vec<String> = parts
            .iter()
            .take(LISTED)
            .map(|&p| extent(blocks, p))
            .collect();
        let more = match parts.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Error::Request(format!(
            "no part of the result has all of {zoom}{turned}; there are {}{more}",
            known.join(", ")
        ))
    })
}

/// Parts that a message lists, and ranges of each.
const LISTED: usize = 12;

/// `full (rows 0..10, columns 0..10)`.
fn extent(blocks: &Blocks, part: usize) -> String {
    let layout = &blocks.parts()[part].layout;
    let text = |ranges: &[Range<usize>]| {
        let texts = ranges.iter().take(LISTED);
        let texts = texts.map(|r| format!("{}..{}", r.start, r.end));
        let more = if ranges.len() > LISTED {
            " and more"
        } else {
            ""
        };
        texts.collect::<Vec<_>>().join(" and ") + more
    };
    let columns = match &layout.columns {
        Some(columns) => format!(", columns {}", text(columns)),
        None => ", a vector".into(),
    };
    format!("{} (rows {}{columns})", layout.name, text(&layout.rows))
}

/// The flat indices of a layer.
fn layer(places: &[ParameterPlace], name: &str) -> Result<Vec<Range<usize>>> {
    if places.is_empty() {
        return Err(Error::Request(format!(
            "the result does not say which entries are those of layer {name:?} (an older hessblock made it): give flat \
             indices, {RANGE} R0..R1,C0..C1"
        )));
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let own = places.iter().filter(|p| p.layer == name);
    for range in own.map(ParameterPlace::range) {
        match ranges.last_mut() {
            // A manifest from elsewhere may name entries twice.
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => ranges.push(range),
        }
    }
    if ranges.is_empty() {
        let everything = Axis::whole(std::slice::from_ref(&(0..usize::MAX)));
        let spans = everything.spans(places, By::Layer);
        let mut known: Vec<&str> = spans.iter().map(|s| s.name.as_str()).collect();
        known.retain(|n| places.iter().any(|p| p.layer == *n));
        known.dedup();
        return Err(Error::unknown("layer", name, &known));
    }
    Ok(ranges)
}
