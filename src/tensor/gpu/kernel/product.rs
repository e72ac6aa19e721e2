//! The text of one product kernel: `shaders/gemm.wgsl` with its constants, loads and fragments.

use std::fmt::Write;

use super::offsets::{Strides, decode};
use crate::tensor::gpu::params::{PRODUCT_TENSORS, Param, product as params};
use crate::tensor::gpu::tiles::TileShape;

/// A group of axes: the name that its functions begin with in the shader, and its axes in the launch parameters.
pub(in crate::tensor::gpu) struct Group {
    name: &'static str,
    pub axes: Param,
}

/// Groups of axes in the order of [`ProductKernel::axes`].
pub(in crate::tensor::gpu) const GROUPS: [Group; 4] = [
    Group {
        name: "batch",
        axes: params::BATCH_AXES,
    },
    Group {
        name: "m",
        axes: params::M_AXES,
    },
    Group {
        name: "n",
        axes: params::N_AXES,
    },
    Group {
        name: "k",
        axes: params::K_AXES,
    },
];

/// How four neighbouring rows (or columns) of an operand are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::tensor::gpu) enum Load {
    /// One by one; neighbouring threads read along the rows, or along the steps where a flag says that these are contiguous.
    Each,
    /// As one vector: they are contiguous and aligned.
    Rows,
    /// Four steps of each as one vector, turned in registers: the steps are contiguous and aligned.
    Steps,
    /// As one number that they share; of the second operand alone, which scales.
    Shared,
}

impl Load {
    /// The type of the buffer's elements.
    fn element(self) -> &'static str {
        match self {
            Load::Rows | Load::Steps => "vec4<f32>",
            _ => "f32",
        }
    }

    /// The type of the offsets of four rows.
    fn offsets(self) -> &'static str {
        match self {
            Load::Rows | Load::Shared => "u32",
            _ => "vec4<u32>",
        }
    }
}

/// What is the same on both sides of a product, so that part of it is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::tensor::gpu) enum Symmetry {
    None,
    /// Row i and column i' give what row i' and column i give: the output's mirror strides say where that is.
    Tiles,
    /// That, and batch (o, o') gives the transpose of (o', o); of two axes of equal extents.
    Both,
}

/// What distinguishes one compiled product kernel from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::tensor::gpu) struct ProductKernel {
    pub shape: TileShape,
    /// Axes of the groups b, m, n, k, each rounded up so that few kernels serve all.
    pub axes: [usize; 4],
    pub left: Load,
    pub right: Load,
    /// How the second right operand is read, where there is one; never along steps.
    pub second: Option<Load>,
    /// Whether four columns of the output, and of its mirror four rows, are stored as one vector.
    pub wide: bool,
    /// What is copied: tiles below the diagonal from those above it, and batches (o, o') with o > o' from (o', o).
    pub symmetry: Symmetry,
    /// Whether what sums lose is kept beside them.
    pub compensated: bool,
}

/// Steps that are unrolled in the text, since some compilers unroll no loop of what naga writes: up to 256 multiply-adds.
fn unrolled(shape: &TileShape) -> usize {
    (256 / (shape.rows * shape.columns)).min(8).min(shape.depth)
}

