//! Starts another program without copying our memory, and waits for it (clone(2), execve(2), waitid(2)).

pub mod signal;

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use self::signal::{SignalMask, reset_dispositions, set_default};

/// The stack of a child before its execve, in bytes, without the guard page.
const STACK_SIZE: usize = 64 * 1024;

/// The size of the guard below it: the largest page of any supported architecture.
const GUARD_SIZE: usize = 64 * 1024;

/// How many descriptors beyond the standard streams a program may be given.
pub const INHERITED: usize = 16;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit(2), with this status, 0 to 255.
    Exited(i32),
    /// By a signal.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// The exit code of whoever stands in for the process: its own, or 128 + the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }

    /// Tells whether the process exited with 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// In the words of Go's `os.ProcessState`, which callers of runc see.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signaled { signal, core_dumped } => {
                match signal_words(signal) {
                    Some(words) => write!(f, "signal: {words}")?,
                    None => write!(f, "signal: signal {signal}")?,
                }
                if core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// What Go calls a signal: those that end a process by default.
fn signal_words(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGSTKFLT => "stack fault",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "file size limit exceeded",
        libc::SIGVTALRM => "virtual timer expired",
        libc::SIGPROF => "profiling timer expired",
        libc::SIGIO => "I/O possible",
        libc::SIGPWR => "power failure",
        libc::SIGSYS => "bad system call",
        _ => return None,
    })
}

/// A program to start, exactly as given: nothing is searched, added or inherited.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The executable, as execve(2) takes it.
    pub path: &'a CStr,
    /// argv, `argv[0]` included.
    pub argv: &'a [&'a CStr],
    /// The whole environment, `NAME=value`.
    pub envp: &'a [&'a CStr],
    /// Descriptor 0 of the program.
    pub stdin: BorrowedFd<'a>,
    /// Descriptor 1 of the program.
    pub stdout: BorrowedFd<'a>,
    /// Descriptor 2 of the program.
    pub stderr: BorrowedFd<'a>,
    /// Its working directory; ours if absent.
    pub cwd: Option<BorrowedFd<'a>>,
}

/// What a program could not be started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// clone(2), or memory for it.
    Clone,
    /// Its process group, standard streams or the closing of the rest.
    Descriptors,
    /// fchdir(2).
    Cwd,
    /// execve(2).
    Exec,
}

/// A program that could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub errno: Errno,
}

/// A process that [`spawn`] started, leader of its own process group.
#[derive(Debug)]
pub struct Child {
    /// Its process id, in our namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Reaps the process if it has ended.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has reaped it.
    pub fn try_wait(&self) -> nix::Result<Option<ExitStatus>> {
        try_wait(self.pidfd.as_fd())
    }

    /// Waits for the end of the process and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has reaped it.
    pub fn wait(&self) -> nix::Result<ExitStatus> {
        wait(self.pidfd.as_fd())
    }

