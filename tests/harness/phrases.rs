//! The words of error messages that callers match on (contract: runc's words), in one table.
//! Where crun has always used other words, they stand beside.

use super::Kind;

/// One phrase.
#[derive(Debug)]
pub struct Phrase {
    common: &'static str,
    crun: Option<&'static str>,
    runc: Option<&'static str>,
}

impl Phrase {
    const fn new(common: &'static str) -> Self {
        Self { common, crun: None, runc: None }
    }

    const fn crun(mut self, words: &'static str) -> Self {
        self.crun = Some(words);
        self
    }

    /// Words of runc 1.1, where 1.5 has changed them.
    const fn runc(mut self, words: &'static str) -> Self {
        self.runc = Some(words);
        self
    }

    /// The words of this runtime.
    pub fn of(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Skep => self.common,
            Kind::Runc => self.runc.unwrap_or(self.common),
            Kind::Crun => self.crun.unwrap_or(self.common),
        }
    }
}

/// containerd: "does not exist"; Podman's tests.
pub const NO_SUCH_CONTAINER: Phrase =
    Phrase::new("does not exist").crun("No such file or directory");
pub const ID_IN_USE: Phrase =
    Phrase::new("container with given ID already exists").crun("already exists");
pub const ID_INVALID: Phrase = Phrase::new("invalid container ID format").crun("invalid");
pub const ID_EMPTY: Phrase = Phrase::new("container id cannot be empty").crun("ID");
/// CRI-O, containerd.
pub const NOT_RUNNING: Phrase = Phrase::new("container not running").crun("process");
pub const NOT_PAUSED: Phrase = Phrase::new("container not paused").crun("paused");
pub const START_TWICE: Phrase =
    Phrase::new("cannot start an already running container").crun("exec.fifo");
pub const START_STOPPED: Phrase =
    Phrase::new("cannot start a container that has stopped").crun("is not running");
pub const EXEC_STOPPED: Phrase =
    Phrase::new("cannot exec in a stopped container").crun("not running");
pub const EXEC_PAUSED: Phrase =
    Phrase::new("cannot exec in a paused container (use --ignore-paused to override)")
        .runc("cannot exec in a paused container")
        .crun("paused");
pub const DELETE_RUNNING: Phrase =
    Phrase::new("that is not stopped: running").crun("is not in `created` or `stopped`");
/// moby, Podman: exit status 127.
pub const NOT_IN_PATH: Phrase =
    Phrase::new("executable file not found in $PATH").crun("not found in $PATH");
pub const NO_SUCH_FILE: Phrase =
    Phrase::new("no such file or directory").crun("No such file or directory");
/// moby, Podman: exit status 126.
pub const PERMISSION_DENIED: Phrase = Phrase::new("permission denied").crun("Permission denied");
pub const EXEC_FORMAT: Phrase = Phrase::new("exec format error").crun("Exec format error");
/// moby: exit status 127.
pub const NOT_A_DIRECTORY: Phrase = Phrase::new("not a directory").crun("ot a directory");
pub const NEEDS_CONSOLE_SOCKET: Phrase =
    Phrase::new("cannot allocate tty if runc will detach without setting console socket")
        .crun("console socket");
pub const NEEDLESS_CONSOLE_SOCKET: Phrase =
    Phrase::new("cannot use console socket if runc will not detach or allocate tty")
        .crun("console");
pub const CGROUP_NOT_EMPTY: Phrase = Phrase::new("container's cgroup is not empty");
pub const CGROUP_FROZEN: Phrase = Phrase::new("container's cgroup unexpectedly frozen");
pub const CREATE_FAILED: Phrase = Phrase::new("unable to start container process").crun("");
pub const EXEC_FAILED: Phrase =
    Phrase::new("exec failed: unable to start container process").crun("");
pub const FLAG_NEEDS_ARGUMENT: Phrase =
    Phrase::new("flag needs an argument").crun("requires an argument");
pub const SPEC_EXISTS: Phrase =
    Phrase::new("File config.json exists. Remove it first").crun("exists");
