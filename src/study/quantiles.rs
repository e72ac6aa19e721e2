//! Median and spread of draws.

use serde::Serialize;

/// The 5 %, 50 % and 95 % quantiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// 5 %.
    pub low: f64,
    /// 50 %.
    pub median: f64,
    /// 95 %.
    pub high: f64,
}

impl Quantiles {
    /// Of finite values; `None` where there are none.
    ///
    /// Between two values it interpolates linearly, as NumPy does (Hyndman and Fan 1996, definition 7).
    ///
    /// ```
    /// use hessblock::study::quantiles::Quantiles;
    /// let quantiles = Quantiles::of((0..=20).rev().map(f64::from)).expect("there are values");
    /// assert_eq!((quantiles.low, quantiles.median, quantiles.high), (1.0, 10.0, 19.0));
    /// ```
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Quantiles> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
        };
        Some(Quantiles {
            low: at(0.05),
            median: at(0.5),
            high: at(0.95),
        })
    }
}
