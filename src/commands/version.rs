//! `--version`.
//!
//! Read by programs: moby takes the name and the number from the last line that holds the word "version", so no
//! other line may; go-runc, CRI-O and moby take `commit: ` and `spec: `. go-runc takes the number only from
//! `runc version `, and goes on without it: we do not call ourselves runc, because the number would then be
//! compared with runc's.

use libcontainer::{Result, spec};

use crate::output;

/// The commit that the binary was built from.
pub(crate) const COMMIT: &str = match option_env!("SKEP_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Prints the version.
///
/// # Errors
/// Standard output that cannot be written to.
pub(crate) fn run() -> Result<()> {
    output::print(text().as_bytes())
}

fn text() -> String {
    let (version, spec) = (env!("CARGO_PKG_VERSION"), spec::OCI_VERSION);
    format!("skep version {version}\ncommit: {COMMIT}\nspec: {spec}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_find_name_version_commit_and_spec() {
        let text = text();
        let versions: Vec<_> = text.lines().filter(|line| line.contains("version")).collect();
        assert_eq!(versions, [format!("skep version {}", env!("CARGO_PKG_VERSION"))]);
        assert!(text.contains(&format!("\ncommit: {COMMIT}\n")));
        assert!(text.contains("\nspec: 1.3.0\n"));
    }
}
