//! The command line as a user meets it: the built binary on the digits that ship with the project.
#![cfg(feature = "cli")]

mod bench;
mod curvature;
mod folders;
mod hostile;
mod interrupt;
mod networks;
#[path = "../common/onnx.rs"]
mod onnx;
mod refusals;
mod results;
mod selftest;
mod shell;
mod show;
mod study;
mod verify;
mod workplace;
