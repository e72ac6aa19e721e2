//! Every kernel × configuration is valid, translates to SPIR-V, MSL and HLSL, keeps within WebGPU's default limits, and
//! is taken by front ends that know nothing of naga: `spirv-val` and the HLSL of `glslangValidator`.
//!
//! What is written is what wgpu writes: with shader checks and without, and no zeroing of workgroup memory, which the
//! backend turns off.
#![cfg(feature = "gpu")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hessblock::internals::tensor::Expr;
use hessblock::internals::tensor::expression::Unary;
use hessblock::internals::tensor::gpu::{ShaderSource, map_source, shader_sources};
use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable};

/// Expressions that hold every node kind, and the derivatives that the operations use.
fn expressions() -> Vec<Expr> {
    let x = |k| Expr::input(k);
    let mut all: Vec<Expr> = Unary::ALL
        .into_iter()
        .flat_map(|function| {
            let y = x(0).unary(function);
            [y.clone(), y.derivative(0), y.derivative(0).derivative(0)]
        })
        .collect();
    all.push((x(0) + x(1)) * x(2) / (x(3) - x(1)));
    for exponent in [x(1), Expr::constant(1.5)] {
        let power = x(0).power(exponent);
        all.extend([
            power.derivative(0).derivative(0),
            power.derivative(1),
            power,
        ]);
    }
    all.push((0..7).map(x).fold(Expr::constant(0.1), |sum, y| sum + y));
    all.push(Expr::if_less_equal(
        x(0),
        Expr::constant(0.0),
        x(1).unary(Unary::ExpM1),
        x(0) * Expr::constant(1e-8),
    ));
    for value in [
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -0.0,
        1e-45,
        3.4e38,
        -1.0,
    ] {
        all.push(x(0) + Expr::constant(value));
        all.push(Expr::constant(value));
    }
    all
}

/// A module that naga has found valid.
struct Valid {
    module: naga::Module,
    info: ModuleInfo,
}

/// What one module is on each target.
struct Targets {
    spirv: Vec<u32>,
    hlsl: String,
}

fn valid(source: &ShaderSource) -> Result<Valid, String> {
    let text = &source.wgsl;
    for banned in ["f64", "enable subgroups", "f16", "atomic<f32>"] {
        if text.contains(banned) {
            return Err(format!("uses {banned}"));
        }
    }
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    // No capability beyond plain WebGPU.
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|e| e.emit_to_string(text))?;
    Ok(Valid { module, info })
}

/// WebGPU's default limits, which every adapter keeps, and at least 64 threads: Apple's compiler miscompiled kernels
/// of 32.
fn within_limits(Valid { module, info }: &Valid) -> Result<(), String> {
    for (k, entry) in module.entry_points.iter().enumerate() {
        let fault = |what: String| Err(format!("{} has {what}", entry.name));
        let [x, y, z] = entry.workgroup_size;
        if !(64..=256).contains(&(x * y * z)) || x > 256 || y > 256 || z > 64 {
            return fault(format!("{x}×{y}×{z} threads"));
        }
        let used = |space: fn(AddressSpace) -> bool| {
            let variables = module.global_variables.iter();
            variables.filter(move |(handle, variable)| {
                !info.get_entry_point(k)[*handle].is_empty() && space(variable.space)
            })
        };
        let size = |variable: &GlobalVariable| {
            let inner = &module.types[variable.ty].inner;
            inner.size(module.to_ctx())
        };
        let shared: u32 = used(|space| space == AddressSpace::WorkGroup)
            .map(|(_, variable)| size(variable).next_multiple_of(16))
            .sum();
        if shared > 16_384 {
            return fault(format!("{shared} bytes of workgroup memory"));
        }
        let storage = used(|space| matches!(space, AddressSpace::Storage { .. })).count();
        if storage > 8 {
            return fault(format!("{storage} storage buffers"));
        }
        let uniforms: Vec<_> = used(|space| space == AddressSpace::Uniform).collect();
        if uniforms.len() > 12 || uniforms.iter().any(|(_, uniform)| size(uniform) > 65_536) {
            return fault("too many or too large uniform buffers".into());
        }
        for (_, variable) in used(|_| true) {
            let place = variable.binding.as_ref();
            if place.is_some_and(|place| place.group > 3 || place.binding > 999) {
                return fault(format!("a variable at {place:?}"));
            }
        }
    }
    Ok(())
}

