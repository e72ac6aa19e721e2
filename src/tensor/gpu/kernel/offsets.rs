//! WGSL functions from an index over axes to offsets in tensors.

use std::fmt::Write;
use std::ops::Range;

use crate::tensor::gpu::params::Param;

/// Strides of axes in the launch parameters: of each axis `table` has its extent and then its strides in `all` tensors.
pub(super) struct Strides {
    /// The name of the function.
    pub name: String,
    pub table: Param,
    /// The number of tensors that the axes have strides in.
    pub all: usize,
    /// The tensors that the function returns offsets in.
    pub tensors: Range<usize>,
}

impl Strides {
    /// Returns the strides in all `tensors` tensors of a table.
    pub fn all(name: &str, table: Param, tensors: usize) -> Strides {
        Strides {
            name: name.into(),
            table,
            all: tensors,
            tensors: 0..tensors,
        }
    }
}

/// Writes `fn name(index) -> offsets`: a row-major index over axes to its offset in each tensor.
///
/// Without axes the offsets are 0. Unrolled here, because the number of axes is small and known.
pub(super) fn decode(text: &mut String, strides: &Strides, axes: usize) {
    let name = &strides.name;
    let kind = match strides.tensors.len() {
        1 => "u32".to_string(),
        n => format!("vec{n}<u32>"),
    };
    let _ = writeln!(text, "fn {name}(index: u32) -> {kind} {{");
    let _ = writeln!(text, "    var rest = index;\n    var sum = {kind}();");
    for axis in (0..axes).rev() {
        let first = axis * (1 + strides.all);
        let extent = strides.table.read(first);
        let words = strides.tensors.clone();
        let words: Vec<String> = words.map(|k| strides.table.read(first + 1 + k)).collect();
        let steps = format!("{kind}({})", words.join(", "));
        if axis > 0 {
            let _ = writeln!(text, "    sum += (rest % {extent}) * {steps};");
            let _ = writeln!(text, "    rest = rest / {extent};");
        } else {
            let _ = writeln!(text, "    sum += rest * {steps};");
        }
    }
    let _ = writeln!(text, "    return sum;\n}}");
}