    /// Sends SIGKILL to the process and to its process group. The caller has not reaped it yet, so both ids are its own.
    pub fn kill_group(&self) {
        // A program may have left its group, and the group may have outlived it: each call covers the other's case.
        let _may_be_empty = killpg(self.pid, Signal::SIGKILL);
        let _may_be_dead = super::pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Reaps the child behind `pidfd` if it has ended.
///
/// # Errors
/// Those of waitid(2).
pub fn try_wait(pidfd: BorrowedFd<'_>) -> nix::Result<Option<ExitStatus>> {
    Ok(wait_id(libc::P_PIDFD, pidfd.as_raw_fd(), libc::WNOHANG)?.map(|(_, status)| status))
}

/// Waits for the end of the child behind `pidfd` and reaps it.
///
/// # Errors
/// Those of waitid(2).
pub fn wait(pidfd: BorrowedFd<'_>) -> nix::Result<ExitStatus> {
    match wait_id(libc::P_PIDFD, pidfd.as_raw_fd(), 0)? {
        Some((_, status)) => Ok(status),
        None => Err(Errno::ECHILD),
    }
}

/// Reaps one child that has ended, whichever it is; `None` if all live or there is none.
///
/// # Errors
/// Those of waitid(2) but `ECHILD`.
pub fn try_wait_any() -> nix::Result<Option<(Pid, ExitStatus)>> {
    match wait_id(libc::P_ALL, 0, libc::WNOHANG) {
        Err(Errno::ECHILD) => Ok(None),
        other => other,
    }
}

/// waitid(2) for the end of a process. nix' own fails for a death by a real-time signal.
fn wait_id(
    kind: libc::idtype_t,
    id: RawFd,
    flags: c_int,
) -> nix::Result<Option<(Pid, ExitStatus)>> {
    let id = libc::id_t::try_from(id).map_err(|_negative| Errno::EBADF)?;
    loop {
        // SAFETY: siginfo_t is plain data, for which zeros are valid.
        let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: `info` is live and of the type the call fills in.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: the call filled in the SIGCHLD variant, or left it zero.
        let pid = unsafe { info.si_pid() };
        if pid == 0 {
            return Ok(None);
        }
        // SAFETY: as above.
        let value = unsafe { info.si_status() };
        let status = match info.si_code {
            libc::CLD_EXITED => ExitStatus::Exited(value),
            code => ExitStatus::Signaled { signal: value, core_dumped: code == libc::CLD_DUMPED },
        };
        return Ok(Some((Pid::from_raw(pid), status)));
    }
}

/// What parent and child share until the execve.
struct Launch<'a> {
    program: &'a Program<'a>,
    inherited: &'a [BorrowedFd<'a>],
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    failure: UnsafeCell<Option<SpawnError>>,
}

/// Starts `program` and returns once it runs: its execve has succeeded.
///
/// The child borrows our memory until then (CLONE_VM, CLONE_VFORK), so nothing is copied and the reason of a failure
/// needs no pipe. It leads its own process group, blocks no signal, has every signal's default action, and holds no
/// descriptor but 0, 1 and 2. SIGCHLD gets its default action in the caller too: ignored, it would reap the child.
///
/// # Errors
/// What failed, and why; no process is left.
pub fn spawn(program: &Program<'_>) -> Result<Child, SpawnError> {
    spawn_with(program, &[])
}

