//! The rooms of the house, for the project's own tests, benchmarks and fuzz targets. Nothing here is part of the interface: it
//! changes without notice.
#![allow(missing_docs)] // each module is documented where it lies

macro_rules! rooms {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name {
            pub use crate::$name::*;
        })*
    };
}

rooms!(
    bytes,
    contraction,
    control,
    device,
    files,
    forecast,
    import,
    jacobian,
    memory,
    operator,
    ops,
    plan,
    random,
    run,
    sink,
    tensor,
    text,
    trial,
    verify,
);

#[cfg(feature = "plot")]
rooms!(figure);
