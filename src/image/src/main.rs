//! skep-image: what `skep pull`, `unpack`, `bundle` and the like execute.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(skep_image::cli::run(std::env::args_os()))
}
