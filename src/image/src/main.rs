//! skep-image: what `skep pull`, `unpack`, `bundle` and the like execute.

use std::process::ExitCode;

use skep_image::bundle::userns;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let (program, first) = (words.next(), words.next());
    let done = match first.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(userns::HOLD) => userns::hold().map(|()| 0),
        Some(userns::REMOVE) => userns::remove_inside(&mut words).map(|()| 0),
        Some(what @ (userns::UNPACK | userns::OVERLAY)) => userns::errand(what, &mut words)
            .map(|errand| skep_image::cli::run(program.into_iter().chain(words), Some(errand))),
        _ => Ok(skep_image::cli::run(std::env::args_os(), None)),
    };
    // For another process of this program, which says what went wrong.
    done.map_or(ExitCode::FAILURE, ExitCode::from)
}
