//! The order of the shards of a folder: that of the numbers in their names.

use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// A piece of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    /// Digits without leading zeros; numbers compare by their length, then by their digits.
    Number(usize, String),
    /// Anything else.
    Text(String),
}

/// A name cut into numbers and text.
fn pieces(name: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit);
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        pieces.push(match digit {
            true => {
                let number = piece.trim_start_matches('0');
                Piece::Number(number.len(), number.into())
            }
            false => Piece::Text(piece.into()),
        });
        rest = after;
    }
    pieces
}

/// The text of a name with its numbers left out.
fn pattern(pieces: &[Piece]) -> Vec<Option<&str>> {
    let text = |piece| match piece {
        &Piece::Number(..) => None,
        Piece::Text(text) => Some(text.as_str()),
    };
    pieces.iter().map(text).collect()
}

/// Whether digits right after a point may be decimals: then `0.5` comes after `0.25`, as a number, and before it, as a counter.
fn decimals_differ(a: &[Piece], b: &[Piece]) -> bool {
    let at = (0..a.len().min(b.len())).find(|&k| a[k] != b[k]);
    let Some(at) = at.filter(|&at| at >= 2) else {
        return false;
    };
    let fraction =
        matches!((&a[at - 2], &a[at - 1]), (Piece::Number(..), Piece::Text(t)) if t == ".");
    match (&a[at], &b[at]) {
        (Piece::Number(m, x), Piece::Number(n, y)) if fraction => (m, x).cmp(&(n, y)) != x.cmp(y),
        _ => false,
    }
}

/// Whether a name holds digits that are not read as numbers here: hexadecimal ones (`0x10`), or those of other scripts.
fn counts_otherwise(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let hexadecimal = lower.match_indices("0x").any(|(at, _)| {
        let before = lower[..at].chars().next_back();
        let after = lower[at + 2..].chars().next();
        !before.is_some_and(|c| c.is_ascii_alphanumeric())
            && after.is_some_and(|c| c.is_ascii_hexdigit())
    });
    hexadecimal || name.chars().any(|c| c.is_numeric() && !c.is_ascii())
}

/// Sorts the shards of a folder: by the numbers in their names where the names are alike but for numbers
/// (`0.npy`, `1.npy`, … `10.npy`), else by the names themselves.
///
/// # Errors
/// [`Error::File`] with two of the names where more than one order can be meant: equal numbers (`1`, `01`), names that are
/// not alike whose numbers would be in another order, decimals, digits of another kind, or names that differ in capitals only by way of sorting.
pub(super) fn sort(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let name = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut named: Vec<(Vec<Piece>, String, PathBuf)> = paths
        .drain(..)
        .map(|path| (pieces(&name(&path)), name(&path), path))
        .collect();
    named.sort();
    for pair in named.windows(2) {
        let [(a, first, _), (b, second, _)] = pair else {
            continue;
        };
        let folded = a == b
            || first.to_lowercase().cmp(&second.to_lowercase()) == Ordering::Greater
                && pattern(a) != pattern(b);
        let other_digits = [first, second]
            .into_iter()
            .any(|name| counts_otherwise(name));
        let unlike = pattern(a) != pattern(b) && first.cmp(second) == Ordering::Greater;
        if folded || unlike || other_digits || decimals_differ(a, b) {
            return Err(Error::file(
                folder,
                format!(
                    "the order of its shards is not sure: {first:?} and {second:?} can come in either order; name them alike \
                     but for a number padded with zeros (part-000.npy, part-001.npy, …), or join them into one file"
                ),
            ));
        }
    }
    paths.extend(named.into_iter().map(|(_, _, path)| path));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Result<Vec<String>> {
        let mut paths: Vec<PathBuf> = names
            .iter()
            .map(|name| format!("{name}.npy").into())
            .collect();
        sort(Path::new("shards"), &mut paths)?;
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        Ok(paths.iter().map(stem).collect())
    }

    #[test]
    fn shards_come_in_the_order_of_the_numbers_in_their_names() {
        for ordered in [
            &["0", "1", "2", "9", "10", "100"][..],
            &["x-2", "x-10", "x-10000000000000000000000"],
            &["part1-of-12", "part2-of-12", "part10-of-12", "part12-of-12"],
            &["a9b1", "a9b2", "a10b1"],
            &["000", "001", "010"],
            &["cats", "dogs", "owls"],
            &["data", "data2"],
            &["1.5", "1.6", "2.5"],
            &["one"],
        ] {
            let mut shuffled: Vec<&str> = ordered.to_vec();
            shuffled.reverse();
            assert_eq!(sorted(&shuffled).unwrap(), ordered);
        }
    }

    #[test]
    fn shards_of_which_no_order_is_sure_are_refused() {
        for unsure in [
            &["1", "01"][..],
            &["0x1", "0xa", "0x10"],
            &["\u{661}", "\u{662}", "\u{661}\u{660}"],
            &["train10", "train9", "Val1"],
            &["0.5", "0.25"],
            &["b", "A", "C"],
            &["x10", "x9", "x9-extra"],
        ] {
            let error = sorted(unsure).unwrap_err().to_string();
            assert!(
                error.contains("order of its shards is not sure"),
                "{unsure:?}: {error}"
            );
        }
    }
}
