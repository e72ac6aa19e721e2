//! LeNet-5 on 28 × 28 images, as tests and benchmarks have it.

use hessblock::network::Network;
use hessblock::network::builder::{Builder, Window2d};

/// With tanh, 44,426 parameters and 10 classes.
pub fn lenet5() -> Network {
    let network = Builder::new(&[1, 28, 28])
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
        .linear("dense3", 10)
        .initialize(1)
        .build()
        .expect("a network");
    assert_eq!(network.parameter_count(), 44_426);
    network
}
