//! Descriptors: opening below a root, close_range(2), statx(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;

use super::{check, int};

/// The current directory, as the `*at` calls take it.
pub const CWD: BorrowedFd<'static> = nix::fcntl::AT_FDCWD;

/// openat2(2) (Linux 5.6): opens `path` below `dir` as `resolve` (`RESOLVE_*`) allows.
///
/// EAGAIN (a rename raced with the walk) is repeated, as the man page asks.
///
/// # Errors
/// Those of openat2(2).
pub fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    mode: libc::mode_t,
    resolve: u64,
) -> Result<OwnedFd, Errno> {
    // SAFETY: open_how is a plain C struct for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.mode = u64::from(mode);
    how.resolve = resolve;
    let mut tries = 0;
    loop {
        // SAFETY: path and how outlive the call, and the size is how's.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                std::ptr::from_ref(&how),
                size_of::<libc::open_how>(),
            )
        };
        match check(ret) {
            Err(Errno::EAGAIN | Errno::EINTR) if tries < 128 => tries += 1,
            Err(errno) => return Err(errno),
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) }),
        }
    }
}

/// fcntl(2) F_DUPFD_CLOEXEC: a copy with the first free number that is not below `least`.
///
/// # Errors
/// Those of fcntl(2).
pub fn dup_from(fd: BorrowedFd<'_>, least: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers are passed.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    // SAFETY: the kernel has just made this descriptor for us.
    Errno::result(copy).map(|copy| unsafe { OwnedFd::from_raw_fd(copy) })
}

/// openat(2), always close-on-exec.
///
/// # Errors
/// Those of open(2).
pub fn openat(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    mode: libc::mode_t,
) -> Result<OwnedFd, Errno> {
    loop {
        // SAFETY: path is a C string that outlives the call.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_openat,
                dir.as_raw_fd(),
                path.as_ptr(),
                flags | libc::O_CLOEXEC,
                libc::c_ulong::from(mode),
            )
        };
        match check(ret) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) }),
        }
    }
}

/// renameat2(2) with RENAME_NOREPLACE. The raw call: musl has none before 1.2.6, and neither has nix for it.
///
/// # Errors
/// EEXIST; EINVAL from file systems that do not know the flag; those of rename(2).
pub fn rename_new(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> Result<(), Errno> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    let (name, new_name) = (name.as_ptr(), new_name.as_ptr());
    // SAFETY: both names are C strings that outlive the call.
    check(unsafe {
        libc::syscall(libc::SYS_renameat2, from, name, to, new_name, libc::RENAME_NOREPLACE)
    })
    .map(drop)
}

/// Clears or sets close-on-exec on one inherited descriptor by number.
///
/// # Errors
/// EBADF if it is not open.
pub fn set_cloexec(fd: libc::c_int, on: bool) -> Result<(), Errno> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) }.into()).map(drop)
}

/// Whether descriptor number `fd` is open.
pub fn is_open(fd: libc::c_int) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Opens `/dev/null` on each of the descriptors 0, 1 and 2 that the caller left closed, lest a file of ours
/// land there and be taken for the container's standard streams.
///
/// # Errors
/// Those of open(2).
pub fn fill_standard_streams() -> Result<(), Errno> {
    for fd in 0..=2 {
        if !is_open(fd) {
            // SAFETY: the path is a C string; the descriptor lands on the lowest free number, which is fd.
            check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }.into())?;
        }
    }
    Ok(())
}

/// Sets the extended attribute `name` of an open file.
///
/// # Errors
/// Those of fsetxattr(2).
pub fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let (bytes, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: name is a C string, value has length bytes; both outlive the call.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), bytes, length, 0) }.into())
        .map(drop)
}

/// What statx(2) says of a file.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Type and permission bits (`S_IF*`).
    pub mode: u32,
    /// Device number the node stands for.
    pub rdev: (u32, u32),
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Inode number.
    pub ino: u64,
    /// Device of the file system.
    pub dev: (u32, u32),
    /// `STATX_ATTR_*`.
    pub attributes: u64,
    /// Hard links.
    pub links: u32,
    /// Id of the mount it was reached through (Linux 5.8).
    pub mount: u64,
}

impl Stat {
    /// Whether the type is `kind` (`S_IFDIR` and its kin).
    pub fn is(&self, kind: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT == kind
    }
}

/// statx(2) of `path` relative to `dir`; an empty path is `dir` itself. Symlinks are not followed.
///
/// # Errors
/// Those of statx(2).
pub fn stat(dir: BorrowedFd<'_>, path: &CStr) -> Result<Stat, Errno> {
    statx(dir, path, libc::AT_SYMLINK_NOFOLLOW)
}

/// The same, following symlinks.
///
/// # Errors
/// Those of statx(2).
pub fn stat_follow(dir: BorrowedFd<'_>, path: &CStr) -> Result<Stat, Errno> {
    statx(dir, path, 0)
}

