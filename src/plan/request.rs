//! What is asked for: parts of the Hessian, by name or by range of the flat order.

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::sink::PartLayout;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// A part of the Hessian, as it is asked for.
///
/// ```
/// use hessblock::Part;
/// assert_eq!(Part::between("conv2", "dense1").to_string(), "layer=conv2,dense1");
/// assert_eq!(Part::range(0..10, 5..9).to_string(), "range=0..10,5..9");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The whole matrix.
    Full,
    /// The diagonal block of every layer.
    Layers,
    /// The exact diagonal, a vector.
    Diagonal,
    /// The block of one layer, or between two.
    Layer(String, Option<String>),
    /// The block of one parameter, or between two.
    Parameter(String, Option<String>),
    /// Rows and columns of the flat order, half-open and zero-based.
    Range(Range<usize>, Range<usize>),
    /// Several ranges of rows and of columns of the flat order, ascending and apart: some rows of a layer that does not lie in one
    /// piece.
    Rectangle(Vec<Range<usize>>, Vec<Range<usize>>),
}

impl Part {
    /// The diagonal block of a layer.
    pub fn layer(name: impl Into<String>) -> Part {
        Part::Layer(name.into(), None)
    }

    /// The block between two layers: the first has the rows, the second the columns.
    pub fn between(rows: impl Into<String>, columns: impl Into<String>) -> Part {
        Part::Layer(rows.into(), Some(columns.into()))
    }

    /// The diagonal block of a parameter.
    pub fn parameter(name: impl Into<String>) -> Part {
        Part::Parameter(name.into(), None)
    }

    /// The block between two parameters: the first has the rows, the second the columns.
    pub fn between_parameters(rows: impl Into<String>, columns: impl Into<String>) -> Part {
        Part::Parameter(rows.into(), Some(columns.into()))
    }

    /// Rows and columns of the flat order, half-open and zero-based.
    pub fn range(rows: Range<usize>, columns: Range<usize>) -> Part {
        Part::Range(rows, columns)
    }

    /// Whether a part of a result of that name is one of a matrix, as [`Part`] names them.
    pub(crate) fn has_name(name: &str) -> bool {
        ["full", "layers", "diag"].contains(&name)
            || name
                .split_once('=')
                .is_some_and(|(kind, _)| ["layer", "param", "range"].contains(&kind))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |f: &mut fmt::Formatter<'_>, key: &str, a: &str, b: &Option<String>| match b {
            Some(b) => write!(f, "{key}={a},{b}"),
            None => write!(f, "{key}={a}"),
        };
        match self {
            Part::Full => write!(f, "full"),
            Part::Layers => write!(f, "layers"),
            Part::Diagonal => write!(f, "diag"),
            Part::Layer(a, b) => pair(f, "layer", a, b),
            Part::Parameter(a, b) => pair(f, "param", a, b),
            Part::Range(rows, columns) => {
                let (rows, columns) = (std::slice::from_ref(rows), std::slice::from_ref(columns));
                write!(f, "range={},{}", listed(rows), listed(columns))
            }
            Part::Rectangle(rows, columns) => {
                write!(f, "range={},{}", listed(rows), listed(columns))
            }
        }
    }
}

/// Ranges as a part's name has them: `0..10+15..20`.
fn listed(ranges: &[Range<usize>]) -> String {
    let texts = ranges.iter().map(|r| format!("{}..{}", r.start, r.end));
    texts.collect::<Vec<_>>().join("+")
}

/// Refuses ranges that are empty, out of order, or reach past the `p` parameters of the network.
fn check_ranges(name: &str, ranges: &[Range<usize>], p: usize) -> Result<()> {
    let refused = |why: String| Err(Error::Request(format!("part {name}: {why}")));
    let mut before = 0;
    for range in ranges {
        let text = format!("the range {}..{}", range.start, range.end);
        if range.start >= range.end {
            return refused(format!("{text} is empty"));
        }
        if range.end > p {
            return refused(format!(
                "{text} reaches past the {p} parameters of the network"
            ));
        }
        if range.start < before {
            return refused(format!(
                "{text} begins before the one before it ends: give ascending ranges"
            ));
        }
        before = range.end;
    }
    match ranges.is_empty() {
        true => refused("it has no rows or no columns".into()),
        false => Ok(()),
    }
}

/// A part with its rows and columns in the flat order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPart {
    /// As asked for; each layer of `layers` is a part of its own.
    pub name: String,
    /// Ascending half-open ranges.
    pub rows: Vec<Range<usize>>,
    /// Ascending half-open ranges; `None` for a vector.
    pub columns: Option<Vec<Range<usize>>>,
}

impl ResolvedPart {
    /// Number of rows and, for a matrix, of columns.
    pub fn shape(&self) -> (usize, Option<usize>) {
        let count = |ranges: &Vec<Range<usize>>| ranges.iter().map(|r| r.len()).sum();
        (count(&self.rows), self.columns.as_ref().map(count))
    }

    /// Number of entries. A `u128`, since a request may be absurd.
    pub fn entries(&self) -> u128 {
        let (rows, columns) = self.shape();
        rows as u128 * columns.unwrap_or(1) as u128
    }

    /// Bytes of its entries, where a number takes so many.
    pub(crate) fn bytes(&self, each: usize) -> Bytes {
        Bytes(self.entries().saturating_mul(each as u128))
    }

