//! Device nodes, and the links of a fresh /dev.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{Gid, Uid};

use super::mount::unmount;
use crate::path::{self, Make};
use crate::plan::{DeviceOp, LINKS, Plan};
use crate::sync::{At, Fault, Step};
use crate::sys::fd::{self, CWD};
use crate::sys::mount::{Recursive, move_mount, open_tree_clone};

/// Makes all devices and links.
///
/// Each directory is opened inside the root, so a `/dev` that the image made a symlink leads nowhere else (CVE-2026-41579).
pub(super) fn all(plan: &Plan, root: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> Result<(), Fault> {
    let dev = if plan.devices.is_empty() && !plan.dev_links {
        None
    } else {
        Some(open_dev(root).at(Step::Device, usize::MAX)?)
    };
    if let Some(made) = plan.made_devices.as_ref().filter(|_| plan.has_own_mounts()) {
        // Only of a mount that is attached somewhere can there be a clone.
        let here = fd::openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0);
        let here = here.at(Step::Device, usize::MAX)?;
        move_mount(made.as_fd(), here.as_fd()).at(Step::Device, usize::MAX)?;
    }
    for (i, device) in plan.devices.iter().enumerate() {
        let (above, name) = place(root, dev.as_ref(), &device.target).at(Step::Device, i)?;
        let above = above.as_ref().or(dev.as_ref()).map_or(root, AsFd::as_fd);
        one(plan, i, device, above, &name).at(Step::Device, i)?;
    }
    if let Some(made) = plan.made_devices.as_ref().filter(|_| plan.has_own_mounts()) {
        unmount(made, proc).at(Step::Device, usize::MAX)?;
    }
    if let Some(dev) = dev.filter(|_| plan.dev_links) {
        links(plan, dev.as_fd())?;
    }
    Ok(())
}

/// Opens /dev, which no symlink of the image may stand in for: behind it could be a volume of the host's (CVE-2026-41579).
fn open_dev(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    match path::open_no_symlinks(root, c"dev") {
        Err(Errno::ENOENT) => path::open_or_make(root, c"dev", Make::Directory).map(|(dev, _)| dev),
        other => other,
    }
}

/// The directory a device goes into (`None` for `/dev` itself, which is open) and its name there.
fn place(
    root: BorrowedFd<'_>,
    dev: Option<&OwnedFd>,
    target: &CStr,
) -> Result<(Option<OwnedFd>, CString), Errno> {
    let bytes = target.to_bytes();
    let (above, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (bytes.get(..slash), bytes.get(slash + 1..)),
        None => (None, Some(bytes)),
    };
    let name = CString::new(name.unwrap_or_default()).map_err(|_nul| Errno::EINVAL)?;
    let above = match above {
        Some(b"dev") if dev.is_some() => None,
        other => {
            let above = CString::new(other.unwrap_or_default()).map_err(|_nul| Errno::EINVAL)?;
            match path::open_no_symlinks(root, &above) {
                Ok(found) => Some(found),
                // Below /dev nothing is followed; elsewhere the image's own links lead to where it keeps its devices.
                Err(Errno::ELOOP) if above.to_bytes().starts_with(b"dev/") => {
                    return Err(Errno::ELOOP);
                }
                Err(_) => Some(path::open_or_make(root, &above, Make::Directory)?.0),
            }
        }
    };
    Ok((above, name))
}

