//! The `ternd` command: see [`ternd::cli`].

fn main() -> std::process::ExitCode {
    ternd::cli::main()
}