/// The same, with `inherited` as descriptors from 3 on, at most [`INHERITED`].
///
/// # Errors
/// Those of [`spawn`]; `EMFILE` for more.
pub fn spawn_with(
    program: &Program<'_>,
    inherited: &[BorrowedFd<'_>],
) -> Result<Child, SpawnError> {
    let argv = null_terminated(program.argv);
    let envp = null_terminated(program.envp);
    let failure = UnsafeCell::new(None);
    let launch = Launch { program, inherited, argv: &argv, envp: &envp, failure };
    let at_clone = |errno| SpawnError { stage: Stage::Clone, errno };
    set_default(libc::SIGCHLD).map_err(at_clone)?;
    let stack = Stack::new().map_err(at_clone)?;
    // A handler must not run in the child while it is on our memory.
    let mask = SignalMask::ALL.set().map_err(at_clone)?;
    let mut pidfd: RawFd = -1;
    // SAFETY: the stack is ours alone and larger than what `child` needs; `launch` outlives the child's use of it, for
    // CLONE_VFORK holds us here until the child has executed or exited; `pidfd` is where CLONE_PIDFD stores a c_int.
    let pid = unsafe {
        libc::clone(
            child,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw const launch).cast_mut().cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let pid = Errno::result(pid);
    let restored = mask.set();
    let pid = pid.map_err(at_clone)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let child = Child { pid: Pid::from_raw(pid), pidfd };
    restored.map_err(at_clone)?;
    // SAFETY: the child no longer shares our memory.
    match unsafe { launch.failure.get().read() } {
        None => Ok(child),
        Some(failure) => {
            let _reaped = child.wait();
            Err(failure)
        }
    }
}

/// The child: runs on our memory, so it allocates nothing, and ends by execve or _exit.
extern "C" fn child(launch: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its `Launch`, which lives until this process has executed or exited.
    let launch = unsafe { &*launch.cast::<Launch<'_>>() };
    let failure = execute(launch);
    // SAFETY: the parent does not read before this process is gone.
    unsafe { launch.failure.get().write(Some(failure)) };
    // SAFETY: no destructor or exit handler of the parent's may run here.
    unsafe { libc::_exit(127) }
}

/// Makes the process what [`spawn`] promises and executes the program; returns only a failure.
fn execute(launch: &Launch<'_>) -> SpawnError {
    let program = launch.program;
    if let Err(errno) = arrange_descriptors(program, launch.inherited) {
        return SpawnError { stage: Stage::Descriptors, errno };
    }
    if let Some(cwd) = program.cwd {
        // SAFETY: no pointers are passed.
        if unsafe { libc::fchdir(cwd.as_raw_fd()) } < 0 {
            return SpawnError { stage: Stage::Cwd, errno: Errno::last() };
        }
    }
    reset_dispositions();
    if let Err(errno) = SignalMask::EMPTY.set() {
        return SpawnError { stage: Stage::Exec, errno };
    }
    // SAFETY: both arrays end with a null pointer and point at C strings that live in the suspended parent.
    unsafe { libc::execve(program.path.as_ptr(), launch.argv.as_ptr(), launch.envp.as_ptr()) };
    SpawnError { stage: Stage::Exec, errno: Errno::last() }
}

/// Puts the standard streams and those to be inherited in place and marks every other descriptor close-on-exec.
fn arrange_descriptors(program: &Program<'_>, inherited: &[BorrowedFd<'_>]) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    Errno::result(unsafe { libc::setpgid(0, 0) })?;
    let streams = [program.stdin, program.stdout, program.stderr];
    let mut sources: [RawFd; 3 + INHERITED] = [-1; 3 + INHERITED];
    let count = streams.len() + inherited.len();
    let sources = sources.get_mut(..count).ok_or(Errno::EMFILE)?;
    let first_free = RawFd::try_from(count).unwrap_or(RawFd::MAX);
    for (source, fd) in sources.iter_mut().zip(streams.iter().chain(inherited)) {
        *source = fd.as_raw_fd();
        // A source among the targets would be overwritten before it is used.
        if *source < first_free {
            // SAFETY: no pointers are passed.
            let copy = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, first_free) };
            *source = Errno::result(copy)?;
        }
    }
    for (fd, target) in sources.iter().copied().zip(0..) {
        // SAFETY: this process has its own descriptor table; the parent's 0, 1, 2 stay.
        Errno::result(unsafe { libc::dup2(fd, target) })?;
    }
    // SAFETY: no pointers are passed; nothing is closed before the execve.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first_free,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    Errno::result(closed).map(drop)
}

/// The pointers of `strings` and a null.
fn null_terminated(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// Memory for the child's stack, with a guard page below.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn new() -> nix::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD_SIZE + STACK_SIZE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Self { base };
        // SAFETY: the offset is within the mapping.
        let usable = unsafe { base.byte_add(GUARD_SIZE) };
        // SAFETY: the range is the upper part of the mapping made above.
        let result =
            unsafe { libc::mprotect(usable, STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE) };
        Errno::result(result)?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping; a multiple of 16 as every ABI wants it.
        unsafe { self.base.byte_add(GUARD_SIZE + STACK_SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing runs on it any more.
        unsafe { libc::munmap(self.base, GUARD_SIZE + STACK_SIZE) };
    }
}

/// Runs `body` in a forked copy of the calling thread, as init runs; the copy exits with what `body` returns.
#[cfg(test)]
pub(crate) fn in_fork(body: impl FnOnce() -> i32) -> Child {
    // SAFETY: the test programs' copies allocate, which both C libraries allow after a fork, and take no lock that
    // another test's thread could hold.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", Errno::last());
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
        // SAFETY: ends the copy without the exit handlers of the test program.
        unsafe { libc::_exit(code) };
    }
    let pid = Pid::from_raw(pid);
    Child { pid, pidfd: super::pidfd::open(pid).unwrap() }
}

/// Replaces the calling process by `argv`, with the descriptors it has.
#[cfg(test)]
pub(crate) fn exec(argv: &[&CStr]) -> Errno {
    let argv = null_terminated(argv);
    // SAFETY: the array ends with a null pointer and its strings live; an empty environment is one null pointer.
    unsafe { libc::execve(argv[0], argv.as_ptr(), [ptr::null()].as_ptr()) };
    Errno::last()
}

#[cfg(test)]
mod tests;
