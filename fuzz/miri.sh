#!/bin/sh
# Miri over the modules that hold unsafe code; see docs/hardening.md.
# RUSTFLAGS=-Ctarget-feature=+avx,+avx2,+fma has it take the paths with vector instructions.
cd "$(dirname "$0")/.." || exit 1
# Rayon's queues (crossbeam-epoch 0.9) keep pointers in integers, and step from a field to the struct around it: allowed by
# Tree Borrows, not by Stacked Borrows. Its threads live until the process ends, which is no leak.
flags="-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks"
export MIRIFLAGS="${MIRIFLAGS-$flags}" RAYON_NUM_THREADS=2
exec cargo +nightly miri test --locked --no-default-features --lib -- \
    tensor::cpu::contract tensor::cpu::matrix tensor::real::tests memory::tests --skip blocks_cover_an_extent
