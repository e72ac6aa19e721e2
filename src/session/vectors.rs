//! Vectors as callers have them: one or several, in either precision.

use crate::tensor::Real;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// A number that arrays hold: `f32` or `f64`.
///
/// ```
/// fn bytes<R: hessblock::Number>(count: usize) -> usize { count * size_of::<R>() }
/// assert_eq!(bytes::<f32>(3), 12);
/// ```
pub trait Number: Real {}

impl<R: Real> Number for R {}

/// One vector, `[p]`, or several as columns, `[p, k]`, of `f32` or `f64`: views of ndarray's arrays.
///
/// Results have the same shape and type.
///
/// ```
/// # use hessblock::data::Dataset;
/// # use hessblock::loss::SquaredError;
/// # use hessblock::network::builder::Builder;
/// # use hessblock::{Device, Precision, Session};
/// # use ndarray::{Array1, Array2, arr2};
/// # let network = Builder::new(&[3]).linear("fc", 2).initialize(0).build()?;
/// # let data = Dataset::from_arrays(arr2(&[[0.1, 0.2, 0.3]]), arr2(&[[1.0, -1.0]]));
/// # let session = Session::builder(network).data(data).loss(SquaredError::default())
/// #     .device(Device::cpu(Precision::F64)).build()?;
/// let g = session.ggn();
/// let one: Array1<f32> = g.apply(Array1::<f32>::ones(8).view())?;
/// let three: Array2<f64> = g.apply(Array2::<f64>::ones((8, 3)).view())?;
/// let (number, numbers) = (g.quadratic_form(one.view())?, g.quadratic_form(three.view())?);
/// assert!(number > 0.0 && numbers.len() == 3);
/// # Ok::<(), hessblock::Error>(())
/// ```
pub trait Vectors: sealed::Sealed {
    /// Arrays of the same shape: `[p]` or `[p, k]`.
    type Product;
    /// A number for each vector: one, or `[k]`.
    type Numbers;

    /// How long each is, p.
    #[doc(hidden)]
    fn length(&self) -> usize;
    /// `[k, p]`, row-major.
    #[doc(hidden)]
    fn rows(&self) -> Vec<f64>;
    /// From `[k, p]`, row-major, with p as these have it.
    #[doc(hidden)]
    fn product(&self, rows: Vec<f64>) -> Self::Product;
    /// From `[k]`.
    #[doc(hidden)]
    fn numbers(&self, values: Vec<f64>) -> Self::Numbers;
}

mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for ndarray::ArrayView1<'_, R> {}
    impl<R> Sealed for ndarray::ArrayView2<'_, R> {}
}

impl<R: Number> Vectors for ArrayView1<'_, R> {
    type Product = Array1<R>;
    type Numbers = f64;

    fn length(&self) -> usize {
        self.len()
    }

    fn rows(&self) -> Vec<f64> {
        self.iter().map(|v| v.to_f64()).collect()
    }

    fn product(&self, rows: Vec<f64>) -> Array1<R> {
        rows.into_iter().map(R::from_f64).collect()
    }

    fn numbers(&self, values: Vec<f64>) -> f64 {
        values.first().copied().unwrap_or(f64::NAN)
    }
}

impl<R: Number> Vectors for ArrayView2<'_, R> {
    type Product = Array2<R>;
    type Numbers = Array1<f64>;

    fn length(&self) -> usize {
        self.nrows()
    }

    fn rows(&self) -> Vec<f64> {
        self.t().iter().map(|v| v.to_f64()).collect()
    }

    fn product(&self, rows: Vec<f64>) -> Array2<R> {
        let mut product = Array2::from_elem(self.dim(), R::default());
        let length = self.nrows().max(1);
        for (mut column, row) in product
            .axis_iter_mut(Axis(1))
            .zip(rows.chunks_exact(length))
        {
            column
                .iter_mut()
                .zip(row)
                .for_each(|(to, v)| *to = R::from_f64(*v));
        }
        product
    }

    fn numbers(&self, values: Vec<f64>) -> Array1<f64> {
        values.into()
    }
}
