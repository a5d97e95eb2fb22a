//! What people type for an image: `oci:PATH[:TAG]` and the other transports of skopeo, a path, or a name.

use std::fmt;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::{Dir, Directory, DockerArchive, Files, Layout, Select, Source};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::reference::Reference;

/// Where an image is, or is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `docker://NAME`, or a bare name.
    Registry(Reference),
    /// `oci:PATH[:TAG|@DIGEST]`.
    Oci(PathBuf, Select),
    /// `oci-archive:PATH[:TAG|@DIGEST]`.
    OciArchive(PathBuf, Select),
    /// `docker-archive:PATH[:NAME]`.
    DockerArchive(PathBuf, Select),
    /// The path of an archive that can be read once or must be decompressed: which of the two it is shows when it is opened.
    Archive(PathBuf, Select),
    /// `dir:PATH`.
    Dir(PathBuf),
    /// `store:NAME`, or its digest.
    Store(Select),
}

impl Location {
    /// Reads what was typed. A bare word is a path if that is there, and a name in a registry otherwise.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage).
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(Reference::parse(name)?));
        }
        let transport = text.split_once(':').map_or("", |(transport, _)| transport);
        let rest = text.get(transport.len() + 1..).unwrap_or_default();
        if matches!(transport, "oci" | "oci-archive" | "docker-archive" | "dir" | "store")
            && rest.is_empty()
        {
            return Err(Error::usage(format!(
                "{text:?} names no image: something must follow the colon"
            )));
        }
        match transport {
            "oci" => split(rest).map(|(path, select)| Self::Oci(path, select)),
            "oci-archive" => split(rest).map(|(path, select)| Self::OciArchive(path, select)),
            "docker-archive" => split(rest).map(|(path, select)| Self::DockerArchive(path, select)),
            "dir" => Ok(Self::Dir(PathBuf::from(rest))),
            "store" => {
                // Any `word:word` could be a digest of some algorithm; a name is what it is here.
                let digest = Digest::parse(rest.strip_prefix('@').unwrap_or(rest)).ok();
                Ok(Self::Store(match digest.filter(|digest| digest.algorithm().is_some()) {
                    Some(digest) => Select::Digest(digest),
                    None => Select::Name(rest.to_owned()),
                }))
            }
            "docker-daemon" | "containers-storage" | "ostree" | "sif" | "tarball" | "atomic"
            | "docker-tar" => Err(Error::usage(format!(
                "{transport}: is a transport of skopeo that is not supported: copy the image with skopeo to oci:PATH"
            ))),
            _ => Self::bare(text),
        }
    }

    fn bare(text: &str) -> Result<Self> {
        let (path, select) = split(text)?;
        let Ok(metadata) = std::fs::metadata(&path) else {
            if text.starts_with(['/', '.', '~']) {
                return Err(Error::not_found(format!("there is no {text}")));
            }
            return Ok(Self::Registry(Reference::parse(text)?));
        };
        if !metadata.is_dir() {
            // What a pipe has been read for is gone from it, and decompressing is for once, within the limits that are asked for.
            if !metadata.is_file() || Archive::is_compressed(&path)? {
                return Ok(Self::Archive(path, select));
            }
            let archive = Archive::open(&path, &Limits::default())?;
            let is_layout = archive.size("oci-layout")?.is_some();
            let is_docker = archive.size("manifest.json")?.is_some();
            return match (is_layout, is_docker) {
                (_, true) => Ok(Self::DockerArchive(path, select)),
                (true, false) => Ok(Self::OciArchive(path, select)),
                _ => Err(no_image(&path)),
            };
        }
        let directory = Directory::open(&path)?;
        if directory.size("oci-layout")?.is_some() {
            Ok(Self::Oci(path, select))
        } else if directory.size("manifest.json")?.is_some() && select == Select::Only {
            Ok(Self::Dir(path))
        } else {
            Err(Error::usage(format!(
                "{} is a directory, and not of an image; if the one in a registry is meant: docker://{text}",
                path.display()
            )))
        }
    }

    /// Whether it is gone once it has been read: a pipe.
    #[must_use]
    pub fn is_read_once(&self) -> bool {
        match self {
            Self::OciArchive(path, _) | Self::DockerArchive(path, _) | Self::Archive(path, _) => {
                std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
            }
            _ => false,
        }
    }

    /// The same with an absolute path, where it has one: what is noted is read from other directories too.
    ///
    /// # Errors
    /// Where there is no current directory.
    pub fn absolute(mut self) -> Result<Self> {
        match &mut self {
            Self::Oci(path, _)
            | Self::OciArchive(path, _)
            | Self::DockerArchive(path, _)
            | Self::Archive(path, _)
            | Self::Dir(path) => {
                *path = std::path::absolute(&*path).map_err(|error| {
                    Error::io(format_args!("cannot find {}", path.display()), error)
                })?;
            }
            Self::Registry(_) | Self::Store(_) => {}
        }
        Ok(self)
    }

    /// Opens what is on this machine; `None` for a registry and the store, which need more than a path.
    ///
    /// # Errors
    /// Those of the source.
    pub fn open_local(&self, limits: &Limits) -> Result<Option<Box<dyn Source + Send>>> {
        let archive = |path: &Path| Archive::open(path, limits);
        Ok(Some(match self {
            Self::Oci(path, select) => {
                Box::new(Layout::new(Directory::open(path)?, select.clone(), *limits)?)
            }
            Self::OciArchive(path, select) => {
                Box::new(Layout::new(archive(path)?, select.clone(), *limits)?)
            }
            Self::DockerArchive(path, select) | Self::Archive(path, select) => {
                let archive = archive(path)?;
                let has = |name| archive.size(name).map(|size| size.is_some());
                if matches!(self, Self::Archive(..))
                    && !has("oci-layout")?
                    && !has("manifest.json")?
                {
                    return Err(no_image(path));
                }
                // Docker 25 and later write both, and only the layout has digests.
                if has("oci-layout")? && has("index.json")? {
                    Box::new(Layout::new(archive, select.clone(), *limits)?)
                } else {
                    Box::new(DockerArchive::new(archive, select, limits)?)
                }
            }
            Self::Dir(path) => Box::new(Dir::new(Directory::open(path)?, *limits)),
            Self::Registry(_) | Self::Store(_) => return Ok(None),
        }))
    }
}

