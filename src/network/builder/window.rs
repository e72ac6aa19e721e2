//! Windows of convolutions and pools.

use crate::error::{Error, Result};
use crate::tensor::Window;

/// Geometry of a square window over two axes.
///
/// ```
/// use hessblock::network::builder::{Builder, Window2d};
/// // 3 × 3, every second position, a border of one pixel: 7 × 7 becomes 4 × 4.
/// let window = Window2d::new(3).stride(2).padding(1);
/// let network = Builder::new(&[1, 7, 7]).conv2d("conv", 2, window).initialize(0).build()?;
/// assert_eq!(network.rest(network.output), [1, 2, 4, 4]);
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window2d {
    pub(super) kernel: usize,
    stride: usize,
    pub(super) padding: usize,
    dilation: usize,
    pub(super) groups: usize,
}

impl Window2d {
    /// A window of `kernel` × `kernel`, with stride 1 and no padding.
    pub fn new(kernel: usize) -> Self {
        Self {
            kernel,
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }

    /// Step of the window.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Padding on all sides.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// Distance between the kernel's taps.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// Groups of channels, for convolutions.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    pub(super) fn over(&self, input: &[usize]) -> Result<Window> {
        let fault = || Error::Shape(format!("{self:?} on an input of {input:?}"));
        let span = self
            .kernel
            .checked_sub(1)
            .and_then(|k| k.checked_mul(self.dilation));
        let span = span.and_then(|s| s.checked_add(1)).ok_or_else(fault)?;
        if self.stride == 0 || self.dilation == 0 {
            return Err(fault());
        }
        let output = |&extent: &usize| {
            let padded = self
                .padding
                .checked_mul(2)
                .and_then(|p| p.checked_add(extent));
            let room = padded.and_then(|p| p.checked_sub(span)).ok_or_else(fault)?;
            Ok(room / self.stride + 1)
        };
        Ok(Window {
            input: input.to_vec(),
            output: input.iter().map(output).collect::<Result<_>>()?,
            kernel: vec![self.kernel; 2],
            stride: vec![self.stride; 2],
            dilation: vec![self.dilation; 2],
            padding: vec![self.padding; 2],
        })
    }
}
