//! The elementwise primitive: an [`Expr`] compiled to a register program that runs on blocks of positions.
//!
//! A block is long enough that picking the next instruction costs nothing beside it and short enough that
//! all registers stay in the first-level cache.

use super::Tensor;
use super::pool::unwritten;
use super::walk::{Shared, collapse, expand};
use crate::tensor::expression::{Binary, Node, Unary};
use crate::tensor::{Expr, Real, Shape, broadcast_strides};
use rayon::prelude::*;
use std::collections::HashMap;

/// Positions per block.
const BLOCK: usize = 256;
/// Positions per parallel task.
const TASK: usize = 32 * BLOCK;

/// Where an instruction finds an operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Operand {
    Input(usize),
    Constant(usize),
    Value(usize),
}

/// What an instruction does; its result is the value of its own number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Instruction {
    Unary(Unary, Operand),
    Binary(Binary, Operand, Operand),
    IfLessEqual([Operand; 4]),
}

impl Instruction {
    fn operands(&self) -> impl Iterator<Item = Operand> {
        let (operands, count) = match *self {
            Instruction::Unary(_, a) => ([a; 4], 1),
            Instruction::Binary(_, a, b) => ([a, b, b, b], 2),
            Instruction::IfLessEqual(all) => (all, 4),
        };
        operands.into_iter().take(count)
    }
}

/// An expression as a list of instructions, equal ones merged, with a register for each result.
struct Program {
    instructions: Vec<Instruction>,
    /// Register that value `k` lives in; reused after the value's last use.
    registers: Vec<usize>,
    register_count: usize,
    constants: Vec<f64>,
    root: Operand,
}

impl Program {
    fn compile(expr: &Expr) -> Program {
        let mut program = Program {
            instructions: Vec::new(),
            registers: Vec::new(),
            register_count: 0,
            constants: Vec::new(),
            root: Operand::Constant(0),
        };
        program.root = program.operand(expr, &mut HashMap::new(), &mut HashMap::new());
        program.assign_registers();
        program
    }

    /// Derivatives share subtrees; they are visited once each, by address, so that the work is that of the
    /// graph and not of the tree.
    fn operand(
        &mut self,
        expr: &Expr,
        visited: &mut HashMap<*const Node, Operand>,
        known: &mut HashMap<Instruction, usize>,
    ) -> Operand {
        if let Some(operand) = visited.get(&(expr.node() as *const Node)) {
            return *operand;
        }
        let instruction = match expr.node() {
            Node::Input(k) => return Operand::Input(*k),
            Node::Constant(value) => {
                let same = |c: &f64| c.to_bits() == value.to_bits();
                let number = self.constants.iter().position(same).unwrap_or_else(|| {
                    self.constants.push(*value);
                    self.constants.len() - 1
                });
                return Operand::Constant(number);
            }
            Node::Unary(function, x) => {
                Instruction::Unary(*function, self.operand(x, visited, known))
            }
            Node::Binary(function, x, y) => {
                let x = self.operand(x, visited, known);
                Instruction::Binary(*function, x, self.operand(y, visited, known))
            }
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => Instruction::IfLessEqual(
                [left, right, then, otherwise].map(|e| self.operand(e, visited, known)),
            ),
        };
        let number = *known.entry(instruction).or_insert_with(|| {
            self.instructions.push(instruction);
            self.instructions.len() - 1
        });
        visited.insert(expr.node() as *const Node, Operand::Value(number));
        Operand::Value(number)
    }

    fn assign_registers(&mut self) {
        let mut last_use = vec![usize::MAX; self.instructions.len()];
        for (number, instruction) in self.instructions.iter().enumerate() {
            for operand in instruction.operands() {
                if let Operand::Value(k) = operand {
                    last_use[k] = number;
                }
            }
        }
        let mut free = Vec::new();
        for (number, instruction) in self.instructions.iter().enumerate() {
            // The result's register is taken before the operands' are given back: an instruction never
            // writes over what it reads.
            let register = free.pop().unwrap_or_else(|| {
                self.register_count += 1;
                self.register_count - 1
            });
            self.registers.push(register);
            let mut ended: Vec<usize> = instruction
                .operands()
                .filter_map(|operand| match operand {
                    Operand::Value(k) if last_use[k] == number => Some(self.registers[k]),
                    _ => None,
                })
                .collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended);
        }
    }
}

/// Applies `expr` at every position of the inputs' common broadcast shape, widened to `into`.
pub(super) fn map<R: Real>(expr: &Expr, inputs: &[&Tensor<R>], into: &Shape) -> Tensor<R> {
    if let Node::Input(k) = expr.node()
        && inputs[*k].shape == *into
    {
        return inputs[*k].clone();
    }
    let strides: Vec<Vec<usize>> = inputs
        .iter()
        .map(|input| broadcast_strides(&input.shape, into))
        .collect();
    let run = Run {
        program: Program::compile(expr),
        axes: collapse(&into.axes(), &strides),
        inputs: inputs.iter().map(|input| input.values()).collect(),
        positions: into.len(),
        arch: pulp::Arch::new(),
    };
    let mut output = unwritten(into.len());
    if output.len() <= 2 * TASK {
        run.range(0, &mut output, &mut run.scratch());
    } else {
        output.par_chunks_mut(TASK).enumerate().for_each_init(
            || run.scratch(),
            |scratch, (number, part)| run.range(number * TASK, part, scratch),
        );
    }
    Tensor::new(into.clone(), output)
}

