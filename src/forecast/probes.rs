//! What is run to find the rates of a device: every kind of work at a few sizes.

use crate::control::Control;
use crate::error::Result;
use crate::jacobian::seeds::{LossSeeds, Seeds};
use crate::loss::{CrossEntropy, Loss, OutputShape, Reduction, TargetBatch};
use crate::tensor::meter::Meter;
use crate::tensor::{
    Backend, Contract, HostSlice, Kind, MirrorRule, OuterAxes, OuterTerm, Placement, Scaled, Shape,
    Tally, Work,
};
use crate::trial::probed::{DENSE, Dense, OUTER, Outer, probed};
use crate::trial::{Array, Loaded, Primitive, wait};
use std::sync::Arc;
use std::time::Instant;

/// Seconds that a timing takes at least: what is quicker is started several times before it is waited for.
const RUN: f64 = 1.5e-3;
/// Seconds for the timings of one probe, of which the least counts.
const PROBE: f64 = 6e-3;
/// The most starts of a timing, and timings.
const MOST: (usize, usize) = (200, 6);

/// What a run of several is to take at least, in the time of what is beside them.
const SHOWS: f64 = 1.25;
/// Seconds of measuring after which a kind is measured no further that has so many sizes already.
const PATIENCE: (f64, usize) = (10.0, 3);

/// What was run and how long it took.
pub(super) type Measured = (Kind, Work, f64);

/// Something to be run: its kind, its numbers, and how.
struct Probe<'a> {
    kind: Kind,
    numbers: u64,
    run: Box<dyn Fn() -> Result<Vec<Measured>> + 'a>,
}

