//! The `natv2` command; everything is in [`natv2::cli`].

fn main() -> std::process::ExitCode {
    natv2::cli::main(std::env::args_os())
}
