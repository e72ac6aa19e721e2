//! Whether a request has room, and what of it would.

use super::request::{Part, ResolvedPart, resolve};
use crate::bytes::Bytes;
use crate::error::Result;
use crate::network::Network;
use std::ops::Range;

/// Parts that a message lists.
const LISTED: usize = 6;

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
) -> Result<Option<String>> {
    let bytes = |part: &ResolvedPart| part.entries() * number_bytes as u128;
    let total: u128 = parts.iter().map(bytes).sum();
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
    let list = |parts: &[ResolvedPart]| {
        let shown = parts.iter().take(LISTED);
        let mut names: Vec<String> = shown.map(|p| format!("{} ({})", p.name, size(p))).collect();
        if parts.len() > LISTED {
            names.push(format!("and {} more", parts.len() - LISTED));
        }
        names.join(", ")
    };
    let mut message = format!("{needed}, and {holder}");
    if !fitting.is_empty() {
        message += &format!("; each of these would fit: {}", list(&fitting));
    }
    if !outsized.is_empty() {
        message += &format!("; too large alone: {}", list(&outsized));
    }
    let at_a_time = room / (columns as u128 * number_bytes as u128).max(1);
    if largest.columns.is_some() && at_a_time > 0 {
        message += &format!(
            "; up to {1} rows of {0} fit at a time (range=R0..R1,C0..C1)",
            largest.name,
            at_a_time.min(rows as u128)
        );
    }
    if parts.len() > 1 {
        message += "; --skip-larger SIZE leaves the large ones out";
    }
    Ok(Some(message))
}

/// What may fit in place of the parts: the diagonal, and each of several parts, or the blocks of layers within
/// a single one, or those of parameters where it holds no layer; the largest first.
fn candidates(network: &Network, parts: &[ResolvedPart]) -> Result<Vec<ResolvedPart>> {
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
