//! What plans take, against what was forecast.

use hessblock::bench::cases;
use hessblock::forecast::Rates;
use hessblock::schedule::budget::anonymous_resident;
use hessblock::schedule::run::{Control, Report};
use hessblock::sink::{PartLayout, Sink};
use hessblock::tensor::{Contract, Real};
use hessblock::tensor::cpu::Cpu;
use hessblock::{Device, Precision, RunOptions};
use std::ops::Range;

/// Takes what is computed and keeps nothing.
struct Nowhere;

impl<R: Real> Sink<R> for Nowhere {
    fn begin(&mut self, _: &[PartLayout]) -> hessblock::Result<()> {
        Ok(())
    }

    fn tile(
        &self,
        _: usize,
        _: Range<usize>,
        _: Range<usize>,
        _: &[R],
        _: bool,
    ) -> hessblock::Result<()> {
        Ok(())
    }

    fn vector(&self, _: usize, _: &[R]) -> hessblock::Result<()> {
        Ok(())
    }

    fn give_back(&self, _: usize, _: Vec<R>) -> hessblock::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> hessblock::Result<()> {
        Ok(())
    }
}

fn trial<B: Contract>(backend: &B, rates: &Rates, device: &Device) {
    for case in cases() {
        let Some((session, part)) = case.request().unwrap() else { continue };
        let plan = session.plan(session.resolve(&[part]).unwrap(), device, RunOptions::default()).unwrap();
        let forecast = session.forecast(&plan, device, rates, None).unwrap();
        let tally = plan.tally(session.network()).unwrap();
        let mut best: Option<Report> = None;
        let before = anonymous_resident().unwrap();
        let mut peak = 0;
        for k in 0..2 {
            let report = session.run_on(backend, &plan, &mut Nowhere, &Control::none()).unwrap();
            if k == 0 { peak = report.peak_anonymous_bytes.unwrap() - before; }
            if best.as_ref().is_none_or(|b| b.seconds > report.seconds) { best = Some(report); }
        }
        let r = best.unwrap();
        println!("{:26} {:8.1} {:8.1} x{:.2} | passes {:7.1} {:7.1} x{:.2} | contr {:7.1} {:7.1} x{:.2} | tile {:.1} | mem {:.1} {:.1} x{:.2}, dev {:?} {:?}", case.name(), 1e3*forecast.seconds, 1e3*r.seconds, forecast.seconds/r.seconds,
            1e3*forecast.pass_seconds, 1e3*r.factor_seconds, forecast.pass_seconds/r.factor_seconds,
            1e3*forecast.contraction_seconds, 1e3*r.contraction_seconds, forecast.contraction_seconds/r.contraction_seconds, 1e3*forecast.tile_seconds,
            forecast.peak_host_bytes as f64/1048576.0, peak as f64/1048576.0, forecast.peak_host_bytes as f64/peak as f64, forecast.peak_device_bytes.map(|b| b>>20), r.peak_device_bytes.map(|b| b>>20));
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
    if let Ok(name) = std::env::var("CHILD") {
        let device = Device::cpu(Precision::F32);
        let case = cases().into_iter().find(|c| c.name() == name).unwrap();
        let (session, part) = case.request().unwrap().unwrap();
        let plan = session.plan(session.resolve(&[part]).unwrap(), &device, RunOptions::default()).unwrap();
        let before = anonymous_resident().unwrap();
        let r = session.run_on(&Cpu::<f32>::new(), &plan, &mut Nowhere, &Control::none()).unwrap();
        println!("{name:26} host {:.1} device {:.1} peak {:.1}", plan.host_bytes as f64/1048576.0, plan.device_bytes as f64/1048576.0, (r.peak_anonymous_bytes.unwrap() - before) as f64/1048576.0);
        return;
    }
    if std::env::var("MEM").is_ok() {
        for case in cases() {
            if case.request().unwrap().is_none() { continue }
            let out = std::process::Command::new(std::env::current_exe().unwrap()).env("CHILD", case.name()).args(["--nocapture"]).output().unwrap();
            print!("{}", String::from_utf8_lossy(&out.stdout).lines().filter(|l| l.contains("peak")).collect::<Vec<_>>().join("\n") + "\n");
        }
        return;
    }
    let which = std::env::var("DEVICE").unwrap_or("f32".into());
    if which == "f64" {
        let device = Device::cpu(Precision::F64);
        let rates = Rates::measure(&device).unwrap();
        println!("{:.2} s", rates.seconds);
        trial(&Cpu::<f64>::new(), &rates, &device);
    } else if which == "f32" {
        let device = Device::cpu(Precision::F32);
        let rates = Rates::measure(&device).unwrap();
        println!("{:.2} s", rates.seconds);
        trial(&Cpu::<f32>::new(), &rates, &device);
    } else {
        let (device, _) = Device::open(&which, Precision::F32).unwrap();
        let Device::Gpu(gpu) = &device else { panic!() };
        let rates = Rates::measure(&device).unwrap();
        println!("{:.2} s", rates.seconds);
        trial(gpu, &rates, &device);
    }
}
