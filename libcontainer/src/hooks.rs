//! Lifecycle hooks (config.md "POSIX-platform Hooks"): the state on standard input, a deadline, bounded output.

mod state;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{pipe2, read, write};

pub use self::state::StateTemplate;
use crate::error::{Context, Error, Kind, Result, errno_text, io_errno};
use crate::spec::{Hook, Hooks};
use crate::sys::spawn::signal::PipeIgnored;
use crate::sys::spawn::{Child, ExitStatus, Program, SpawnError, Stage, spawn};

/// The longest path there is, in bytes, and a NUL.
const PATH_MAX: usize = 4096;

/// How much of the end of each output stream an error carries, in bytes.
const OUTPUT_KEPT: usize = 4096;

/// The points of the lifecycle at which hooks run (runtime.md "Lifecycle").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `prestart`: deprecated, runs like [`Phase::CreateRuntime`] and before it.
    Prestart,
    /// `createRuntime`: in the runtime's namespaces, before pivot_root.
    CreateRuntime,
    /// `createContainer`: in the container's namespaces, before pivot_root.
    CreateContainer,
    /// `startContainer`: in the container, right before the process.
    StartContainer,
    /// `poststart`: in the runtime's namespaces, once the process runs.
    Poststart,
    /// `poststop`: in the runtime's namespaces, after the container is deleted.
    Poststop,
}

impl Phase {
    /// The name of the phase in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// Where the hooks of a phase run and what becomes of their output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Working directory; the caller's if absent.
    pub cwd: Option<BorrowedFd<'a>>,
    /// Standard output; kept for the error message if absent.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error; kept for the error message if absent.
    pub stderr: Option<BorrowedFd<'a>>,
    /// The environment of a hook that has none of its own: none if absent.
    pub env: Option<&'a [CString]>,
    /// Whether the hooks after one that fails run, as those of `poststop` always do.
    pub all: bool,
}

/// Whether a failure of `poststart` is only a warning, as it is in version 1.0 and 1.1 of the specification; since 1.2 it
/// stops the container (runtime.md "Lifecycle", step 9).
pub fn poststart_only_warns(version: Option<&str>) -> bool {
    version.is_some_and(|version| version.starts_with("1.0.") || version.starts_with("1.1."))
}

/// Opens a file for the output of hooks (annotations `run.oci.hooks.stdout` and `run.oci.hooks.stderr`).
///
/// # Errors
/// Those of open(2).
pub fn open_output(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    open(path, flags, Mode::S_IRWXU).on("open the output file of hooks", path)
}

/// Refuses hooks that cannot be run; before anything of the container exists.
///
/// # Errors
/// [`Kind::Config`], naming the field.
pub fn check_all(hooks: &Hooks<'_>) -> Result<()> {
    check(Phase::Prestart, &hooks.prestart)?;
    check(Phase::CreateRuntime, &hooks.create_runtime)?;
    check(Phase::CreateContainer, &hooks.create_container)?;
    check(Phase::StartContainer, &hooks.start_container)?;
    check(Phase::Poststart, &hooks.poststart)?;
    check(Phase::Poststop, &hooks.poststop)
}

/// Refuses hooks of one phase that cannot be run.
///
/// # Errors
/// [`Kind::Config`], naming the field.
pub fn check(phase: Phase, hooks: &[Hook<'_>]) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        let refuse = |what: &str, field: &str| {
            Err(Error::config(what).field(format!("hooks.{}[{index}].{field}", phase.name())))
        };
        if !hook.path.starts_with('/') {
            return refuse(
                &format!("the path {:?} of a hook is not absolute", &*hook.path),
                "path",
            );
        }
        if hook.path.contains('\0') {
            return refuse("the path of a hook holds a NUL", "path");
        }
        if hook.path.len() >= PATH_MAX {
            return refuse(
                &format!("the path of a hook is longer than {} bytes", PATH_MAX - 1),
                "path",
            );
        }
        if hook.args.iter().any(|text| text.contains('\0')) {
            return refuse("an argument of a hook holds a NUL", "args");
        }
        if hook.env.iter().any(|text| text.contains('\0')) {
            return refuse("the environment of a hook holds a NUL", "env");
        }
        if let Some(timeout @ ..=0) = hook.timeout {
            return refuse(
                &format!("the timeout of a hook must be greater than zero, not {timeout}"),
                "timeout",
            );
        }
    }
    Ok(())
}

