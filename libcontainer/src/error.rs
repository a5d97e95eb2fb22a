//! The one error type of the crate: what was being done, to what, why it failed, what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// What a caller can do about an [`Error`]; the sentence itself is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `config.json`, an operand or a flag asks for something invalid.
    Config,
    /// The request is valid, but this kernel or host cannot do it.
    Unsupported,
    /// No container of that id.
    NotFound,
    /// The container is in the wrong state for the operation.
    Lifecycle,
    /// A system call failed.
    Os,
    /// A hook failed.
    Hook,
    /// execve(2) has refused the program, which was there.
    Exec,
    /// The runtime itself is wrong.
    Internal,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that failed: operation, path, `config.json` field, errno and hint.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    /// What the operation was part of, each part with a colon after it.
    context: String,
    operation: String,
    path: Option<PathBuf>,
    field: Option<String>,
    /// Whether the field comes after the errno.
    field_last: bool,
    errno: Option<Errno>,
    hint: Option<String>,
}

impl Error {
    /// Makes an error of `kind` that says `operation`.
    pub fn new(kind: Kind, operation: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: String::new(),
            operation: operation.into(),
            path: None,
            field: None,
            field_last: false,
            errno: None,
            hint: None,
        }))
    }

    /// Makes a [`Kind::Config`] error.
    pub fn config(operation: impl Into<String>) -> Self {
        Self::new(Kind::Config, operation)
    }

    /// Makes a [`Kind::Os`] error for a system call that returned `errno`.
    pub fn os(operation: impl Into<String>, errno: Errno) -> Self {
        Self::new(Kind::Os, operation).errno(errno)
    }

    /// Makes a [`Kind::Lifecycle`] error.
    pub fn lifecycle(operation: impl Into<String>) -> Self {
        Self::new(Kind::Lifecycle, operation)
    }

    /// Makes a [`Kind::Unsupported`] error.
    pub fn unsupported(operation: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, operation)
    }

    /// Makes a [`Kind::Internal`] error.
    pub fn internal(operation: impl Into<String>) -> Self {
        Self::new(Kind::Internal, operation)
    }

    /// Adds the path the operation was on.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_owned());
        self
    }

    /// Adds the `config.json` field that asked for the operation.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Adds the field after the errno: where callers look for the operation and the errno as one piece.
    #[must_use]
    pub fn field_last(mut self, field: impl Into<String>) -> Self {
        self.0.field_last = true;
        self.field(field)
    }

    /// Adds the errno of the failed system call.
    #[must_use]
    pub fn errno(mut self, errno: Errno) -> Self {
        self.0.errno = Some(errno);
        self
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts `prefix: ` before the sentence.
    #[must_use]
    pub fn context(mut self, prefix: &str) -> Self {
        self.0.context = format!("{prefix}: {}", self.0.context);
        self
    }

    /// The operation and the errno alone: neither what it was part of nor what to do.
    pub fn bare(&self) -> String {
        let errno = self.0.errno.map(|errno| format!(": {}", errno_text(errno)));
        format!("{}{}", self.0.operation, errno.unwrap_or_default())
    }

    /// Says what a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the errno of the failed system call, where there was one.
    pub fn raw_errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

/// The POSIX text of `errno` as engines match it: in lower case, without the number.
pub fn errno_text(errno: Errno) -> String {
    let text = match errno {
        // Where the crate's words are not strerror(3)'s.
        Errno::EAGAIN => "resource temporarily unavailable",
        Errno::ELOOP => "too many levels of symbolic links",
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::EBUSY => "device or resource busy",
        Errno::ENOMEM => "cannot allocate memory",
        Errno::EIO => "input/output error",
        Errno::EBADF => "bad file descriptor",
        Errno::EXDEV => "invalid cross-device link",
        Errno::ENFILE => "too many open files in system",
        Errno::ENOTTY => "inappropriate ioctl for device",
        Errno::EDOM => "numerical argument out of domain",
        Errno::ERANGE => "numerical result out of range",
        Errno::EDEADLK => "resource deadlock avoided",
        Errno::ENOLCK => "no locks available",
        Errno::EDQUOT => "disk quota exceeded",
        Errno::EBADMSG => "bad message",
        Errno::ENETRESET => "network dropped connection on reset",
        Errno::EILSEQ => "invalid or incomplete multibyte or wide character",
        other => other.desc(),
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.0;
        f.write_str(&e.context)?;
        f.write_str(&e.operation)?;
        if let Some(path) = &e.path {
            write!(f, " {path:?}")?;
        }
        let field = |f: &mut fmt::Formatter<'_>, last| match &e.field {
            Some(field) if e.field_last == last => write!(f, " (config.json: {field})"),
            _ => Ok(()),
        };
        field(f, false)?;
        if let Some(errno) = e.errno {
            write!(f, ": {}", errno_text(errno))?;
        }
        field(f, true)?;
        if let Some(hint) = &e.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// Turns the errno of a system call into an [`Error`] that says what was tried.
pub trait Context<T> {
    /// Names the operation.
    ///
    /// # Errors
    /// The errno, as [`Kind::Os`].
    fn doing(self, operation: &str) -> Result<T>;

    /// Names the operation and the path it was on.
    ///
    /// # Errors
    /// The errno, as [`Kind::Os`].
    fn on(self, operation: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, operation: &str) -> Result<T> {
        self.map_err(|errno| Error::os(operation, errno))
    }

    fn on(self, operation: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|errno| Error::os(operation, errno).path(path))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing(self, operation: &str) -> Result<T> {
        self.map_err(|e| Error::os(operation, io_errno(&e)))
    }

    fn on(self, operation: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::os(operation, io_errno(&e)).path(path))
    }
}

/// The errno inside an `io::Error`; `EIO` for the errors the standard library makes itself.
pub fn io_errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_path_field_errno_and_hint_in_that_order() {
        let error = Error::os("mount", Errno::ELOOP)
            .path("/etc/x")
            .field("mounts[7]")
            .hint("the destination is a symlink");
        assert_eq!(
            error.to_string(),
            "mount \"/etc/x\" (config.json: mounts[7]): too many levels of symbolic links; \
             the destination is a symlink"
        );
    }

    #[test]
    fn a_field_may_come_after_the_words_of_callers() {
        let error = Error::os("exec: \"/x\": stat /x", Errno::ENOENT);
        let error = error.field_last("process.args[0]").hint("look");
        let whole =
            "exec: \"/x\": stat /x: no such file or directory (config.json: process.args[0]); look";
        assert_eq!(error.to_string(), whole);
        assert_eq!(error.bare(), "exec: \"/x\": stat /x: no such file or directory");
    }

    #[test]
    fn what_an_error_was_part_of_comes_first() {
        let error = Error::new(Kind::Exec, "exec /x").errno(Errno::ENOENT).hint("look");
        let error = error.context("init").context("run failed");
        let whole = "run failed: init: exec /x: no such file or directory; look";
        assert_eq!(error.to_string(), whole);
        assert_eq!(error.bare(), "exec /x: no such file or directory");
    }

    #[test]
    fn errno_texts_are_the_words_engines_match() {
        assert_eq!(errno_text(Errno::ENOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::EACCES), "permission denied");
        assert_eq!(errno_text(Errno::EPERM), "operation not permitted");
        assert_eq!(errno_text(Errno::EISDIR), "is a directory");
        assert_eq!(errno_text(Errno::ENOEXEC), "exec format error");
        assert_eq!(errno_text(Errno::ENOTDIR), "not a directory");
        assert_eq!(errno_text(Errno::EAGAIN), "resource temporarily unavailable");
        assert_eq!(errno_text(Errno::EINVAL), "invalid argument");
        assert_eq!(errno_text(Errno::ENOSPC), "no space left on device");
        assert_eq!(errno_text(Errno::EBUSY), "device or resource busy");
    }

    /// Go's runtimes have glibc's words.
    #[cfg(target_env = "gnu")]
    #[test]
    fn errno_texts_are_those_of_the_c_library() {
        for number in 1..=133 {
            let errno = Errno::from_raw(number);
            if errno == Errno::UnknownErrno {
                continue;
            }
            let theirs = std::io::Error::from_raw_os_error(number).to_string();
            let theirs = theirs.split(" (os error").next().unwrap_or_default();
            let ours = errno_text(errno);
            assert!(theirs.eq_ignore_ascii_case(&ours), "{errno:?}: {theirs:?}, not {ours:?}");
            assert!(ours.starts_with(|first: char| !first.is_uppercase()), "{ours:?}");
        }
    }
}
