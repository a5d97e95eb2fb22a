//! The probe: a small static C program for what a shell cannot ask the kernel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Test, reaper};

const SOURCE: &str = include_str!("probe.c");

/// The compiled probe; skips the test where there is no C compiler.
pub fn path(test: &Test) -> PathBuf {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if let Some(path) = std::env::var_os("SKEP_TEST_PROBE") {
            return copy(test, &PathBuf::from(path));
        }
        let source = test.store.join("probe.c");
        let binary = test.store.join("probe");
        std::fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
        let output = reaper::output(
            Command::new("cc").args(["-static", "-O1", "-Wall", "-o"]).args([&binary, &source]),
        )
        .map_err(|error| format!("no C compiler for the probe: {error}"))?;
        if output.status.success() {
            Ok(binary)
        } else {
            Err(format!("cc cannot build the probe: {}", String::from_utf8_lossy(&output.stderr)))
        }
    });
    match built {
        Ok(path) => path.clone(),
        Err(reason) => test.skip(reason.clone()),
    }
}

/// Takes a probe that was built elsewhere to where it can be hard-linked from.
fn copy(test: &Test, from: &Path) -> Result<PathBuf, String> {
    let binary = test.store.join("probe");
    std::fs::copy(from, &binary).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(binary)
}
