//! What went wrong, and the exit code that says so.

use std::fmt;
use std::io;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a failure. The number is the exit code of the program: scripts tell causes apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Anything without a code of its own.
    Generic = 1,
    /// The command line, or a value in it, means nothing.
    Usage = 2,
    /// The image, the tag, the blob or the file is not there.
    NotFound = 3,
    /// The registry wants other credentials.
    Auth = 4,
    /// Content is not what its digest, its size or the specification says.
    Verification = 5,
    /// An image of a kind that is refused: schema 1, encrypted, another operating system, an artifact.
    Unsupported = 6,
    /// The network failed, and went on failing.
    Network = 7,
    /// The disk is full, or the image is larger than the limits allow.
    NoSpace = 8,
}

impl Kind {
    /// The exit code of the program.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// A failure: its cause, a sentence, and what the system or another crate said.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure that this crate found itself.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// [`Kind::Usage`].
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// [`Kind::NotFound`].
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Verification`].
    #[must_use]
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(Kind::Verification, message)
    }

    /// [`Kind::Unsupported`].
    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// [`Kind::NoSpace`]: a full disk or a limit.
    #[must_use]
    pub fn no_space(message: impl Into<String>) -> Self {
        Self::new(Kind::NoSpace, message)
    }

    /// A system call or a stream failed: `what` says the operation and on what, without the reason.
    ///
    /// An [`Error`] that travelled through a stream (see [`From<Error> for io::Error`](#impl-From<Error>-for-Error))
    /// comes out as it went in: who was reading has nothing to add to what the other end found.
    #[must_use]
    pub fn io(what: impl fmt::Display, error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(inner) => return inner,
            Err(error) => error,
        };
        let kind = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Kind::NoSpace,
            Some(libc::ENOENT) => Kind::NotFound,
            _ if error.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Generic,
        };
        let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
        let failure = Self { kind, message: what.to_string(), source: Some(Box::new(error)) };
        if full { failure.hint("make room there, or choose another place") } else { failure }
    }

    /// As [`io`](Self::io), for what nix gives.
    #[must_use]
    pub fn sys(what: impl fmt::Display, errno: nix::errno::Errno) -> Self {
        Self::io(what, io::Error::from(errno))
    }

    /// The same failure with `source` as what it comes from.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure of another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same failure, with what was being done put before it: `"what: message"`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same failure, with what to do put after it.
    #[must_use]
    pub fn hint(mut self, what: impl fmt::Display) -> Self {
        self.message = match self.source.take() {
            // The hint belongs after the reason, so the reason becomes text.
            Some(source) => format!("{}: {source} ({what})", self.message),
            None => format!("{} ({what})", self.message),
        };
        self
    }

    /// The cause.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// To send a failure through [`io::Read`]; [`Error::io`] takes it out again.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// What a result is told with [`Error::context`].
pub trait Context<T> {
    /// Puts what was being done before the failure.
    ///
    /// # Errors
    /// The failure of `self`.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.context(what()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::io(what(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_travels_through_a_stream() {
        let through: io::Error = Error::verification("it is not what it says").into();
        let out = Error::io("cannot read the blob", through);
        assert_eq!(out.kind(), Kind::Verification);
        assert_eq!(out.to_string(), "it is not what it says");
    }

    #[test]
    fn the_errno_decides_the_kind() {
        let full = Error::io("cannot write x", io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(full.kind().exit_code(), 8);
        assert!(full.to_string().starts_with("cannot write x: No space left"));
        let absent = Error::sys("cannot open x", nix::errno::Errno::ENOENT);
        assert_eq!(absent.kind(), Kind::NotFound);
    }

    #[test]
    fn a_hint_comes_last() {
        let error = Error::sys("cannot open x", nix::errno::Errno::EACCES).hint("ask root");
        assert!(error.to_string().ends_with("(ask root)"), "{error}");
        assert!(error.to_string().starts_with("cannot open x: "), "{error}");
    }
}
