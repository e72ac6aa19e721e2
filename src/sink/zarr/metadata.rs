//! `zarr.json`: of the group, with the manifest; and of each array, with its chunks, codecs, and whose its entries are.

use super::super::layout::PartLayout;
use super::super::parameters::ParameterPlace;
use super::super::record::Manifest;
use super::grid::Grid;
use super::shards;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use zarrs::array::chunk_grid::RegularChunkGridConfiguration;
use zarrs::array::codec::{
    BloscCodec, BloscCodecConfigurationV1, BloscCompressionLevel, BloscCompressor,
    BloscShuffleMode, BytesCodec, ShardingCodecBuilder, ShardingCodecConfigurationV1,
    ShardingIndexLocation,
};
use zarrs::array::{
    ArrayBuilder, ArrayMetadataV3, ArrayToBytesCodecTraits, BytesToBytesCodecTraits,
};
use zarrs::metadata::v3::GroupMetadataV3;

/// How an array's chunks are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) grid: Grid,
    /// Blosc's level, where they are compressed.
    pub(super) level: Option<u8>,
    /// Chunks below the diagonal are left out.
    pub(super) triangle: bool,
}

/// The longest content of a frame of blosc, whose lengths are `i32` (`BLOSC_MAX_BUFFERSIZE`).
pub(super) const MOST: usize = i32::MAX as usize - 16;

/// Blosc's level for one of zstd's: those of its levels 1 to 9 are 1, 3, 5, … 15 and 22.
pub(super) fn blosc_level(zstd: i32) -> u8 {
    zstd.saturating_add(1).div_euclid(2).clamp(1, 9) as u8
}

impl Form {
    /// The codec that compresses chunks: zstd of bytes in the order of their place in a number, so that those of the
    /// exponents lie together.
    pub(super) fn blosc(&self) -> Result<Option<Arc<BloscCodec>>, String> {
        let codec = |level: u8| {
            let level = BloscCompressionLevel::try_from(level)
                .map_err(|level| format!("{level} is no level of blosc"))?;
            let (zstd, shuffle) = (BloscCompressor::Zstd, BloscShuffleMode::Shuffle);
            let codec = BloscCodec::new(zstd, level, None, shuffle, Some(self.grid.number_bytes));
            codec.map(Arc::new).map_err(|e| e.to_string())
        };
        self.level.map(codec).transpose()
    }

    /// An array of this form: shape, number type, chunks and codecs. `in_files` has chunks and codecs as files have them,
    /// otherwise every chunk is its own, with the codecs that [`super::chunk::Codecs`] has.
    pub(super) fn builder(&self, in_files: bool) -> Result<ArrayBuilder, String> {
        let grid = &self.grid;
        let mut numbers: Arc<dyn ArrayToBytesCodecTraits> = match in_files {
            true => Arc::new(BytesCodec::little()),
            false => Arc::new(BytesCodec::default()),
        };
        let mut compression: Vec<Arc<dyn BytesToBytesCodecTraits>> = Vec::new();
        if let Some(blosc) = self.blosc()? {
            compression.push(blosc);
        }
        let mut file = grid.chunk;
        if let (Some(per), true) = (grid.per_file, in_files) {
            file = [0, 1].map(|axis| grid.chunk[axis].saturating_mul(per[axis]));
            let shape = grid.chunk_shape().ok_or("chunks without rows or columns")?;
            let (index, checksum) = shards::codecs();
            numbers = ShardingCodecBuilder::new(shape, &grid.number())
                .array_to_bytes_codec(numbers)
                .bytes_to_bytes_codecs(std::mem::take(&mut compression))
                .index_array_to_bytes_codec(index)
                .index_bytes_to_bytes_codecs(checksum)
                .index_location(ShardingIndexLocation::Start)
                .build_arc();
        }
        let (shape, file) = (grid.axes(grid.shape), grid.axes(file));
        let mut builder = ArrayBuilder::new(shape, file, grid.number(), grid.fill());
        builder
            .array_to_bytes_codec(numbers)
            .bytes_to_bytes_codecs(compression);
        Ok(builder)
    }
}

/// The group's.
pub(super) fn group(manifest: &Manifest) -> serde_json::Result<Value> {
    let attributes = object(json!({ "hessblock": manifest }));
    serde_json::to_value(GroupMetadataV3::new().with_attributes(attributes))
}

