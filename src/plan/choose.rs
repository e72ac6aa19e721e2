//! Ways to G: backwards from the directions of the loss factor, or forward from the parameters, part by part.
//!
//! Backwards, R reverse passes give `V_n = S_nᵀ J_n` of whatever parameters, and `G = Σ_n V_nᵀ V_n`; several parts share the
//! passes. Forward, each entry ([`super::routes`]) takes a tangent J_n e_a, the product ∇²ℓ_n J_n e_a, and one
//! reverse pass of it, which gives a column of G. A layer of few parameters below an output of many classes is cheap forward; a
//! large layer before few classes is cheap backwards.
//!
//! The choice is made by counted operations. It depends on the network, the parts, R and the curvature, and on nothing else:
//! a run that is resumed, or shared by several processes, makes the same choice on any device and in any memory.

use super::counts::Counter;
use super::parts::wanted;
use super::request::{ResolvedPart, pieces};
use super::sizes::Sizes;
use super::way::{Counted, Way};
use crate::error::Result;
use crate::jacobian::hessian::{Users, least_tangents};
use crate::jacobian::passes::Reach;
use crate::network::Network;
use std::ops::Range;

/// How many times the operations of backward passes those of forward ones have to undercut: tangents are multiplied in
/// smaller products, and the tangents of outputs go to the host and back with each of them.
const FAVOUR: u64 = 2;

/// A part of a request with its way.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// Its place in the request.
    pub(super) number: usize,
    pub(super) part: ResolvedPart,
    pub(super) way: Way,
    /// `None` where there was nothing to choose.
    pub(super) counted: Option<Counted>,
}

/// Chooses the way of every part.
pub(super) fn choose(
    network: &Network,
    parts: Vec<ResolvedPart>,
    sizes: Sizes,
) -> Result<Vec<Chosen>> {
    let fixed = fixed(network, &parts, sizes);
    let counted = match fixed {
        Some(_) => vec![None; parts.len()],
        None => {
            let all = Reach::new(network, wanted(network, parts.iter()));
            let counter = Counter::new(network, sizes, &all)?;
            let of = |part| wanted(network, std::iter::once(part));
            let counted = parts.iter().map(|part| counter.count(part, of(part)));
            counted.map(Some).collect()
        }
    };
    let ways = match fixed {
        Some(way) => vec![way; parts.len()],
        None => cheapest(&counted.iter().flatten().copied().collect::<Vec<_>>()),
    };
    let parts = parts.into_iter().enumerate();
    let chosen = parts
        .zip(ways)
        .zip(counted)
        .map(|(((number, part), way), counted)| Chosen {
            number,
            part,
            way,
            counted,
        });
    Ok(chosen.collect())
}

/// The way of all parts where there is no other, or none that could be cheaper.
fn fixed(network: &Network, parts: &[ResolvedPart], sizes: Sizes) -> Option<Way> {
    if sizes.curvature.needs_second_derivatives() {
        // Columns of H have no other way.
        return Some(Way::Forward);
    }
    // A tangent goes as far back as one of the loss, and forward before.
    let some = || {
        let users = Users::new(network);
        let fewer = |part| tangents(network, &users, part) < sizes.directions;
        parts.iter().any(fewer)
    };
    sizes.way.or_else(|| (!some()).then_some(Way::Backward))
}

/// The least number of tangents that a part takes.
fn tangents(network: &Network, users: &Users, part: &ResolvedPart) -> usize {
    let of = |ranges: &[Range<usize>]| least_tangents(network, users, &pieces(network, ranges));
    let rows = of(&part.rows);
    match &part.columns {
        Some(columns) if !part.symmetric() => rows.min(of(columns)),
        _ => rows,
    }
}

/// The ways that take the fewest operations together.
///
/// Parts that are made backwards share the passes that go furthest back, `max passes`; each takes what it does beside them:
/// `Σ_forward forward + max_backward passes + Σ_backward own`. For every limit on how far back passes may go, each part within
/// takes what is less beside them.
fn cheapest(counted: &[Counted]) -> Vec<Way> {
    let forward = |c: &Counted| u128::from(c.forward) * u128::from(FAVOUR);
    let ways = |limit: Option<u64>| -> (u128, Vec<Way>) {
        let mut cost = u128::from(limit.unwrap_or(0));
        let way = |c: &Counted| {
            let within = limit.is_some_and(|limit| c.passes <= limit);
            let (way, own) = match within && u128::from(c.own) <= forward(c) {
                true => (Way::Backward, u128::from(c.own)),
                false => (Way::Forward, forward(c)),
            };
            cost += own;
            way
        };
        let ways = counted.iter().map(way).collect();
        (cost, ways)
    };
    let mut limits: Vec<u64> = counted.iter().map(|c| c.passes).collect();
    limits.sort_unstable();
    limits.dedup();
    let mut best = ways(None);
    for limit in limits {
        let other = ways(Some(limit));
        if other.0 <= best.0 {
            best = other;
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(forward: u64, passes: u64, own: u64) -> Counted {
        Counted {
            forward,
            passes,
            own,
        }
    }

    #[test]
    fn a_part_alone_goes_the_cheaper_way() {
        assert_eq!(cheapest(&[part(10, 90, 10)]), [Way::Forward]);
        assert_eq!(cheapest(&[part(60, 90, 10)]), [Way::Backward]);
        assert_eq!(cheapest(&[part(u64::MAX, u64::MAX, 10)]), [Way::Backward]);
        assert!(cheapest(&[]).is_empty());
    }

    #[test]
    fn parts_share_the_passes_that_one_of_them_takes() {
        use Way::{Backward, Forward};
        // The second alone goes forward; beside the first its passes are there already.
        let both = [part(1000, 100, 5), part(10, 100, 5)];
        assert_eq!(cheapest(&both), [Backward, Backward]);
        assert_eq!(cheapest(&both[1..]), [Forward]);
        // Passes that go further back are not.
        let deep = [part(1000, 10, 5), part(10, 100, 5)];
        assert_eq!(cheapest(&deep), [Backward, Forward]);
        // Together they pay for passes that neither would take alone.
        let many = [part(30, 100, 5), part(30, 100, 5), part(30, 90, 5)];
        assert_eq!(cheapest(&many), [Backward; 3]);
        assert_eq!(cheapest(&many[..1]), [Forward]);
    }

    #[test]
    fn the_ways_found_are_the_cheapest_of_all() {
        let mut draws = crate::random::Draws::new(7, 0, 0);
        let mut number = |most: f64| (draws.uniform() * most) as u64 + 1;
        for _ in 0..200 {
            let counted: Vec<Counted> = (0..5)
                .map(|_| part(number(60.0), number(100.0), number(40.0)))
                .collect();
            let cost = |ways: &[Way]| {
                let (mut furthest, mut sum) = (0, 0);
                for (c, way) in counted.iter().zip(ways) {
                    match way {
                        Way::Forward => sum += FAVOUR * c.forward,
                        Way::Backward => {
                            furthest = furthest.max(c.passes);
                            sum += c.own;
                        }
                    }
                }
                furthest + sum
            };
            let all = (0..32u32).map(|bits| {
                let way = |k: u32| match bits >> k & 1 {
                    0 => Way::Forward,
                    _ => Way::Backward,
                };
                let ways: Vec<Way> = (0..5).map(way).collect();
                cost(&ways)
            });
            assert_eq!(Some(cost(&cheapest(&counted))), all.min(), "{counted:?}");
        }
    }
}
