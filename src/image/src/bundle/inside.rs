//! An overlay that an ordinary user's container mounts itself.
//!
//! A user mounts nothing on the host, but in a user namespace of his own overlayfs is his (Linux 5.11): so the first of the
//! bundle's `mounts` is an overlay on `/`, which the runtime makes in the container's namespaces. What has to be known before
//! (whether the kernel does it here, and who is who in the image's /etc/passwd) is found out in another namespace with the
//! same ids, whose process tells of it here: see [`super::userns::overlay`].

use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::overlay;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};

/// How the line begins that says what was made; no event begins so.
const MARK: &str = "skep-overlay ";
/// mount(2) takes one page of options, which runtimes without fsconfig(2) have to use.
const MAX_OPTIONS: usize = 4000;
/// Bytes of a value that fsconfig(2) takes.
const MAX_VALUE: usize = 255;

/// What was made in a bundle.
#[derive(Debug)]
pub struct Overlay {
    /// The root filesystem, mounted nowhere.
    pub root: OwnedFd,
    /// The layers in the store.
    pub layers: Vec<(Digest, PathBuf)>,
    /// How many of them are mounted: what is below an opaque root is not.
    pub mounted: usize,
}

/// What the process in the namespace says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// It has an overlay.
    Made {
        /// The descriptor of the detached mount.
        root: i32,
        /// The layers in the store, the lowest first.
        layers: Vec<(String, PathBuf)>,
        /// See [`Overlay::mounted`].
        mounted: usize,
    },
    /// There is none to be had here.
    Refused(String),
}

impl Told {
    /// What a line of its output says; `None` for one that is for somebody else.
    pub(super) fn read(line: &str) -> Option<Result<Self>> {
        let text = line.strip_prefix(MARK)?;
        let damaged = |_| Error::new(Kind::Generic, "the user namespace's process makes no sense");
        Some(serde_json::from_str(text).map_err(damaged))
    }
}

/// In the namespace: makes the overlay of `layers` in the bundle `directory`, tells of it, and keeps it until the other end has seen it, which is when
/// the file `until` ends.
///
/// # Errors
/// Those of telling, and a full disk, on which there is no copy either. That there can be no overlay is told, not returned.
pub fn serve(
    directory: BorrowedFd<'_>,
    layers: &[(Digest, PathBuf)],
    mut until: &std::fs::File,
) -> Result<()> {
    let paths: Vec<PathBuf> = layers.iter().map(|(_, path)| path.clone()).collect();
    let made = detached(directory, &paths);
    let told = match &made {
        Err(error) if error.kind() != Kind::NoSpace => return refuse(error),
        Ok((root, mounted)) => Told::Made {
            root: root.as_raw_fd(),
            layers: layers.iter().map(|(key, path)| (key.to_string(), path.clone())).collect(),
            mounted: *mounted,
        },
        Err(_) => return made.map(drop),
    };
    tell(&told)?;
    let _until_it_ends = until.read_to_end(&mut Vec::new());
    drop(made);
    Ok(())
}

/// In the namespace: tells why there can be no overlay.
///
/// # Errors
/// Those of telling.
pub fn refuse(why: &Error) -> Result<()> {
    tell(&Told::Refused(why.to_string()))
}

fn tell(told: &Told) -> Result<()> {
    let text = serde_json::to_string(told)
        .map_err(|error| Error::new(Kind::Usage, "cannot tell of a layer").with_source(error))?;
    let mut output = std::io::stdout();
    writeln!(output, "{MARK}{text}")
        .and_then(|()| output.flush())
        .context(|| "cannot tell of the overlay")
}

fn detached(directory: BorrowedFd<'_>, layers: &[PathBuf]) -> Result<(OwnedFd, usize)> {
    // Only root of the mount namespace mounts.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::sys("cannot make a mount namespace", errno))?;
    let directory = opened_here(directory)?;
    let lowers = overlay::open_layers(layers, None)?;
    let (upper, work) = super::writable(directory.as_fd())?;
    super::like(&lowers, None, upper.as_fd())?;
    let root = overlay::detached(&lowers, Some((upper.as_fd(), work.as_fd())))?;
    Ok((root, lowers.len()))
}

/// The directory by its path: overlayfs takes what is reached through a mount of this namespace, and no other's.
///
/// # Errors
/// Those of opening it; [`Kind::Unsupported`] when another one has its path.
pub fn opened_here(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .context(|| "cannot find the bundle")?;
    let opened = crate::draft::open_directory(&path)?;
    let inode = |fd| nix::sys::stat::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    if inode(opened.as_fd()) == inode(directory) {
        Ok(opened)
    } else {
        Err(Error::unsupported(format!("{} is another directory by now", path.display())))
    }
}