fn statx(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> Result<Stat, Errno> {
    // SAFETY: statx is a plain C struct for which all zeroes is a valid value.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: path and buffer outlive the call, and the buffer is the struct the kernel fills.
    check(unsafe {
        libc::syscall(
            libc::SYS_statx,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            libc::STATX_BASIC_STATS | libc::STATX_MNT_ID,
            std::ptr::from_mut(&mut buffer),
        )
    })?;
    Ok(Stat {
        mode: u32::from(buffer.stx_mode),
        rdev: (buffer.stx_rdev_major, buffer.stx_rdev_minor),
        uid: buffer.stx_uid,
        gid: buffer.stx_gid,
        size: buffer.stx_size,
        ino: buffer.stx_ino,
        dev: (buffer.stx_dev_major, buffer.stx_dev_minor),
        attributes: buffer.stx_attributes,
        links: buffer.stx_nlink,
        mount: buffer.stx_mnt_id,
    })
}

/// The magic number (`PROC_SUPER_MAGIC` and its kin) of the file system `fd` is on.
///
/// # Errors
/// Those of fstatfs(2).
pub fn fs_magic(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: statfs is a plain C struct for which all zeroes is a valid value.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut buffer) }.into())?;
    Ok(magic(&buffer))
}

#[allow(
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    reason = "the field's type differs between C libraries; it is a bit pattern"
)]
fn magic(buffer: &libc::statfs) -> u64 {
    buffer.f_type as u64 & 0xffff_ffff
}

/// Whether names that differ in case alone are one name in `directory` (ioctl_iflags(2), `FS_CASEFOLD_FL`); not where the
/// file system does not say.
pub fn folds_case(directory: BorrowedFd<'_>) -> bool {
    const FS_CASEFOLD_FL: libc::c_long = 0x4000_0000;
    // The ioctl is refused to a descriptor that only names the directory (O_PATH).
    let Ok(own) = openat(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0) else {
        return false;
    };
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes at most one long.
    let told = unsafe { libc::ioctl(own.as_raw_fd(), libc::FS_IOC_GETFLAGS as _, &raw mut flags) };
    told == 0 && flags & FS_CASEFOLD_FL != 0
}

/// Whether the mount `fd` was opened on is read-only.
///
/// # Errors
/// Those of fstatfs(2).
pub fn is_read_only(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    mount_flags(fd).map(|flags| flags & libc::ST_RDONLY != 0)
}

/// The flags (`ST_*`) of the mount `fd` was opened on (fstatvfs(3)), those too that this C library has no name for.
///
/// # Errors
/// Those of fstatfs(2).
pub fn mount_flags(fd: BorrowedFd<'_>) -> Result<libc::c_ulong, Errno> {
    // SAFETY: statvfs is a plain C struct for which all zeroes is a valid value.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    check(unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut buffer) }.into())?;
    Ok(buffer.f_flag)
}

/// Makes an anonymous file (memfd_create(2)).
///
/// # Errors
/// Those of memfd_create(2).
pub fn memfd(name: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: name is a C string that outlives the call.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) })
}

/// Makes an anonymous sealed file that holds `data`, for execveat(2) (memfd_create(2)).
///
/// # Errors
/// Those of memfd_create(2), write(2) and fcntl(2).
pub fn sealed_memfd(name: &CStr, data: &[u8]) -> Result<OwnedFd, Errno> {
    // SAFETY: name is a C string that outlives the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_memfd_create,
            name.as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
        )
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(int(fd)) };
    let mut rest = data;
    while !rest.is_empty() {
        let n = nix::unistd::write(&fd, rest)?;
        rest = rest.get(n..).unwrap_or_default();
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())?;
    Ok(fd)
}

/// Whether the file behind `fd` is sealed against writing.
pub fn is_write_sealed(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no memory is passed.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    seals != -1 && seals & libc::F_SEAL_WRITE != 0
}

/// Closes every descriptor from 3 on but `kept` ones from 3 upwards, which the program inherits, and those in
/// `needed`, which become close-on-exec.
///
/// Owners of the closed ones must not be dropped afterwards: for a process on its way to execve or `_exit` only.
///
/// # Errors
/// Those of close_range(2) and fcntl(2).
pub fn close_all_but(kept: u32, mut needed: Vec<libc::c_int>) -> Result<(), Errno> {
    let end_of_kept = 3 + kept;
    for fd in 3..end_of_kept {
        set_cloexec(int(fd.into()), false)?;
    }
    needed.sort_unstable();
    let mut next = end_of_kept;
    for fd in needed {
        let fd = fd.unsigned_abs();
        set_cloexec(int(fd.into()), true)?;
        if fd > next {
            close_range(next, fd - 1)?;
        }
        next = next.max(fd + 1);
    }
    close_range(next, libc::c_uint::MAX)
}

