//! The `lab` program; `cargo xtask lab …` runs it.

fn main() -> std::process::ExitCode {
    lab::main()
}
