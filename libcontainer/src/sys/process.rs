//! What a process sets about itself: signals, limits, umask, session, scheduler; and what time it is for it.

use std::ffi::CStr;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// Ends this process at once: no destructors, no atexit handlers, which belong to the parent's copy.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: exit_group takes no memory.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    // A filter that refuses even this: _exit of musl would try for ever, abort ends in an instruction that no process
    // survives.
    std::process::abort()
}

/// Sets `resource` (`RLIMIT_*`) of `pid` (0 is this process).
///
/// # Errors
/// EPERM for a hard limit above the present one; EINVAL for a soft one above the hard.
pub fn prlimit(pid: Pid, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: limit outlives the call; the old value is not asked for.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid.as_raw(), resource, std::ptr::from_ref(&limit), old)
    })
    .map(drop)
}

/// Turns a broken pipe into an errno. execve(2) would hand the disposition on: whoever executes resets it before.
pub fn ignore_pipe_signals() {
    // SAFETY: SIG_IGN is a valid disposition.
    let _cannot_fail = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Names this process (PR_SET_NAME); at most 15 bytes count.
pub fn set_name(name: &CStr) {
    // SAFETY: name is a C string that outlives the call.
    let _cannot_fail =
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

extern "C" fn end_on_signal(signal: libc::c_int) {
    exit_now(128 + signal);
}

/// Lets SIGTERM, SIGINT, SIGHUP and SIGQUIT end this process although it is pid 1 of a pid namespace, which the
/// kernel shields from signals without a handler (pid_namespaces(7)). execve(2) takes the handlers away again.
pub fn end_on_termination_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: the handler only calls _exit, which is async-signal-safe.
        let _cannot_fail =
            unsafe { libc::signal(signal, end_on_signal as *const () as libc::sighandler_t) };
    }
}

/// clock_gettime(2) of `CLOCK_REALTIME`: the time since the epoch; zero on a clock set before it.
///
/// The call itself. For the one question a command has, finding the function in the kernel's vDSO costs ten times as much.
pub fn realtime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call, which cannot fail for this clock.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    seconds.map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanoseconds))
}

/// Sets the file mode creation mask and returns the old one.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: umask cannot fail and takes no memory.
    unsafe { libc::umask(mask) }
}

/// sethostname(2).
///
/// # Errors
/// EPERM; EINVAL if it is over 64 bytes.
pub fn sethostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads name.len() bytes.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// setdomainname(2).
///
/// # Errors
/// EPERM; EINVAL if it is over 64 bytes.
pub fn setdomainname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads name.len() bytes.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Writes the path of the current directory into `buffer` and returns its length without the final NUL.
///
/// # Errors
/// ENOENT if the directory is unlinked; ERANGE if the buffer is too small.
pub fn getcwd(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most buffer.len() bytes. The raw call, because a C library hides the
    // "(unreachable)" prefix that says the directory is outside the root.
    let ret = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(usize::try_from(ret).unwrap_or(1).saturating_sub(1))
}

/// Resets the CPU affinity to every CPU the cpuset allows.
///
/// # Errors
/// Those of sched_setaffinity(2).
pub fn reset_affinity() -> Result<(), Errno> {
    let all = [u64::MAX; 128];
    // SAFETY: the kernel reads the given number of bytes from the array.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr()) })
        .map(drop)
}

/// Whether the effective ids of this process may access `path` as `mode` (`X_OK` and its kin) says.
///
/// # Errors
/// EACCES, ENOENT and the others of faccessat2(2).
pub fn access(path: &CStr, mode: libc::c_int) -> Result<(), Errno> {
    // SAFETY: path is a C string that outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS)
    })
    .map(drop)
}

/// Joins a new session keyring named `name` (keyctl(2)) and returns its serial number.
///
/// # Errors
/// ENOSYS without keyrings; EDQUOT when the user's quota is used up.
pub fn join_session_keyring(name: &CStr) -> Result<i32, Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: name is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(super::int)
}

/// Lets processes of the same uid search `keyring`, as runc does: the possessor's rights are kept.
///
/// # Errors
/// Those of keyctl(2).
pub fn allow_keyring_search(keyring: i32) -> Result<(), Errno> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    const POSSESSOR_ALL: u32 = 0x3f00_0000;
    const USER_VIEW_READ_SEARCH: u32 = 0x000b_0000;
    // SAFETY: no memory is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SETPERM,
            keyring,
            POSSESSOR_ALL | USER_VIEW_READ_SEARCH,
        )
    })
    .map(drop)
}