/// Puts links to the layers into the bundle `directory`, which is to be at `place`, and the mount into its `config.json`.
///
/// # Errors
/// [`Kind::Unsupported`] where the options cannot be written so that every runtime reads them; those of making the links.
pub(super) fn describe(
    overlay: &Overlay,
    directory: BorrowedFd<'_>,
    place: &Path,
) -> Result<Value> {
    let below = place.join("overlay");
    let below =
        below.to_str().filter(|path| !path.contains([',', ':', '\\', '"'])).ok_or_else(|| {
            Error::unsupported(format!(
                "{} cannot be written in an option of a mount",
                place.display()
            ))
            .hint("put the bundle elsewhere, or --rootfs=copy")
        })?;
    let place = crate::draft::open_below(directory, c"overlay")?;
    // With an index the kernel refuses a second mount of the same upper directory (EBUSY), which two containers would damage each other by. That is
    // all it does here: it makes one only for who may open files by handle.
    let mut options = vec!["userxattr".to_owned(), "index=on".to_owned()];
    // Short names: those of the store would fill the page with thirty layers.
    let mounted = distinct(&overlay.layers, overlay.mounted);
    for (number, layer) in mounted.into_iter().enumerate() {
        let name = format!("l{number}");
        nix::unistd::symlinkat(layer, &place, OsStr::new(&name))
            .map_err(|errno| Error::sys("cannot name a layer in the bundle", errno))?;
        options.push(format!("lowerdir+={below}/{name}"));
    }
    options.push(format!("upperdir={below}/upper"));
    options.push(format!("workdir={below}/work"));
    let value = |option: &str| option.split_once('=').map_or(0, |(_, value)| value.len());
    if options.iter().any(|option| value(option) > MAX_VALUE) {
        return Err(Error::unsupported(format!(
            "{below} is too long for an option of a mount, which has {MAX_VALUE} bytes"
        ))
        .hint("put the bundle elsewhere, or --rootfs=copy"));
    }
    if options.iter().map(|option| option.len() + 1).sum::<usize>() > MAX_OPTIONS
        || options.iter().any(|option| CString::new(option.as_bytes()).is_err())
    {
        return Err(Error::unsupported(
            "the image has too many layers for the options of one mount",
        )
        .hint("--rootfs=copy takes any number"));
    }
    Ok(json!({ "destination": "/", "type": "overlay", "source": "overlay", "options": options }))
}

/// The layers that are mounted, the highest first: each once, as [`overlay::open_layers`] has it, and `count` of them.
fn distinct(layers: &[(Digest, PathBuf)], count: usize) -> Vec<&Path> {
    let mut seen = std::collections::HashSet::new();
    let highest_first = layers.iter().rev().map(|(_, path)| path.as_path());
    highest_first.filter(|path| seen.insert(*path)).take(count).collect()
}

/// Puts the mount first of those of `config.json`.
///
/// # Errors
/// A `--config-from` with something else in its place.
pub(super) fn add_mount(spec: &mut Value, mount: Value) -> Result<()> {
    let wrong = || Error::usage("--config-from: mounts is no array");
    let spec = spec.as_object_mut().ok_or_else(wrong)?;
    let mounts = spec.entry("mounts").or_insert_with(|| json!([]));
    mounts.as_array_mut().ok_or_else(wrong)?.insert(0, mount);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let told =
            Told::Made { root: 7, layers: vec![("sha256:x".into(), "/a b".into())], mounted: 1 };
        let line = format!("{MARK}{}", serde_json::to_string(&told).unwrap());
        let read = Told::read(&line).unwrap().unwrap();
        assert!(matches!(read, Told::Made { root: 7, mounted: 1, .. }));
        assert!(Told::read("{\"event\":\"result\"}").is_none());
        assert!(Told::read(&format!("{MARK}x")).unwrap().is_err());
    }

    #[test]
    fn each_layer_is_mounted_once() {
        let layer = |name: &str| (Digest::of(name.as_bytes()), PathBuf::from(name));
        let layers = [layer("a"), layer("b"), layer("a"), layer("c")];
        let names = |count| {
            distinct(&layers, count).iter().map(|p| p.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(3), ["c", "a", "b"]);
        assert_eq!(names(2), ["c", "a"]);
    }

    #[test]
    fn the_mount_is_the_first() {
        let mut spec = json!({"mounts": [{"destination": "/proc"}]});
        add_mount(&mut spec, json!({"destination": "/"})).unwrap();
        assert_eq!(spec["mounts"][0]["destination"], "/");
        assert!(add_mount(&mut json!({"mounts": 3}), json!({})).is_err());
    }

    #[test]
    fn a_mount_takes_no_longer_values() {
        let place = std::env::temp_dir().join(format!("skep-inside-{}", std::process::id()));
        std::fs::create_dir_all(place.join("overlay")).unwrap();
        let described = |length: usize| {
            let opened = crate::draft::open_directory(&place).unwrap();
            let layers = vec![(Digest::of(b"a"), PathBuf::from("/layer"))];
            let root = crate::draft::open_directory(&place).unwrap();
            let overlay = Overlay { root, layers, mounted: 1 };
            // As long as it is in the longest option.
            let name = "n".repeat(length - "/".len() - "/overlay/upper".len());
            let mount = describe(&overlay, opened.as_fd(), &Path::new("/").join(name));
            let _made = std::fs::remove_file(place.join("overlay/l0"));
            mount.map(drop).map_err(|error| error.kind())
        };
        assert_eq!(described(MAX_VALUE), Ok(()));
        assert_eq!(described(MAX_VALUE + 1), Err(Kind::Unsupported));
        std::fs::remove_dir_all(&place).unwrap();
    }
}
