//! What a result under way is to become: `plan.json` beside it, and the manifest of the finished one.

use super::Provenance;
use super::differences;
use super::layout::PartLayout;
use super::options::StorageOptions;
use super::parameters::ParameterPlace;
use super::place::Place;
use super::shard::Shard;
use crate::error::{Error, Result};
use crate::files::hash::hexadecimal;
use crate::setting::RESTART;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::Path;

/// The version of `plan.json`.
const FORMAT: u32 = 1;
/// Bytes that no header of an array exceeds.
const HEADER: u64 = 1 << 20;

/// The text of `plan.json`, which is written once and never changed: all that decides the numbers and where they lie, so
/// that whoever goes on with a run can tell whether it is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// `f32` or `f64`.
    pub(super) precision: String,
    /// Processes that share the tiles.
    pub(super) shards: usize,
    pub(super) storage: StorageOptions,
    /// Rows and columns of a Zarr's chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chunk_side: Option<usize>,
    pub(super) parts: Vec<PartRecord>,
    /// What decides the order of accumulation, and so the bits (DESIGN §4).
    pub(super) order: Value,
    pub(super) parameters: Vec<ParameterPlace>,
    /// What it is computed from; the device of each process is in its own journal.
    pub(super) provenance: Provenance,
    /// What is to run, for people.
    pub(super) plan: Value,
}

/// A part in `plan.json` and in manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub(super) part: String,
    /// Its file or array in the finished result.
    pub(super) file: String,
    pub(super) rows: Vec<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<Vec<[usize; 2]>>,
    #[serde(default)]
    pub(super) shape: Vec<usize>,
}

impl PartRecord {
    pub(super) fn new(layout: &PartLayout, file: String) -> PartRecord {
        let pairs = |ranges: &[Range<usize>]| ranges.iter().map(|r| [r.start, r.end]).collect();
        PartRecord {
            part: layout.name.clone(),
            file,
            rows: pairs(&layout.rows),
            columns: layout.columns.as_deref().map(pairs),
            shape: layout.shape(),
        }
    }

    /// The part's layout; `path` is the file that says so.
    ///
    /// # Errors
    /// [`Error::File`] for ranges that do not ascend, or have more entries than can be counted.
    pub(super) fn layout(&self, path: &Path) -> Result<PartLayout> {
        let columns = self.columns.as_ref().map(|c| ranges(path, c));
        let layout = PartLayout {
            name: self.part.clone(),
            rows: ranges(path, &self.rows)?,
            columns: columns.transpose()?,
        };
        match layout.entries() {
            Ok(_) => Ok(layout),
            Err(error) => Err(Error::file(path, format!("is damaged: {error}"))),
        }
    }
}

/// Half-open ranges from a file, checked so that nothing overflows later.
fn ranges(path: &Path, pairs: &[[usize; 2]]) -> Result<Vec<Range<usize>>> {
    let mut end = 0;
    for pair in pairs {
        if pair[0] < end || pair[1] < pair[0] {
            // Not all of them: there may be a million.
            return Err(Error::file(
                path,
                format!(
                    "has ranges that do not ascend ({pair:?} follows one that ends at {end}): it is damaged"
                ),
            ));
        }
        end = pair[1];
    }
    Ok(pairs.iter().map(|p| p[0]..p[1]).collect())
}

/// What is beside the numbers of a finished result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Manifest {
    pub(super) parts: Vec<PartRecord>,
    pub(super) parameters: Vec<ParameterPlace>,
    pub(super) provenance: Value,
    /// SHA-256 of what decides the numbers and where they lie.
    pub(super) key: String,
}

impl Manifest {
    pub(super) fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::Request(format!("the manifest: {e}")))? + "\n")
    }
}

/// Whether two devices, as [`device_of`] gives them, round alike: how fast their kernels were is of no account.
pub(super) fn rounds_alike(one: &Value, other: &Value) -> bool {
    fn without_rates(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for rate in ["read_back", "seconds", "gflops"] {
                    map.shift_remove(rate);
                }
                map.values_mut().for_each(without_rates);
            }
            Value::Array(list) => list.iter_mut().for_each(without_rates),
            _ => {}
        }
    }
    let [mut one, mut other] = [one, other].map(Value::clone);
    without_rates(&mut one);
    without_rates(&mut other);
    one == other
}

/// Of a provenance what the device is: each process has its own.
pub(super) fn device_of(provenance: &Provenance) -> Value {
    json!({
        "device": provenance.device,
        "driver": provenance.driver,
        "kernels": provenance.options.get("kernels"),
    })
}

