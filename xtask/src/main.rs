//! Repository chores: `cargo run -p xtask -- tidy` checks what the compiler does not.

mod tidy;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => match tidy::check(root) {
            Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
            Ok(findings) => {
                findings.iter().for_each(|finding| report(finding));
                ExitCode::FAILURE
            }
            Err(error) => {
                report(&format!("tidy could not run: {error:#}"));
                ExitCode::FAILURE
            }
        },
        _ => {
            report("usage: cargo run -p xtask -- tidy");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command line tool's findings")]
fn report(line: &str) {
    eprintln!("{line}");
}
