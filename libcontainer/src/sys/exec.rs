//! execve(2), execveat(2), and argument vectors made ready before a clone.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::entry::Arguments;

/// A NULL-terminated vector of C strings.
pub struct CStrArray {
    pointers: Vec<*const c_char>,
    strings: Vec<CString>,
}

impl std::fmt::Debug for CStrArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

impl CStrArray {
    /// Takes the strings and points at them.
    pub fn new(strings: Vec<CString>) -> Self {
        let mut array = Self { pointers: Vec::new(), strings };
        array.point();
        array
    }

    fn point(&mut self) {
        self.pointers.clear();
        self.pointers.reserve(self.strings.len() + 2);
        self.pointers.extend(self.strings.iter().map(|s| s.as_ptr()));
        self.pointers.push(std::ptr::null());
    }

    /// Adds one more string at the end.
    pub fn push(&mut self, string: CString) {
        self.strings.push(string);
        self.point();
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Becomes the program `path`; returns only to say why not.
pub fn execve(path: &CStr, argv: &CStrArray, envp: &CStrArray) -> Errno {
    // SAFETY: path is a C string; both vectors are NULL-terminated and point at strings they own.
    unsafe {
        libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr());
    }
    Errno::last()
}

/// Becomes the program open as `fd` with the arguments `main` was given and this process's environment; the new image
/// keeps the descriptor. Returns only to say why not.
pub fn execve_again(fd: BorrowedFd<'_>, arguments: Arguments) -> Errno {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: one thread, nobody changes the environment.
    let envp = unsafe { environ };
    if let Err(errno) = super::fd::set_cloexec(fd.as_raw_fd(), false) {
        return errno;
    }
    // SAFETY: the empty path is a C string; both vectors are main's own and NULL-terminated.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.vector(),
            envp,
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}
