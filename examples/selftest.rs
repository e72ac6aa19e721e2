//! Whether this machine's device computes what CPU double precision does: the table, and what failed.
//!
//! `cargo run --release --example selftest -- auto`

use hessblock::selftest::{cases, heading, run, table};
use hessblock::{CancelToken, Device, Precision};

fn main() -> hessblock::Result<()> {
    let selector = std::env::args().nth(1).unwrap_or("auto".into());
    let device = Device::open(&selector, Precision::F32)?;
    device
        .note()
        .into_iter()
        .for_each(|note| eprintln!("{note}"));
    let report = run(&device, &cases(), &|_| (), &CancelToken::new())?;
    println!("{}\n{}", heading(&report), table(&report));
    for case in report.failures() {
        println!("{} is wrong: {:?}", case.name, case.fault);
    }
    Ok(())
}
