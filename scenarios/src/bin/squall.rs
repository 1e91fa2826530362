//! The command line; everything it does is in `squall_scenarios::cli`.

fn main() -> std::process::ExitCode {
    squall_scenarios::cli::main()
}