/// An array's; `number` is the part's.
pub(super) fn array(
    number: usize,
    layout: &PartLayout,
    form: &Form,
    parameters: &[ParameterPlace],
) -> Result<Value, String> {
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
    let mut builder = form.builder(true)?;
    builder
        .dimension_names(Some(names))
        .attributes(object(attributes));
    let metadata = builder.build_metadata().map_err(|e| e.to_string())?;
    serde_json::to_value(metadata).map_err(|e| e.to_string())
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
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

/// Reads the `zarr.json` of a part's array.
///
/// # Errors
/// [`Error::File`] for one that is not as [`array`] makes it: others are for readers that take all of Zarr.
pub(super) fn read(path: &Path, layout: &PartLayout) -> Result<Form> {
    let text = crate::files::read_text(path)?;
    let refused = |what: String| Error::file(path, what);
    let mut given: ArrayMetadataV3 = serde_json::from_str(&text)
        .map_err(|e| refused(format!("is no array as hessblock writes it: {e}")))?;
    let shape: Vec<u64> = layout.shape().iter().map(|extent| *extent as u64).collect();
    if given.shape != shape {
        return Err(refused(format!(
            "has shape {:?}, and its manifest says {:?} for part {:?}",
            given.shape,
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
    let form = form(&given, layout).ok_or_else(foreign)?;
    // Whatever else decides how it is read is as it would be written.
    let own = form.builder(true).and_then(|builder| {
        let own = builder.build_metadata().map_err(|e| e.to_string())?;
        // As it is read back: zarrs writes some of it in a shorter form.
        serde_json::from_value::<ArrayMetadataV3>(json!(own)).map_err(|e| e.to_string())
    });
    let own = own.map_err(|_| foreign())?;
    given.attributes.clear();
    given.dimension_names = None;
    given.fill_value = own.fill_value.clone();
    match given == own {
        true => Ok(form),
        false => Err(foreign()),
    }
}

fn form(given: &ArrayMetadataV3, layout: &PartLayout) -> Option<Form> {
    let vector = layout.columns.is_none();
    let axes = |of: &[NonZeroU64]| {
        let of: Vec<usize> = of
            .iter()
            .map(|n| n.get().try_into().ok())
            .collect::<Option<_>>()?;
        match of[..] {
            [rows] if vector => Some([rows, 1]),
            [rows, columns] if !vector => Some([rows, columns]),
            _ => None,
        }
    };
    let shape = [layout.row_count(), layout.column_count()];
    let regular: RegularChunkGridConfiguration = given.chunk_grid.to_typed_configuration().ok()?;
    let file = axes(&regular.chunk_shape)?;
    let sharding: Option<ShardingCodecConfigurationV1> = match &given.codecs[..] {
        [one] if one.name() == "sharding_indexed" => Some(one.to_typed_configuration().ok()?),
        _ => None,
    };
    let (chunk, codecs) = match &sharding {
        Some(sharding) => (axes(&sharding.chunk_shape)?, &sharding.codecs),
        None => (file, &given.codecs),
    };
    // No chunk is larger than its array, whatever memory a file would have taken for it.
    let fits =
        |axis: usize| chunk[axis] <= shape[axis].max(1) && file[axis].is_multiple_of(chunk[axis]);
    if !fits(0) || !fits(1) {
        return None;
    }
    let per_file = [0, 1].map(|axis| file[axis] / chunk[axis]);
    per_file[0].checked_mul(per_file[1])?;
    let blosc = codecs.iter().find(|codec| codec.name() == "blosc");
    let blosc: Option<BloscCodecConfigurationV1> = match blosc {
        Some(codec) => Some(codec.to_typed_configuration().ok()?),
        None => None,
    };
    let grid = Grid {
        shape,
        vector,
        chunk,
        per_file: sharding.is_some().then_some(per_file),
        number_bytes: match given.data_type.name() {
            "float32" => 4,
            "float64" => 8,
            _ => return None,
        },
    };
    let bytes = grid.chunk_bytes()?;
    if blosc.is_some() && bytes > MOST {
        return None;
    }
    let triangle = given.attributes.get("triangle") == Some(&json!("upper"));
    // A triangle is read by its mirror.
    if triangle && (layout.columns.as_ref() != Some(&layout.rows) || chunk[0] != chunk[1]) {
        return None;
    }
    Some(Form {
        grid,
        level: blosc.map(|blosc| blosc.clevel.into()),
        triangle,
    })
}