impl ProductKernel {
    /// Constants, aliases and functions that stand before the shared text and `gemm.wgsl`.
    pub fn prelude(&self) -> String {
        let shape = &self.shape;
        let mut text = String::new();
        for (name, value) in [
            ("THREADS", shape.threads()),
            ("BATCHES", shape.batches),
            ("TILE_M", shape.m),
            ("TILE_N", shape.n),
            ("DEPTH", shape.depth),
            ("UNROLL", unrolled(shape)),
            ("PARTS_M", shape.rows / 4),
            ("PARTS_N", shape.columns / 4),
        ] {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        let second = self.second.unwrap_or(Load::Each);
        let output = if self.wide { "vec4<f32>" } else { "f32" };
        let bits = if self.wide { "vec4<u32>" } else { "u32" };
        for (name, kind) in [
            ("LEFT", self.left.element()),
            ("RIGHT", self.right.element()),
            ("SECOND", second.element()),
            ("OUTPUT", output),
            ("OUTPUT_BITS", bits),
            ("LEFT_AT", self.left.offsets()),
            ("RIGHT_AT", self.right.offsets()),
            ("SECOND_AT", second.offsets()),
        ] {
            let _ = writeln!(text, "alias {name} = {kind};");
        }
        for (Group { name, axes }, count) in GROUPS.iter().zip(self.axes) {
            let strides = |name: String, tensors| Strides {
                name,
                table: *axes,
                all: PRODUCT_TENSORS,
                tensors,
            };
            decode(&mut text, &strides(format!("{name}_offsets"), 0..4), count);
            if self.mirrored() && *name != "k" {
                decode(&mut text, &strides(format!("{name}_mirror"), 4..5), count);
            }
        }
        text
    }

    /// `gemm.wgsl` for this kernel.
    pub fn body(&self, template: &str) -> String {
        let mut text = String::with_capacity(2 * template.len());
        let mut open: Vec<bool> = Vec::new();
        for line in template.lines() {
            let Some(directive) = line.trim_start().strip_prefix("//@") else {
                if open.iter().all(|&kept| kept) {
                    text.push_str(line);
                    text.push('\n');
                }
                continue;
            };
            match directive.split_once(' ') {
                Some(("if", name)) => open.push(match name.strip_prefix('!') {
                    Some(name) => !self.has(name),
                    None => self.has(name),
                }),
                Some(("insert", name)) => {
                    if open.iter().all(|&kept| kept) {
                        self.insert(&mut text, name);
                    }
                }
                None if directive == "else" => {
                    let kept = open.pop().expect("an else follows an if");
                    open.push(!kept);
                }
                None if directive == "end" => {
                    open.pop().expect("an end follows an if");
                }
                _ => unreachable!("gemm.wgsl has no directive {directive:?}"),
            }
        }
        text
    }

    fn mirrored(&self) -> bool {
        self.symmetry != Symmetry::None
    }

    /// Whether steps are looked up in a table: where they are several axes, whose index takes divisions.
    fn table(&self) -> bool {
        self.axes[3] > 1
    }

    fn has(&self, name: &str) -> bool {
        match name {
            "COMPENSATED" => self.compensated,
            "SECOND" => self.second.is_some(),
            "TABLE" => self.table(),
            "MIRRORED" => self.mirrored(),
            "SYMMETRIC_BATCHES" => self.symmetry == Symmetry::Both,
            "AHEAD" => self.shape.ahead,
            "WIDE" => self.wide,
            _ => unreachable!("gemm.wgsl asks for no {name}"),
        }
    }

    fn insert(&self, text: &mut String, name: &str) {
        let _ = match name {
            "LOADS" => self.loads(text),
            "LEFT_ROWS" => {
                let offset = |k: usize| format!("left_offset(batch, m + {k}u)");
                writeln!(
                    text,
                    "        left_at[e] = {};",
                    offsets(self.left, offset)
                )
            }
            "RIGHT_COLUMNS" => self.right_columns(text),
            "SUMS" => self.each_part(|text, part| {
                writeln!(text, "    var sum{part} = mat4x4<f32>();")?;
                match self.shape.two_levels() {
                    true => writeln!(text, "    var total{part} = mat4x4<f32>();"),
                    false => Ok(()),
                }
            })(text),
            "TOTAL" if self.shape.two_levels() => self.each_part(|text, part| {
                writeln!(
                    text,
                    "        total{part} += sum{part};\n        sum{part} = mat4x4<f32>();"
                )
            })(text),
            "TOTAL" => Ok(()),
            "FETCH_FIRST" => self.tile(text, |text, name, item| {
                writeln!(
                    text,
                    "        var {name}{item} = fetch_{name}(thread + {item}u * THREADS, chunk, end, chunk);"
                )
            }),
            "FETCH_NEXT" => self.tile(text, |text, name, item| {
                writeln!(
                    text,
                    "                {name}{item} = fetch_{name}(thread + {item}u * THREADS, k + DEPTH, end, chunk);"
                )
            }),
            "PUT" => self.tile(text, |text, name, item| {
                writeln!(
                    text,
                    "            put_{name}(thread + {item}u * THREADS, {name}{item});"
                )
            }),
            "FETCH_PUT" => self.tile(text, |text, name, item| {
                writeln!(
                    text,
                    "            put_{name}(thread + {item}u * THREADS, fetch_{name}(thread + {item}u * THREADS, k, end, chunk));"
                )
            }),
            "MULTIPLY" => self.multiply(text),
            "STORE" => self.store(text),
            _ => unreachable!("gemm.wgsl inserts no {name}"),
        };
    }

    /// Loads per tile of an operand with `fours` groups of four rows.
    fn items(&self, load: Load, fours: usize) -> usize {
        match load {
            Load::Steps => fours * self.shape.depth / 4,
            _ => fours * self.shape.depth,
        }
    }

    fn fours(&self) -> [usize; 2] {
        let shape = &self.shape;
        [shape.m, shape.n].map(|rows| shape.batches * rows / 4)
    }

    /// Writes a line for every load that a thread makes of a tile.
    fn tile(
        &self,
        text: &mut String,
        line: impl Fn(&mut String, &str, usize) -> std::fmt::Result,
    ) -> std::fmt::Result {
        let [rows, columns] = self.fours();
        for (name, load, fours) in [("left", self.left, rows), ("right", self.right, columns)] {
            for item in 0..self.items(load, fours).div_ceil(self.shape.threads()) {
                line(text, name, item)?;
            }
        }
        Ok(())
    }

    /// `fetch_left`, `put_left` and those of right: an item is four rows at a step, or at four.
    fn loads(&self, text: &mut String) -> std::fmt::Result {
        let [rows, columns] = self.fours();
        for (name, load, fours, lane) in [
            ("left", self.left, rows, 'x'),
            ("right", self.right, columns, 'y'),
        ] {
            let upper = name.to_uppercase();
            let groups = if name == "left" { "ROWS" } else { "COLUMNS" };
            let items = self.items(load, fours);
            let ragged = !items.is_multiple_of(self.shape.threads());
            let (row, step) = match load {
                Load::Steps => ("e / (DEPTH / 4u)".into(), "e % (DEPTH / 4u) * 4u".into()),
                Load::Each => {
                    let flag = if name == "left" { 1 } else { 2 };
                    let along = format!("({} & {flag}u) != 0u", params::FLAGS.read(0));
                    (
                        format!("select(e % {groups}, e / DEPTH, {along})"),
                        format!("select(e / {groups}, e % DEPTH, {along})"),
                    )
                }
                _ => (format!("e % {groups}"), format!("e / {groups}")),
            };
            let kind = match load {
                Load::Steps => "mat4x4<f32>",
                _ => "vec4<f32>",
            };
            writeln!(
                text,
                "fn fetch_{name}(e: u32, k: u32, end: u32, chunk: u32) -> {kind} {{"
            )?;
            writeln!(text, "    let row = {row};\n    let step = k + {step};")?;
            let outside = if ragged {
                format!("step >= end || e >= {items}u")
            } else {
                "step >= end".into()
            };
            writeln!(
                text,
                "    if {outside} {{\n        return {kind}();\n    }}"
            )?;
            writeln!(
                text,
                "    let along = steps(step, chunk);\n    let at = {name}_at[row] + along.{lane};"
            )?;
            match (load, self.second) {
                (Load::Steps, _) => writeln!(
                    text,
                    "    return transpose(mat4x4<f32>({name}[at.x >> 2u], {name}[at.y >> 2u], {name}[at.z >> 2u], {name}[at.w >> 2u]));"
                )?,
                (_, Some(second)) if name == "right" => {
                    writeln!(text, "    let also = second_at[row] + along.z;")?;
                    writeln!(
                        text,
                        "    return {} * {};",
                        four("right", load, "at"),
                        four("second", second, "also")
                    )?;
                }
                _ => writeln!(text, "    return {};", four(name, load, "at"))?,
            }
            writeln!(text, "}}\nfn put_{name}(e: u32, value: {kind}) {{")?;
            if ragged {
                writeln!(text, "    if e >= {items}u {{\n        return;\n    }}")?;
            }
            writeln!(text, "    let row = {row};\n    let step = {step};")?;
            match load {
                Load::Steps => {
                    for j in 0..4 {
                        writeln!(
                            text,
                            "    {name}_tile[(step + {j}u) * {upper}_STEP + row] = value[{j}];"
                        )?;
                    }
                }
                _ => writeln!(text, "    {name}_tile[step * {upper}_STEP + row] = value;")?,
            }
            text.push_str("}\n");
        }
        Ok(())
    }

    fn right_columns(&self, text: &mut String) -> std::fmt::Result {
        for k in 0..4 {
            writeln!(text, "        let at{k} = right_offsets(batch, n + {k}u);")?;
        }
        let of = |name: &str, load: Load, lane: char| {
            let at = offsets(load, |k| format!("at{k}.{lane}"));
            format!("        {name}_at[e] = {at};\n")
        };
        text.push_str(&of("right", self.right, 'x'));
        if let Some(second) = self.second {
            text.push_str(&of("second", second, 'y'));
        }
        Ok(())
    }

    /// A line or more for each fragment of a thread.
    fn each_part(
        &self,
        line: impl Fn(&mut String, &str) -> std::fmt::Result,
    ) -> impl Fn(&mut String) -> std::fmt::Result {
        let (parts_m, parts_n) = (self.shape.rows / 4, self.shape.columns / 4);
        move |text| {
            for f in 0..parts_m {
                for g in 0..parts_n {
                    line(text, &format!("{f}{g}"))?;
                }
            }
            Ok(())
        }
    }

    fn multiply(&self, text: &mut String) -> std::fmt::Result {
        for step in 0..unrolled(&self.shape) {
            text.push_str("                {\n");
            for f in 0..self.shape.rows / 4 {
                writeln!(
                    text,
                    "                    let a{f} = left_tile[l + {step}u * LEFT_STEP + {f}u * ACROSS_M];"
                )?;
            }
            for g in 0..self.shape.columns / 4 {
                writeln!(
                    text,
                    "                    let b{g} = right_tile[r + {step}u * RIGHT_STEP + {g}u * ACROSS_N];"
                )?;
            }
            self.each_part(|text, part| {
                let (f, g) = part.split_at(1);
                writeln!(
                    text,
                    "                    sum{part} = add_outer(sum{part}, a{f}, b{g});"
                )
            })(text)?;
            text.push_str("                }\n");
        }
        Ok(())
    }

    fn store(&self, text: &mut String) -> std::fmt::Result {
        let result = match self.shape.two_levels() {
            true => "total",
            false => "sum",
        };
        self.each_part(|text, part| {
            let (f, g) = part.split_at(1);
            writeln!(text, "        {{")?;
            writeln!(
                text,
                "            let m = first_m + ({f}u * ACROSS_M + thread_m) * 4u;"
            )?;
            writeln!(
                text,
                "            let n = first_n + ({g}u * ACROSS_N + thread_n) * 4u;"
            )?;
            let mirrored = self.mirrored();
            let keep = if mirrored { "let block = " } else { "_ = " };
            writeln!(
                text,
                "            {keep}add_block(base, m, n, {result}{part});"
            )?;
            let above = "first_n > first_m";
            if mirrored {
                writeln!(
                    text,
                    "            if {above} {{\n                put_mirror(base, m, n, block);\n            }}"
                )?;
            }
            if self.symmetry == Symmetry::Both {
                // The tile across the diagonal has rows and columns exchanged in both.
                writeln!(
                    text,
                    "            if pair.x != pair.y {{\n                put_mirror(mirrored, m, n, block);\n                if {above} {{\n                    put_block(mirrored, m, n, block);\n                }}\n            }}"
                )?;
            }
            writeln!(text, "        }}")
        })(text)
    }
}

/// Offsets of four rows, or of the first of them.
fn offsets(load: Load, offset: impl Fn(usize) -> String) -> String {
    match load.offsets() {
        "u32" => offset(0),
        _ => {
            let each: Vec<String> = (0..4).map(offset).collect();
            format!("vec4<u32>({})", each.join(", "))
        }
    }
}

/// Four rows at their offsets.
fn four(tensor: &str, load: Load, at: &str) -> String {
    match load {
        Load::Rows => format!("{tensor}[{at} >> 2u]"),
        Load::Shared => format!("vec4<f32>({tensor}[{at}])"),
        _ => format!(
            "vec4<f32>({tensor}[{at}.x], {tensor}[{at}.y], {tensor}[{at}.z], {tensor}[{at}.w])"
        ),
    }
}
