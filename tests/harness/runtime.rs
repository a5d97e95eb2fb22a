//! The runtime under test, and one call of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::output::Output;
use super::reaper::{self, Child, End};
use super::{sys, wait};

/// Whose words and habits to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Skep,
    Runc,
    Crun,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Skep => "skep",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// The binary under test.
pub struct Runtime {
    pub path: PathBuf,
    /// Where it was built or installed.
    pub original: PathBuf,
    pub kind: Kind,
    pub version: String,
}

impl Runtime {
    /// `$RUNTIME`, or the binary cargo has built beside these tests.
    pub fn find() -> Result<Self, String> {
        let path = match std::env::var_os("RUNTIME") {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(
                option_env!("CARGO_BIN_EXE_skep")
                    .ok_or("RUNTIME is not set, and no skep is built")?,
            ),
        };
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().unwrap_or_default().to_owned();
        let kind = match version.split(' ').next() {
            Some("runc") => Kind::Runc,
            Some("crun") => Kind::Crun,
            _ => Kind::Skep,
        };
        Ok(Self { original: path.clone(), path, kind, version })
    }

    /// Goes on with a copy in `store` where ordinary users cannot execute this one, as below root's home.
    pub fn make_reachable(&mut self, store: &Path) -> std::io::Result<()> {
        let path = fs::canonicalize(&self.path)?;
        let all = |path: &Path| fs::metadata(path).is_ok_and(|it| it.mode() & 0o001 != 0);
        if path.ancestors().all(all) {
            return Ok(());
        }
        let copy = store.join(path.file_name().unwrap_or("runtime".as_ref()));
        fs::copy(&path, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        self.path = copy;
        Ok(())
    }
}

enum Input {
    Null,
    Bytes(Vec<u8>),
    Fd(OwnedFd),
}

/// A call being prepared. The environment is empty but for PATH, as Podman leaves it.
pub struct Call<'t> {
    runtime: &'t Runtime,
    io: PathBuf,
    globals: Vec<String>,
    args: Vec<String>,
    command: Command,
    stdin: Input,
    streams: Option<(OwnedFd, OwnedFd)>,
    limit: Duration,
}

impl<'t> Call<'t> {
    /// Prepares a call whose streams go to files whose names begin with `io`.
    pub fn new(runtime: &'t Runtime, io: PathBuf, root: Option<&Path>, args: &[&str]) -> Self {
        let mut command = Command::new(&runtime.path);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let globals = match root {
            Some(root) => vec!["--root".to_owned(), root.display().to_string()],
            None => Vec::new(),
        };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let limit = Duration::from_secs(30);
        Self { runtime, io, globals, args, command, stdin: Input::Null, streams: None, limit }
    }

    /// Adds global options.
    pub fn global(mut self, args: &[&str]) -> Self {
        self.globals.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Input::Bytes(bytes.as_ref().to_vec());
        self
    }

    pub fn stdin_fd(mut self, fd: OwnedFd) -> Self {
        self.stdin = Input::Fd(fd);
        self
    }

    /// Uses these as standard output and error instead of files.
    pub fn streams(mut self, stdout: OwnedFd, stderr: OwnedFd) -> Self {
        self.streams = Some((stdout, stderr));
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn cwd(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Passes descriptors under the given numbers.
    pub fn fds(mut self, fds: Vec<(OwnedFd, i32)>) -> Self {
        sys::pass_fds(&mut self.command, fds);
        self
    }

    /// Anything else that is done to the child before it executes the runtime.
    pub fn with(mut self, prepare: impl FnOnce(&mut Command)) -> Self {
        prepare(&mut self.command);
        self
    }

    /// Runs the runtime by another program, as `setpriv OPTIONS… RUNTIME …`.
    pub fn by(mut self, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.runtime.path).env_clear();
        for (key, value) in self.command.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        self.command = command;
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs to the end.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the call and returns at once.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let stdout_path = self.io.with_extension("out");
        let stderr_path = self.io.with_extension("err");
        self.command.args(&self.globals).args(&self.args);
        match self.streams.take() {
            Some((stdout, stderr)) => self.command.stdout(stdout).stderr(stderr),
            None => self.command.stdout(create(&stdout_path)).stderr(create(&stderr_path)),
        };
        match self.stdin {
            // crun 1.8 gives its standard streams to the container's root, the host's /dev/null too.
            Input::Null if self.runtime.kind == Kind::Crun => {
                let path = self.io.with_extension("in");
                create(&path);
                self.command.stdin(File::open(&path).unwrap())
            }
            Input::Null => self.command.stdin(Stdio::null()),
            Input::Bytes(bytes) => {
                let path = self.io.with_extension("in");
                create(&path).write_all(&bytes).unwrap();
                self.command.stdin(File::open(&path).unwrap())
            }
            Input::Fd(fd) => self.command.stdin(fd),
        };
        let mut words = vec![self.runtime.path.display().to_string()];
        words.extend(self.globals);
        words.extend(self.args);
        let child =
            reaper::spawn(&mut self.command).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Running {
            child,
            waited: false,
            command: words.join(" "),
            kind: self.runtime.kind,
            deadline: Instant::now() + wait::stretched(self.limit),
            stdout_path,
            stderr_path,
        }
    }
}

fn create(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap()
}

/// A call under way. Dropped, it is killed.
pub struct Running {
    child: Child,
    waited: bool,
    command: String,
    kind: Kind,
    deadline: Instant,
    pub stdout_path: PathBuf,
    pub stderr_path: PathBuf,
}

impl Running {
    /// Sends a signal to the runtime's own process.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.pid), signal).unwrap();
    }

    /// Whether the process has not ended yet.
    pub fn is_running(&self) -> bool {
        !wait::readable(&self.child.pidfd, Duration::ZERO)
    }

    /// Waits for the end; past the limit the process is killed and has no status.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let end = self.child.wait(left);
        if end.is_none() {
            self.kill();
        }
        self.waited = true;
        let read =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let mut stderr = read(&self.stderr_path);
        if self.kind == Kind::Crun {
            // crun 1.8 says this on every call on a hybrid host.
            stderr = stderr.replace(
                "cgroups in hybrid mode not supported, drop all controllers from cgroupv2\n",
                "",
            );
        }
        Output {
            command: std::mem::take(&mut self.command),
            kind: self.kind,
            code: if let Some(End::Code(code)) = end { Some(code) } else { None },
            signal: if let Some(End::Signal(signal)) = end { Some(signal) } else { None },
            stdout: read(&self.stdout_path),
            stderr,
            stdout_path: self.stdout_path.clone(),
            stderr_path: self.stderr_path.clone(),
        }
    }

    fn kill(&self) {
        let _already_dead = kill(Pid::from_raw(self.child.pid), Signal::SIGKILL);
        self.child.wait(wait::patience());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited && self.is_running() {
            self.kill();
        }
    }
}
