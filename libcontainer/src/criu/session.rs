//! One `criu swrk`: found, started, talked to.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::{self, Kind, Response};
use super::wire::Message;
use super::{Options, Places, failure};
use crate::error::{Context, Error, Result};
use crate::sys::spawn::{Child, Program, Stage, spawn_with};
use crate::sys::{fd, process, socket};

/// The oldest that is talked to: it came out with the oldest kernel that is supported, and knows all that is asked.
const OLDEST: [u64; 3] = [3, 16, 0];
/// How long CRIU may take to say what it is and can do. What it does takes as long as it takes.
const ANSWER: Duration = Duration::from_secs(10);
/// Larger than any message of CRIU's by far.
const MESSAGE: usize = 64 << 10;
/// The number of CRIU's end of the socket; what else it inherits comes after it.
const SOCKET: &CStr = c"3";
/// The number of the first descriptor that [`Session::start`] is given.
pub(crate) const FIRST_INHERITED: i32 = 4;

/// Where programs of the host's are looked for without `$PATH`, and what CRIU finds its own with.
const DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ENVIRONMENT: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A CRIU that waits for requests.
#[derive(Debug)]
pub struct Session {
    child: Child,
    socket: Option<OwnedFd>,
    stderr: OwnedFd,
    /// Whether it was asked for more than what it is.
    at_work: bool,
}

