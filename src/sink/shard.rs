//! The processes that share a result, and the tiles of each.

use super::tile::Tile;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// Which of how many processes this is, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number.
    pub index: usize,
    /// All of them.
    pub of: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Shard { index: 1, of: 1 }
    }
}

impl Shard {
    /// Shards at most: each has a list of its own.
    pub(super) const MOST: usize = 100_000;

    /// The `index`-th of `of`.
    ///
    /// # Errors
    /// [`Error::Request`] for an index outside `1..=of`, and for too many.
    pub fn new(index: usize, of: usize) -> Result<Shard> {
        match 1 <= index && index <= of && of <= Shard::MOST {
            true => Ok(Shard { index, of }),
            false => Err(no_share(&format!("{index}/{of}"))),
        }
    }
}

fn no_share(text: &str) -> Error {
    Error::Request(format!(
        "{text:?} is no share: write K/N with K from 1 to N, N at most {}",
        Shard::MOST
    ))
}

impl std::str::FromStr for Shard {
    type Err = Error;

    /// `K/N`.
    fn from_str(text: &str) -> Result<Shard> {
        let numbers = text
            .split_once('/')
            .and_then(|(k, n)| Some((k.trim().parse().ok()?, n.trim().parse().ok()?)));
        let (index, of) = numbers.ok_or_else(|| no_share(text))?;
        Shard::new(index, of).map_err(|_| no_share(text))
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// The tiles of each of `of` shards, as evenly by entries as groups allow: the largest group goes to the shard that has the
/// least, so that the shares depend on the plan alone.
pub(super) fn shares(
    tiles: &[Tile],
    of: usize,
    group: impl Fn(&Tile) -> Option<[usize; 3]>,
) -> Vec<usize> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut known: HashMap<[usize; 3], usize> = HashMap::new();
    for (number, tile) in tiles.iter().enumerate() {
        let at = match group(tile) {
            Some(key) => *known.entry(key).or_insert(groups.len()),
            None => groups.len(),
        };
        if at == groups.len() {
            groups.push((0, Vec::new()));
        }
        groups[at].0 += tile.entries();
        groups[at].1.push(number);
    }
    groups.sort_by_key(|(entries, _)| std::cmp::Reverse(*entries));
    let mut loads: std::collections::BinaryHeap<std::cmp::Reverse<(usize, usize)>> =
        (0..of).map(|shard| std::cmp::Reverse((0, shard))).collect();
    let mut shares = vec![0; tiles.len()];
    for (entries, numbers) in groups {
        let std::cmp::Reverse((load, shard)) = loads.pop().unwrap_or_default();
        for number in numbers {
            shares[number] = shard;
        }
        loads.push(std::cmp::Reverse((load + entries, shard)));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_are_disjoint_even_and_whole(
            sides in proptest::collection::vec(1usize..9, 1..60), of in 1usize..9, grouped in any::<bool>(),
        ) {
            let tile = |(k, side): (usize, &usize)| Tile { part: k, rows: 0..*side, columns: 0..3 };
            let tiles: Vec<Tile> = sides.iter().enumerate().map(tile).collect();
            let shares = shares(&tiles, of, |tile| grouped.then_some([tile.part / 4, 0, 0]));
            prop_assert!(shares.iter().all(|shard| *shard < of));
            let load = |shard: usize| -> usize {
                tiles.iter().zip(&shares).filter(|(_, s)| **s == shard).map(|(t, _)| t.entries()).sum()
            };
            let loads: Vec<usize> = (0..of).map(load).collect();
            let largest = if grouped { 4 * 8 * 3 } else { 8 * 3 };
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= largest);
            if grouped {
                prop_assert!((0..tiles.len()).all(|k| shares[k] == shares[k / 4 * 4]));
            }
        }
    }
}
