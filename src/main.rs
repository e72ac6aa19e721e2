//! The command line: a thin skin on the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
