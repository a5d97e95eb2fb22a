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
    Ok(points_outside(&root, &text))
}

/// Those of the mount points in `mountinfo` that are not in `root`.
fn points_outside(root: &Path, mountinfo: &[u8]) -> Vec<CString> {
    let point = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let point = unescape(words.nth(4)?);
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        let inside = Path::new(OsStr::from_bytes(&point)).starts_with(root);
        (matches!(kind, b"proc" | b"sysfs") && !inside).then_some(point)
    };
    let points = mountinfo.split(|byte| *byte == b'\n').rev().filter_map(point);
    points.filter_map(|point| CString::new(point).ok()).collect()
}

/// The bytes of a word in which the kernel has written some as a backslash and three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                Some(((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_those_of_the_host_whatever_their_names() {
        let text = "25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                    26 30 0:24 / /proc rw - proc proc rw\n\
                    27 30 0:25 / /a\\040b\\134\\011c rw shared:1 master:2 - proc none rw\n\
                    28 30 0:26 / /box\\0401/root/proc rw - proc none rw\n\
                    29 30 0:26 / /box\\0401/roots rw - proc none rw\n\
                    30 30 0:27 / /tmp rw - tmpfs none rw\n\
                    31 30 0:28 / /\\400\\04 rw - sysfs none rw";
        let found = points_outside(Path::new("/box 1/root"), text.as_bytes());
        let found: Vec<&[u8]> = found.iter().map(|point| point.to_bytes()).collect();
        let expected = [&b"/\\400\\04"[..], b"/box 1/roots", b"/a b\\\tc", b"/proc", b"/sys"];
        assert_eq!(found, expected);
    }
}
