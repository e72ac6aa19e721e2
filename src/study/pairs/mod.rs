//! How far G is from H in every block: ‖(H − G)_ab‖ / ‖H_ab‖ for all pairs of layers, Frobenius and spectral.
//!
//! Small blocks are formed from products with unit vectors. Of others, the Frobenius norm is estimated by random signs z
//! (E ‖Bz‖² = ‖B‖_F², Hutchinson 1990): one product of layer b's signs serves the rows of every layer a. Their spectral
//! norm is the largest Ritz value of a Golub–Kahan bidiagonalisation (`study/spectral.rs`).

mod ways;

use super::error::check;
use crate::error::{Error, Result};
use crate::network::Layer;
use crate::operator::Steps;
use crate::plan::RunOptions;
use crate::session::Session;
use crate::setting::PROBES;
use serde::Serialize;
use ways::{Blocks, Ways};

/// How the errors of blocks are found.
///
/// ```
/// use hessblock::study::pairs::{PairOptions, pair_errors};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let options = PairOptions { spectral: false, ..PairOptions::default() };
/// let errors = pair_errors(&session, &session.network().layers(), options)?;
/// assert!(errors.pairs.iter().all(|pair| pair.spectral.is_none()));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairOptions {
    /// Entries up to which a block is formed.
    pub exact_entries: u128,
    /// Random vectors per layer for other blocks; 2 at least.
    pub probes: u32,
    /// Whether spectral norms are computed too.
    pub spectral: bool,
    /// Key of the random numbers.
    pub seed: u64,
}

impl Default for PairOptions {
    fn default() -> Self {
        PairOptions {
            exact_entries: 4_000_000,
            probes: 32,
            spectral: true,
            seed: 0,
        }
    }
}

/// A norm of a block, of H and of H − G.
///
/// ```
/// use hessblock::study::pairs::{PairOptions, pair_errors};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let errors = pair_errors(&session, &session.network().layers(), PairOptions::default())?;
/// let block = errors.pair(0, 0).expect("fc1 is the first layer").frobenius;
/// assert_eq!(block.error, Some(block.residual / block.hessian));
/// assert_eq!(block.uncertainty, 0.0); // so small a block is formed
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BlockError {
    /// ‖(H − G)_ab‖ / ‖H_ab‖; `None` where H_ab is 0.
    pub error: Option<f64>,
    /// Standard error of a Frobenius error by probes (jackknife); of a spectral one the Ritz residuals of both norms,
    /// put together. 0 where the block was formed.
    pub uncertainty: f64,
    /// ‖H_ab‖.
    pub hessian: f64,
    /// ‖(H − G)_ab‖.
    pub residual: f64,
}

impl BlockError {
    fn new([hessian, residual]: [f64; 2], uncertainty: f64) -> BlockError {
        BlockError {
            error: (hessian > 0.0).then(|| residual / hessian),
            uncertainty,
            hessian,
            residual,
        }
    }
}

/// The errors of a block.
///
/// ```
/// use hessblock::study::pairs::{PairOptions, pair_errors};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let errors = pair_errors(&session, &session.network().layers(), PairOptions::default())?;
/// for pair in &errors.pairs {
///     let [rows, columns] = [pair.rows, pair.columns].map(|k| &errors.layers[k].layer);
///     println!("{rows} × {columns}: {:?}", pair.frobenius.error);
/// }
/// assert!(errors.pairs.iter().all(|pair| pair.exact));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Index of the layer of its rows in [`PairErrors::layers`].
    pub rows: usize,
    /// Index of the layer of its columns, not before that of its rows: H is symmetric.
    pub columns: usize,
    /// Whether the block was formed; else its norms are estimates.
    pub exact: bool,
    /// Frobenius.
    pub frobenius: BlockError,
    /// Spectral, a ratio of two norms that are both found from below; `None` where it was not asked for.
    pub spectral: Option<BlockError>,
}

