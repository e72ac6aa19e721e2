//! The networks of the set, made in Rust: nothing is read from disk.

use crate::error::Result;
use crate::network::Network;
use crate::network::builder::{Builder, Window2d};

/// Classes of every network here.
pub(super) const CLASSES: usize = 10;

/// A network of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    Lenet5,
    Resnet20,
    /// One convolution and two linear layers: the factors of all contractions.
    Factors,
}

impl Model {
    pub(super) fn network(self) -> Result<Network> {
        match self {
            Model::Lenet5 => Builder::new(&[1, 28, 28])
                .conv2d("conv1", 6, Window2d::new(5))
                .tanh()
                .avg_pool2d(Window2d::new(2).stride(2))
                .conv2d("conv2", 16, Window2d::new(5))
                .tanh()
                .avg_pool2d(Window2d::new(2).stride(2))
                .flatten()
                .linear("dense1", 120)
                .tanh()
                .linear("dense2", 84)
                .tanh()
                .linear("dense3", CLASSES)
                .initialize(1)
                .build(),
            Model::Resnet20 => resnet20(),
            Model::Factors => Builder::new(&[6, 12, 12])
                .conv2d("conv", 16, Window2d::new(5))
                .tanh()
                .avg_pool2d(Window2d::new(2).stride(2))
                .flatten()
                .linear("dense", 120)
                .tanh()
                .linear("head", CLASSES)
                .initialize(1)
                .build(),
        }
    }
}

/// ResNet-20 for 32×32 images (He, Zhang, Ren and Sun 2016, section 4.2) with 1×1 convolutions where shapes change,
/// p = 272,474; batch norms as they are before training.
fn resnet20() -> Result<Network> {
    let window = |stride| Window2d::new(3).padding(1).stride(stride);
    let mut network = Builder::new(&[3, 32, 32])
        .conv2d_without_bias("stem.conv", 16, window(1))
        .batch_norm2d("stem.norm")
        .relu();
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let name = |part: &str| format!("stage{}.{block}.{part}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            network = network
                .mark("in")
                .conv2d_without_bias(&name("conv1"), channels, window(stride))
                .batch_norm2d(&name("norm1"))
                .relu()
                .conv2d_without_bias(&name("conv2"), channels, window(1))
                .batch_norm2d(&name("norm2"));
            if stride > 1 {
                network = network
                    .mark("branch")
                    .back_to("in")
                    .conv2d_without_bias(&name("short"), channels, Window2d::new(1).stride(2))
                    .batch_norm2d(&name("shortnorm"))
                    .add("branch")
                    .relu();
            } else {
                network = network.add("in").relu();
            }
        }
    }
    network
        .global_avg_pool2d()
        .flatten()
        .linear("head", CLASSES)
        .initialize(1)
        .build()
}