fn no_image(path: &Path) -> Error {
    Error::verification(format!("{} is an archive, and not of an image", path.display()))
}

/// Divides a path from what follows it. A path that is there as it stands has nothing after it; else the first colon divides, as
/// skopeo has it, or a digest after an at sign.
fn split(text: &str) -> Result<(PathBuf, Select)> {
    let whole = PathBuf::from(text);
    if std::fs::metadata(&whole).is_ok() {
        return Ok((whole, Select::Only));
    }
    if let Some((path, digest)) = text.rsplit_once('@')
        && digest.contains(':')
    {
        let digest = Digest::parse(digest).map_err(|error| error.with_kind(crate::Kind::Usage))?;
        return Ok((PathBuf::from(path), Select::Digest(digest)));
    }
    match text.split_once(':') {
        Some((_, "")) => {
            Err(Error::usage(format!("{text:?} ends with a colon, and no tag follows")))
        }
        Some((path, name)) => Ok((PathBuf::from(path), Select::Name(name.to_owned()))),
        None => Ok((whole, Select::Only)),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "docker://{reference}"),
            Self::Oci(path, select) => write!(f, "oci:{}{select}", path.display()),
            Self::OciArchive(path, select) => write!(f, "oci-archive:{}{select}", path.display()),
            Self::DockerArchive(path, select) => {
                write!(f, "docker-archive:{}{select}", path.display())
            }
            Self::Archive(path, select) => write!(f, "{}{select}", path.display()),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Store(Select::Name(name)) => write!(f, "store:{name}"),
            Self::Store(select) => write!(f, "store:{select}"),
        }
    }
}