    /// The part as a sink knows it.
    pub(crate) fn layout(&self) -> PartLayout {
        PartLayout {
            name: self.name.clone(),
            rows: self.rows.clone(),
            columns: self.columns.clone(),
        }
    }

    /// Whether the part equals its transpose.
    pub fn symmetric(&self) -> bool {
        self.columns.as_ref() == Some(&self.rows)
    }
}

/// Bytes of all parts together, where a number takes so many.
pub(crate) fn bytes_of(parts: &[ResolvedPart], each: usize) -> Bytes {
    let sum = |sum: u128, part: &ResolvedPart| sum.saturating_add(part.bytes(each).0);
    Bytes(parts.iter().fold(0, sum))
}

/// Finds the rows and columns of every part; one that is asked for twice is one.
///
/// # Errors
/// [`Error::Request`] for an unknown name (with the nearest), an empty or outlying range, no part, or two of one name.
pub fn resolve(network: &Network, parts: &[Part]) -> Result<Vec<ResolvedPart>> {
    let p = network.parameter_count();
    if p == 0 {
        return Err(Error::Request(
            "the network has no parameters to differentiate".into(),
        ));
    }
    let layer = |name: &str| -> Result<Vec<Range<usize>>> {
        let layer = network.layer(name)?;
        Ok(merge(network.ranges(&layer)))
    };
    let parameter = |name: &str| Ok(vec![network.parameters[network.parameter(name)?].range()]);
    let everything = || std::iter::once(0..p).collect::<Vec<_>>();
    let mut out = Vec::new();
    for part in parts {
        let name = part.to_string();
        let mut matrix = |rows: Vec<Range<usize>>, columns: Vec<Range<usize>>| {
            out.push(ResolvedPart {
                name: name.clone(),
                rows,
                columns: Some(columns),
            });
        };
        match part {
            Part::Full => matrix(everything(), everything()),
            Part::Diagonal => out.push(ResolvedPart {
                name,
                rows: everything(),
                columns: None,
            }),
            Part::Layers => {
                for layer in network.layers() {
                    let rows = merge(network.ranges(&layer));
                    out.push(ResolvedPart {
                        name: format!("layer={}", layer.name),
                        rows: rows.clone(),
                        columns: Some(rows),
                    });
                }
            }
            Part::Layer(a, b) => matrix(layer(a)?, layer(b.as_ref().unwrap_or(a))?),
            Part::Parameter(a, b) => matrix(parameter(a)?, parameter(b.as_ref().unwrap_or(a))?),
            Part::Range(rows, columns) => {
                let (rows, columns) = (vec![rows.clone()], vec![columns.clone()]);
                check_ranges(&name, &rows, p)?;
                check_ranges(&name, &columns, p)?;
                matrix(rows, columns);
            }
            Part::Rectangle(rows, columns) => {
                check_ranges(&name, rows, p)?;
                check_ranges(&name, columns, p)?;
                matrix(merge(rows.iter().cloned()), merge(columns.iter().cloned()));
            }
        }
    }
    if out.is_empty() {
        return Err(Error::Request("no part was asked for".into()));
    }
    unique(out)
}

/// Parts by names of their own: what is asked for twice is made once.
fn unique(parts: Vec<ResolvedPart>) -> Result<Vec<ResolvedPart>> {
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut out: Vec<ResolvedPart> = Vec::new();
    for part in parts {
        match known.get(&part.name) {
            None => {
                known.insert(part.name.clone(), out.len());
                out.push(part);
            }
            Some(&first) if out[first] == part => {}
            Some(_) => {
                return Err(Error::Request(format!(
                    "two parts are both named {:?}, as there is a comma in a layer's or parameter's name: ask for one of \
                     them as range=R0..R1,C0..C1",
                    part.name
                )));
            }
        }
    }
    Ok(out)
}

/// Joins touching ranges of an ascending sequence.
fn merge(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => out.push(range),
        }
    }
    out
}

/// The parameters that ascending ranges of the flat order meet, in order, each with a range of its own entries.
pub(super) fn pieces(network: &Network, ranges: &[Range<usize>]) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::new();
    for range in ranges {
        for (k, parameter) in network.parameters.iter().enumerate() {
            let own = parameter.range();
            let (start, end) = (range.start.max(own.start), range.end.min(own.end));
            if start < end {
                found.push((k, start - own.start..end - own.start));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_twice_is_one_part_and_two_of_one_name_are_refused() {
        let network = crate::network::builder::Builder::new(&[3])
            .linear("a", 2)
            .tanh()
            .linear("b", 2)
            .initialize(0)
            .build();
        let parts = [
            Part::Layers,
            Part::layer("b"),
            Part::Diagonal,
            Part::layer("a"),
            Part::Diagonal,
            Part::between("a", "b"),
        ];
        let resolved = resolve(&network.unwrap(), &parts).unwrap();
        let names: Vec<&str> = resolved.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["layer=a", "layer=b", "diag", "layer=a,b"]);
        let mut other = resolved[1].clone();
        other.name = "layer=a".into();
        let message = unique(vec![resolved[0].clone(), other]).unwrap_err();
        assert!(message.to_string().contains("\"layer=a\""), "{message}");
    }
}
