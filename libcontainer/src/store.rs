//! What is kept of a container on disk: `<root>/<id>/`, one directory a container.
//!
//! `state.json` holds facts (pid, start time, cgroup), never a status: that is derived whenever somebody asks. It is replaced by
//! rename(2), so a reader needs no lock. `config.json` is the configuration as it was at `create`: later edits of the bundle
//! change nothing.

mod damaged;
mod place;

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use serde::{Deserialize, Serialize};

pub use damaged::{find_cgroup, find_init, find_resctrl};
pub use place::check_private;

use crate::cgroup;
use crate::error::{Context, Error, Kind, Result, io_errno};
use crate::id::ContainerId;
use crate::resctrl;
use crate::spec::{Map, MemoryPolicy, Personality, Str};
use crate::sys::fd;

const STATE: &str = "state.json";
const STATE_NEW: &str = ".state.json.new";
/// The configuration, as `create` read it.
pub const CONFIG: &str = "config.json";
/// The compiled seccomp program, for `exec`.
pub const SECCOMP: &str = "seccomp.bpf";
/// What `start` writes to.
pub const FIFO: &str = "exec.fifo";
/// Where the init of an earlier version says why it could not start.
pub const FAULT: &str = "start.fault";

/// How long one command waits for another.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
/// The newest layout of [`Record`] this version writes; fields are only ever added.
const VERSION: u32 = 1;
/// Larger than any record by far.
const MAX_STATE: u64 = 16 << 20;

/// The facts about a container.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<'a> {
    /// Layout of this record.
    pub version: u32,
    /// Version of the specification the container was made by.
    #[serde(borrow)]
    pub oci_version: Str<'a>,
    /// Id.
    #[serde(borrow)]
    pub id: Str<'a>,
    /// Pid of init, as the runtime sees it.
    #[serde(rename = "init_process_pid")]
    pub pid: i32,
    /// When init started, in clock ticks after boot.
    #[serde(rename = "init_process_start")]
    pub start_time: u64,
    /// Its cgroups: before all that its owner chooses, so that a record which is cut short has it.
    pub cgroup: cgroup::Record,
    /// Absolute path of the bundle.
    #[serde(borrow)]
    pub bundle: Str<'a>,
    /// Absolute path of the root filesystem.
    #[serde(borrow)]
    pub rootfs: Str<'a>,
    /// When, as RFC 3339 has it.
    #[serde(borrow)]
    pub created: Str<'a>,
    /// User who created it.
    pub owner: u32,
    /// `annotations`.
    #[serde(borrow, default)]
    pub annotations: Map<'a, Str<'a>>,
    /// `CLONE_NEW*` of the namespaces that are not the runtime's own.
    pub namespaces: i32,
    /// Those of them that were made for the container, not joined.
    #[serde(default)]
    pub made: Option<i32>,
    /// Whether it has a seccomp filter; `None` in a record of a version that did not say.
    #[serde(default)]
    pub filtered: Option<bool>,
    /// Whether it has a session keyring of its own.
    #[serde(default = "yes")]
    pub keyring: bool,
    /// `linux.memoryPolicy`, which `exec` applies as well.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy<'a>>,
    /// `linux.personality`, which `exec` applies as well.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality<'a>>,
    /// Whether the configuration has no process, so that there is nothing to start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_process: bool,
    /// Whether the filter may kill who executes the program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub execve_denied: bool,
    /// Whether `create` is still at it (a hook may ask).
    #[serde(default)]
    pub creating: bool,
    /// Whether it has hooks that `start` or `delete` run.
    #[serde(default)]
    pub hooks: bool,
    /// Its class of service and monitoring group, if it has one (`linux.intelRdt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<resctrl::Record>,
}

fn yes() -> bool {
    true
}

