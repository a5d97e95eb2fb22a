//! What `--no-pivot` leaves of the host's mounts, and the container must not reach.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Launch;
use crate::error::{Context, Result};
use crate::sys::fd;

impl Launch<'_> {
    /// The mounts of the host to unmount before the container runs; none where the root is changed by pivot_root(2).
    pub(super) fn bare_mounts(&self) -> Result<Vec<CString>> {
        let root = &self.plan.root;
        if root.no_pivot { bare_mounts(&root.path) } else { Ok(Vec::new()) }
    }
}

/// Where the host has procfs and sysfs mounted (proc_pid_mountinfo(5)), the inner ones first; not those in `root`, where by
/// the time they are unmounted the container's own are.
fn bare_mounts(root: &CStr) -> Result<Vec<CString>> {
    let own = fd::openat(fd::CWD, root, libc::O_PATH, 0).doing("open the root filesystem")?;
    let open = format!("/proc/self/fd/{}", own.as_raw_fd());
    let root = std::fs::read_link(&open).on("readlink", open)?;
    let text = std::fs::read("/proc/self/mountinfo").on("read", "/proc/self/mountinfo")?;
    let point = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let point = words.nth(4)?.to_owned();
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        // A mount point with an escaped byte is none of procfs or sysfs.
        let bare = matches!(kind, b"proc" | b"sysfs") && !point.contains(&b'\\');
        let inside = Path::new(OsStr::from_bytes(&point)).starts_with(&root);
        (bare && !inside).then_some(point)
    };
    let points = text.split(|byte| *byte == b'\n').rev().filter_map(point);
    Ok(points.filter_map(|point| CString::new(point).ok()).collect())
}