impl Record {
    /// The record of a run.
    pub(super) fn new(
        place: &Place,
        layouts: &[PartLayout],
        precision: &str,
        storage: StorageOptions,
        shards: usize,
        provenance: &Provenance,
    ) -> Record {
        let mut provenance = provenance.clone();
        provenance.device = None;
        provenance.driver = None;
        provenance.options.shift_remove("kernels");
        let names = place.data_names(layouts);
        let parts = layouts.iter().zip(names);
        let parts = parts.map(|(layout, name)| PartRecord::new(layout, name));
        Record {
            format: FORMAT,
            precision: precision.into(),
            shards,
            storage,
            chunk_side: None,
            parts: parts.collect(),
            order: Value::Null,
            parameters: Vec::new(),
            provenance,
            plan: Value::Null,
        }
    }

    /// The beginning of a plan's text, in every version.
    pub(super) const BEGINNING: &str = "{\n  \"format\": ";

    /// Reads `plan.json`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::File`] where it is of another version, or damaged.
    pub(super) fn read(path: &Path) -> Result<Option<Record>> {
        let text = match crate::files::read(path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            // What is no text is no plan, as is said below.
            bytes => String::from_utf8_lossy(&bytes?).into_owned(),
        };
        let damaged = |what: String| {
            Error::file(
                path,
                format!("{what}: begin again with {RESTART}, or remove what is left of that run"),
            )
        };
        let record: Record = serde_json::from_str(&text)
            .map_err(|e| damaged(format!("is no plan of this version of hessblock ({e})")))?;
        if record.format != FORMAT {
            return Err(damaged(format!(
                "is a plan of format {}, this is {FORMAT}",
                record.format
            )));
        }
        record.check(path, damaged)?;
        Ok(Some(record))
    }

    /// Refuses what no run writes, and later steps count on.
    fn check(&self, path: &Path, damaged: impl Fn(String) -> Error) -> Result<()> {
        if !(1..=Shard::MOST).contains(&self.shards) {
            return Err(damaged(format!(
                "is a plan that {} processes share, and 1 to {} can",
                self.shards,
                Shard::MOST
            )));
        }
        let bytes = match self.precision.as_str() {
            "f32" => 4u64,
            "f64" => 8,
            other => {
                return Err(damaged(format!(
                    "is a plan of numbers of type {other:?}, not f32 or f64"
                )));
            }
        };
        if self.parts.is_empty() {
            return Err(damaged("has no parts".into()));
        }
        if !(self.order.is_object() || self.order.is_null()) {
            return Err(damaged("has an order of accumulation that is none".into()));
        }
        if self
            .storage
            .chunks_per_file
            .is_some_and(|n| n > StorageOptions::MOST_PER_FILE)
        {
            return Err(damaged("has files of more chunks than any has".into()));
        }
        for part in &self.parts {
            let entries = part.layout(path)?.entries()?;
            // With room for the header, and for a tile beside its mirror.
            if entries > u64::MAX / 2 / bytes - HEADER {
                return Err(damaged(format!(
                    "has {entries} entries of part {:?}, which no file holds",
                    part.part
                )));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::Request(format!("the plan: {e}")))? + "\n")
    }

    /// The parts.
    pub(super) fn layouts(&self) -> Vec<PartLayout> {
        let pairs = |pairs: &[[usize; 2]]| pairs.iter().map(|p| p[0]..p[1]).collect();
        let layout = |part: &PartRecord| PartLayout {
            name: part.part.clone(),
            rows: pairs(&part.rows),
            columns: part.columns.as_deref().map(pairs),
        };
        self.parts.iter().map(layout).collect()
    }

    /// What decides the numbers and where they lie, without paths (the same files may have moved) and dates.
    ///
    /// Files that are known by their hashes are `named` for people.
    fn identity(&self, named: bool) -> Value {
        let mut provenance = json!(self.provenance);
        if let Some(map) = provenance.as_object_mut() {
            map.shift_remove("date");
            for files in ["model", "data"] {
                let list = map.get_mut(files).and_then(Value::as_array_mut);
                for file in list.into_iter().flatten() {
                    let name = file["path"]
                        .as_str()
                        .map(Path::new)
                        .and_then(Path::file_name)
                        .filter(|_| named);
                    file["path"] = json!(name.map(|n| n.to_string_lossy()));
                }
            }
            if let Some(options) = map.get_mut("options").and_then(Value::as_object_mut) {
                if let Some(source) = options.get_mut("source") {
                    names_alone(source);
                }
                options.shift_remove("plan");
                // How much was cut is summed in the order that memory allows; how many directions are left decides.
                if let Some(rank) = options.get_mut("rank").and_then(Value::as_object_mut) {
                    rank.retain(|name, _| ["tolerance", "directions"].contains(&name.as_str()));
                }
            }
        }
        json!({
            "hessblock": self.provenance.crate_version,
            "precision": self.precision,
            "storage": self.storage,
            "chunk_side": self.chunk_side,
            "shards": self.shards,
            "parts": self.parts,
            "order": self.order,
            "made_from": provenance,
        })
    }

