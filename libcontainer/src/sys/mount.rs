//! The mount API of Linux 5.2 and later: descriptors, never paths, say what is mounted where.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{check, int};

const EMPTY: &CStr = c"";
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSPICK_CLOEXEC: libc::c_uint = 1;
const FSPICK_EMPTY_PATH: libc::c_uint = 8;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// Whether an operation takes the mounts below along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursive {
    /// The whole tree.
    Yes,
    /// The one mount.
    No,
}

/// What mount_setattr(2) changes; the bits are `MOUNT_ATTR_*`, propagation is one of `MS_PRIVATE` and its kin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// New propagation, 0 for none.
    pub propagation: u64,
}

impl Attr {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn owned(ret: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = int(check(ret)?);
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn recursive(recursive: Recursive) -> libc::c_int {
    if recursive == Recursive::Yes { libc::AT_RECURSIVE } else { 0 }
}

/// Clones the mount at `path` (relative to `dir`; empty for `dir` itself) as a detached one (Linux 5.2).
///
/// # Errors
/// Those of open_tree(2).
pub fn open_tree_clone(
    dir: BorrowedFd<'_>,
    path: &CStr,
    tree: Recursive,
    nofollow: bool,
) -> Result<OwnedFd, Errno> {
    let mut flags = libc::AT_EMPTY_PATH | recursive(tree);
    if nofollow {
        flags |= libc::AT_SYMLINK_NOFOLLOW;
    }
    let flags = flags.cast_unsigned() | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: path is a C string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Whether move_mount(2) takes a target that is mounted nowhere itself: Linux 6.15. Asked of the version, as to try costs
/// an older kernel a grace period for what has to be let go again.
pub fn takes_detached_targets() -> bool {
    // SAFETY: utsname is a plain C struct for which all zeroes is a valid value.
    let mut host: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one utsname, which outlives the call.
    if unsafe { libc::uname(&raw mut host) } != 0 {
        return false;
    }
    // SAFETY: the kernel has ended it with a NUL, and it outlives its use.
    let release = unsafe { CStr::from_ptr(host.release.as_ptr()) };
    let mut numbers = release.to_bytes().split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0_u32, |sum, digit| sum.saturating_mul(10) + u32::from(digit - b'0'))
    });
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// Attaches the detached mount (or moves the attached one) `mount` onto `target`.
///
/// # Errors
/// Those of move_mount(2).
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both paths are empty C strings that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            target.as_raw_fd(),
            EMPTY.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// The same, onto `name` directly below `directory`, which nobody else can change.
///
/// # Errors
/// Those of move_mount(2).
pub fn move_mount_to(
    mount: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<(), Errno> {
    // SAFETY: both paths are C strings that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            directory.as_raw_fd(),
            name.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Changes the properties of the mount `fd` is in (Linux 5.12).
///
/// # Errors
/// Those of mount_setattr(2).
pub fn mount_setattr(fd: BorrowedFd<'_>, tree: Recursive, attr: Attr) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    setattr(fd, tree, &attr)
}

/// Maps the ids of the detached mount `fd` through the user namespace `userns` (Linux 5.12).
///
/// # Errors
/// Those of mount_setattr(2): EINVAL where the file system cannot be id-mapped.
pub fn mount_idmap(
    fd: BorrowedFd<'_>,
    tree: Recursive,
    userns: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(userns.as_raw_fd().unsigned_abs()),
    };
    setattr(fd, tree, &attr)
}

fn setattr(fd: BorrowedFd<'_>, tree: Recursive, attr: &libc::mount_attr) -> Result<(), Errno> {
    // SAFETY: the path is an empty C string and attr a struct of the given size; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH | recursive(tree),
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// The longest string that fsconfig(2) takes, in bytes.
pub const FSCONFIG_MAX: usize = 255;
/// The longest `data` that mount(2) takes, in bytes; the kernel cuts a longer one off in silence.
pub const DATA_MAX: usize = 4095;

/// mount(2): mounts `source`, a file system of the type `kind`, on `target`, with `flags` (`MS_*`) and options `data`.
///
/// # Errors
/// Those of mount(2); E2BIG for data over [`DATA_MAX`].
pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> Result<(), Errno> {
    if data.count_bytes() > DATA_MAX {
        return Err(Errno::E2BIG);
    }
    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
    // SAFETY: all are C strings that outlive the call.
    check(unsafe { libc::mount(source, target, kind, flags, data.as_ptr().cast()) }.into())
        .map(drop)
}

/// A file system being configured: fsopen(2), fspick(2), fsconfig(2), fsmount(2).
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Begins a new instance of the file system `kind`.
    ///
    /// # Errors
    /// Those of fsopen(2): ENODEV for a type the kernel does not have.
    pub fn open(kind: &CStr) -> Result<Self, Errno> {
        // SAFETY: kind is a C string that outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    /// Begins to reconfigure the file system mounted at `target`.
    ///
    /// # Errors
    /// Those of fspick(2).
    pub fn pick(target: BorrowedFd<'_>) -> Result<Self, Errno> {
        // SAFETY: the path is an empty C string that outlives the call.
        owned(unsafe {
            libc::syscall(
                libc::SYS_fspick,
                target.as_raw_fd(),
                EMPTY.as_ptr(),
                FSPICK_CLOEXEC | FSPICK_EMPTY_PATH,
            )
        })
        .map(Self)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> Result<(), Errno> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or C strings that outlive the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        })
        .map(drop)
    }

    /// Sets the option `key` to `value`.
    ///
    /// # Errors
    /// Those of fsconfig(2): EINVAL for an option the file system does not know.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// Sets the option `key`, which takes no value.
    ///
    /// # Errors
    /// Those of fsconfig(2).
    pub fn set_flag(&self, key: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Sets the option `key` to the file `value` is open on (overlayfs's layers: Linux 6.13).
    ///
    /// # Errors
    /// Those of fsconfig(2): EINVAL for an option that takes no descriptor.
    pub fn set_fd(&self, key: &CStr, value: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: key is a C string that outlives the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_SET_FD,
                key.as_ptr(),
                std::ptr::null::<libc::c_void>(),
                value.as_raw_fd(),
            )
        })
        .map(drop)
    }

