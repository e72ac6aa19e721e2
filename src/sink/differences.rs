//! The differences between two records of a result, in the words of the command line: the option, and its values.

use crate::setting::{
    self, BATCH, CHUNKS_PER_FILE, COMPRESS, CONSTANT, CURVATURE, DEVICE, DIMENSION, HOST_MEMORY,
    INPUTS, LOSS, MEMORY, OUT, PART, PRECISION, RANK_TOLERANCE, SAMPLES, SHARD, SKIP_LARGER, TILE,
    TRAINABLE, TRIANGLE, WEIGHTS,
};
use serde_json::Value;
use std::fmt::Display;

/// Differences that are listed at most.
const MOST: usize = 8;
/// Names of parts that are listed at most.
const PARTS: usize = 4;

/// A difference: what a user gave otherwise, and the sentence about it.
struct Difference {
    /// The option; one is named once.
    option: String,
    words: String,
    /// Whether it follows from others, and is named only where there are none.
    follows: bool,
}

/// What differs between the identities ([`super::record::Record`]) of an earlier run and this one; empty where they are the same.
pub(super) fn between(then: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ(&mut Vec::new(), then, now, &mut found);
    let first = found.iter().any(|difference| !difference.follows);
    let mut named: Vec<Difference> = Vec::new();
    for difference in found {
        let again = named.iter().any(|other| other.option == difference.option);
        let follows = first && difference.follows;
        if !(again || follows) {
            named.push(difference);
        }
    }
    let more = named.len().saturating_sub(MOST);
    let mut words: Vec<String> = named.into_iter().map(|d| d.words).take(MOST).collect();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words
}

fn differ<'a>(at: &mut Vec<&'a str>, then: &'a Value, now: &'a Value, found: &mut Vec<Difference>) {
    if then == now {
        return;
    }
    // A file is known by its hash, not by its name.
    if let (Some(before), Some(after), Some(path)) =
        (then.get("sha256"), now.get("sha256"), now.get("path"))
    {
        let name = path.as_str().unwrap_or("a file");
        if before != after {
            found.push(Difference {
                option: name.into(),
                words: format!("{name} holds something else than then"),
                follows: false,
            });
        }
        return;
    }
    if let Some(difference) = in_words(at, then, now) {
        return found.push(difference);
    }
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let none = &Value::Null;
                at.push(name);
                differ(
                    at,
                    a.get(name).unwrap_or(none),
                    b.get(name).unwrap_or(none),
                    found,
                );
                at.pop();
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                at.push("of a list");
                differ(at, a, b, found);
                at.pop();
            }
        }
        _ => found.push(was(at.join(" "), then, now)),
    }
}

/// `OPTION was A and is B`.
fn was(option: impl Display, then: &Value, now: &Value) -> Difference {
    Difference {
        option: option.to_string(),
        words: format!("{option} was {} and is {}", short(then), short(now)),
        follows: false,
    }
}

/// A difference in words of its own.
fn says(option: impl Display, words: String) -> Difference {
    Difference {
        option: option.to_string(),
        words,
        follows: false,
    }
}

/// A difference that follows from others.
fn follows(difference: Difference) -> Difference {
    Difference {
        follows: true,
        ..difference
    }
}

/// The difference at a place of the identity, where that has words of its own; otherwise it is looked for below.
fn in_words(at: &[&str], then: &Value, now: &Value) -> Option<Difference> {
    Some(match at {
        ["hessblock"] | ["made_from", "crate_version"] => {
            let words = format!(
                "it was version {} of hessblock and is {}",
                short(then),
                short(now)
            );
            says("hessblock", words)
        }
        ["precision"] | ["made_from", "precision"] => was(PRECISION, then, now),
        ["shards"] => was(format!("N of {SHARD} K/N"), then, now),
        ["storage", "compression"] => was(COMPRESS, then, now),
        ["storage", "chunks_per_file"] => was(CHUNKS_PER_FILE, then, now),
        ["storage", "triangle"] => was(TRIANGLE, then, now),
        ["chunk_side"] => was(TILE, then, now),
        ["order", name] => in_order(name, then, now),
        ["parts"] => parts(then, now),
        ["made_from", "samples"] => was(SAMPLES, then, now),
        ["made_from", "loss"] => was(LOSS, then, now),
        ["made_from", "curvature"] => was(CURVATURE, then, now),
        ["made_from", "model" | "data"] if !same_count(then, now) => {
            follows(says("files", "it was made from other files".into()))
        }
        ["made_from", "options", at @ ..] => return in_options(at, then, now),
        _ => return None,
    })
}

