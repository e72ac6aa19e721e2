//! `zarr.json`: of the group, with the manifest; and of each array, with its chunks, codecs, and whose its entries are.

use super::super::layout::PartLayout;
use super::super::parameters::ParameterPlace;
use super::super::record::Manifest;
use super::grid::Grid;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::Path;

/// How an array's chunks are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) grid: Grid,
    /// zstd's level.
    pub(super) compression: Option<i32>,
    /// Chunks below the diagonal are left out.
    pub(super) triangle: bool,
}

/// The group's.
pub(super) fn group(manifest: &Manifest) -> Value {
    json!({
        "zarr_format": 3,
        "node_type": "group",
        "attributes": { "hessblock": manifest },
    })
}

/// An array's; `number` is the part's.
pub(super) fn array(
    number: usize,
    layout: &PartLayout,
    form: &Form,
    parameters: &[ParameterPlace],
) -> Value {
    let mut names = vec![dimension("rows", number, &layout.rows)];
    let mut attributes = json!({
        "part": layout.name,
        "rows": pairs(&layout.rows),
        "row_parameters": owners(&layout.rows, parameters),
    });
    if let Some(columns) = &layout.columns {
        names.push(dimension("columns", number, columns));
        attributes["columns"] = pairs(columns);
        attributes["symmetric"] = json!(*columns == layout.rows);
        // The same as the rows' otherwise.
        if *columns != layout.rows {
            attributes["column_parameters"] = owners(columns, parameters);
        }
    }
    if form.triangle {
        attributes["triangle"] = json!("upper");
    }
    let clevel = form.compression.map(|level| (level + 1) / 2);
    let mut metadata = chunks(&form.grid, clevel.map(|level| level.clamp(1, 9)));
    metadata["dimension_names"] = json!(names);
    metadata["attributes"] = attributes;
    metadata
}

/// Shape, number type, chunks and codecs; `level` is that of blosc, 1 to 9, which a reader has no use for.
fn chunks(grid: &Grid, level: Option<i32>) -> Value {
    let axes = |of: [usize; 2]| match grid.vector {
        true => json!([of[0]]),
        false => json!(of),
    };
    let mut codecs = vec![json!({"name": "bytes", "configuration": {"endian": "little"}})];
    if let Some(level) = level {
        codecs.push(json!({"name": "blosc", "configuration": {
            "cname": "zstd",
            "clevel": level,
            "shuffle": "shuffle",
            "typesize": grid.number_bytes,
            "blocksize": 0,
        }}));
    }
    let mut file = grid.chunk;
    if let Some(per) = grid.per_file {
        file = [0, 1].map(|axis| grid.chunk[axis].saturating_mul(per[axis]));
        codecs = vec![json!({"name": "sharding_indexed", "configuration": {
            "chunk_shape": axes(grid.chunk),
            "codecs": codecs,
            "index_codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "crc32c"},
            ],
            "index_location": "start",
        }})];
    }
    json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": axes(grid.shape),
        "data_type": if grid.number_bytes == 4 { "float32" } else { "float64" },
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": axes(file)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        // What is absent is not to be taken for zero.
        "fill_value": "NaN",
        "codecs": codecs,
    })
}

fn pairs(ranges: &[Range<usize>]) -> Value {
    json!(ranges.iter().map(|r| [r.start, r.end]).collect::<Vec<_>>())
}

/// A dimension's name: equal ones have equal flat ranges, so that xarray opens the group as one data set and knows which
/// axes are the same. Rows and columns differ, as it wants of an array's own.
fn dimension(side: &str, number: usize, ranges: &[Range<usize>]) -> String {
    /// Ranges that fit into a name.
    const FEW: usize = 3;
    match ranges.len() {
        1..=FEW => ranges.iter().fold(side.to_string(), |name, range| {
            format!("{name}_{}_{}", range.start, range.end)
        }),
        _ => format!("{side}_of_part_{number}"),
    }
}

