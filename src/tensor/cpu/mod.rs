//! The CPU backend, in f32 and f64.
