//! skep-image: what `skep pull`, `unpack`, `bundle` and the like execute.

use std::process::ExitCode;

use skep_image::bundle::userns::{self, Into};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let (program, first) = (words.next(), words.next());
    let done = match first.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(userns::HOLD) => userns::hold().map(|()| 0),
        Some(userns::REMOVE) => {
            let (directory, name) = (words.next(), words.next());
            userns::remove_inside(&directory.unwrap_or_default(), &name.unwrap_or_default())
                .map(|()| 0)
        }
        Some(what @ (userns::UNPACK | userns::OVERLAY)) => {
            let kind = if what == userns::UNPACK { Into::Files } else { Into::Overlay };
            let directory = words.next().unwrap_or_default();
            userns::enter(&directory).map(|into| {
                skep_image::cli::run(program.into_iter().chain(words), Some(kind(into)))
            })
        }
        _ => Ok(skep_image::cli::run(std::env::args_os(), None)),
    };
    // For another process of this program, which says what went wrong.
    done.map_or(ExitCode::FAILURE, ExitCode::from)
}