    /// A short name of what decides the numbers and where they lie; units of samples, which go by the memory that there
    /// was, and how many processes shared the work are left out.
    pub(super) fn key(&self) -> String {
        let mut identity = self.identity(false);
        if let Some(map) = identity.as_object_mut() {
            map.shift_remove("shards");
        }
        for path in ["/order", "/order/rest"] {
            if let Some(order) = identity.pointer_mut(path).and_then(Value::as_object_mut) {
                order.shift_remove("unit_samples");
                order.shift_remove("unit_directions");
            }
        }
        sha256_of(&identity)
    }

    /// What the lists of its processes begin with: those of another plan count for nothing.
    pub(super) fn digest(&self) -> String {
        sha256_of(&self.identity(false))
    }

    /// The differences from an earlier record, in words; empty where its run can be resumed.
    pub(super) fn differences(&self, earlier: &Record) -> Vec<String> {
        differences::between(&earlier.identity(true), &self.identity(true))
    }

    /// The manifest of the finished result, with what the lists of each of its processes note.
    pub(super) fn manifest(&self, notes: &[(usize, &[Value])]) -> Result<Manifest> {
        Ok(Manifest {
            parts: self.parts.clone(),
            parameters: self.parameters.clone(),
            provenance: self.finished(notes).to_value()?,
            key: self.key(),
        })
    }

    /// The provenance with the device, or the devices of all processes, and what changed on the way.
    fn finished(&self, notes: &[(usize, &[Value])]) -> Provenance {
        let mut provenance = self.provenance.clone();
        let headers: Vec<(usize, &Value)> = notes
            .iter()
            .flat_map(|(shard, notes)| Some((*shard, notes.first()?)))
            .collect();
        if let Some((_, first)) = headers.first() {
            let device = &first["device"];
            let text = |value: &Value| value.as_str().map(String::from);
            provenance.device = text(&device["device"]);
            provenance.driver = text(&device["driver"]);
            if let Some(begun) = text(&first["begun"]) {
                provenance.date = begun;
            }
            if !device["kernels"].is_null() {
                let kernels = device["kernels"].clone();
                provenance.options.insert("kernels".into(), kernels);
            }
            let differs = |(_, other): &(usize, &Value)| !rounds_alike(&other["device"], device);
            if headers.iter().any(differs) {
                let each = headers
                    .iter()
                    .map(|(shard, header)| json!({"shard": shard, "device": header["device"]}));
                let each: Vec<Value> = each.collect();
                provenance.options.insert("shards".into(), json!(each));
            }
        }
        let mut order = self.order.clone();
        let all = notes.iter().flat_map(|(_, notes)| notes.iter());
        let all: Vec<&Value> = all.collect();
        // Parts that are made forward beside others are planned anew by themselves.
        for name in ["replanned", "replanned_forward"] {
            let replanned: Vec<&Value> = all.iter().flat_map(|note| note.get(name)).collect();
            if !replanned.is_empty() {
                order[name] = json!(replanned);
            }
        }
        if !order.is_null() {
            provenance.options.insert("plan".into(), order);
        }
        provenance
    }
}

/// SHA-256 of a value as JSON.
fn sha256_of(value: &Value) -> String {
    hexadecimal(Sha256::new_with_prefix(value.to_string()))
}

/// Leaves of the paths among a source's options ([`crate::Source`]) their last names, with what follows an archive's: files
/// are known by what they hold.
fn names_alone(source: &mut Value) {
    const PATHS: [&str; 8] = [
        "model",
        "weights",
        "targets",
        "mean_image",
        "class_weights",
        "positive_weight",
        "loss_hessian",
        "loss_gradient",
    ];
    let shorten = |value: &mut Value| {
        let Some(text) = value.as_str() else { return };
        // Of `FILE.npz:KEY` the key says which array is meant.
        let (path, key) = match text.split_once(".npz:") {
            Some((stem, key)) => (format!("{stem}.npz"), format!(":{key}")),
            None => (text.to_string(), String::new()),
        };
        let name = Path::new(&path).file_name();
        let name = name.map_or(path.clone(), |name| name.to_string_lossy().into_owned());
        *value = json!(name + &key);
    };
    for field in PATHS {
        source.get_mut(field).into_iter().for_each(shorten);
    }
    let inputs = source.get_mut("inputs").and_then(Value::as_array_mut);
    for input in inputs.into_iter().flatten() {
        input.get_mut("path").into_iter().for_each(shorten);
    }
}
