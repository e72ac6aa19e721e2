//! Every kernel × configuration is valid, and translates to SPIR-V, MSL and HLSL.
#![cfg(feature = "gpu")]

use hessblock::tensor::Expr;
use hessblock::tensor::expression::Unary;
use hessblock::tensor::gpu::{ShaderSource, map_source, shader_sources};
use naga::back::{hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Expressions that hold every node kind, and the derivatives that the operations use.
fn expressions() -> Vec<Expr> {
    let x = |k| Expr::input(k);
    let mut all: Vec<Expr> = [
        Unary::Negate,
        Unary::Exp,
        Unary::ExpM1,
        Unary::Log,
        Unary::Log1p,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Softplus,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
    ]
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

fn check(source: &ShaderSource) -> Result<(), String> {
    let text = &source.wgsl;
    for banned in ["f64", "enable subgroups", "f16", "atomic<f32>"] {
        if text.contains(banned) {
            return Err(format!("uses {banned}"));
        }
    }
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    for entry in &module.entry_points {
        let threads: u32 = entry.workgroup_size.iter().product();
        if !(64..=256).contains(&threads) {
            return Err(format!("{} has {threads} threads", entry.name));
        }
    }
    // No capability beyond plain WebGPU.
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|e| e.emit_to_string(text))?;
    spv::write_vec(&module, &info, &spv::Options::default(), None)
        .map_err(|e| format!("SPIR-V: {e}"))?;
    for checked in [true, false] {
        let policy = match checked {
            true => naga::proc::BoundsCheckPolicy::Restrict,
            false => naga::proc::BoundsCheckPolicy::Unchecked,
        };
        let options = msl::Options {
            lang_version: (2, 3),
            fake_missing_bindings: true,
            bounds_check_policies: BoundsCheckPolicies {
                index: policy,
                buffer: policy,
                ..Default::default()
            },
            ..Default::default()
        };
        msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .map_err(|e| format!("MSL: {e}"))?;
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_0,
            fake_missing_bindings: true,
            restrict_indexing: checked,
            ..Default::default()
        };
        let mut text = String::new();
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .map_err(|e| format!("HLSL: {e}"))?;
    }
    Ok(())
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
