//! The set of cases, by name.

use super::check::Check;
use super::primitive::Primed;
use super::problem::{self, Opened, Problem};
use super::ready::Ready;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::trial::{Setting, typical};
use crate::{Part, Session};
use glob::Pattern;

/// The version of the set: it changes where a case's size or meaning does, so that files of different sets are not
/// compared.
pub(super) const SET: u32 = 1;

/// Something to be checked and timed.
///
/// ```
/// use hessblock::bench::select;
/// for case in select(&["lenet5/*".into()])? {
///     println!("{}: {}", case.name(), case.about());
///     assert!(case.name().starts_with("lenet5/"));
/// }
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BenchCase {
    name: String,
    about: String,
    work: Work,
}

#[derive(Clone, Debug)]
enum Work {
    Primitive(Setting),
    Problem(Problem),
}

/// A case with its numbers.
pub(super) enum Prepared {
    Primitive(Primed),
    Problem(Box<Opened>),
}

impl BenchCase {
    /// Its name, `group/what`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A word on what it is.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The network with its data and the part that is asked for; `None` for a primitive, and for what is no part: gradients
    /// and products.
    ///
    /// # Errors
    /// What making the network reports.
    pub fn request(&self) -> Result<Option<(Session, Part)>> {
        match &self.work {
            Work::Primitive(_) => Ok(None),
            Work::Problem(problem) => problem.request(),
        }
    }

    pub(super) fn prepare(&self) -> Result<Prepared> {
        Ok(match &self.work {
            Work::Primitive(setting) => Prepared::Primitive(Primed::new(setting)),
            Work::Problem(problem) => Prepared::Problem(Box::new(problem.open()?)),
        })
    }
}

impl Prepared {
    /// Floating-point operations (a multiply-add is two), and the numbers that go through memory at least once, where
    /// that says something.
    pub(super) fn work(&self) -> Result<(u64, Option<u64>)> {
        match self {
            Prepared::Primitive(primed) => {
                let (operations, numbers) = primed.work();
                Ok((operations, Some(numbers)))
            }
            Prepared::Problem(opened) => opened.work(),
        }
    }

    /// What CPU f64 gives.
    pub(super) fn reference(&self) -> Result<Vec<f64>> {
        match self {
            Prepared::Primitive(primed) => primed.reference(),
            Prepared::Problem(opened) => opened.reference(),
        }
    }

    /// What CPU f64 gave against the definition.
    pub(super) fn definition(&self, found: &[f64]) -> Result<Check> {
        match self {
            Prepared::Primitive(primed) => Ok(primed.definition(found)),
            Prepared::Problem(opened) => opened.definition(found),
        }
    }

    pub(super) fn on<'a>(&'a self, device: &'a Device) -> Box<dyn Ready + 'a> {
        match self {
            Prepared::Primitive(primed) => primed.on(device),
            Prepared::Problem(opened) => opened.on(device),
        }
    }
}

/// All cases, in order.
pub fn cases() -> Vec<BenchCase> {
    let primitives = typical()
        .into_iter()
        .map(|(name, about, setting)| BenchCase {
            name: format!("primitive/{name}"),
            about: about.into(),
            work: Work::Primitive(setting),
        });
    let problems = problem::problems()
        .into_iter()
        .map(|(name, about, problem)| BenchCase {
            name: name.into(),
            about: about.into(),
            work: Work::Problem(problem),
        });
    primitives.chain(problems).collect()
}

/// The cases that are meant: all where `only` is empty, else those whose name is one of these texts, or matches it as a
/// glob, or has it for a part. In the order of [`cases()`].
///
/// ```
/// let chosen = hessblock::bench::select(&["lenet5/*".into(), "einsum".into()])?;
/// assert!(chosen.iter().all(|c| c.name().contains("lenet5") || c.name().contains("einsum")));
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::Request`] for a text that means none, with all names.
pub fn select(only: &[String]) -> Result<Vec<BenchCase>> {
    let all = cases();
    if only.is_empty() {
        return Ok(all);
    }
    let mut chosen = vec![false; all.len()];
    for text in only {
        let mut found = false;
        // A whole name means itself alone, though it may be part of others.
        let exact = all.iter().any(|case| case.name == *text);
        let pattern = Pattern::new(text).ok();
        for (case, chosen) in all.iter().zip(&mut chosen) {
            let name = case.name.as_str();
            let meant = match exact {
                true => name == text,
                false => {
                    !text.is_empty() && name.contains(text.as_str())
                        || pattern.as_ref().is_some_and(|p| p.matches(name))
                }
            };
            *chosen |= meant;
            found |= meant;
        }
        if !found {
            let names: Vec<&str> = all.iter().map(BenchCase::name).collect();
            return Err(Error::unknown("case", text, &names));
        }
    }
    let kept = all.into_iter().zip(chosen);
    Ok(kept
        .filter(|(_, chosen)| *chosen)
        .map(|(case, _)| case)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<String> {
        let only: Vec<String> = only.iter().map(|t| t.to_string()).collect();
        let chosen = select(&only).unwrap();
        chosen.iter().map(|c| c.name().to_string()).collect()
    }

    #[test]
    fn cases_are_chosen_by_name_part_or_glob_in_their_own_order() {
        assert_eq!(names(&["primitive/conv"]), ["primitive/conv"]);
        let parts = names(&["dense-dense", "primitive/depthwise*"]);
        assert_eq!(parts.len(), 4);
        assert_eq!(parts.last().unwrap(), "contraction/dense-dense");
        assert_eq!(names(&[]).len(), cases().len());
        let mut all = names(&[]);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), cases().len());
    }

    #[test]
    fn an_unknown_case_is_refused_with_those_there_are() {
        for text in ["lenet6", "nothing*", "", "["] {
            let error = select(&[text.into()]).unwrap_err();
            assert!(matches!(error, Error::Request(_)));
            assert!(error.to_string().contains("lenet5/gradient"), "{error}");
        }
    }
}