impl<'a> Probe<'a> {
    fn new(kind: Kind, numbers: u64, run: impl Fn() -> Result<Vec<Measured>> + 'a) -> Probe<'a> {
        Probe {
            kind,
            numbers,
            run: Box::new(run),
        }
    }
}

/// Probes of each kind with the smallest first, then the largest, then those of the middle: whatever is left out at the end, a
/// law has sizes far apart.
fn unlike_first(probes: Vec<Probe<'_>>) -> Vec<Probe<'_>> {
    let mut ordered = Vec::with_capacity(probes.len());
    let mut left = probes;
    while let Some(kind) = left.first().map(|probe| probe.kind) {
        let (mut own, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|p| p.kind == kind);
        left = others;
        own.sort_by_key(|probe| probe.numbers);
        ordered.push(own.remove(0));
        ordered.extend(own.pop());
        while !own.is_empty() {
            ordered.push(own.remove(own.len() / 2));
        }
    }
    ordered
}

/// Least seconds of one start; the first, in which kernels are compiled and memory is had, does not count.
fn least(
    start: &mut dyn FnMut() -> Result<()>,
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<f64> {
    let mut run = |count: usize| {
        let clock = Instant::now();
        for _ in 0..count {
            start()?;
        }
        wait()?;
        Ok::<f64, crate::Error>(clock.elapsed().as_secs_f64())
    };
    run(1)?;
    let clock = Instant::now();
    let once = run(1)?;
    // A slow device is not run again and again.
    if once > 10.0 * PROBE {
        return Ok(once);
    }
    let count = ((RUN / once.max(1e-9)).ceil() as usize).clamp(1, MOST.0);
    let mut least = if count == 1 { once } else { f64::INFINITY };
    for _ in 0..MOST.1 {
        least = least.min(run(count)? / count as f64);
        if clock.elapsed().as_secs_f64() > PROBE {
            break;
        }
    }
    Ok(least)
}

/// All there is to run.
fn probes<B: Contract>(backend: &B) -> Vec<Probe<'_>> {
    let mut probes = Vec::new();
    for (primitive, shapes) in probed() {
        let (kind, work) = metered::<B>(&primitive, &shapes);
        let run = move || Ok(vec![of_primitive(backend, &primitive, &shapes)?]);
        probes.push(Probe::new(kind, work.numbers(), run));
    }
    for (samples, outputs) in [(16, 10), (64, 24), (4, 200)] {
        let run = move || Ok(vec![of_seeds(backend, samples, outputs)?]);
        probes.push(Probe::new(
            Kind::Seeds,
            (samples * outputs * outputs) as u64,
            run,
        ));
    }
    for numbers in [1usize << 8, 1 << 14, 1 << 18, 1 << 20] {
        let run = move || Ok(of_copies(backend, numbers)?.into());
        probes.push(Probe::new(Kind::Upload, numbers as u64, run));
    }
    for size in [128, 512, 1024] {
        let run = move || Ok(vec![of_tile(backend, size)?]);
        probes.push(Probe::new(Kind::Tile, (size * size) as u64, run));
    }
    for dense in DENSE {
        let run = move || Ok(vec![of_dense(backend, dense)?]);
        probes.push(Probe::new(Kind::Dense, (dense.2 * dense.3) as u64, run));
    }
    for outer in OUTER {
        let run = move || Ok(vec![of_outer(backend, outer)?]);
        let (own, other) = (outer.1, outer.2.unwrap_or(outer.1));
        let entries = own.0 * own.1 * other.0 * other.1;
        probes.push(Probe::new(Kind::Outer, entries as u64, run));
    }
    unlike_first(probes)
}

/// Runs everything; on a slow device, fewer sizes of a kind.
///
/// # Errors
/// What the device reports; [`crate::Error::Interrupted`] when asked to stop.
pub(super) fn measure<B: Contract>(backend: &B, control: &Control<'_>) -> Result<Vec<Measured>> {
    run(probes(backend), PATIENCE, control)
}

/// Runs probes, of which those are left out that `patience` leaves no time for.
fn run(
    probes: Vec<Probe<'_>>,
    (seconds, enough): (f64, usize),
    control: &Control<'_>,
) -> Result<Vec<Measured>> {
    let clock = Instant::now();
    let mut measured: Vec<Measured> = Vec::new();
    for probe in probes {
        control.check()?;
        let known = measured.iter().filter(|(kind, ..)| *kind == probe.kind);
        if known.count() >= enough && clock.elapsed().as_secs_f64() > seconds {
            continue;
        }
        let found = (probe.run)()?;
        // A timing that the clock does not tell from none says nothing.
        let told = |(_, _, seconds): &Measured| seconds.is_finite() && *seconds > 0.0;
        measured.extend(found.into_iter().filter(told));
    }
    Ok(measured)
}

/// The only kind in a tally.
fn single(tally: &Tally) -> (Kind, Work) {
    let found = Kind::ALL
        .into_iter()
        .find(|kind| tally.of(*kind) != Work::default());
    let kind = found.unwrap_or(Kind::Copy);
    (kind, tally.of(kind))
}

/// Numbers in 0.1..1.1, and whole ones below `extent` for the second tensor of a look-up.
fn numbers(shape: &Shape, extent: Option<usize>) -> Arc<Array> {
    let value = |k: usize| match extent {
        Some(extent) => (k * 7 % extent) as f64,
        None => 0.1 + (k * 61 % 1024) as f64 / 1024.0,
    };
    Arc::new(Array::new(
        shape.clone(),
        (0..shape.len()).map(value).collect(),
    ))
}

/// The kind and the work of a primitive.
fn metered<B: Contract>(primitive: &Primitive, shapes: &[Shape]) -> (Kind, Work) {
    let meter = Meter::new(size_of::<B::Real>());
    let without_values = |shape: &Shape| Arc::new(Array::new(shape.clone(), Vec::new()));
    let arrays: Vec<Arc<Array>> = shapes.iter().map(without_values).collect();
    let blank = Loaded::new(&meter, primitive, &arrays);
    let before = meter.tally();
    blank.apply(&meter);
    single(&(meter.tally() - before))
}

fn of_primitive<B: Contract>(
    backend: &B,
    primitive: &Primitive,
    shapes: &[Shape],
) -> Result<Measured> {
    let extent = |k: usize| match primitive {
        Primitive::Take(axis) if k == 1 => Some(shapes[0].axes()[*axis]),
        Primitive::Put(_, range, _) if k == 1 => Some(range.end),
        _ => None,
    };
    let arrays: Vec<Arc<Array>> = shapes
        .iter()
        .enumerate()
        .map(|(k, s)| numbers(s, extent(k)))
        .collect();
    let (kind, work) = metered::<B>(primitive, shapes);
    let loaded = Loaded::new(backend, primitive, &arrays);
    let last = std::cell::RefCell::new(None);
    let mut start = || {
        *last.borrow_mut() = Some(loaded.apply(backend));
        Ok(())
    };
    let mut finish = || match last.borrow_mut().take() {
        Some(tensor) => wait(backend, &tensor),
        None => Ok(()),
    };
    Ok((kind, work, least(&mut start, &mut finish)?))
}

/// Uploads, and numbers read back.
fn of_copies<B: Contract>(backend: &B, count: usize) -> Result<[Measured; 2]> {
    let shape = Shape::new(1, 1, &[count]);
    let values = numbers(&shape, None);
    let last = std::cell::RefCell::new(None);
    let mut upload = || {
        *last.borrow_mut() = Some(backend.upload(&shape, HostSlice::F64(&values.values)));
        Ok(())
    };
    let mut finish = || match last.borrow_mut().take() {
        Some(tensor) => wait(backend, &tensor),
        None => Ok(()),
    };
    let uploading = least(&mut upload, &mut finish)?;
    let tensor = backend.upload(&shape, HostSlice::F64(&values.values));
    let mut read = || {
        backend
            .read(&tensor)
            .map(|read| _ = std::hint::black_box(read))
    };
    let reading = least(&mut read, &mut || Ok(()))?;
    let work = Work::call(0, 0, count as u64, 0);
    Ok([(Kind::Upload, work, uploading), (Kind::Read, work, reading)])
}

/// The loss factor of cross-entropy.
fn of_seeds<B: Contract>(backend: &B, samples: usize, outputs: usize) -> Result<Measured> {
    let targets = || TargetBatch::Classes {
        first: 0,
        shape: Vec::new(),
        values: (0..samples).map(|k| (k % outputs) as i64).collect(),
    };
    let mut loss = CrossEntropy::new(Reduction::Mean);
    let mut first = Some(targets());
    loss.prepare(&OutputShape::new(&[outputs]), &mut || Ok(first.take()))?;
    let shape = Shape::new(samples, 1, &[outputs]);
    let output = backend.upload(&shape, HostSlice::F64(&numbers(&shape, None).values));
    let targets = targets();
    let last = std::cell::RefCell::new(None);
    let mut start = || {
        let mut seeds = LossSeeds::new(&loss, 0, &targets);
        let seed = Seeds::<B>::seed(&mut seeds, backend, &output, 0..outputs)?;
        *last.borrow_mut() = Some(seed.cotangents);
        Ok(())
    };
    let mut finish = || match last.borrow_mut().take() {
        Some(tensor) => wait(backend, &tensor),
        None => Ok(()),
    };
    let seconds = least(&mut start, &mut finish)?;
    let work = Work::call(0, 0, (shape.len() * (1 + outputs)) as u64, 0);
    Ok((Kind::Seeds, work, seconds))
}

/// A tile's way: memory, an entry everywhere, and back.
fn of_tile<B: Contract>(backend: &B, size: usize) -> Result<Measured> {
    let shape = Shape::new(1, 1, &[size]);
    let side = backend.fill(&shape, 0.5);
    let mut start = || {
        let memory = match backend.accumulates_in_host_memory() {
            true => crate::memory::zeros(size * size),
            false => Vec::new(),
        };
        let mut tile = backend.accumulator_in(size, size, memory);
        let how = Placement {
            begin: true,
            ..Placement::ADD
        };
        backend.accumulate_dense(&mut tile, how, (0, 0), (&side, &side));
        backend
            .collect(backend.finish(tile))
            .map(|values| _ = std::hint::black_box(values))
    };
    let seconds = least(&mut start, &mut || Ok(()))?;
    Ok((
        Kind::Tile,
        Work::call(0, 0, (size * size) as u64, 0),
        seconds,
    ))
}

/// Seconds of one of several products that are added to a tile, its way back taken off.
fn added<B: Contract>(
    backend: &B,
    (rows, columns): (usize, usize),
    add: &dyn Fn(&mut B::Accumulator),
) -> Result<f64> {
    apart(&mut |count| {
        let mut tile = backend.accumulator(rows, columns);
        // Pages are there, kernels compiled.
        add(&mut tile);
        let clock = Instant::now();
        for _ in 0..count {
            add(&mut tile);
        }
        backend.collect(backend.finish(tile))?;
        Ok(clock.elapsed().as_secs_f64())
    })
}

/// Least seconds of one of what `run` does so many of, without what it does beside them; infinite where so much is beside that
/// they do not show.
fn apart(run: &mut dyn FnMut(usize) -> Result<f64>) -> Result<f64> {
    run(0)?;
    let clock = Instant::now();
    let empty = run(0)?.min(run(0)?);
    let once = (run(1)? - empty).max(1e-7);
    let mut count = ((RUN / once).ceil() as usize).clamp(1, MOST.0);
    let mut least = f64::INFINITY;
    for _ in 0..MOST.1 {
        let taken = run(count)?;
        match taken > SHOWS * empty {
            true => least = least.min((taken - empty) / count as f64),
            false => count *= 4,
        }
        if clock.elapsed().as_secs_f64() > PROBE && least.is_finite() {
            break;
        }
    }
    Ok(least)
}

fn of_dense<B: Contract>(
    backend: &B,
    (samples, directions, rows, columns, mirror): Dense,
) -> Result<Measured> {
    let meter = Meter::new(size_of::<B::Real>());
    let upload =
        |shape: &Shape| backend.upload(shape, HostSlice::F64(&numbers(shape, None).values));
    let blank = |shape: &Shape| meter.upload(shape, HostSlice::F64(&[]));
    let shapes = [rows, columns].map(|numbers| Shape::new(samples, directions, &[numbers]));
    let how = Placement {
        mirror,
        ..Placement::ADD
    };
    let before = meter.tally();
    let (l, r) = (blank(&shapes[0]), blank(&shapes[1]));
    meter.accumulate_dense(&mut meter.accumulator(0, 0), how, (0, 0), (&l, &r));
    let work = (meter.tally() - before).of(Kind::Dense);
    let left = upload(&shapes[0]);
    let right = if mirror == MirrorRule::Symmetric {
        left.clone()
    } else {
        upload(&shapes[1])
    };
    let add =
        |tile: &mut B::Accumulator| backend.accumulate_dense(tile, how, (0, 0), (&left, &right));
    Ok((Kind::Dense, work, added(backend, (rows, columns), &add)?))
}

fn of_outer<B: Contract>(
    backend: &B,
    ((samples, directions), own, other): Outer,
) -> Result<Measured> {
    let meter = Meter::new(size_of::<B::Real>());
    let upload =
        |shape: &Shape| backend.upload(shape, HostSlice::F64(&numbers(shape, None).values));
    let blank = |shape: &Shape| meter.upload(shape, HostSlice::F64(&[]));
    let sides = [own, other.unwrap_or(own)];
    let axes = sides.map(|(_, inputs)| OuterAxes {
        origin: 0,
        output_stride: inputs,
        input_stride: 1,
    });
    let deltas = sides.map(|(outputs, _)| Shape::new(samples, directions, &[outputs]));
    let inputs = sides.map(|(_, inputs)| (inputs > 1).then(|| Shape::new(samples, 1, &[inputs])));
    let scaled = match other {
        None => Scaled::Alike,
        Some(_) if own.1 > sides[1].1 => Scaled::Columns,
        Some(_) => Scaled::Rows,
    };
    let mirror = if other.is_none() {
        MirrorRule::Symmetric
    } else {
        MirrorRule::Own
    };
    let how = Placement {
        mirror,
        ..Placement::ADD
    };
    let before = meter.tally();
    let d = [blank(&deltas[0]), blank(&deltas[1])];
    let a = [0, 1].map(|k| inputs[k].as_ref().map(&blank));
    let term = OuterTerm {
        row_cotangents: &d[0],
        column_cotangents: &d[1],
        row_inputs: a[0].as_ref(),
        column_inputs: a[1].as_ref(),
    };
    meter.accumulate_outer(
        &mut meter.accumulator(0, 0),
        how,
        (axes[0], axes[1]),
        term,
        scaled,
    );
    let work = (meter.tally() - before).of(Kind::Outer);
    let d = [upload(&deltas[0]), upload(&deltas[1])];
    let a = [0, 1].map(|k| inputs[k].as_ref().map(&upload));
    // A site with itself is one tensor.
    let (row, column) = match other {
        None => ((&d[0], &a[0]), (&d[0], &a[0])),
        Some(_) => ((&d[0], &a[0]), (&d[1], &a[1])),
    };
    let term = OuterTerm {
        row_cotangents: row.0,
        column_cotangents: column.0,
        row_inputs: row.1.as_ref(),
        column_inputs: column.1.as_ref(),
    };
    let add = |tile: &mut B::Accumulator| {
        backend.accumulate_outer(tile, how, (axes[0], axes[1]), term, scaled);
    };
    let extents = (sides[0].0 * sides[0].1, sides[1].0 * sides[1].1);
    Ok((Kind::Outer, work, added(backend, extents, &add)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    fn probe<'a>(kind: Kind, numbers: u64, started: &'a AtomicUsize, pause: u64) -> Probe<'a> {
        let run = move || {
            started.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(pause));
            Ok(vec![(kind, Work::call(0, 0, numbers, 0), 1.0)])
        };
        Probe::new(kind, numbers, run)
    }

    #[test]
    fn the_first_sizes_of_a_kind_are_far_apart_and_a_slow_device_runs_those_alone() {
        let started = AtomicUsize::new(0);
        let probes = |pause: u64| {
            let sizes = [5, 1, 4, 9, 7].map(|n| probe(Kind::Map, n, &started, pause));
            let others = [2, 1].map(|n| probe(Kind::Sum, n, &started, pause));
            unlike_first(sizes.into_iter().chain(others).collect())
        };
        let sizes = |measured: &[Measured]| -> Vec<(Kind, u64)> {
            measured.iter().map(|m| (m.0, m.1.numbers())).collect()
        };
        let all = run(probes(0), PATIENCE, &Control::none()).unwrap();
        let map = [1, 9, 5, 7, 4].map(|n| (Kind::Map, n));
        let sum = [1, 2].map(|n| (Kind::Sum, n));
        assert_eq!(sizes(&all), [&map[..], &sum].concat());
        let few = run(probes(5), (1e-3, 3), &Control::none()).unwrap();
        assert_eq!(sizes(&few), [&map[..3], &sum].concat());
    }

    #[test]
    fn measuring_stops_between_two_probes() {
        let (started, cancel) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut probes: Vec<Probe<'_>> = (0..4).map(|n| probe(Kind::Map, n, &started, 0)).collect();
        let stop = || {
            cancel.store(true, Ordering::Relaxed);
            Ok(Vec::new())
        };
        probes[1].run = Box::new(stop);
        let control = Control::stopped_by(&cancel);
        let stopped = run(probes, PATIENCE, &control);
        assert!(matches!(stopped, Err(crate::Error::Interrupted)));
        assert_eq!(started.into_inner(), 1);
    }

    #[test]
    fn what_does_not_show_beside_a_tile_s_own_way_is_run_more_often_or_dropped() {
        // Of a clock that says no more than thousandths.
        let clock = |count: usize, each: f64| ((0.01 + each * count as f64) * 1e3).round() / 1e3;
        let quick = apart(&mut |count| Ok(clock(count, 1e-5))).unwrap();
        assert!((quick - 1e-5).abs() < 3e-6, "{quick}");
        let nothing = apart(&mut |count| Ok(clock(count, 0.0))).unwrap();
        assert_eq!(nothing, f64::INFINITY);
    }
}
