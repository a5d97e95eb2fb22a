//! `--version`.
//!
//! Read by programs: moby takes the name and the number from the last line that holds the word "version", so no
//! other line may; go-runc, CRI-O and moby take `commit: ` and `spec: `. go-runc takes the number only from
//! `runc version `, and goes on without it: we do not call ourselves runc, because the number would then be
//! compared with runc's. Only who calls us runc gets that name back, with our own beside it. Scripts that know crun look
//! for what it was built with on a line that begins with `+`.

use libcontainer::sys::entry;
use libcontainer::{Result, spec};

use crate::output;

/// The commit that the binary was built from.
pub(crate) const COMMIT: &str = match option_env!("SKEP_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// In crun's words what no build of skep lacks. CRIU is a program that is looked for when it is needed.
const FEATURES: &str = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU";

/// Prints the version.
///
/// # Errors
/// Standard output that cannot be written to.
pub(crate) fn run() -> Result<()> {
    output::print(text(entry::called()).as_bytes())
}

fn text(called: Option<&str>) -> String {
    let (version, spec) = (env!("CARGO_PKG_VERSION"), spec::OCI_VERSION);
    let first = match called {
        Some("runc") => format!("runc version {version} (skep)"),
        _ => format!("skep version {version}"),
    };
    format!("{first}\ncommit: {COMMIT}\nspec: {spec}\n{FEATURES}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_find_name_version_commit_and_spec() {
        let number = env!("CARGO_PKG_VERSION");
        for (called, first) in [
            (None, format!("skep version {number}")),
            (Some("skep"), format!("skep version {number}")),
            (Some("runc-old"), format!("skep version {number}")),
            (Some("runc"), format!("runc version {number} (skep)")),
        ] {
            let text = text(called);
            let versions: Vec<_> = text.lines().filter(|line| line.contains("version")).collect();
            assert_eq!(versions, [first]);
            assert!(text.contains(&format!("\ncommit: {COMMIT}\n")));
            assert!(text.contains("\nspec: 1.3.0\n"));
            // crun's tests take the first line that begins so.
            let features: Vec<_> = text.lines().filter(|line| line.starts_with('+')).collect();
            assert_eq!(features, [FEATURES]);
        }
    }
}
