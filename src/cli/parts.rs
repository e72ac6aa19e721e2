//! Parts and rectangles as the command line names them. Names may hold commas: which comma stands between two names is known
//! once the names of the network are.

use crate::Part;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::show::Zoom;
use std::ops::Range;
use std::str::FromStr;

/// A part whose form is checked, and whose names are not yet looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum PartText {
    /// A part without names.
    Whole(Part),
    /// `NAME` or `NAME,NAME` of layers.
    Layers(String),
    /// `NAME` or `NAME,NAME` of parameters.
    Parameters(String),
}

impl FromStr for PartText {
    type Err = Error;

    fn from_str(text: &str) -> Result<PartText> {
        let bad = || {
            Error::Request(format!(
                "part {text:?} is not one of full, layers, diag, layer=NAME[,NAME], param=NAME[,NAME], range=R0..R1,C0..C1"
            ))
        };
        let names = |list: &str| match at_first_comma(list) {
            (first, second) if first.is_empty() || second.is_some_and(str::is_empty) => Err(bad()),
            _ => Ok(list.to_string()),
        };
        match text.split_once('=') {
            None => match text.trim() {
                "full" => Ok(PartText::Whole(Part::Full)),
                "layers" => Ok(PartText::Whole(Part::Layers)),
                "diag" => Ok(PartText::Whole(Part::Diagonal)),
                _ => Err(bad()),
            },
            Some(("layer", list)) => names(list).map(PartText::Layers),
            Some(("param", list)) => names(list).map(PartText::Parameters),
            Some(("range", list)) => {
                let (rows, columns) = ranges(list).ok_or_else(bad)?;
                Ok(PartText::Whole(Part::range(rows, columns)))
            }
            Some(_) => Err(bad()),
        }
    }
}

impl PartText {
    /// The part, by the names that the network has.
    ///
    /// # Errors
    /// [`Error::Request`] where several pairs of names are written alike. A name that is unknown is found when the part is asked for.
    pub fn part(&self, network: &Network) -> Result<Part> {
        match self {
            PartText::Whole(part) => Ok(part.clone()),
            PartText::Layers(list) => {
                let layers = network.layers();
                let known = |name: &str| layers.iter().any(|layer| layer.name == name);
                let (first, second) = pair(list, known)?;
                Ok(Part::Layer(first, second))
            }
            PartText::Parameters(list) => {
                let known = |name: &str| network.parameters.iter().any(|p| p.name == name);
                let (first, second) = pair(list, known)?;
                Ok(Part::Parameter(first, second))
            }
        }
    }
}

/// `fc1` or `fc1,fc2` of layers with such names.
///
/// # Errors
/// [`Error::Request`] for a name that is empty, and where several pairs are written alike.
pub fn zoom_to_layers<'a>(
    text: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<Zoom> {
    if let (first, second) = at_first_comma(text)
        && (first.is_empty() || second.is_some_and(str::is_empty))
    {
        return Err(Error::Request(format!(
            "layer {text:?} is neither NAME nor NAME,NAME"
        )));
    }
    let (row, column) = pair(text, |name| names.clone().any(|known| known == name))?;
    Ok(Zoom::Layer(row, column))
}

/// `0..10,5..20`.
///
/// # Errors
/// [`Error::Request`] for anything else, and for a range of nothing.
pub fn zoom_to_range(text: &str) -> Result<Zoom> {
    match ranges(text) {
        Some((rows, columns)) if !rows.is_empty() && !columns.is_empty() => {
            Ok(Zoom::Range(rows, columns))
        }
        _ => Err(Error::Request(format!(
            "range {text:?} is not R0..R1,C0..C1, of one entry at least each way"
        ))),
    }
}

fn at_first_comma(list: &str) -> (&str, Option<&str>) {
    match list.split_once(',') {
        Some((first, second)) => (first.trim(), Some(second.trim())),
        None => (list.trim(), None),
    }
}

/// One name or two, of those that are known; where none fits, what the first comma makes of it.
fn pair(list: &str, known: impl Fn(&str) -> bool) -> Result<(String, Option<String>)> {
    let mut found = Vec::new();
    if known(list.trim()) {
        found.push((list.trim(), None));
    }
    for (at, _) in list.match_indices(',') {
        let (first, second) = (list[..at].trim(), list[at + 1..].trim());
        if known(first) && known(second) {
            found.push((first, Some(second)));
        }
    }
    let (first, second) = match found[..] {
        [] => at_first_comma(list),
        [one] => one,
        [..] => {
            return Err(Error::Request(format!(
                "{list:?} may be one name or two, or two in several ways, as there are commas in names: ask for the entries \
                 as range=R0..R1,C0..C1"
            )));
        }
    };
    Ok((first.to_string(), second.map(str::to_string)))
}

fn ranges(list: &str) -> Option<(Range<usize>, Range<usize>)> {
    let range = |text: &str| -> Option<Range<usize>> {
        let (from, to) = text.split_once("..")?;
        let number = |text: &str| text.trim().replace('_', "").parse::<usize>().ok();
        Some(number(from)?..number(to)?)
    };
    let (rows, columns) = list.split_once(',')?;
    Some((range(rows)?, range(columns)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::Builder;

    #[test]
    fn a_part_reads_back_as_it_is_written() {
        let network = Network::default();
        for text in [
            "full",
            "layers",
            "diag",
            "layer=fc1",
            "layer=a.b,c",
            "param=w",
            "range=0..3,2..9",
        ] {
            let part = text.parse::<PartText>().expect("a part");
            assert_eq!(part.part(&network).expect("a part").to_string(), text);
        }
        for text in [
            "",
            "ful",
            "layer=",
            "layer=a,",
            "range=1..2",
            "range=a..2,1..2",
            "range=3..2",
            "block=x",
        ] {
            assert!(text.parse::<PartText>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_may_hold_commas() {
        let network = Builder::new(&[3]).linear("a,b", 2).tanh().linear("c", 2);
        let network = network.initialize(0).build().expect("a network");
        let read = |text: &str| text.parse::<PartText>().and_then(|t| t.part(&network));
        assert_eq!(read("layer=a,b").expect("a part"), Part::layer("a,b"));
        assert_eq!(
            read("layer=a,b,c").expect("a part"),
            Part::between("a,b", "c")
        );
        assert_eq!(
            read("layer=c, a,b").expect("a part"),
            Part::between("c", "a,b")
        );
        assert_eq!(
            read("layer=x,y,z").expect("a part"),
            Part::between("x", "y,z")
        );
        let network = Builder::new(&[3]).linear("a", 2).linear("a,a", 2);
        let network = network.initialize(0).build().expect("a network");
        let text: PartText = "layer=a,a".parse().expect("a part");
        let message = text.part(&network).expect_err("two ways").to_string();
        assert!(message.contains("range="), "{message}");
    }

    #[test]
    fn a_zoom_is_names_or_two_ranges_of_something() {
        for text in ["", "1..2", "3..1,0..1", "0..0,0..1", "x"] {
            assert!(zoom_to_range(text).is_err(), "{text}");
        }
        let zoom = zoom_to_range("3..4,4..5").expect("a zoom");
        assert_eq!(zoom, Zoom::Range(3..4, 4..5));
        let names = ["a", "b,c"].into_iter();
        assert!(zoom_to_layers("a,", names.clone()).is_err());
        let zoom = zoom_to_layers("b,c,a", names).expect("a zoom");
        assert_eq!(zoom, Zoom::Layer("b,c".into(), Some("a".into())));
    }
}