/// A layer among pairs.
///
/// ```
/// use hessblock::study::pairs::{PairOptions, pair_errors};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let errors = pair_errors(&session, &session.network().layers(), PairOptions::default())?;
/// let fc2 = &errors.layers[1];
/// assert_eq!((fc2.layer.as_str(), fc2.parameters), ("fc2", 10));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PairLayer {
    /// Its name.
    pub layer: String,
    /// Its entries.
    pub parameters: usize,
}

/// The errors of the blocks of all pairs of layers.
///
/// ```
/// use hessblock::study::pairs::{PairOptions, pair_errors};
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let errors = pair_errors(&session, &session.network().layers(), PairOptions::default())?;
/// assert_eq!(errors.pairs.len(), 3); // fc1 × fc1, fc1 × fc2, fc2 × fc2
/// assert_eq!(errors.pair(1, 0), errors.pair(0, 1));
/// println!("‖H − G‖ / ‖H‖ = {:?}", errors.whole);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairErrors {
    /// The layers, in the network's order.
    pub layers: Vec<PairLayer>,
    /// Random vectors per layer where blocks were not formed.
    pub probes: u32,
    /// Pairs with rows ≤ columns, row by row.
    pub pairs: Vec<Pair>,
    /// Frobenius error of the matrix that all these blocks make up; `None` where its H is 0.
    pub whole: Option<f64>,
}

impl PairErrors {
    /// The pair of two layers, in either order.
    pub fn pair(&self, a: usize, b: usize) -> Option<&Pair> {
        let (rows, columns) = (a.min(b), a.max(b));
        self.pairs
            .iter()
            .find(|p| (p.rows, p.columns) == (rows, columns))
    }
}

/// Measures ‖(H − G)_ab‖ / ‖H_ab‖ for all pairs of `layers`, at the session's parameters.
///
/// # Errors
/// [`Error::Request`] for no layer, fewer than 2 probes or a loss without gradient; [`Error::Budget`] if the host memory does
/// not hold the vectors of one block; [`Error::Value`] where a product is not finite; what data and device report.
pub fn pair_errors(
    session: &Session,
    layers: &[Layer],
    options: PairOptions,
) -> Result<PairErrors> {
    check(session, layers)?;
    if options.probes < 2 {
        return Err(Error::Request(format!(
            "{PROBES} {}: two random vectors at least are needed to say how far they are off",
            options.probes
        )));
    }
    let host = host_left(session);
    let plan = Ways::new(session, layers, options, host)?;
    let beside = RunOptions {
        host_memory: Some(host.saturating_sub(plan.bytes())),
        held: 0,
        ..session.options()
    };
    let session = session.with_options(beside);
    let found = session.watcher().control(|control| {
        let steps = Steps::new(control, session.dataset().len(), plan.directions());
        let mut blocks = Blocks {
            session: &session,
            steps: &steps,
        };
        plan.run(&mut blocks)
    })?;
    let squares = |of: fn(&BlockError) -> f64| -> f64 {
        let weight = |p: &Pair| if p.rows == p.columns { 1.0 } else { 2.0 };
        found
            .iter()
            .map(|p| weight(p) * of(&p.frobenius).powi(2))
            .sum()
    };
    let (hessian, residual) = (squares(|f| f.hessian), squares(|f| f.residual));
    let named = layers
        .iter()
        .zip(&plan.layers)
        .map(|(layer, own)| PairLayer {
            layer: layer.name.clone(),
            parameters: own.len(),
        });
    Ok(PairErrors {
        layers: named.collect(),
        probes: options.probes,
        whole: (hessian > 0.0).then(|| (residual / hessian).sqrt()),
        pairs: found,
    })
}

/// How many directions, each a pass of all samples forward and back, [`pair_errors`] takes at most.
///
/// # Errors
/// [`Error::Budget`] as [`pair_errors`].
pub fn directions(session: &Session, layers: &[Layer], options: PairOptions) -> Result<u64> {
    let host = host_left(session);
    Ok(Ways::new(session, layers, options, host)?.directions())
}

/// The part of the host's budget that is not in use already.
fn host_left(session: &Session) -> u64 {
    session.device().limits(session.options()).host_left()
}
