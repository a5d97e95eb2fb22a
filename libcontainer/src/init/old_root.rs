//! What `--no-pivot` leaves of the host's mounts: it only puts the container's root on top of the host's, and whoever gets
//! behind it finds them. Nothing is masked in a procfs or sysfs among them, so the kernel would let a process mount bare ones
//! of its own (mount_namespaces(7)).
//!
//! The mount of the host's root itself stays: a mount that is moved onto another cannot take it away, and a namespace has to have
//! one. Who has CAP_SYS_ADMIN in the container's namespaces can detach what is on it, and is in the host's root then, as is
//! whoever enters the namespace later (setns(2) goes to what is on top): `exec` too. Init's own root is no measure of it, for
//! init may have gone the same way. So it is for an initramfs alone, which cannot be pivoted.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::sync::{At, Fault, Step};
use crate::sys::fd::{self, CWD};
use crate::sys::mount;

/// How often what is left is looked at again: a mount may be below another that has to go first.
const ROUNDS: usize = 4;

/// Takes away the host's mounts, once the container's root, the current directory, lies on top of the host's, which is this
/// process's. Where that is not allowed, as in a user namespace, its procfs and sysfs are covered. `proc` is a procfs of the
/// host's.
///
/// First the mounts stop to receive what the host mounts: what has come by then is on the list, and nothing comes after.
pub(super) fn clear(proc: BorrowedFd<'_>) -> Result<(), Fault> {
    let fault = |errno| Fault::new(Step::OldRoot, 0, errno);
    mount::set_propagation(c"/", libc::MS_PRIVATE).map_err(fault)?;
    let old = fd::stat_follow(CWD, c"/").at(Step::OldRoot, 0)?.mount;
    let new = fd::stat(CWD, c".").at(Step::OldRoot, 0)?.mount;
    let mut left = read(proc, new).map_err(fault)?;
    for entry in left.iter().filter(|entry| entry.parent == old) {
        // One that is hidden by another is not found, and goes with that.
        let _not_found = mount::set_propagation(&entry.point, libc::MS_REC | libc::MS_PRIVATE);
    }
    for _ in 0..ROUNDS {
        left = read(proc, new).map_err(fault)?;
        for entry in left.iter().rev().filter(|entry| entry.parent == old) {
            detach(entry, &left);
        }
        left = read(proc, new).map_err(fault)?;
        if !left.iter().any(|entry| entry.is_whole && entry.is_bare(&left)) {
            return Ok(());
        }
        for entry in left.iter().rev().filter(|entry| entry.is_bare(&left)) {
            if umount2(entry.point.as_c_str(), DETACH).is_err() {
                let _looked_at_again =
                    mount::mount(c"tmpfs", &entry.point, c"tmpfs", libc::MS_RDONLY, c"");
            }
        }
    }
    left = read(proc, new).map_err(fault)?;
    let reveals = |entry: &Entry| entry.is_whole && entry.is_bare(&left);
    if left.iter().any(reveals) { Err(fault(Errno::EBUSY)) } else { Ok(()) }
}

const DETACH: MntFlags = MntFlags::MNT_DETACH.union(MntFlags::UMOUNT_NOFOLLOW);

/// Detaches the mount and all below, and what has been mounted over it first.
fn detach(entry: &Entry, all: &[Entry]) {
    for _over in all.iter().filter(|other| other.point == entry.point) {
        if umount2(entry.point.as_c_str(), DETACH).is_err() {
            break;
        }
    }
}

/// One mount of the host's (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: u64,
    parent: u64,
    point: CString,
    /// Whether it is a procfs or sysfs.
    is_kernels: bool,
    /// Whether it shows all of its file system. One that does not lets nobody mount that; it may be a file, which cannot be
    /// covered, but is hidden with the directory it is in.
    is_whole: bool,
}

impl Entry {
    /// Whether it is one of the two, and nothing hides it.
    fn is_bare(&self, all: &[Self]) -> bool {
        let covers = |other: &Self| other.parent == self.id && other.point == self.point;
        self.is_kernels && !all.iter().any(covers)
    }
}

/// The mounts but `new` and what is below that; what is on `/` has no name of its own.
fn read(proc: BorrowedFd<'_>, new: u64) -> Result<Vec<Entry>, Errno> {
    let file = fd::openat(proc, c"self/mountinfo", libc::O_RDONLY, 0)?;
    let mut text = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match nix::unistd::read(&file, &mut buffer)? {
            0 => return Ok(of_the_host(&text, new)),
            length => text.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
}

fn of_the_host(mountinfo: &[u8], new: u64) -> Vec<Entry> {
    let mut all: Vec<Entry> = mountinfo.split(|byte| *byte == b'\n').filter_map(entry).collect();
    // A mount may stand before the one it is on.
    let mut parents: Vec<(u64, u64)> = all.iter().map(|entry| (entry.id, entry.parent)).collect();
    parents.sort_unstable();
    let parent = |id: u64| {
        let found = parents.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        parents.get(found).map(|(_, parent)| *parent)
    };
    all.retain(|entry| {
        let mut at = entry.id;
        // No chain is longer than there are mounts.
        for _ in 0..parents.len() {
            if at == new || entry.point.as_bytes() == b"/" {
                return false;
            }
            match parent(at) {
                Some(next) if next != at => at = next,
                _ => break,
            }
        }
        true
    });
    all
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let is_whole = words.nth(1)? == b"/";
    let point = CString::new(unescape(words.next()?)).ok()?;
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    Some(Entry { id, parent, point, is_kernels: matches!(kind, b"proc" | b"sysfs"), is_whole })
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

    const TEXT: &str = "25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
        30 1 0:1 / / rw - rootfs none rw\n\
        26 30 0:24 / /proc rw - proc proc rw\n\
        27 30 0:25 / /a\\040b\\134\\011c rw shared:1 master:2 - proc none rw\n\
        41 40 0:26 / /proc rw - proc none rw\n\
        40 30 0:40 / / rw - overlay none rw\n\
        42 41 0:27 / /proc/sys ro - proc none rw\n\
        28 26 0:28 / /proc rw - tmpfs none rw\n\
        31 30 0:28 / /\\400\\04 rw - sysfs none rw\n\
        32 31 0:28 /class /class rw - sysfs none rw\n\
        broken\n";

    #[test]
    fn mounts_are_the_hosts_by_what_they_are_on_whatever_their_names() {
        let found = of_the_host(TEXT.as_bytes(), 40);
        let points: Vec<_> = found.iter().map(|it| (it.id, it.point.to_bytes())).collect();
        let expected: [(u64, &[u8]); 6] = [
            (25, b"/sys"),
            (26, b"/proc"),
            (27, b"/a b\\\tc"),
            (28, b"/proc"),
            (31, b"/\\400\\04"),
            (32, b"/class"),
        ];
        assert_eq!(points, expected);
        assert!(found.iter().all(|it| it.is_whole == (it.id != 32)));
        let bare = found.iter().filter(|it| it.is_bare(&found)).map(|it| it.id);
        assert_eq!(bare.collect::<Vec<_>>(), [25, 27, 31, 32]);
    }

    #[test]
    fn a_text_that_makes_no_sense_ends() {
        let circle = "1 2 0:1 / /a rw - proc none rw\n2 1 0:1 / /b rw - proc none rw\n3 3 0:1 / / rw - a b c";
        assert_eq!(of_the_host(circle.as_bytes(), 8).len(), 2);
        assert!(of_the_host(b"1 2", 8).is_empty());
        assert!(of_the_host(b"x 2 0:1 / /a rw - proc none rw", 8).is_empty());
    }
}
