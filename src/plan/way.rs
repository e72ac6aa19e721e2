//! The two ways to a block of G, and the operations of a part by either.

/// How the rows of J that a block of G is made of are had.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::CrossEntropy;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Output, Part, Precision, Session};
/// # use ndarray::{arr1, arr2};
/// # let network = Builder::new(&[3]).linear("fc1", 4).tanh().linear("fc2", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3], [0.5, -0.4, 0.0]]), arr1(&[0i64, 1]));
/// # let session = Session::builder(network).data(data).loss(CrossEntropy::mean())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// use hessblock::Way;
/// let request = session.ggn().parts([Part::layer("fc1")])?;
/// let forward = request.clone().way(Way::Forward).to_arrays::<f64>()?;
/// let backward = request.way(Way::Backward).to_arrays::<f64>()?;
/// let difference = &forward[0].array - &backward[0].array;
/// assert!(difference.iter().all(|d| d.abs() < 1e-14));
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A tangent for each entry of the parameters, or of a pre-activation that stands for them.
    Forward,
    /// A reverse pass for each direction of the loss factor.
    Backward,
}

/// Operations of a part's block over all samples, counted for either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// All operations, forward.
    pub forward: u64,
    /// Reverse passes of all directions to the part's parameters, which parts share.
    pub passes: u64,
    /// Operations of the part beside these passes: rows of V, and contractions.
    pub own: u64,
}

impl Counted {
    /// All operations, backwards, of the part alone.
    pub fn backward(&self) -> u64 {
        self.passes.saturating_add(self.own)
    }
}