/// The difference in what decides the order of accumulation.
fn in_order(name: &str, then: &Value, now: &Value) -> Difference {
    match name {
        "tile" => {
            let (before, after) = (side(then), side(now));
            match before == after {
                // Their form alone is another, as the grid says.
                true => follows(was(DEVICE, then, now)),
                false => was(TILE, &before, &after),
            }
        }
        "batch" => was(BATCH, then, now),
        "unit_samples" | "unit_directions" => {
            let what = match name {
                "unit_samples" => "samples",
                _ => "directions",
            };
            let words = format!(
                "{} {what} were taken at a time and are {} ({BATCH}, {MEMORY} and {HOST_MEMORY} decide)",
                short(then),
                short(now)
            );
            follows(says(BATCH, words))
        }
        "grid" => {
            let of = |grid: &Value| match grid.as_str() {
                Some("panels") => "panels, as the CPU makes them of G".into(),
                Some("squares") => "squares, as a GPU and other curvatures take them".into(),
                _ => short(grid),
            };
            let words = format!(
                "tiles were {} and are {} ({DEVICE} and {CURVATURE} decide)",
                of(then),
                of(now)
            );
            follows(says(DEVICE, words))
        }
        "regular" => follows(was(OUT, then, now)),
        name => was(name, then, now),
    }
}

/// The difference in the options of the provenance, where it has words of its own.
fn in_options(at: &[&str], then: &Value, now: &Value) -> Option<Difference> {
    Some(match at {
        ["parameters_sha256"] => follows(says(
            WEIGHTS,
            "the network's weights are others than then".into(),
        )),
        ["data_sha256"] => follows(says(INPUTS, "the data are others than then".into())),
        ["rank"] if then.is_null() || now.is_null() => {
            was(RANK_TOLERANCE, &then["tolerance"], &now["tolerance"])
        }
        ["rank", "tolerance"] => was(RANK_TOLERANCE, then, now),
        ["rank", "directions"] => {
            let words = format!(
                "{RANK_TOLERANCE} left {} directions then and leaves {} now",
                short(then),
                short(now)
            );
            follows(says(RANK_TOLERANCE, words))
        }
        ["skipped"] => follows(says(
            SKIP_LARGER,
            format!("{SKIP_LARGER} leaves out other parts than then"),
        )),
        ["source", field] => {
            let option = match *field {
                "model" => "the network's file".into(),
                "dimensions" => DIMENSION.to_string(),
                // `x` and `mc_samples` of it are one option's.
                field => setting::of_field(field),
            };
            was(option, then, now)
        }
        _ => return None,
    })
}

/// What was given for tiles of so many rows and columns: panels are half as high as squares of that side, and twice as wide.
fn side(tile: &Value) -> Value {
    let sides = tile.as_array().and_then(|sides| match sides.as_slice() {
        [rows, columns] => Some((rows.as_u64()?, columns.as_u64()?)),
        _ => None,
    });
    match sides {
        Some((rows, columns)) if rows == columns => rows.into(),
        Some((_, columns)) => (columns / 2).into(),
        None => tile.clone(),
    }
}

fn same_count(then: &Value, now: &Value) -> bool {
    then.as_array().map(Vec::len) == now.as_array().map(Vec::len)
}

