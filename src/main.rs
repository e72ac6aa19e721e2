//! The command line, which lies in the library.

#[global_allocator]
static MEMORY: hessblock::cli::Memory = hessblock::cli::Memory;

fn main() -> std::process::ExitCode {
    hessblock::cli::main()
}
