//! What people and programs see while they wait: bars on a terminal, a line for each blob elsewhere, JSON when asked for.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inspect::printable;
use crate::descriptor::Descriptor;
use crate::error::Error;
use crate::event::{Event, Listener};

/// Between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// Between two events of one blob's progress.
const SECOND: Duration = Duration::from_secs(1);
/// Lines of bars.
const LINES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Nothing,
    Json,
    Lines,
    Bars,
}

/// Shows what happens. A copy shows it in the same place.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    how: How,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    blobs: Vec<Blob>,
    /// Lines on the terminal that are ours.
    drawn: usize,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Blob {
    digest: String,
    short: String,
    size: u64,
    done: u64,
    last: Instant,
}

impl Progress {
    pub(super) fn new(quiet: bool, json: bool) -> Self {
        let how = match (json, quiet, std::io::stderr().is_terminal()) {
            (true, ..) => How::Json,
            (_, true, _) => How::Nothing,
            (.., true) => How::Bars,
            _ => How::Lines,
        };
        Self { how, state: Arc::default() }
    }

    /// Takes the bars away: something else is going to be printed.
    pub(super) fn clear(&self) {
        if let Ok(mut state) = self.state.lock() {
            erase(&mut state);
        }
    }

    /// The result, as the last event.
    pub(super) fn result(&self, value: &Value) {
        if self.how == How::Json {
            emit(value);
        }
    }

    pub(super) fn failed(&self, error: &Error) {
        self.result(&json!({"event": "error", "code": error.kind().exit_code(), "kind": format!("{:?}", error.kind()), "message": error.to_string()}));
    }

    fn say(state: &mut State, line: &str) {
        erase(state);
        // Nowhere else to say it.
        let _lost = writeln!(std::io::stderr(), "{}", printable(line));
    }
}

impl Listener for Progress {
    fn event(&self, event: Event<'_>) {
        let Ok(mut state) = self.state.lock() else { return };
        if self.how == How::Json {
            as_json(&mut state, event);
            return;
        }
        if let Event::Warning(text) = event {
            if self.how != How::Nothing {
                Self::say(&mut state, &format!("warning: {text}"));
            }
            return;
        }
        if self.how == How::Nothing {
            return;
        }
        match event {
            Event::Resolved { name, digest } if !name.is_empty() => {
                Self::say(&mut state, &format!("{name}@{digest}"));
            }
            Event::BlobStart { descriptor, offset } => {
                begin(&mut state, descriptor, offset);
                if offset > 0 && offset < descriptor.size {
                    let percent = offset.saturating_mul(100) / descriptor.size.max(1);
                    Self::say(
                        &mut state,
                        &format!("{}: going on at {percent} %", descriptor.digest.short()),
                    );
                }
            }
            Event::BlobProgress { descriptor, bytes } => advance(&mut state, descriptor, bytes),
            Event::BlobDone { descriptor, cached } => {
                state.blobs.retain(|blob| blob.digest != descriptor.digest.to_string());
                let what = if cached { "is there" } else { "done" };
                Self::say(
                    &mut state,
                    &format!("{}: {what}, {}", descriptor.digest.short(), size(descriptor.size)),
                );
            }
            Event::LayerApplied { descriptor, cached, .. } => {
                state.blobs.retain(|blob| blob.digest != descriptor.digest.to_string());
                let what = if cached { "is unpacked already" } else { "unpacked" };
                Self::say(&mut state, &format!("{}: {what}", descriptor.digest.short()));
            }
            Event::Resolved { .. } | Event::Warning(_) => {}
        }
        if self.how == How::Bars {
            draw(&mut state);
        }
    }
}

fn begin(state: &mut State, descriptor: &Descriptor, offset: u64) {
    let digest = descriptor.digest.to_string();
    state.blobs.retain(|blob| blob.digest != digest);
    let short = descriptor.digest.short().to_owned();
    state.blobs.push(Blob {
        digest,
        short,
        size: descriptor.size,
        done: offset,
        last: Instant::now(),
    });
}

fn advance(state: &mut State, descriptor: &Descriptor, bytes: u64) {
    let digest = descriptor.digest.to_string();
    if !state.blobs.iter().any(|blob| blob.digest == digest) {
        begin(state, descriptor, 0);
    }
    if let Some(blob) = state.blobs.iter_mut().find(|blob| blob.digest == digest) {
        blob.done = blob.done.saturating_add(bytes);
    }
}

fn as_json(state: &mut State, event: Event<'_>) {
    match event {
        Event::Resolved { name, digest } => {
            emit(&json!({"event": "resolved", "name": name, "digest": digest}));
        }
        Event::BlobStart { descriptor, offset } => {
            begin(state, descriptor, offset);
            emit(
                &json!({"event": "blob_start", "digest": descriptor.digest, "size": descriptor.size, "offset": offset}),
            );
        }
        Event::BlobProgress { descriptor, bytes } => {
            advance(state, descriptor, bytes);
            let digest = descriptor.digest.to_string();
            if let Some(blob) = state.blobs.iter_mut().find(|blob| blob.digest == digest)
                && blob.last.elapsed() >= SECOND
            {
                blob.last = Instant::now();
                emit(
                    &json!({"event": "blob_progress", "digest": digest, "size": blob.size, "done": blob.done}),
                );
            }
        }
        Event::BlobDone { descriptor, cached } => {
            emit(
                &json!({"event": "blob_done", "digest": descriptor.digest, "size": descriptor.size, "cached": cached}),
            );
        }
        Event::LayerApplied { descriptor, diff_id, cached } => {
            emit(
                &json!({"event": "layer_applied", "digest": descriptor.digest, "diff_id": diff_id, "cached": cached}),
            );
        }
        Event::Warning(message) => emit(&json!({"event": "warning", "message": message})),
    }
}

fn emit(value: &Value) {
    let mut stdout = std::io::stdout();
    // Who reads no longer is not told.
    let _lost = writeln!(stdout, "{value}").and_then(|()| stdout.flush());
}

fn erase(state: &mut State) {
    if state.drawn > 0 {
        let _lost = write!(std::io::stderr(), "\x1b[{}A\x1b[J", state.drawn);
        state.drawn = 0;
    }
}

fn draw(state: &mut State) {
    if state.last.is_some_and(|last| last.elapsed() < FRAME) {
        return;
    }
    state.last = Some(Instant::now());
    erase(state);
    let mut text = String::new();
    for blob in state.blobs.iter().take(LINES) {
        const WIDTH: u64 = 30;
        let filled = (blob.done.min(blob.size).saturating_mul(WIDTH) / blob.size.max(1)).min(WIDTH);
        let bar: String = (0..WIDTH).map(|n| if n < filled { '=' } else { ' ' }).collect();
        text.push_str(&format!(
            "{} [{bar}] {} of {}\n",
            blob.short,
            size(blob.done),
            size(blob.size)
        ));
        state.drawn += 1;
    }
    let _lost = std::io::stderr().write_all(text.as_bytes());
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}
