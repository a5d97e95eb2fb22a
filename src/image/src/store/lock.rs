//! Locks that end with their process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, dup, unlinkat};

use super::Store;

/// A store in use: nothing of it is collected until this is dropped. Only who has one puts something into the store: what has no name yet would be
/// collected under his hands.
#[derive(Debug)]
pub struct Held<'a> {
    pub(super) store: &'a Store,
    pub(super) _lock: Lock,
}

impl std::ops::Deref for Held<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store
    }
}

/// A lock. Dropping it, and the end of the process, gives it back.
#[derive(Debug)]
pub struct Lock {
    file: Option<Flock<OwnedFd>>,
    dir: OwnedFd,
    name: String,
    exclusive: bool,
}

impl Lock {
    /// Waits for the lock `name` below `dir`.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub(super) fn take(dir: BorrowedFd<'_>, name: &str, exclusive: bool) -> Result<Self, Errno> {
        let how = if exclusive { FlockArg::LockExclusive } else { FlockArg::LockShared };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        loop {
            let fd = openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let file = loop {
                match Flock::lock(fd.try_clone().map_err(|_full| Errno::EMFILE)?, how) {
                    Ok(file) => break file,
                    Err((_, Errno::EINTR)) => {}
                    Err((_, errno)) => return Err(errno),
                }
            };
            // Who held it may have removed it: then somebody else may hold one of the same name.
            let (ours, theirs) = (fstat(&fd)?, fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW));
            if theirs
                .is_ok_and(|theirs| (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
            {
                return Ok(Self {
                    file: Some(file),
                    dir: dup(dir)?,
                    name: name.to_owned(),
                    exclusive,
                });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held: who waits for it sees that and begins anew.
        if self.exclusive {
            let _gone = unlinkat(self.dir.as_fd(), self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        drop(self.file.take());
    }
}
