//! Results on disk: read back block by block, checked against the definition, and put together from the shares of several
//! processes.
//!
//! ```no_run
//! use hessblock::results::{Blocks, VerifyOptions, verify};
//! let blocks = Blocks::open("blocks")?;
//! let part = blocks.find("layer=dense1")?;
//! println!("its first rows begin with {:.2e}", blocks.rows(part, 0..2)?);
//! let verdict = verify("blocks".as_ref(), &VerifyOptions::default())?;
//! assert!(verdict.passed);
//! # Ok::<(), hessblock::Error>(())
//! ```

pub use crate::sink::{
    Blocks, HashedFile, Left, Merged, ParameterPlace, PartLayout, Provenance, ResultPart, View,
    hash_file, merge,
};
pub use crate::verify::{
    Entry, Verdict, VerifyOptions, verify, verify_against, verify_with_progress,
};
