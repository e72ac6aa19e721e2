//! The suite, by name, and what a case computes.

use super::compare::{Measure, Part};
use super::contraction::{self, Product};
use super::draft::{COPIES, Draft, read};
use super::function::{self, Function};
use super::network::{self, Problem};
use super::operation::{self, Trial};
use super::primitive;
use crate::error::{Error, Result};
use crate::tensor::Contract;
use crate::tensor::cpu::Cpu;
use crate::trial::{Loaded, Setting};
use serde::{Deserialize, Serialize};

/// What kind of thing a case tests.
///
/// ```
/// use hessblock::selftest::{Group, cases};
/// let networks = cases().into_iter().filter(|case| case.group() == Group::Network);
/// assert!(networks.count() > 0);
/// assert_eq!(Group::Network.name(), "network");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Group {
    /// A primitive of [`Backend`](crate::tensor::Backend).
    Primitive,
    /// An operation of a network with its derivatives.
    Operation,
    /// A kernel of [`Contract`].
    Contraction,
    /// A network with data and loss: blocks, gradient, products, diagonal.
    Network,
}

impl Group {
    /// Its word in names.
    pub fn name(self) -> &'static str {
        match self {
            Group::Primitive => "primitive",
            Group::Operation => "operation",
            Group::Contraction => "contraction",
            Group::Network => "network",
        }
    }
}

/// Something that is computed on the device and in CPU f64.
///
/// ```
/// use hessblock::selftest::select;
/// let case = select(&["primitive/take".into()])?.remove(0);
/// assert_eq!(case.subject(), "take");
/// assert!(case.name().starts_with("primitive/take/"));
/// println!("its error may be {}", case.measure().allowed());
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TestCase {
    group: Group,
    subject: String,
    about: String,
    measure: Measure,
    work: Work,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Primitive(Setting),
    Function(Function),
    Operation(Trial),
    Contraction(Product),
    Network(Problem),
}

impl TestCase {
    /// Its group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// What is tested: `einsum`, `softmax`, `outer`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its name, `group/subject/sizes`.
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.group.name(), self.subject, self.about)
    }

    /// How its error is measured, and what that may be.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// Whether shader checks may change no bit: products and contractions have a fixed order of sums, copies have none.
    pub fn is_fixed(&self) -> bool {
        let product = ["einsum", "conv", "conv_inputs", "conv_weights"];
        match self.group {
            Group::Contraction => true,
            Group::Primitive => self.measure == COPIES || product.contains(&self.subject.as_str()),
            _ => false,
        }
    }

    /// What a backend gives.
    pub(super) fn run<B: Contract>(&self, backend: &B) -> Result<Vec<Part>> {
        match &self.work {
            Work::Primitive(setting) => {
                let loaded = Loaded::new(backend, &setting.primitive, &setting.arrays());
                Ok(vec![read(backend, "result", &loaded.apply(backend))?])
            }
            Work::Function(function) => function.run(backend),
            Work::Operation(trial) => trial.run(backend),
            Work::Contraction(product) => product.run(backend),
            Work::Network(problem) => problem.run(backend),
        }
    }

    /// What CPU f64 gives.
    pub(super) fn reference(&self) -> Result<Vec<Part>> {
        self.run(&Cpu::<f64>::new())
    }
}

/// The cases of a group, made of drafts.
fn drafted<W>(group: Group, drafts: Vec<Draft<W>>, work: fn(W) -> Work) -> Vec<TestCase> {
    let case = |draft: Draft<W>| TestCase {
        group,
        subject: draft.subject,
        about: draft.about,
        measure: draft.measure,
        work: work(draft.work),
    };
    drafts.into_iter().map(case).collect()
}

/// The whole suite, in order.
pub fn cases() -> Vec<TestCase> {
    let mut primitives = drafted(Group::Primitive, primitive::drafts(), Work::Primitive);
    primitives.extend(drafted(
        Group::Primitive,
        function::drafts(),
        Work::Function,
    ));
    let groups = [
        primitives,
        drafted(Group::Operation, operation::drafts(), Work::Operation),
        drafted(Group::Contraction, contraction::drafts(), Work::Contraction),
        drafted(Group::Network, network::drafts(), Work::Network),
    ];
    let together = |mut cases: Vec<TestCase>| {
        // Those of one subject together, subjects as they come first.
        let subjects: Vec<String> = cases.iter().map(|case| case.subject.clone()).collect();
        cases.sort_by_key(|case| subjects.iter().position(|s| *s == case.subject));
        cases
    };
    groups.into_iter().flat_map(together).collect()
}

/// The cases whose names hold one of these texts, all where there is none.
///
/// ```
/// let chosen = hessblock::selftest::select(&["contraction/outer".into()])?;
/// assert!(chosen.iter().all(|case| case.subject() == "outer"));
/// # Ok::<(), hessblock::Error>(())
/// ```
///
/// # Errors
/// [`Error::Request`] for a text that no name holds, with the subjects there are.
pub fn select(texts: &[String]) -> Result<Vec<TestCase>> {
    let all = cases();
    for text in texts {
        if text.is_empty() || !all.iter().any(|case| case.name().contains(text.as_str())) {
            let mut subjects: Vec<String> = all
                .iter()
                .map(|case| format!("{}/{}", case.group.name(), case.subject))
                .collect();
            subjects.dedup();
            let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
            return Err(Error::unknown("case", text, &subjects));
        }
    }
    let meant = |case: &TestCase| {
        let name = case.name();
        texts.is_empty() || texts.iter().any(|text| name.contains(text.as_str()))
    };
    Ok(all.into_iter().filter(meant).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_select_their_cases() {
        let all = cases();
        let names: BTreeSet<String> = all.iter().map(TestCase::name).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(select(&[]).unwrap().len(), all.len());
        let chosen = select(&["network/".into(), "primitive/take".into()]).unwrap();
        assert!(chosen.len() > 5 && chosen.len() < all.len());
        let error = select(&["einsun".into()]).unwrap_err();
        assert!(matches!(error, Error::Request(_)));
        assert!(error.to_string().contains("primitive/einsum"), "{error}");
        assert!(select(&[String::new()]).is_err());
    }

    #[test]
    fn every_case_fails_where_one_number_is_wrong() {
        for case in cases() {
            let reference = case.reference().unwrap();
            let name = case.name();
            assert_eq!(case.measure.compare(&reference, &reference).error, 0.0);
            // A part may be exactly zero (H − G of a head), a case may not.
            let mut all = reference.iter().flat_map(|part| &part.values);
            assert!(all.any(|v| *v != 0.0), "{name} is all zeros");
            for part in 0..reference.len() {
                // The largest entry off by a thousandth, and one that was never written.
                for wrong in [|v: f64| v + 1e-3 * v.abs().max(1e-3), |_| f64::NAN] {
                    let mut found = reference.clone();
                    let values = &mut found[part].values;
                    let finite = (0..values.len()).filter(|&k| values[k].is_finite());
                    let at = finite.max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
                    // Where no entry is finite (acosh of nothing in its domain), one that is finite is wrong.
                    match at {
                        Some(at) => values[at] = wrong(values[at]),
                        None => values[0] = 0.0,
                    }
                    let compared = case.measure.compare(&found, &reference);
                    assert!(compared.fault.is_some(), "{name}, part {part}");
                }
            }
        }
    }
}