/// Closes many descriptors with as few calls as their numbers allow.
pub fn close_all(fds: Vec<OwnedFd>) {
    let mut numbers: Vec<libc::c_uint> =
        fds.into_iter().map(|fd| fd.into_raw_fd().unsigned_abs()).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|a, b| a + 1 == *b) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            // There is nothing to be done about a failing close, as for close(2).
            let _closed = close_range(*first, *last);
        }
    }
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: no memory is passed; the caller of `close_all_but` answers for the descriptors' owners.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// flock(2), exclusive, without waiting.
///
/// # Errors
/// EWOULDBLOCK if somebody else has it; those of flock(2).
pub fn try_flock(fd: libc::c_int) -> Result<(), Errno> {
    loop {
        // SAFETY: no memory is passed.
        match check(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) }.into()) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Gives up the lock of [`try_flock`].
///
/// # Errors
/// Those of flock(2).
pub fn funlock(fd: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::flock(fd, libc::LOCK_UN) }.into()).map(drop)
}

/// Reads a file of at most `limit` bytes: one read(2) of its size, and one that finds its end.
///
/// # Errors
/// EFBIG for a larger one; those of read(2).
pub fn read_all(file: &OwnedFd, limit: u64) -> Result<Vec<u8>, Errno> {
    let size = stat(file.as_fd(), c"")?.size;
    if size > limit {
        return Err(Errno::EFBIG);
    }
    let mut content = vec![0; usize::try_from(size).unwrap_or(0) + 1];
    let mut length = 0;
    loop {
        let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            if length as u64 > limit {
                return Err(Errno::EFBIG);
            }
            content.resize(length * 2, 0);
            continue;
        };
        match nix::unistd::read(file, rest) {
            Ok(0) => break,
            // A file with a size gives less than was asked for only at its end.
            Ok(n) if size > 0 && n < rest.len() => {
                length += n;
                break;
            }
            Ok(n) => length += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    content.truncate(length);
    Ok(content)
}

/// Calls `each` with the name, the type (`DT_*`) and the inode number of what is in `directory`, but `.` and `..`, as
/// getdents64(2) has it: of what lies below a mount point, not of what is mounted there.
///
/// # Errors
/// Those of getdents64(2).
pub fn list(directory: BorrowedFd<'_>, mut each: impl FnMut(&CStr, u8, u64)) -> Result<(), Errno> {
    // struct linux_dirent64: ino 8 bytes, off 8, reclen 2, type 1, then the name with its NUL.
    const TYPE: usize = 18;
    let mut buffer = [0_u64; 256];
    loop {
        // SAFETY: the buffer outlives the call, and the size is its own.
        let filled = check(unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                directory.as_raw_fd(),
                buffer.as_mut_ptr(),
                size_of_val(&buffer),
            )
        })?;
        let filled = usize::try_from(filled).unwrap_or(0);
        if filled == 0 {
            return Ok(());
        }
        // SAFETY: the buffer is that long, and bytes have no alignment.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), filled) };
        let mut rest = bytes;
        while let [.., _] = rest {
            let Some([low, high]) = rest.get(TYPE - 2..TYPE) else { return Err(Errno::EIO) };
            let length = usize::from(u16::from_ne_bytes([*low, *high]));
            let (Some(entry), Some(more)) = (rest.get(..length), rest.get(length..)) else {
                return Err(Errno::EIO);
            };
            if let Some([kind, name @ ..]) = entry.get(TYPE..)
                && let Some(ino) = entry.first_chunk()
                && let Ok(name) = CStr::from_bytes_until_nul(name)
                && name != c"."
                && name != c".."
            {
                each(name, *kind, u64::from_ne_bytes(*ino));
            }
            rest = if length == 0 { &[] } else { more };
        }
    }
}

/// How many bytes a pipe holds that nobody has read (`FIONREAD`), whichever of its ends `pipe` is.
///
/// # Errors
/// Those of ioctl(2).
pub fn unread(pipe: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the number outlives the call.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) }.into())?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Takes what is in a FIFO of which this process holds `end`, the one for writing, at most `most` bytes.
///
/// # Errors
/// Those of open(2), through `/proc/self/fd`, for the FIFO may have no name any more; those of read(2).
pub fn take_unread(end: BorrowedFd<'_>, most: usize) -> Result<Vec<u8>, Errno> {
    let path = CString::new(format!("/proc/self/fd/{}", end.as_raw_fd())).unwrap_or_default();
    let other = openat(CWD, &path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    let mut bytes = vec![0; most];
    let length = nix::unistd::read(&other, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes all of `content`.
///
/// # Errors
/// Those of write(2).
pub fn write_all(file: &OwnedFd, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        match nix::unistd::write(file, content) {
            Ok(n) => content = content.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
