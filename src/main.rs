//! The command line: a thin skin on the library.

mod cli;

#[global_allocator]
static MEMORY: cli::Memory = cli::Memory;

fn main() -> std::process::ExitCode {
    cli::main()
}
