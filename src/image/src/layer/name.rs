//! The names of entries, and what a whiteout's stands for.

use std::ffi::CString;

use crate::error::{Error, Result};
use crate::limits::Limits;

/// Directories below each other. Three times what PATH_MAX lets a program name at once.
const MAX_DEPTH: usize = 2048;

const WHITEOUT: &[u8] = b".wh.";

/// What the name of an entry asks for (image-spec, layer.md#whiteouts).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The root of the tree itself.
    Root,
    /// Something with this name.
    Plain(Path),
    /// That what the lower layers have under this name is not seen.
    Whiteout(Path),
    /// That nothing of the lower layers is seen in this directory.
    Opaque(Vec<Vec<u8>>),
    /// Bookkeeping of aufs.
    Aufs,
}

/// A clean name: no `.`, no `..`, nothing empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) parent: Vec<Vec<u8>>,
    pub(super) base: Vec<u8>,
}

/// A name for error messages: without control characters, and in the middle without what nobody reads.
pub(super) fn shown(name: &[u8]) -> String {
    const MOST: usize = 240;
    match (name.get(..160), name.len().checked_sub(60).and_then(|at| name.get(at..))) {
        (Some(start), Some(end)) if name.len() > MOST => {
            format!("{}[...]{}", start.escape_ascii(), end.escape_ascii())
        }
        _ => name.escape_ascii().to_string(),
    }
}

/// The base of a path as the kernel takes it.
pub(super) fn base(path: &Path) -> Result<CString> {
    CString::new(path.base.as_slice()).map_err(|_nul| Error::verification("a NUL in a name"))
}

/// The same, of a path.
pub(super) fn shown_path(path: &Path) -> String {
    let mut all = path.parent.clone();
    all.push(path.base.clone());
    shown(&all.join(&b'/'))
}

/// All components of a path.
pub(super) fn whole(path: &Path) -> Vec<Vec<u8>> {
    let mut all = path.parent.clone();
    all.push(path.base.clone());
    all
}

/// The components of a path. `..` takes one away, and above the root there is the root.
pub(super) fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let mut clean: Vec<Vec<u8>> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(clean.pop()),
            _ => clean.push(component.to_vec()),
        }
    }
    clean
}

/// Says what the name of an entry asks for.
///
/// # Errors
/// For names beyond the limits, and whiteouts of nothing that can be named.
pub(super) fn parse(path: &[u8], limits: &Limits) -> Result<Name> {
    let mut parent = checked(path, limits)?;
    if parent
        .iter()
        .any(|component| component.starts_with(b".wh..wh.") && component != b".wh..wh..opq")
    {
        return Ok(Name::Aufs);
    }
    let Some(base) = parent.pop() else { return Ok(Name::Root) };
    if parent.iter().any(|component| component.starts_with(WHITEOUT)) {
        return Err(Error::verification("an entry below a whiteout"));
    }
    if base == b".wh..wh..opq" {
        return Ok(Name::Opaque(parent));
    }
    match base.strip_prefix(WHITEOUT) {
        None => Ok(Name::Plain(Path { parent, base })),
        Some(b"" | b"." | b"..") => Err(Error::verification(
            "a whiteout of nothing: the name after .wh. is empty, . or .. (image-spec, layer.md)",
        )),
        Some(target) => Ok(Name::Whiteout(Path { parent, base: target.to_vec() })),
    }
}

/// The name that a hard link leads to.
///
/// # Errors
/// For names beyond the limits, the root, and whiteouts.
pub(super) fn link_target(path: &[u8], limits: &Limits) -> Result<Path> {
    let mut parent = checked(path, limits)?;
    match parent.pop() {
        None => Err(Error::verification("a hard link to the root directory")),
        Some(base) if base.starts_with(WHITEOUT) => {
            Err(Error::verification("a hard link to a whiteout"))
        }
        Some(base) => Ok(Path { parent, base }),
    }
}

/// What a symlink leads to, which may be anything: the kernel keeps 4095 bytes of it.
///
/// # Errors
/// For targets beyond that and the limits.
pub(super) fn symlink_target(target: &[u8], limits: &Limits) -> Result<CString> {
    let length = target.len();
    if !(1..=4095).contains(&length) {
        return Err(Error::verification(format!(
            "a symlink whose target has {length} bytes: 1 to 4095 can be"
        )));
    }
    if length > limits.path {
        return Err(Error::no_space(format!(
            "its target of {length} bytes is more than the limit of {}",
            limits.path
        ))
        .hint("--max-path allows more"));
    }
    CString::new(target).map_err(|_nul| Error::verification("a NUL in the target of a symlink"))
}

fn checked(path: &[u8], limits: &Limits) -> Result<Vec<Vec<u8>>> {
    let too_long = |what: &str, is: usize, most: usize| {
        Err(Error::no_space(format!("its {what} of {is} is more than the limit of {most}")))
    };
    if path.contains(&0) {
        return Err(Error::verification("a NUL in a name"));
    }
    if path.len() > limits.path {
        return too_long("length", path.len(), limits.path)
            .map_err(|error| error.hint("--max-path allows more"));
    }
    let clean = components(path);
    if clean.len() > MAX_DEPTH {
        return too_long("depth", clean.len(), MAX_DEPTH)
            .map_err(|error| error.hint("nothing allows more: no program could name it"));
    }
    match clean.iter().map(Vec::len).find(|&length| length > limits.component) {
        Some(length) => too_long("component", length, limits.component),
        None => Ok(clean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        let mut parent = components(text.as_bytes());
        let base = parent.pop().unwrap();
        Path { parent, base }
    }

    #[test]
    fn names_are_cleaned_and_understood() {
        let parse = |name: &str| parse(name.as_bytes(), &Limits::default());
        for root in ["", ".", "/", "./", "a/..", "../..", "//."] {
            assert_eq!(parse(root).unwrap(), Name::Root, "{root}");
        }
        for (name, clean) in [("a", "a"), ("./a//b/", "a/b"), ("/../../a", "a"), ("a/../b", "b")] {
            assert_eq!(parse(name).unwrap(), Name::Plain(path(clean)), "{name}");
        }
        assert_eq!(parse("a/.wh.b").unwrap(), Name::Whiteout(path("a/b")));
        assert_eq!(parse("a/.wh.b/").unwrap(), Name::Whiteout(path("a/b")));
        assert_eq!(parse("a/.wh..wh..opq").unwrap(), Name::Opaque(vec![b"a".to_vec()]));
        assert_eq!(parse(".wh..wh..opq").unwrap(), Name::Opaque(vec![]));
        for aufs in [".wh..wh.plnk", ".wh..wh.plnk/12.34", ".wh..wh.aufs", "a/.wh..wh.orph/b"] {
            assert_eq!(parse(aufs).unwrap(), Name::Aufs, "{aufs}");
        }
        for bad in [".wh.", "a/.wh.", "a/.wh..", "a/b/.wh...", ".wh.a/b", ".wh..wh..opq/b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_beyond_the_limits_are_refused() {
        let limits = Limits::default();
        assert!(parse(&[b'a'; 255], &limits).is_ok());
        for bad in [vec![b'a'; 256], b"a/".repeat(2049), b"aaa/".repeat(20_000), b"a\0b".to_vec()] {
            assert!(parse(&bad, &limits).is_err());
        }
    }
}
