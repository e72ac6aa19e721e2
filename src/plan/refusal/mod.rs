//! Refusals of requests that have no room, with what would.

mod shortfall;
mod smaller;

pub(crate) use shortfall::Shortfall;
pub(super) use smaller::with_what_fits;

use super::request::{Part, ResolvedPart, bytes_of, resolve};
use crate::bytes::Bytes;
use crate::error::{Remedy, Result};
use crate::network::Network;
use crate::setting::SKIP_LARGER;
use shortfall::at_least;
use std::ops::Range;

/// Parts that a message lists.
const LISTED: usize = 6;

/// Parts that have no room.
#[derive(Clone, Debug)]
pub struct Shortage {
    /// Bytes of all parts.
    pub needed: u64,
    /// Bytes that there are.
    pub available: u64,
    /// What would fit.
    pub remedies: Vec<Remedy>,
    /// All of it in words.
    pub message: String,
}

/// Says why parts in numbers of `number_bytes` bytes have no place in `room` bytes, and what has; `None` where
/// they have.
///
/// The message has the arithmetic, the layers within the parts whose blocks would fit (and the parameters of
/// layers that would not), the diagonal, and how many rows of the largest part fit at a time. `holder` says
/// whose room it is.
///
/// # Errors
/// What [`resolve`] reports.
pub fn shortage(
    network: &Network,
    parts: &[ResolvedPart],
    number_bytes: usize,
    room: u128,
    holder: &str,
) -> Result<Option<Shortage>> {
    let bytes = |part: &ResolvedPart| part.bytes(number_bytes).0;
    let total = bytes_of(parts, number_bytes).0;
    let largest = parts.iter().max_by_key(|part| part.entries());
    let Some(largest) = largest.filter(|_| total > room) else {
        return Ok(None);
    };
    let size = |part: &ResolvedPart| Bytes(bytes(part)).to_string();
    let (rows, columns) = largest.shape();
    let columns = columns.unwrap_or(1);
    let arithmetic = format!(
        "{} is {rows} × {columns} entries of {number_bytes} bytes, {}",
        largest.name,
        size(largest)
    );
    let needed = if parts.len() == 1 {
        format!("part {arithmetic}")
    } else {
        format!(
            "the {} parts take {} together, of which {arithmetic}",
            parts.len(),
            Bytes(total)
        )
    };
    let (fitting, outsized) = candidates(network, parts)?
        .into_iter()
        .partition::<Vec<_>, _>(|part| bytes(part) <= room);
    let list = |parts: &[ResolvedPart]| listed(parts, number_bytes);
    let mut message = format!("{needed}, and {holder}");
    let mut remedies = as_remedies(&fitting, number_bytes);
    if !fitting.is_empty() {
        message += &format!("; each of these would fit: {}", list(&fitting));
    }
    if !outsized.is_empty() {
        message += &format!("; too large alone: {}", list(&outsized));
    }
    let at_a_time = (room / (columns as u128 * number_bytes as u128).max(1)).min(rows as u128);
    if largest.columns.is_some() && at_a_time > 0 {
        message += &format!(
            "; up to {at_a_time} rows of {} fit at a time (range=R0..R1,C0..C1)",
            largest.name,
        );
        remedies.push(Remedy::Rows {
            part: largest.name.clone(),
            rows: at_a_time as usize,
        });
    }
    if let Some((limit, kept, together)) = skipping(parts.iter().map(bytes).collect(), room) {
        message += &format!(
            "; {SKIP_LARGER} {limit} leaves the larger ones out: {kept} of {} parts, {} together, fit",
            parts.len(),
            Bytes(together)
        );
        remedies.extend(limit.parse().map(Remedy::SkipLarger));
    }
    Ok(Some(Shortage {
        needed: Bytes(total).saturated(),
        available: Bytes(room).saturated(),
        remedies,
        message,
    }))
}

/// The parts, each as something that could be asked for instead.
pub(super) fn as_remedies(parts: &[ResolvedPart], number_bytes: usize) -> Vec<Remedy> {
    let remedy = |part: &ResolvedPart| Remedy::Part {
        name: part.name.clone(),
        bytes: part.bytes(number_bytes),
    };
    parts.iter().map(remedy).collect()
}