impl Record<'_> {
    /// Whether the container's processes end with its init, because the pid namespace is its own.
    pub fn has_own_pids(&self) -> bool {
        self.made_namespaces() & libc::CLONE_NEWPID != 0
    }

    /// `CLONE_NEW*` of the namespaces that were made for the container.
    pub fn made_namespaces(&self) -> i32 {
        self.made.unwrap_or(self.namespaces)
    }

    /// The layout written by this version.
    pub const VERSION: u32 = VERSION;
}

/// The directory of all containers.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn open_root(&self) -> Result<OwnedFd, Errno> {
        let path = CString::new(self.root.as_os_str().as_bytes()).map_err(|_nul| Errno::EINVAL)?;
        fd::openat(fd::CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0)
    }

    /// Claims `id`: the directory is the lock, so of two creators one wins.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`] if the id is taken.
    pub fn reserve(&self, id: &ContainerId) -> Result<StateDir> {
        loop {
            match self.claim(id) {
                // `delete --force` came between the making of the directory and its lock: it was first, then.
                Err(error) if error.kind() == Kind::NotFound => {}
                other => return other,
            }
        }
    }

    fn claim(&self, id: &ContainerId) -> Result<StateDir> {
        let root = match self.open_root() {
            Err(Errno::ENOENT) => {
                make_directories(&self.root)?;
                self.open_root()
            }
            other => other,
        }
        .on("open the state directory", &self.root)?;
        match mkdirat(&root, id.as_str(), Mode::S_IRWXU) {
            Err(Errno::EEXIST) => {
                return Err(Error::lifecycle("container with given ID already exists")
                    .path(self.root.join(id.as_str()))
                    .hint("choose another id, or delete that container"));
            }
            other => other.on("mkdir", self.root.join(id.as_str()))?,
        }
        let state = StateDir::open(root, id, &self.root).inspect_err(|_| {
            // Too many open files, say: nothing is in it yet.
            let _gone = std::fs::remove_dir(self.root.join(id.as_str()));
        })?;
        // Until it is committed or this process is gone, `delete` and `start` wait.
        state.lock()?;
        Ok(state)
    }

    /// Opens the directory of `id`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] with runc's words if there is none.
    pub fn open(&self, id: &ContainerId) -> Result<StateDir> {
        match self.open_root() {
            Err(Errno::ENOENT) => Err(not_found()),
            other => {
                let root = other.on("open the state directory", &self.root)?;
                StateDir::open(root, id, &self.root)
            }
        }
    }

    /// The ids in the store, sorted. A store that does not exist has none.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if io_errno(&error) == Errno::ENOENT => return Ok(Vec::new()),
            other => other.on("read the state directory", &self.root)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.on("read the state directory", &self.root)?;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| ContainerId::new(name).ok())
                && is_directory
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

/// Makes `path` and what is missing above it, for its owner only. The sticky bit asks whoever cleans up a session's
/// directory to leave it (XDG Base Directory Specification).
fn make_directories(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o1700);
    builder.create(path).on("mkdir", path).map_err(|error| match error.raw_errno() {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {
            error.hint("set $XDG_RUNTIME_DIR to a directory of this user's own, or use --root")
        }
        _ => error,
    })
}

/// The directory of one container.
#[derive(Debug)]
pub struct StateDir {
    root: OwnedFd,
    dir: OwnedFd,
    name: String,
    path: PathBuf,
}

impl StateDir {
    fn open(root: OwnedFd, id: &ContainerId, root_path: &Path) -> Result<Self> {
        let path = root_path.join(id.as_str());
        let name =
            CString::new(id.as_str()).map_err(|_nul| Error::config("container id contains NUL"))?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        match fd::openat(root.as_fd(), &name, flags, 0) {
            Err(Errno::ENOENT) => Err(not_found()),
            Err(Errno::ENAMETOOLONG) => Err(not_found()),
            other => {
                let dir = other.on("open", &path)?;
                Ok(Self { root, dir, name: id.as_str().to_owned(), path })
            }
        }
    }