fn one(
    plan: &Plan,
    i: usize,
    device: &DeviceOp,
    above: BorrowedFd<'_>,
    name: &CStr,
) -> Result<(), Errno> {
    // Without a mount namespace a bind would be the host's own, and stay.
    let may_bind = plan.has_own_mounts();
    if plan.bind_devices && !may_bind {
        return Ok(());
    }
    if let Some(made) = &plan.made_devices {
        let own = CString::new(i.to_string()).map_err(|_nul| Errno::EINVAL)?;
        match open_tree_clone(made.as_fd(), &own, Recursive::No, true) {
            // One of the default devices, or of an owner that is not mapped.
            Err(Errno::ENOENT) => {}
            node => return move_mount(node?.as_fd(), empty_file(above, name)?.as_fd()),
        }
    }
    if plan.bind_devices && device.mode & libc::S_IFMT != libc::S_IFIFO {
        return bind(device, above, name);
    }
    let kind = SFlag::from_bits_truncate(device.mode & libc::S_IFMT);
    let mode = Mode::from_bits_truncate(device.mode & 0o7777);
    match nix::sys::stat::mknodat(above, name, kind, mode, device.number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return existing(device, above, name, may_bind),
        Err(Errno::EPERM) if may_bind => return bind(device, above, name),
        Err(errno) => return Err(errno),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(above, name, Some(uid), Some(gid), flags)?;
    }
    Ok(())
}

/// A node that is there already is as good if it is the same device; an empty file in its place (`docker export` leaves them)
/// is covered.
fn existing(
    device: &DeviceOp,
    above: BorrowedFd<'_>,
    name: &CStr,
    may_bind: bool,
) -> Result<(), Errno> {
    let stat = fd::stat(above, name)?;
    if stat.is(device.mode & libc::S_IFMT)
        && libc::makedev(stat.rdev.0, stat.rdev.1) == device.number
    {
        return Ok(());
    }
    if may_bind && stat.is(libc::S_IFREG) { bind(device, above, name) } else { Err(Errno::EEXIST) }
}

/// Binds the host's node onto an empty file: what a user namespace may do instead of mknod(2).
fn bind(device: &DeviceOp, above: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let node = open_tree_clone(CWD, &device.host, Recursive::No, true)?;
    let stat = fd::stat(node.as_fd(), c"")?;
    if !stat.is(device.mode & libc::S_IFMT)
        || libc::makedev(stat.rdev.0, stat.rdev.1) != device.number
    {
        return Err(Errno::ENODEV);
    }
    let target = empty_file(above, name)?;
    move_mount(node.as_fd(), target.as_fd())
}

/// Opens (making it if need be) the file `name`, which no symlink may stand in for.
fn empty_file(above: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
    match fd::openat(above, name, flags, 0o666) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let target = fd::openat(above, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    if fd::stat(target.as_fd(), c"")?.is(libc::S_IFLNK) { Err(Errno::ELOOP) } else { Ok(target) }
}

fn links(plan: &Plan, dev: BorrowedFd<'_>) -> Result<(), Fault> {
    for (i, (target, name)) in LINKS.iter().enumerate() {
        match nix::unistd::symlinkat(*target, dev, *name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Fault::new(Step::DevLink, i, errno)),
        }
    }
    if plan.ptmx_link {
        ptmx(dev).at(Step::DevLink, LINKS.len())?;
    }
    Ok(())
}

/// `/dev/ptmx` must be the container's own devpts, whatever the image has there.
fn ptmx(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    match nix::unistd::symlinkat("pts/ptmx", dev, "ptmx") {
        Err(Errno::EEXIST) => {
            let own = nix::fcntl::readlinkat(dev, "ptmx");
            if own.is_ok_and(|link| link.as_os_str() == OsStr::from_bytes(b"pts/ptmx")) {
                return Ok(());
            }
            nix::unistd::unlinkat(dev, "ptmx", nix::unistd::UnlinkatFlags::NoRemoveDir)?;
            nix::unistd::symlinkat("pts/ptmx", dev, "ptmx")
        }
        other => other,
    }
}

/// Binds the terminal onto `/dev/console`.
pub(super) fn console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Errno> {
    let dev = open_dev(root)?;
    let target = empty_file(dev.as_fd(), c"console")?;
    let tree = open_tree_clone(slave, c"", Recursive::No, false)?;
    move_mount(tree.as_fd(), target.as_fd())
}