impl Session {
    /// Starts CRIU with `inherited` as descriptors from [`FIRST_INHERITED`] on, and asks for its version.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] if there is none, or one that is too old.
    pub(crate) fn start(options: &Options, inherited: &[BorrowedFd<'_>]) -> Result<Self> {
        let path = find(&options.program, &options.search)?;
        let shown = Path::new(OsStr::from_bytes(path.to_bytes())).to_owned();
        let (ours, theirs) = socket::seqpacket_pair().doing("socketpair")?;
        let null = fd::openat(fd::CWD, c"/dev/null", libc::O_RDWR, 0).on("open", "/dev/null")?;
        let stderr = fd::memfd(c"criu-stderr").doing("memfd_create")?;
        let mut all = vec![theirs.as_fd()];
        all.extend_from_slice(inherited);
        let program = Program {
            path: &path,
            argv: &[c"criu", c"swrk", SOCKET],
            envp: &[ENVIRONMENT],
            stdin: null.as_fd(),
            stdout: null.as_fd(),
            stderr: stderr.as_fd(),
            cwd: None,
        };
        let child = spawn_with(&program, &all).map_err(|error| match error.stage {
            Stage::Exec => Error::os("execute CRIU", error.errno).path(&shown),
            _ => Error::os("start CRIU", error.errno),
        })?;
        drop(theirs);
        let mut session = Self { child, socket: Some(ours), stderr, at_work: false };
        session.check_version(&shown)?;
        Ok(session)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        self.child.pid
    }

    fn check_version(&mut self, path: &Path) -> Result<()> {
        let request = message::request(Kind::Version, None, true);
        let [major, minor, sub] = self.ask(Kind::Version, &request)?.version;
        if [major, minor, sub] < OLDEST {
            let [oldest, older, _] = OLDEST;
            return Err(Error::unsupported(format!("CRIU {major}.{minor}.{sub} is too old"))
                .path(path)
                .hint(format!("install {oldest}.{older} or newer")));
        }
        Ok(())
    }

    /// What this CRIU can do on this kernel.
    pub(crate) fn features(&mut self) -> Result<Response> {
        self.ask(Kind::FeatureCheck, &message::feature_request())
    }

    fn ask(&mut self, kind: Kind, request: &Message) -> Result<Response> {
        let deadline = Instant::now() + ANSWER;
        self.talk(kind, request, None, Some(deadline), &mut |_, _| Ok(()))
    }

    /// Makes a request and waits until it is served. `notified` hears where CRIU has come to, and gets the descriptor that
    /// came with it; if it fails, so does the request, and CRIU takes back what it has done.
    ///
    /// # Errors
    /// That of `notified`; what CRIU says, with the errors of its log, which is in `places`.
    pub(crate) fn request(
        &mut self,
        kind: Kind,
        request: &Message,
        places: Option<&Places>,
        notified: &mut dyn FnMut(&Response, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Response> {
        self.at_work = true;
        self.talk(kind, request, places, None, notified)
    }

    fn talk(
        &mut self,
        kind: Kind,
        request: &Message,
        places: Option<&Places>,
        deadline: Option<Instant>,
        notified: &mut dyn FnMut(&Response, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Response> {
        let mut refused = None;
        let mut buffer = vec![0; MESSAGE];
        self.send(request)?;
        loop {
            if let Some(deadline) = deadline {
                self.wait_until(deadline, kind)?;
            }
            let (length, fd) = self.receive(&mut buffer)?;
            if length == 0 {
                self.end();
                return Err(
                    refused.unwrap_or_else(|| failure::explain(kind, None, places, &self.stderr))
                );
            }
            let response = Response::parse(buffer.get(..length).unwrap_or_default())?;
            if response.kind == Some(Kind::Notify) && response.success {
                let heard = notified(&response, fd);
                let go = heard.is_ok();
                refused = refused.or(heard.err());
                self.send(&message::acknowledgement(go))?;
                continue;
            }
            if let Some(error) = refused {
                return Err(error);
            }
            if response.success && response.kind == Some(kind) {
                return Ok(response);
            }
            return Err(failure::explain(kind, Some(&response), places, &self.stderr));
        }
    }

    fn send(&self, message: &Message) -> Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        match nix::unistd::write(socket, message.bytes()) {
            // It has ended: what is read next says so.
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(Errno::EMSGSIZE) => Err(Error::unsupported(
                "the container has more external mounts than a message to CRIU can name",
            )),
            other => other.map(drop).doing("send a request to CRIU"),
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
        let Some(socket) = &self.socket else { return Ok((0, None)) };
        match socket::recv_fd(socket.as_fd(), buffer) {
            Err(Errno::ECONNRESET) => Ok((0, None)),
            other => other.doing("read from CRIU"),
        }
    }

    /// Waits until there is something to be received.
    fn wait_until(&self, deadline: Instant, kind: Kind) -> Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) => {
                    let (kind, seconds) = (kind.name(), ANSWER.as_secs());
                    let what = format!("CRIU has not answered {kind} for {seconds} seconds");
                    return Err(Error::unsupported(what).hint("is it CRIU that --criu names?"));
                }
                other => return other.map(drop).doing("wait for CRIU"),
            }
        }
    }

    /// Lets CRIU go and waits until it has. One at work is never killed, which would leave stopped processes with its code
    /// in them; one that was only asked what it is may hang, and has nothing to lose.
    fn end(&mut self) {
        if self.socket.take().is_some() {
            if !self.at_work {
                self.child.kill_group();
            }
            let _reaped = self.child.wait();
        }
    }

    /// The same, for one that has to end well.
    ///
    /// # Errors
    /// How it ended.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.socket = None;
        let status = self.child.wait().doing("wait for CRIU")?;
        if status.success() {
            return Ok(());
        }
        Err(Error::new(crate::Kind::Os, format!("criu failed: {status}")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// The program: `name` itself if it is a path, or what `search` has of that name. Only absolute directories count.
fn find(name: &OsStr, search: &OsStr) -> Result<CString> {
    let absent = |what: String| {
        Error::unsupported(what).hint("install CRIU (https://criu.org), or name it with --criu")
    };
    if name.as_bytes().contains(&b'/') {
        let path = CString::new(name.as_bytes())
            .map_err(|_nul| Error::config("a path with NUL").path(name))?;
        return match process::access(&path, libc::X_OK) {
            Ok(()) => Ok(path),
            Err(errno) => Err(Error::os("execute CRIU", errno).path(name)),
        };
    }
    let usual = OsStr::new(DIRECTORIES);
    let search = if search.is_empty() { usual } else { search };
    let directories = std::env::split_paths(search).filter(|directory| directory.is_absolute());
    for directory in directories {
        let Ok(path) = CString::new(directory.join(name).as_os_str().as_bytes()) else { continue };
        let is_file = std::fs::metadata(directory.join(name)).is_ok_and(|file| file.is_file());
        if is_file && process::access(&path, libc::X_OK).is_ok() {
            return Ok(path);
        }
    }
    let name = name.display();
    Err(absent(format!(
        "cannot find {name:?} in {search:?}, and without CRIU there is no checkpoint"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_are_searched() {
        assert_eq!(find(OsStr::new("sh"), OsStr::new("")).unwrap().to_bytes().last(), Some(&b'h'));
        assert!(find(OsStr::new("sh"), OsStr::new("bin:.:usr/bin")).is_err());
        let error = find(OsStr::new("no-such-criu"), OsStr::new("/bin")).unwrap_err().to_string();
        assert!(error.contains("no-such-criu") && error.contains("install CRIU"), "{error}");
        assert!(find(OsStr::new("/no/such"), OsStr::new("/bin")).is_err());
        // A directory is no program, though it may be entered.
        assert!(find(OsStr::new("bin"), OsStr::new("/usr")).is_err());
    }
}