    /// The open directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a whole file of the directory; `None` if it is not there.
    ///
    /// # Errors
    /// Those of open(2) and read(2); [`Kind::Internal`] for one that is far too large.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = || self.path.join(name);
        let file = CString::new(name).map_err(|_nul| Error::internal("a file name with NUL"))?;
        // Should it be a FIFO by mistake, nobody waits for it.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match fd::openat(self.fd(), &file, flags, 0) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.on("open", path())?,
        };
        fd::read_all(&file, MAX_STATE).on("read", path()).map(Some)
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// Those of open(2) and write(2), ENOSPC among them.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = || self.path.join(name);
        let file = CString::new(name).map_err(|_nul| Error::internal("a file name with NUL"))?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
        let file = fd::openat(self.fd(), &file, flags, 0o600).on("create", path())?;
        fd::write_all(&file, content).on("write", path())
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2); the old record is then still whole.
    pub fn save(&self, record: &Record<'_>) -> Result<()> {
        self.stage(record).and_then(|()| self.publish())
    }

    /// Writes what [`publish`](StateDir::publish) will make the record.
    ///
    /// # Errors
    /// Those of open(2) and write(2).
    pub fn stage(&self, record: &Record<'_>) -> Result<()> {
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::internal(format!("encode {STATE}: {error}")))?;
        self.write(STATE_NEW, &text).inspect_err(|_| self.unlink(STATE_NEW))
    }

    /// Replaces the record by what was staged.
    ///
    /// # Errors
    /// Those of rename(2); the old record is then still whole.
    pub fn publish(&self) -> Result<()> {
        nix::fcntl::renameat(&self.dir, STATE_NEW, &self.dir, STATE)
            .on("rename", self.path.join(STATE_NEW))
            .inspect_err(|_| self.unlink(STATE_NEW))
    }

    /// Writes the first record of a directory nobody else knows yet.
    ///
    /// # Errors
    /// Those of open(2) and write(2).
    pub fn save_first(&self, record: &Record<'_>) -> Result<()> {
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::internal(format!("encode {STATE}: {error}")))?;
        self.write(STATE, &text)
    }

    /// The bytes of the record, for [`parse`].
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no record.
    pub fn load(&self) -> Result<Vec<u8>> {
        self.read(STATE)?.ok_or_else(|| {
            not_found().path(&self.path).hint(
                "its state is incomplete: create is still running or was killed; delete --force removes it",
            )
        })
    }

    /// Makes the FIFO that `start` opens, and opens it for both ends.
    ///
    /// # Errors
    /// Those of mkfifoat(3) and open(2).
    pub fn make_fifo(&self) -> Result<OwnedFd> {
        let path = || self.path.join(FIFO);
        nix::sys::stat::mknodat(
            &self.dir,
            FIFO,
            nix::sys::stat::SFlag::S_IFIFO,
            Mode::S_IRUSR | Mode::S_IWUSR,
            0,
        )
        .on("mkfifo", path())?;
        fd::openat(self.fd(), c"exec.fifo", libc::O_RDWR | libc::O_NOFOLLOW, 0).on("open", path())
    }

    /// Whether the container was created with a notification socket.
    pub fn has_notify(&self) -> bool {
        fd::stat(self.fd(), c"notify").is_ok()
    }

    /// Opens the FIFO for writing; `None` if nobody waits at it.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open_fifo(&self) -> Result<Option<OwnedFd>> {
        let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW;
        match fd::openat(self.fd(), c"exec.fifo", flags, 0) {
            Err(Errno::ENOENT | Errno::ENXIO) => Ok(None),
            other => other.on("open", self.path.join(FIFO)).map(Some),
        }
    }

    /// Removes a file if it is there.
    pub fn unlink(&self, name: &str) {
        let _gone = nix::unistd::unlinkat(&self.dir, name, nix::unistd::UnlinkatFlags::NoRemoveDir);
    }

    /// Waits until no other command changes this container.
    ///
    /// # Errors
    /// [`Kind::Lifecycle`] when another one is at it for longer than ten seconds; [`Kind::NotFound`] if it has deleted the
    /// container; those of flock(2).
    pub fn lock(&self) -> Result<()> {
        use std::os::fd::AsRawFd;
        let deadline = std::time::Instant::now() + LOCK_WAIT;
        loop {
            match crate::sys::fd::try_flock(self.dir.as_raw_fd()) {
                Err(Errno::EWOULDBLOCK) if std::time::Instant::now() < deadline => {
                    // flock(2) has no time limit of its own.
                    let _waited = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(5_u8));
                }
                Err(Errno::EWOULDBLOCK) => {
                    return Err(Error::lifecycle("another command is at work on the container")
                        .path(&self.path)
                        .hint("it may wait for a hook: see its process"));
                }
                other => {
                    other.on("lock", &self.path)?;
                    break;
                }
            }
        }
        let links = fd::stat(self.fd(), c"").on("stat", &self.path)?.links;
        if links == 0 { Err(not_found()) } else { Ok(()) }
    }

    /// Whether a command is at work on this container.
    pub fn is_locked(&self) -> bool {
        use std::os::fd::AsRawFd;
        match crate::sys::fd::try_flock(self.dir.as_raw_fd()) {
            Ok(()) => {
                self.unlock();
                false
            }
            Err(_) => true,
        }
    }

    /// Lets other commands change this container again.
    pub fn unlock(&self) {
        use std::os::fd::AsRawFd;
        // It goes with the process in any case.
        let _unlocked = crate::sys::fd::funlock(self.dir.as_raw_fd());
    }

    /// Removes the directory and all in it.
    ///
    /// # Errors
    /// Those of unlinkat(2).
    pub fn remove(&self) -> Result<()> {
        // The usual files by name: no listing, and no descriptor, which a failing create may not have.
        for usual in [&[STATE, CONFIG, SECCOMP][..], &[FIFO, FAULT]] {
            for name in usual {
                self.unlink(name);
            }
            match self.rmdir() {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
                other => return other.on("rmdir", &self.path),
            }
        }
        remove_tree(self.fd(), 0).on("remove", &self.path)?;
        self.rmdir().on("rmdir", &self.path)
    }

    fn rmdir(&self) -> Result<(), Errno> {
        let directory = nix::unistd::UnlinkatFlags::RemoveDir;
        match nix::unistd::unlinkat(&self.root, self.name.as_str(), directory) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }
}