/// Runs the hooks of `phase` in order, each with `state` on its standard input, and stops at the first that fails; but
/// all of `poststop` run, whatever becomes of the others (config.md "Poststop").
///
/// # Errors
/// [`Kind::Hook`] in the words of runc, with the hook's last output.
pub fn run_hooks(
    phase: Phase,
    hooks: &[Hook<'_>],
    state: &[u8],
    options: &Options<'_>,
) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let _ignored = PipeIgnored::begin();
    let mut first = None;
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(Failure { cause, field }) = run_hook(hook, state, options) {
            let name = phase.name();
            let error =
                Error::new(Kind::Hook, format!("error running {name} hook #{index}: {cause}"))
                    .field(format!("hooks.{name}[{index}]{field}"))
                    .hint(format!("the hook is {:?}", &*hook.path));
            if phase != Phase::Poststop && !options.all {
                return Err(error);
            }
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Why a hook failed: the sentence after its number, and which of its properties it lies with.
struct Failure {
    cause: String,
    field: &'static str,
}

/// Runs one hook to its end.
fn run_hook(hook: &Hook<'_>, state: &[u8], options: &Options<'_>) -> Result<(), Failure> {
    let failure = |field, cause| Failure { cause, field };
    let Ended { status, stdout, stderr } =
        attended(hook, state, options).map_err(|cause| failure(".path", cause))?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failure("", format!("{status}, stdout: {stdout}, stderr: {stderr}"))),
        None => {
            let seconds = hook.timeout.unwrap_or(0);
            let cause = format!(
                "hook ran past specified timeout of {seconds}.0s, stdout: {stdout}, stderr: {stderr}"
            );
            Err(failure(".timeout", cause))
        }
    }
}

/// What became of a program.
#[derive(Debug)]
pub struct Ended {
    /// How it ended; `None` if it was killed for being late.
    pub status: Option<ExitStatus>,
    /// The end of what it wrote to a standard output that went nowhere else.
    pub stdout: String,
    /// The same of its standard error.
    pub stderr: String,
}

/// Runs a program as a hook is run, and says what became of it.
///
/// # Errors
/// A sentence that says why it could not be started or waited for.
pub fn attended(program: &Hook<'_>, input: &[u8], options: &Options<'_>) -> Result<Ended, String> {
    let broken = |what: &str| {
        let what = what.to_owned();
        move |errno| format!("{what}: {}", errno_text(errno))
    };
    let (stdin, mut input) = input_pipe(input).map_err(broken("make its standard input"))?;
    let (stdout, mut output) =
        output_pipe(options.stdout).map_err(broken("make its standard output"))?;
    let (stderr, mut errors) =
        output_pipe(options.stderr).map_err(broken("make its standard error"))?;
    let deadline = program.timeout.and_then(|seconds| {
        Instant::now().checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    });
    let child = start(program, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], options)?;
    drop((stdin, stdout, stderr));
    let status = attend(&child, deadline, &mut input, [&mut output, &mut errors])
        .map_err(broken("wait for it"))?;
    Ok(Ended { status, stdout: output.text(), stderr: errors.text() })
}