/// A program with its data.
struct Run<'a, R> {
    program: Program,
    axes: Vec<Shared>,
    inputs: Vec<&'a [R]>,
    positions: usize,
    arch: pulp::Arch,
}

/// A thread's registers, the constants spread over blocks, and inputs that are repeated or strided.
struct Scratch<R> {
    registers: Vec<Vec<R>>,
    constants: Vec<Vec<R>>,
    expanded: Vec<Vec<R>>,
}

impl<R: Real> Run<'_, R> {
    fn scratch(&self) -> Scratch<R> {
        let block = || vec![R::default(); BLOCK];
        let constant = |value: &f64| vec![R::from_f64(*value); BLOCK];
        Scratch {
            registers: (0..self.program.register_count).map(|_| block()).collect(),
            constants: self.program.constants.iter().map(constant).collect(),
            expanded: self.inputs.iter().map(|_| block()).collect(),
        }
    }

    /// Whether the input is walked in the order of the output, without repeats.
    fn is_direct(&self, input: usize) -> bool {
        self.inputs[input].len() == self.positions
    }

    /// Whether the input is one value.
    fn is_single(&self, input: usize) -> bool {
        self.axes.iter().all(|axis| axis.strides[input] == 0)
    }

    /// Computes the positions from `start` on.
    fn range(&self, start: usize, output: &mut [R], scratch: &mut Scratch<R>) {
        let expanded: Vec<usize> = (0..self.inputs.len())
            .filter(|&k| !self.is_direct(k))
            .collect();
        let (single, repeated): (Vec<usize>, Vec<usize>) =
            expanded.into_iter().partition(|&k| self.is_single(k));
        if output.is_empty() {
            return;
        }
        for k in single {
            scratch.expanded[k].fill(self.inputs[k][0]);
        }
        for (number, part) in output.chunks_mut(BLOCK).enumerate() {
            let position = start + number * BLOCK;
            for &k in &repeated {
                let block = &mut scratch.expanded[k][..part.len()];
                expand(self.inputs[k], &self.axes, k, position, block);
            }
            self.block(position, part, scratch);
        }
    }

    fn block(&self, position: usize, output: &mut [R], scratch: &mut Scratch<R>) {
        let Some(last) = self.program.instructions.len().checked_sub(1) else {
            let source = self.operand(self.program.root, position, output.len(), scratch);
            output.copy_from_slice(source);
            return;
        };
        for number in 0..last {
            let register = self.program.registers[number];
            let mut target = std::mem::take(&mut scratch.registers[register]);
            self.step(number, position, &mut target[..output.len()], scratch);
            scratch.registers[register] = target;
        }
        // The root is the instruction compiled last.
        self.step(last, position, output, scratch);
    }

    fn operand<'s>(
        &'s self,
        operand: Operand,
        position: usize,
        length: usize,
        scratch: &'s Scratch<R>,
    ) -> &'s [R] {
        match operand {
            Operand::Input(k) if self.is_direct(k) => &self.inputs[k][position..position + length],
            Operand::Input(k) => &scratch.expanded[k][..length],
            Operand::Constant(k) => &scratch.constants[k][..length],
            Operand::Value(k) => &scratch.registers[self.program.registers[k]][..length],
        }
    }

    fn step(&self, number: usize, position: usize, target: &mut [R], scratch: &Scratch<R>) {
        let length = target.len();
        let of = |operand| self.operand(operand, position, length, scratch);
        let operation = match self.program.instructions[number] {
            Instruction::Unary(function, x) => Operation::Unary(function, of(x)),
            Instruction::Binary(function, x, y) => Operation::Binary(function, of(x), of(y)),
            Instruction::IfLessEqual(operands) => Operation::IfLessEqual(operands.map(of)),
        };
        self.arch.dispatch(Apply { operation, target });
    }
}

/// An instruction with its operands.
enum Operation<'a, R> {
    Unary(Unary, &'a [R]),
    Binary(Binary, &'a [R], &'a [R]),
    IfLessEqual([&'a [R]; 4]),
}

/// Loops that become the machine's widest instructions.
struct Apply<'a, R> {
    operation: Operation<'a, R>,
    target: &'a mut [R],
}

impl<R: Real> pulp::NullaryFnOnce for Apply<'_, R> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Apply { operation, target } = self;
        match operation {
            Operation::Unary(function, x) => R::unary(function, x, target),
            Operation::Binary(function, x, y) => binary(function, x, y, target),
            Operation::IfLessEqual([left, right, then, otherwise]) => {
                // Both values are read before one is chosen: a choice between loads does not vectorise.
                let sides = left.iter().zip(right);
                let values = then.iter().zip(otherwise);
                for (t, ((l, r), (a, b))) in target.iter_mut().zip(sides.zip(values)) {
                    let (a, b) = (*a, *b);
                    *t = if *l <= *r { a } else { b };
                }
            }
        }
    }
}

#[inline(always)]
fn binary<R: Real>(function: Binary, x: &[R], y: &[R], target: &mut [R]) {
    match function {
        Binary::Add => pairs(x, y, target, |x, y| x + y),
        Binary::Subtract => pairs(x, y, target, |x, y| x - y),
        Binary::Multiply => pairs(x, y, target, |x, y| x * y),
        Binary::Divide => pairs(x, y, target, |x, y| x / y),
        Binary::Power => R::power(x, y, target),
    }
}

#[inline(always)]
fn pairs<R: Real>(x: &[R], y: &[R], target: &mut [R], function: impl Fn(R, R) -> R) {
    for (t, (x, y)) in target.iter_mut().zip(x.iter().zip(y)) {
        *t = function(*x, *y);
    }
}