/// The parts by their names; where these are the same, the one whose rows are not.
fn parts(then: &Value, now: &Value) -> Difference {
    let names = |parts: &Value| -> Vec<String> {
        let parts = parts.as_array().into_iter().flatten();
        let name = |part: &Value| part["part"].as_str().unwrap_or_default().to_string();
        parts.map(name).collect()
    };
    let (before, after) = (names(then), names(now));
    let listed = |names: &[String]| {
        let mut list = names
            .iter()
            .take(PARTS)
            .map(|name| short(&name.as_str().into()))
            .collect::<Vec<_>>()
            .join(", ");
        if names.len() > PARTS {
            list += &format!(" and {} more", names.len() - PARTS);
        }
        list
    };
    let words = match before == after {
        false => format!("{PART} was {} and is {}", listed(&before), listed(&after)),
        true => {
            let pairs = then.as_array().zip(now.as_array());
            let other = pairs.and_then(|(a, b)| a.iter().zip(b).position(|(a, b)| a != b));
            let name = other.and_then(|k| after.get(k)).map_or("", String::as_str);
            format!(
                "part {name} had other rows or columns ({CONSTANT} and {TRAINABLE} say what is a parameter)"
            )
        }
    };
    Difference {
        option: PART.to_string(),
        words,
        follows: false,
    }
}

/// A value in few letters; a range as it is given.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        Value::Array(pair) => match pair.as_slice() {
            [Value::Number(start), Value::Number(end)] => format!("{start}..{end}"),
            _ => value.to_string(),
        },
        other => other.to_string(),
    };
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_told_by_the_options_that_make_them() {
        let identity = |change: &dyn Fn(&mut Value)| {
            let mut value = json!({
                "hessblock": "0.1.0",
                "precision": "f32",
                "storage": {},
                "shards": 1,
                "parts": [{"part": "full", "rows": [[0, 9]]}],
                "order": {"unit_samples": 64, "unit_directions": 640, "batch": null, "grid": "panels", "tile": [1024, 4096]},
                "made_from": {
                    "crate_version": "0.1.0",
                    "model": [{"path": "m.onnx", "sha256": "a"}],
                    "data": [{"path": "x.npy", "sha256": "b"}],
                    "samples": [0, 16],
                    "curvature": "ggn",
                    "options": {"source": {"curvature": "ggn", "mean_image": null}, "parameters_sha256": "c"},
                },
            });
            change(&mut value);
            value
        };
        let told = |change: &dyn Fn(&mut Value)| between(&identity(&|_| {}), &identity(change));
        assert!(told(&|_| {}).is_empty());
        assert_eq!(
            told(&|v| v["order"]["tile"] = json!([16, 64])),
            ["tile was 2048 and is 32"]
        );
        assert_eq!(
            told(&|v| v["storage"]["compression"] = json!(3)),
            ["compress was none and is 3"]
        );
        assert_eq!(
            told(&|v| v["made_from"]["samples"] = json!([0, 9])),
            ["samples was 0..16 and is 0..9"]
        );
        let grid = told(&|v| {
            v["order"]["grid"] = json!("squares");
            v["order"]["tile"] = json!([2048, 2048]);
        });
        assert!(grid.len() == 1 && grid[0].contains("device"), "{grid:?}");
        // What follows from another option is not told.
        let curvature = told(&|v| {
            v["order"]["grid"] = json!("squares");
            v["order"]["unit_samples"] = json!(8);
            v["made_from"]["curvature"] = json!("exact");
            v["made_from"]["options"]["source"]["curvature"] = json!("exact");
        });
        assert_eq!(curvature, ["curvature was ggn and is exact"]);
        let model = told(&|v| {
            v["made_from"]["model"][0]["sha256"] = json!("other");
            v["made_from"]["options"]["parameters_sha256"] = json!("other");
        });
        assert_eq!(model, ["m.onnx holds something else than then"]);
        let mean = told(&|v| v["made_from"]["options"]["source"]["mean_image"] = json!("self"));
        assert_eq!(mean, ["mean_image was none and is self"]);
        let part = told(&|v| v["parts"] = json!([{"part": "layer=a"}, {"part": "layer=b"}]));
        assert_eq!(part, ["part was full and is layer=a, layer=b"]);
        let version = told(&|v| {
            v["hessblock"] = json!("0.2.0");
            v["made_from"]["crate_version"] = json!("0.2.0");
        });
        assert_eq!(version, ["it was version 0.1.0 of hessblock and is 0.2.0"]);
    }
}