/// Names and sizes of parts, of many the first few.
pub(super) fn listed(parts: &[ResolvedPart], number_bytes: usize) -> String {
    let size = |part: &ResolvedPart| part.bytes(number_bytes);
    let shown = parts.iter().take(LISTED);
    let mut names: Vec<String> = shown.map(|p| format!("{} ({})", p.name, size(p))).collect();
    if parts.len() > LISTED {
        names.push(format!("and {} more", parts.len() - LISTED));
    }
    names.join(", ")
}

/// The largest limit on a part's size under which parts of these sizes fit into `room` together, as it is written, with the
/// number of parts and their bytes; `None` where not even the smallest does, or there is one alone.
fn skipping(mut sizes: Vec<u128>, room: u128) -> Option<(String, usize, u128)> {
    sizes.sort_unstable();
    let all = sizes.len();
    // Parts of one size are kept or left out together.
    let fits = |&kept: &usize| {
        let between = kept == all || sizes[kept - 1] < sizes[kept];
        between && sizes[..kept].iter().sum::<u128>() <= room
    };
    let kept = (1..all).rev().find(fits)?;
    let (largest, next) = (sizes[kept - 1], sizes[kept]);
    let mut limit = at_least(largest);
    let read = limit.parse::<Bytes>().map_or(u128::MAX, |read| read.0);
    if read < largest || read >= next {
        limit = largest.to_string();
    }
    Some((limit, kept, sizes[..kept].iter().sum()))
}

/// What may fit in place of the parts: the diagonal, and each of several parts, or the blocks of layers within
/// a single one, or those of parameters where it holds no layer; the largest first.
pub(super) fn candidates(network: &Network, parts: &[ResolvedPart]) -> Result<Vec<ResolvedPart>> {
    let mut found = match parts {
        [whole] => {
            let layers = within(whole, resolve(network, &[Part::Layers])?);
            if layers.is_empty() {
                let names = network.parameters.iter().map(|p| p.name.clone());
                let blocks: Vec<Part> = names.map(|name| Part::Parameter(name, None)).collect();
                within(whole, resolve(network, &blocks)?)
            } else {
                layers
            }
        }
        several => several.to_vec(),
    };
    found.sort_by_key(|part| std::cmp::Reverse(part.entries()));
    let mut diagonal = resolve(network, &[Part::Diagonal])?;
    diagonal.retain(|diagonal| !parts.contains(diagonal));
    diagonal.append(&mut found);
    Ok(diagonal)
}

/// Those of `blocks` that lie within a larger part.
fn within(whole: &ResolvedPart, mut blocks: Vec<ResolvedPart>) -> Vec<ResolvedPart> {
    blocks.retain(|block| {
        let columns = whole.columns.as_deref().zip(block.columns.as_deref());
        whole.entries() > block.entries()
            && covers(&whole.rows, &block.rows)
            && columns.is_some_and(|(whole, own)| covers(whole, own))
    });
    blocks
}

/// Whether ascending ranges hold all of others.
fn covers(whole: &[Range<usize>], part: &[Range<usize>]) -> bool {
    part.iter()
        .all(|p| whole.iter().any(|w| w.start <= p.start && p.end <= w.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_limit_under_which_parts_fit_together_is_found() {
        let of = |sizes: &[u128], room| skipping(sizes.to_vec(), room);
        let mib = |count: u128| count << 20;
        let (limit, kept, together) = of(&[mib(10), mib(1), mib(2)], mib(5)).unwrap();
        assert_eq!((limit.as_str(), kept, together), ("2.0MiB", 2, mib(3)));
        // Two of one size do not fit, and cannot be told apart.
        let (limit, kept, _) = of(&[mib(2), mib(2), mib(1)], mib(4)).unwrap();
        assert_eq!((limit.as_str(), kept), ("1.0MiB", 1));
        // What is written is no more than the next part.
        let (limit, kept, _) = of(&[mib(2) + 1, mib(2) + 5], mib(3)).unwrap();
        assert_eq!((limit, kept), ((mib(2) + 1).to_string(), 1));
        assert_eq!(of(&[mib(4), mib(8)], mib(3)), None);
        assert_eq!(of(&[mib(4)], mib(3)), None);
    }
}
