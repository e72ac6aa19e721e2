//! Where a result comes from.

use crate::error::{Error, Result};
use crate::files::hash::hash_file;
use crate::files::watch::Watch;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a result was computed from and with; written beside it as JSON.
///
/// ```
/// use hessblock::results::Provenance;
/// let provenance = Provenance { loss: Some("bce(mean)".into()), ..Provenance::now() };
/// assert_eq!(provenance.crate_version, env!("CARGO_PKG_VERSION"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Version of hessblock.
    pub crate_version: String,
    /// When the run began: `2026-11-24T22:05:00Z`.
    pub date: String,
    /// The network's file and those of its external data and weights.
    pub model: Vec<HashedFile>,
    /// The files of inputs and targets.
    pub data: Vec<HashedFile>,
    /// How inputs were scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<serde_json::Value>,
    /// The samples taken, half-open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<(usize, usize)>,
    /// The loss with its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// `ggn`, `exact` or `residual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curvature: Option<String>,
    /// The device's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The device's driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// `f32` or `f64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Anything else that decides the numbers: kernel configuration, command line.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// A file and what it held.
///
/// ```
/// use hessblock::results::HashedFile;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("labels.txt");
/// # let io = hessblock::Error::io(&path);
/// std::fs::write(&path, "abc").map_err(io)?;
/// let file = HashedFile::new(&path)?;
/// assert_eq!(file.path, path.display().to_string());
/// assert!(file.sha256.starts_with("ba7816bf")); // as sha256sum prints it
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// Its path as it was given.
    pub path: String,
    /// SHA-256 ([`hash_file`]; a folder's is that of its list of files).
    pub sha256: String,
    /// The names of a folder's shards in the order in which they were joined; empty for anything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<String>,
}

impl HashedFile {
    /// Reads and hashes a file or folder.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.display().to_string(),
            sha256: hash_file(path)?,
            shards: Vec::new(),
        })
    }

    /// The same of one that is watched: what it holds now is what it is to hold until the work is done.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn watched(path: &Path, watch: &Watch) -> Result<Self> {
        Ok(Self {
            path: path.display().to_string(),
            sha256: watch.hash(path)?,
            shards: Vec::new(),
        })
    }
}

impl Provenance {
    /// This version of the crate at this time; all else empty.
    pub fn now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            crate_version: env!("CARGO_PKG_VERSION").into(),
            // A clock before 1970 is no reason to fail.
            date: date_text(now.map_or(0, |d| d.as_secs())),
            ..Self::default()
        }
    }

    pub(super) fn to_value(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|e| Error::Request(format!("provenance: {e}")))
    }
}

/// ISO 8601 in UTC from seconds since 1970.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
fn date_text(seconds: u64) -> String {
    let (days, second) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is the last.
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(date_text(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(date_text(1_795_557_900), "2026-11-24T22:05:00Z");
        assert_eq!(date_text(4_107_542_399), "2100-02-28T23:59:59Z");
    }

    #[test]
    fn provenance_reads_back_from_json() {
        let mut provenance = Provenance::now();
        provenance.samples = Some((0, 128));
        let text = serde_json::to_string(&provenance).unwrap();
        assert_eq!(
            serde_json::from_str::<Provenance>(&text).unwrap(),
            provenance
        );
        assert!(!text.contains("driver"));
    }
}
