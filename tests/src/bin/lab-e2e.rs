//! The `lab` program once more, because a test finds only the binaries of its own package.

fn main() -> std::process::ExitCode {
    lab::main()
}