/// Empties a directory of ours. It is at most two deep; links in it are removed, not followed.
fn remove_tree(dir: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth > 8 {
        return Err(Errno::ELOOP);
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let own = fd::openat(dir, c".", flags, 0)?;
    let mut entries = nix::dir::Dir::from_fd(own)?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    for name in names {
        let file = nix::unistd::UnlinkatFlags::NoRemoveDir;
        match nix::unistd::unlinkat(dir, name.as_c_str(), file) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR | Errno::EPERM) => {
                let below = fd::openat(dir, &name, flags, 0)?;
                remove_tree(below.as_fd(), depth + 1)?;
                let directory = nix::unistd::UnlinkatFlags::RemoveDir;
                nix::unistd::unlinkat(dir, name.as_c_str(), directory)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads the record in `bytes`.
///
/// # Errors
/// [`Kind::Internal`] for one that is damaged or of a newer version.
pub fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<Record<'a>> {
    let damaged = |why: String| {
        Error::internal(why)
            .path(path.join(STATE))
            .hint("delete --force removes the container and what is left of it")
    };
    let record: Record<'a> = serde_json::from_slice(bytes)
        .map_err(|error| damaged(format!("the state file is damaged: {error}")))?;
    if record.version > VERSION {
        return Err(damaged(format!(
            "the state file was written by a newer skep (layout {}, this one knows {VERSION})",
            record.version
        )));
    }
    Ok(record)
}