    /// Makes the superblock and a detached mount of it with the attributes `attr` (`MOUNT_ATTR_*`).
    ///
    /// # Errors
    /// Those of fsconfig(2) and fsmount(2).
    pub fn mount(&self, attr: u64) -> Result<OwnedFd, Errno> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: no memory is passed.
        owned(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attr)
        })
    }

    /// Applies the options to the superblock picked.
    ///
    /// # Errors
    /// Those of fsconfig(2).
    pub fn reconfigure(&self) -> Result<(), Errno> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None)
    }

    /// Reads one line of the kernel's own explanation of a failure into `buffer`; 0 if there is none.
    pub fn message(&self, buffer: &mut [u8]) -> usize {
        nix::unistd::read(&self.0, buffer).unwrap_or(0)
    }
}

/// Makes the current directory the root, and puts the old root on top of it at the same place.
///
/// # Errors
/// Those of pivot_root(2).
pub fn pivot_root_here() -> Result<(), Errno> {
    let here = c".".as_ptr();
    // SAFETY: both are C strings that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) }).map(drop)
}

/// Changes the propagation of the mount at `path` and all below.
///
/// # Errors
/// Those of mount(2).
pub fn set_propagation(path: &CStr, flags: libc::c_ulong) -> Result<(), Errno> {
    let none = std::ptr::null();
    // SAFETY: path is a C string that outlives the call; the rest may be null for a change of propagation.
    check(unsafe { libc::mount(none, path.as_ptr(), none, flags, none.cast()) }.into()).map(drop)
}

/// Moves the mount at the current directory onto `/` (for a root that cannot be pivoted).
///
/// # Errors
/// Those of mount(2).
pub fn move_here_to_root() -> Result<(), Errno> {
    let none = std::ptr::null();
    // SAFETY: both paths are C strings that outlive the call.
    check(
        unsafe { libc::mount(c".".as_ptr(), c"/".as_ptr(), none, libc::MS_MOVE, none.cast()) }
            .into(),
    )
    .map(drop)
}
