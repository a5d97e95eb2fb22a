//! What a bundle was made of.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use libcontainer::sys::fd;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};

/// The file's name.
pub const NAME: &CStr = c"skep-bundle.json";
/// The version this program writes.
pub const VERSION: u32 = 1;
/// Bytes: 500 layers with names of 255 have less.
const MAX: u64 = 1 << 20;

/// `skep-bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// What the image was called.
    pub source: String,
    /// The digest of the image's manifest; empty in bundles of earlier versions.
    #[serde(default)]
    pub manifest: String,
    /// Whether the root filesystem is an overlay.
    pub overlay: bool,
    /// Whether it is the container that mounts the overlay: see [`super::inside`].
    #[serde(default)]
    pub inside: bool,
    /// The layers below it, the lowest first.
    #[serde(default)]
    pub layers: Vec<PathBuf>,
    /// The container that the bundle does not outlive.
    #[serde(default)]
    pub owner: Option<Owner>,
}

/// The container that a bundle was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The directory in which the runtime keeps the container while it lives.
    pub state: PathBuf,
    /// The program whose `bundle --remove DIR` removes the bundle when the container is deleted; `None` where whoever
    /// runs the container does it.
    pub remover: Option<PathBuf>,
}

impl Owner {
    /// Whether the runtime has the container no longer.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(std::fs::symlink_metadata(&self.state), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Has the runtime remove the bundle at `place` when it deletes the container (runtime-spec config.md "Poststop").
    pub fn add_hook(&self, spec: &mut Value, place: &Path) {
        let (Some(remover), Some(spec)) = (&self.remover, spec.as_object_mut()) else { return };
        let hook = json!({ "path": remover, "args": ["skep-image", "bundle", "--remove", place], "timeout": 30 });
        let hooks = spec.entry("hooks").or_insert_with(|| json!({}));
        if let Some(hooks) = hooks.as_object_mut()
            && let Some(poststop) =
                hooks.entry("poststop").or_insert_with(|| json!([])).as_array_mut()
        {
            poststop.push(hook);
        }
    }
}

impl Record {
    /// The file's content.
    ///
    /// # Errors
    /// A path that is no UTF-8.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|error| {
            Error::new(Kind::Usage, "cannot write skep-bundle.json").with_source(error)
        })
    }

    /// Reads that of the bundle `directory`, which is called `place` in errors.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a directory without one; [`Kind::Unsupported`] for a newer version.
    pub fn read(directory: BorrowedFd<'_>, place: &Path) -> Result<Self> {
        let place = place.display();
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let content =
            fd::openat(directory, NAME, flags, 0).and_then(|file| fd::read_all(&file, MAX));
        let content = match content {
            Err(Errno::ENOENT) => {
                return Err(Error::usage(format!(
                    "{place} is no bundle that skep has made: it has no skep-bundle.json"
                )));
            }
            content => content.map_err(|errno| {
                Error::sys(format!("cannot read skep-bundle.json of {place}"), errno)
            })?,
        };
        let record: Self = serde_json::from_slice(&content).map_err(|error| {
            Error::usage(format!("skep-bundle.json of {place} is damaged")).with_source(error)
        })?;
        if record.version > VERSION {
            return Err(Error::unsupported(format!("{place} was made by a newer version of skep")));
        }
        Ok(record)
    }
}