/// The parameters that lie in ranges: `at` is where among the rows (or columns), `flat` where in the whole.
fn owners(ranges: &[Range<usize>], parameters: &[ParameterPlace]) -> Value {
    let mut list = Vec::new();
    let mut position = 0;
    for range in ranges {
        for parameter in parameters {
            let own = parameter.range();
            let (start, end) = (own.start.max(range.start), own.end.min(range.end));
            if start < end {
                let at = position + start - range.start;
                list.push(json!({
                    "name": parameter.name,
                    "layer": parameter.layer,
                    "shape": parameter.shape,
                    "at": [at, at + end - start],
                    "flat": [start, end],
                }));
            }
        }
        position += range.len();
    }
    json!(list)
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    configuration: Configuration,
}

#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    chunk_shape: Vec<usize>,
    #[serde(default)]
    codecs: Vec<Named>,
    clevel: Option<i32>,
}

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data_type: String,
    chunk_grid: Named,
    codecs: Vec<Named>,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    #[serde(default)]
    triangle: Option<String>,
}

/// Reads the `zarr.json` of a part's array.
///
/// # Errors
/// [`Error::File`] for one that is not as [`array`] makes it: others are for readers that take all of Zarr.
pub(super) fn read(path: &Path, layout: &PartLayout) -> Result<Form> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let refused = |what: String| Error::file(path, what);
    let parsed: Array = serde_json::from_str(&text)
        .map_err(|e| refused(format!("is no array as hessblock writes it: {e}")))?;
    if parsed.shape != layout.shape() {
        return Err(refused(format!(
            "has shape {:?}, and its manifest says {:?} for part {:?}",
            parsed.shape,
            layout.shape(),
            layout.name
        )));
    }
    let foreign = || {
        refused(
            "has chunks or codecs that hessblock does not write: read it with a library for Zarr (zarr-python, xarray)"
                .into(),
        )
    };
    let form = parsed.form(layout).ok_or_else(foreign)?;
    // Whatever else decides how it is read is as it would be written, or not taken at all.
    let given: Value = serde_json::from_str(&text).map_err(|_| foreign())?;
    let own = chunks(&form.grid, parsed.level());
    let same = |name: &str| given[name] == own[name];
    let all = own.as_object().into_iter().flatten();
    match all
        .filter(|(name, _)| *name != "fill_value")
        .all(|(name, _)| same(name))
    {
        true => Ok(form),
        false => Err(foreign()),
    }
}

impl Array {
    fn inner(&self) -> &[Named] {
        match &self.codecs[..] {
            [one] if one.name == "sharding_indexed" => &one.configuration.codecs,
            codecs => codecs,
        }
    }

    fn level(&self) -> Option<i32> {
        let blosc = self.inner().iter().find(|codec| codec.name == "blosc")?;
        blosc.configuration.clevel
    }

    fn form(&self, layout: &PartLayout) -> Option<Form> {
        let vector = layout.columns.is_none();
        let axes = |of: &[usize]| match of {
            [rows] if vector => Some([*rows, 1]),
            [rows, columns] if !vector => Some([*rows, *columns]),
            _ => None,
        };
        let file = axes(&self.chunk_grid.configuration.chunk_shape)?;
        let chunk = match &self.codecs[..] {
            [one] if one.name == "sharding_indexed" => axes(&one.configuration.chunk_shape)?,
            _ => file,
        };
        if chunk.contains(&0) || [0, 1].iter().any(|&axis| file[axis] % chunk[axis] != 0) {
            return None;
        }
        let sharded = self.codecs.first()?.name == "sharding_indexed";
        let per_file = [0, 1].map(|axis| file[axis] / chunk[axis]);
        per_file[0].checked_mul(per_file[1])?;
        let grid = Grid {
            shape: axes(&self.shape)?,
            vector,
            chunk,
            per_file: sharded.then_some(per_file),
            number_bytes: match self.data_type.as_str() {
                "float32" => 4,
                "float64" => 8,
                _ => return None,
            },
        };
        grid.chunk_bytes()?;
        let triangle = self.attributes.triangle.as_deref() == Some("upper");
        // A triangle is read by its mirror.
        if triangle && (layout.columns.as_ref() != Some(&layout.rows) || chunk[0] != chunk[1]) {
            return None;
        }
        Some(Form {
            grid,
            compression: self.level(),
            triangle,
        })
    }
}