fn translate(valid: &Valid, checked: bool) -> Result<Targets, String> {
    let Valid { module, info } = valid;
    let policy = match checked {
        true => BoundsCheckPolicy::Restrict,
        false => BoundsCheckPolicy::Unchecked,
    };
    let policies = BoundsCheckPolicies {
        index: policy,
        buffer: policy,
        ..Default::default()
    };
    let options = spv::Options {
        bounds_check_policies: policies,
        force_loop_bounding: checked,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..Default::default()
    };
    let spirv = spv::write_vec(module, info, &options, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let options = msl::Options {
        lang_version: (2, 3),
        fake_missing_bindings: true,
        bounds_check_policies: policies,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: checked,
        ..Default::default()
    };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .map_err(|e| format!("MSL: {e}"))?;
    // FXC, which wgpu falls back to, takes 5.1; DXC, where its library is found, takes 6.0.
    let [_, hlsl] = [
        hlsl_text(valid, checked, hlsl::ShaderModel::V5_1)?,
        hlsl_text(valid, checked, hlsl::ShaderModel::V6_0)?,
    ];
    Ok(Targets { spirv, hlsl })
}

fn hlsl_text(
    Valid { module, info }: &Valid,
    checked: bool,
    shader_model: hlsl::ShaderModel,
) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model,
        fake_missing_bindings: true,
        // Where the number of workgroups is passed: without it naga writes the workgroup's number in its place.
        special_constants_binding: Some(hlsl::BindTarget {
            space: 1,
            ..Default::default()
        }),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: checked,
        force_loop_bounding: checked,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    Ok(text)
}

/// All of naga's part; the targets checked and unchecked.
fn check(source: &ShaderSource) -> Result<(Valid, [Targets; 2]), String> {
    let valid = valid(source)?;
    within_limits(&valid)?;
    let targets = [translate(&valid, true)?, translate(&valid, false)?];
    Ok((valid, targets))
}

#[test]
fn every_kernel_is_valid_and_translates_to_every_target() {
    let mut sources = shader_sources();
    for expr in expressions() {
        for axes in [0, 1, 3, 8] {
            sources.push(map_source(&expr, axes));
        }
    }
    assert!(sources.len() > 200, "{}", sources.len());
    for source in &sources {
        if let Err(message) = check(source) {
            panic!("{}: {message}\n{}", source.name, source.wgsl);
        }
    }
}

#[test]
fn equal_subexpressions_are_computed_once() {
    let y = Expr::input(0).unary(Unary::Tanh);
    let text = map_source(&(y.derivative(0) * y.clone() + y), 1).wgsl;
    assert_eq!(text.matches("= tanh_(").count(), 1, "{text}");
}

/// Whether a tool of the system is there.
///
/// # Panics
/// Where it is not, although `HESSBLOCK_REQUIRE_VALIDATORS=1` asks for it.
fn has(tool: &str, package: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    let required = std::env::var("HESSBLOCK_REQUIRE_VALIDATORS").is_ok_and(|v| v == "1");
    assert!(
        found || !required,
        "HESSBLOCK_REQUIRE_VALIDATORS is set, but there is no {tool}: install {package}"
    );
    if !found {
        eprintln!("skipped: there is no {tool}, of the package {package}");
    }
    found
}

/// A run of a tool on a file.
struct Run {
    tool: &'static str,
    arguments: Vec<String>,
    file: PathBuf,
    /// What the file was made of, for messages.
    name: String,
}

impl Run {
    fn fault(&self) -> Option<String> {
        let mut command = Command::new(self.tool);
        let output = command.args(&self.arguments).arg(&self.file).output();
        let output = output.expect("the tool was found before");
        if output.status.success() {
            return None;
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let said: Vec<&str> = said.lines().take(12).collect();
        Some(format!(
            "{} of {}:\n{}",
            self.tool,
            self.name,
            said.join("\n")
        ))
    }
}

/// The tools take one module at a time, and their start is a good part of it: two at once.
fn run_all(runs: &[Run]) -> Vec<String> {
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fault = run.fault();
                    faults.lock().expect("no thread panics").extend(fault);
                }
            });
        }
    });
    faults.into_inner().expect("no thread panicked")
}

