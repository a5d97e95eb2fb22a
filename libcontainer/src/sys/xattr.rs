//! Extended attributes: xattr(7). Setting one of an open file is [`super::fd::set_attribute`].

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::check;

/// The names of an open file's attributes, as far as the caller may see them.
///
/// # Errors
/// Those of flistxattr(2).
pub fn list(fd: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    // The kernel's own limit (XATTR_LIST_MAX): it never has more to say.
    let mut names = vec![0_u8; 64 << 10];
    // SAFETY: names has the length that is passed, and outlives the call.
    let ret = unsafe { libc::flistxattr(fd.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(count(ret)?);
    Ok(split(&names))
}

/// The value of an open file's attribute; `None` when it has none of that name.
///
/// # Errors
/// Those of fgetxattr(2).
pub fn get(fd: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    // The kernel's own limit (XATTR_SIZE_MAX).
    let mut value = vec![0_u8; 64 << 10];
    let (bytes, length) = (value.as_mut_ptr().cast(), value.len());
    // SAFETY: value has the length that is passed, name is a C string; both outlive the call.
    let ret = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), bytes, length) };
    value_of(ret, value)
}

/// Removes an open file's attribute.
///
/// # Errors
/// Those of fremovexattr(2).
pub fn remove(fd: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // SAFETY: name is a C string that outlives the call.
    check(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }.into()).map(drop)
}

/// Sets an attribute of `base`, one name below `dir`, which is not followed: symlinks and devices cannot be opened for
/// it. Goes through `/proc/self/fd`, for setxattrat(2) is of Linux 6.13.
///
/// # Errors
/// Those of lsetxattr(2); EINVAL when `base` is more than one name.
pub fn set_at(dir: BorrowedFd<'_>, base: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let path = below(dir, base)?;
    let (bytes, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: path and name are C strings, value has length bytes; all outlive the call.
    let ret = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), bytes, length, 0) };
    check(ret.into()).map(drop)
}

/// Removes an attribute as [`set_at`] sets one.
///
/// # Errors
/// Those of lremovexattr(2); EINVAL when `base` is more than one name.
pub fn remove_at(dir: BorrowedFd<'_>, base: &CStr, name: &CStr) -> Result<(), Errno> {
    let path = below(dir, base)?;
    // SAFETY: path and name are C strings; both outlive the call.
    check(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }.into()).map(drop)
}

/// As [`list`], of what [`set_at`] would set one.
///
/// # Errors
/// Those of llistxattr(2); EINVAL when `base` is more than one name.
pub fn list_at(dir: BorrowedFd<'_>, base: &CStr) -> Result<Vec<CString>, Errno> {
    let path = below(dir, base)?;
    let mut names = vec![0_u8; 64 << 10];
    let (bytes, length) = (names.as_mut_ptr().cast(), names.len());
    // SAFETY: path is a C string, names has the length that is passed; both outlive the call.
    let ret = unsafe { libc::llistxattr(path.as_ptr(), bytes, length) };
    names.truncate(count(ret)?);
    Ok(split(&names))
}

/// As [`get`], of what [`set_at`] would set one.
///
/// # Errors
/// Those of lgetxattr(2); EINVAL when `base` is more than one name.
pub fn get_at(dir: BorrowedFd<'_>, base: &CStr, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let path = below(dir, base)?;
    let mut value = vec![0_u8; 64 << 10];
    let (bytes, length) = (value.as_mut_ptr().cast(), value.len());
    // SAFETY: path and name are C strings, value has the length that is passed; all outlive the call.
    let ret = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), bytes, length) };
    value_of(ret, value)
}

/// `base` below the descriptor, by a path that follows nothing of its own.
fn below(dir: BorrowedFd<'_>, base: &CStr) -> Result<CString, Errno> {
    if base.to_bytes().contains(&b'/') || matches!(base.to_bytes(), b"" | b"." | b"..") {
        return Err(Errno::EINVAL);
    }
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(base.to_bytes());
    CString::new(path).map_err(|_nul| Errno::EINVAL)
}

fn split(names: &[u8]) -> Vec<CString> {
    let whole = names.split_inclusive(|&byte| byte == 0);
    whole.filter_map(|name| CStr::from_bytes_with_nul(name).ok().map(CStr::to_owned)).collect()
}

fn value_of(ret: isize, mut value: Vec<u8>) -> Result<Option<Vec<u8>>, Errno> {
    match count(ret) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::ENODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn count(ret: isize) -> Result<usize, Errno> {
    usize::try_from(ret).map_err(|_negative| Errno::last())
}