/// Starts the program of `hook` with exactly its arguments and environment.
fn start(
    hook: &Hook<'_>,
    [stdin, stdout, stderr]: [BorrowedFd<'_>; 3],
    options: &Options<'_>,
) -> Result<Child, String> {
    let text = |text: &str| CString::new(text).map_err(|_nul| format!("{text:?} holds a NUL"));
    let path = text(&hook.path)?;
    let args = hook.args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>, _>>()?;
    let env = hook.env.iter().map(|pair| text(pair)).collect::<Result<Vec<_>, _>>()?;
    let mut argv: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    if argv.is_empty() {
        argv.push(&path);
    }
    let env = if env.is_empty() { options.env.unwrap_or_default() } else { &env };
    let envp: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    let cwd = options.cwd;
    let program = Program { path: &path, argv: &argv, envp: &envp, stdin, stdout, stderr, cwd };
    spawn(&program).map_err(|SpawnError { stage, errno }| {
        let reason = errno_text(errno);
        match stage {
            Stage::Clone | Stage::Exec => format!("fork/exec {}: {reason}", &*hook.path),
            Stage::Descriptors => format!("set up its standard streams: {reason}"),
            Stage::Cwd => format!("chdir: {reason}"),
        }
    })
}

/// Feeds and drains `child` until it ends or the deadline passes; `None` means it was killed for being late.
///
/// The end is the child's, not that of its streams: a daemon it left behind may hold those for ever.
fn attend(
    child: &Child,
    deadline: Option<Instant>,
    input: &mut Input<'_>,
    mut outputs: [&mut Output; 2],
) -> nix::Result<Option<ExitStatus>> {
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    child.kill_group();
                    child.wait()?;
                    outputs.iter_mut().try_for_each(|output| output.drain())?;
                    return Ok(None);
                }
                // Rounded up, or the last millisecond would be spent in a loop.
                let millis = left.as_micros().div_ceil(1000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut polled = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        if let Some(pipe) = &input.pipe {
            polled.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        }
        for output in &outputs {
            if let Some(pipe) = &output.pipe {
                polled.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        // The end is looked for first: what it wrote before that is in the pipes by now.
        let status = child.try_wait()?;
        input.feed()?;
        outputs.iter_mut().try_for_each(|output| output.drain())?;
        if status.is_some() {
            return Ok(status);
        }
    }
}

/// What is still to be written to a hook's standard input.
struct Input<'a> {
    pipe: Option<OwnedFd>,
    rest: &'a [u8],
}

impl Input<'_> {
    /// Writes what fits, and closes the pipe when all is written or nobody reads.
    fn feed(&mut self) -> nix::Result<()> {
        while let Some(pipe) = &self.pipe {
            if self.rest.is_empty() {
                self.pipe = None;
                break;
            }
            match write(pipe, self.rest) {
                Ok(written) => self.rest = self.rest.get(written..).unwrap_or_default(),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // A hook need not read its state.
                Err(Errno::EPIPE) => self.pipe = None,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// A pipe that holds as much of `state` as fits: mostly all of it, before the hook exists.
fn input_pipe(state: &[u8]) -> nix::Result<(OwnedFd, Input<'_>)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut input = Input { pipe: Some(writer), rest: state };
    input.feed()?;
    Ok((reader, input))
}

/// The end of what a hook has written to one stream.
struct Output {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Output {
    /// Reads what is there, at most a pipe's capacity, so that an endless writer cannot hold us.
    fn drain(&mut self) -> nix::Result<()> {
        let mut chunk = [0_u8; 8192];
        for _ in 0..8 {
            let Some(pipe) = &self.pipe else { break };
            match read(pipe, &mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(len) => {
                    self.kept.extend_from_slice(chunk.get(..len).unwrap_or_default());
                    let surplus = self.kept.len().saturating_sub(OUTPUT_KEPT);
                    self.kept.drain(..surplus);
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// What was kept, without the final newline.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).trim_end_matches('\n').to_owned()
    }
}

/// The descriptor a hook writes to, and what becomes of it here: `file`, or a pipe of ours.
fn output_pipe(file: Option<BorrowedFd<'_>>) -> nix::Result<(OwnedFd, Output)> {
    if let Some(file) = file {
        let file = file.try_clone_to_owned().map_err(|error| io_errno(&error))?;
        return Ok((file, Output { pipe: None, kept: Vec::new() }));
    }
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((writer, Output { pipe: Some(reader), kept: Vec::new() }))
}

#[cfg(test)]
mod tests;
