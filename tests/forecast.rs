//! What plans take, against what was forecast.

use hessblock::bench::cases;
use hessblock::forecast::{Forecast, Rates};
use hessblock::schedule::run::Control;
use hessblock::sink::{Memory, Sink};
use hessblock::tensor::cpu::Cpu;
use hessblock::tensor::{Contract, Real};
use hessblock::{Device, Precision, RunOptions, Session};

fn trial<B: Contract>(backend: &B, rates: &Rates, device: &Device) {
    for case in cases() {
        let Some((session, part)) = case.request().unwrap() else { continue };
        let limits = hessblock::schedule::plan::Limits { device: u64::MAX, host: u64::MAX, tensor: u64::MAX, unified: backend.accumulates_in_host_memory() };
        let grid = if backend.accumulates_in_host_memory() { hessblock::schedule::tiles::Grid::Whole } else { hessblock::schedule::tiles::Grid::Squares };
        let plan = session.plan_for(session.resolve(&[part]).unwrap(), size_of::<B::Real>(), limits, None, grid).unwrap();
        let forecast = Forecast::new(&plan, session.network(), rates).unwrap();
        let tally = plan.tally(session.network()).unwrap();
        let mut best: Option<hessblock::schedule::run::Report> = None;
        for _ in 0..2 {
            let mut sink = Memory::<B::Real>::new();
            let report = session.run_on(backend, &plan, &mut sink, &Control::none()).unwrap();
            if best.as_ref().is_none_or(|b| b.seconds > report.seconds) { best = Some(report); }
        }
        let r = best.unwrap();
        println!("{:26} {:8.1} {:8.1} x{:.2} | passes {:7.1} {:7.1} x{:.2} | contr {:7.1} {:7.1} x{:.2} | tile {:.1}", case.name(), 1e3*forecast.seconds, 1e3*r.seconds, forecast.seconds/r.seconds,
            1e3*forecast.pass_seconds, 1e3*r.factor_seconds, forecast.pass_seconds/r.factor_seconds,
            1e3*forecast.contraction_seconds, 1e3*r.contraction_seconds, forecast.contraction_seconds/r.contraction_seconds, 1e3*forecast.tile_seconds);
        if std::env::var("KINDS").is_ok() {
            for (what, tally) in [("p", tally.passes), ("c", tally.contractions)] {
                let kinds: Vec<String> = rates.by_kind(&tally).iter().filter(|k| k.1 > 0.02 * forecast.seconds).map(|(k, s)| format!("{k:?} {:.1}", 1e3*s)).collect();
                println!("      {what}: {}", kinds.join(", "));
            }
        }
    }
}

#[test]
fn forecasts_are_within_a_factor() {
    let device = Device::cpu(Precision::F32);
    let rates = Rates::measure(&device).unwrap();
    println!("{:.2} s", rates.seconds);
    trial(&Cpu::<f32>::new(), &rates, &device);
}
