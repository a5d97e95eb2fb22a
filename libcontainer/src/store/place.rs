//! Whether the state lies where nobody else can change it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Refuses a state directory that somebody else made, or may change, for `uid` with group `gid`: its records say whom
/// `kill` kills and what `delete` deletes. What is not there yet is judged by the directory above.
///
/// This is for a directory that a variable of the environment led to; one that the caller has named is his.
///
/// # Errors
/// [`Kind::Config`] naming the directory.
pub fn check_private(path: &Path, uid: u32, gid: u32) -> Result<()> {
    // Who may write: everybody, or a group that is not the user's own.
    let is_open = |found: &Metadata| {
        found.mode() & 0o002 != 0 || (found.mode() & 0o020 != 0 && found.gid() != gid)
    };
    let refuse = |path: &Path, why: String| {
        Err(Error::new(Kind::Config, "the state of containers is not safe in")
            .path(path)
            .hint(format!("{why}: set $XDG_RUNTIME_DIR to a directory of your own, or use --root")))
    };
    if let Some(above) = path.parent()
        && let Ok(found) = fs::metadata(above)
    {
        if found.uid() != uid && found.uid() != 0 {
            return refuse(above, format!("it belongs to user {}, not to {uid}", found.uid()));
        }
        // In a sticky directory nobody can replace what is ours.
        if is_open(&found) && found.mode() & 0o1000 == 0 {
            return refuse(above, "others may write to it".to_owned());
        }
    }
    // The link, and where it leads.
    for found in [fs::symlink_metadata(path), fs::metadata(path)].into_iter().flatten() {
        if found.uid() != uid {
            return refuse(path, format!("it belongs to user {}, not to {uid}", found.uid()));
        }
        if is_open(&found) && !found.is_symlink() {
            return refuse(path, "others may write to it".to_owned());
        }
    }
    Ok(())
}
