//! skep-image: what `skep pull`, `unpack`, `bundle` and the like execute.

use std::process::ExitCode;

use skep_image::bundle::userns;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == userns::HOLD) {
        // For another process of this program, which says what went wrong.
        return if userns::hold().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    ExitCode::from(skep_image::cli::run(std::env::args_os()))
}
