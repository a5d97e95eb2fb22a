//! What the library says while it works. Errors are returned, never logged; the caller decides where words go.

use std::time::Instant;

/// Receives warnings and debug messages: one line each, without an end of line.
pub trait Log {
    /// Something was asked for that is ignored, or done in a lesser way.
    fn warn(&self, message: &str);

    /// A step that was taken, for `--debug`.
    fn debug(&self, message: &str);

    /// Says whether [`Log::debug`] does anything, so that a message nobody reads is not put together.
    fn is_debug(&self) -> bool {
        false
    }

    /// When the command began, as near as is known, where [`Log::debug`] does anything: a timeline counts from there.
    fn began(&self) -> Option<Instant> {
        None
    }
}

/// A [`Log`] nobody reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Log for Silent {
    fn warn(&self, _: &str) {}

    fn debug(&self, _: &str) {}
}