/// Writes a module's files and says what is to be run on them.
///
/// naga takes every module in both forms above. To the front ends the forms go in turn, and of the product kernels, whose
/// pieces of text are combined in hundreds of ways, every fifth: over the tile shapes each combination is among them.
fn runs_of(folder: &Path, number: usize, source: &ShaderSource, tools: [bool; 2]) -> Vec<Run> {
    if source.name.starts_with("Product") && !number.is_multiple_of(5) {
        return Vec::new();
    }
    let (valid, targets) = match check(source) {
        Ok(checked) => checked,
        Err(message) => panic!("{}: {message}", source.name),
    };
    let mut runs = Vec::new();
    let forms = targets.iter().zip(["checked", "unchecked"]);
    for (targets, form) in forms.skip(number % 2).take(1) {
        let file = |kind: &str| folder.join(format!("{number}.{form}.{kind}"));
        let name = format!("{}, {form}", source.name);
        if tools[0] {
            let bytes: Vec<u8> = targets.spirv.iter().flat_map(|w| w.to_le_bytes()).collect();
            std::fs::write(file("spv"), bytes).expect("the folder is there");
            runs.push(Run {
                tool: "spirv-val",
                arguments: vec!["--target-env".into(), "vulkan1.1".into()],
                file: file("spv"),
                name: name.clone(),
            });
        }
        if tools[1] {
            std::fs::write(file("hlsl"), &targets.hlsl).expect("the folder is there");
            for entry in &valid.module.entry_points {
                let made = file(&format!("{}.spv", entry.name));
                let made = made.to_string_lossy();
                let arguments = ["-D", "-S", "comp", "-e", &entry.name, "-V", "-o", &made];
                runs.push(Run {
                    tool: "glslangValidator",
                    arguments: arguments.map(String::from).to_vec(),
                    file: file("hlsl"),
                    name: name.clone(),
                });
            }
        }
    }
    runs
}

#[test]
fn front_ends_of_others_take_every_kernel() {
    let tools = [
        has("spirv-val", "spirv-tools"),
        has("glslangValidator", "glslang-tools"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let mut sources = shader_sources();
    // How an element's place is found depends on the axes alone, as in the layout kernels: one count will do.
    sources.extend(expressions().iter().map(|expr| map_source(expr, 3)));
    let runs: Vec<Run> = (sources.iter().enumerate())
        .flat_map(|(number, source)| runs_of(folder.path(), number, source, tools))
        .collect();
    let faults = run_all(&runs);
    eprintln!("{} modules, {} runs", sources.len(), runs.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn faults_are_found_by_front_ends_and_limits() {
    let shader = |wgsl: &str| ShaderSource {
        name: "faulty".into(),
        wgsl: wgsl.into(),
    };
    let kernel = |before: &str, threads: usize, body: &str| {
        shader(&format!(
            "{before}\n@compute @workgroup_size({threads}) fn main() {{ {body} }}"
        ))
    };
    let shared = |numbers: usize| format!("var<workgroup> x: array<f32, {numbers}>;");
    assert!(check(&kernel(&shared(4096), 64, "x[0] = 1.0;")).is_ok());
    assert!(check(&kernel(&shared(4097), 64, "x[0] = 1.0;")).is_err());
    assert!(check(&kernel("", 32, "")).is_err());
    let buffers = |count: usize| {
        let each =
            |k| format!("@group(0) @binding({k}) var<storage, read_write> x{k}: array<f32>;");
        let all: Vec<String> = (0..count).map(each).collect();
        let uses: Vec<String> = (0..count).map(|k| format!("x{k}[0] = 1.0;")).collect();
        kernel(&all.concat(), 64, &uses.concat())
    };
    assert!(check(&buffers(8)).is_ok());
    assert!(check(&buffers(9)).is_err());
    let folder = tempfile::tempdir().expect("a folder");
    let tools = [
        has("spirv-val", "spirv-tools"),
        has("glslangValidator", "glslang-tools"),
    ];
    let runs = runs_of(folder.path(), 0, &buffers(2), tools);
    assert!(run_all(&runs).is_empty());
    for run in &runs {
        // A word of the module's, or a name of the text's, that is not there.
        let mut bytes = std::fs::read(&run.file).expect("it was written");
        let at = bytes.len() / 2 / 4 * 4;
        bytes[at..at + 4].copy_from_slice(b"oops");
        std::fs::write(&run.file, bytes).expect("it is there");
    }
    assert_eq!(run_all(&runs).len(), runs.len());
}
