//! From an image's configuration to `config.json` (image-spec conversion.md), as umoci does it where that leaves a
//! choice, and more strictly where an image could take power with it.
//!
//! | module | what |
//! |---|---|
//! | [`image`] | the image's configuration, read as Go reads it but strictly |
//! | [`request`] | what the command line asks for |
//! | [`user`] | users and groups of the image's own `/etc/passwd` and `/etc/group` |
//! | [`process`] | `process`: arguments, environment, directory, user, capabilities |
//! | [`annotations`] | labels and the properties of the image that become annotations |
//! | [`mounts`] | volumes, `--mount`, `--net` |
//! | [`template`], [`seccomp`] | what a container gets that no image speaks of |
//!
//! Nothing here asks the host what an image named: no variable is looked up, no path of the image is walked but below
//! the root's descriptor.

pub mod annotations;
pub mod image;
pub mod mounts;
pub mod process;
pub mod request;
pub mod seccomp;
pub mod template;
pub mod user;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::BorrowedFd;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
pub use image::ImageConfig;
pub use request::{Capabilities, IdMap, Mapping, Network, Request, Seccomp, Volumes};

/// Where a field of `config.json` has its value from, for `--explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The field, as `process.args`.
    pub field: String,
    /// The image's field, the flag, or the default.
    pub from: Cow<'static, str>,
}

/// A `config.json` and how it came about.
#[derive(Debug)]
pub struct Conversion {
    /// The whole document.
    pub spec: Value,
    /// Where what is in it comes from, in the order of the document.
    pub origins: Vec<Origin>,
    /// What was left out of it, and why.
    pub warnings: Vec<String>,
}

/// What the parts write to.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    origins: Vec<Origin>,
    /// Where the fields are in `origins`, by their hash: an image may have as many labels as its configuration holds. The key is random, so nobody can
    /// aim at a collision.
    said: HashMap<u64, usize>,
    hasher: RandomState,
    warnings: Vec<String>,
}

impl Notes {
    fn origin(&mut self, field: impl Into<String>, from: impl Into<Cow<'static, str>>) {
        let field = field.into();
        let place = self.origins.len();
        // What is said of one mount or variable is said of them all.
        if let Some((all, _)) = field.split_once(' ') {
            let _first = self.said.entry(self.hasher.hash_one(all)).or_insert(place);
        }
        self.said.insert(self.hasher.hash_one(field.as_str()), place);
        self.origins.push(Origin { field, from: from.into() });
    }

    /// The same, of a field that may have had another origin until now.
    fn replace(&mut self, field: String, from: &'static str) {
        let place = self.said.get(&self.hasher.hash_one(field.as_str()));
        match place.and_then(|&place| self.origins.get_mut(place)) {
            Some(origin) if origin.field == field => origin.from = from.into(),
            _ => self.origin(field, from),
        }
    }

    /// Gives the fields that nobody has spoken of an origin: each is explained.
    fn rest(&mut self, spec: &Map<String, Value>, from: &'static str) {
        for (name, value) in spec {
            let below = match (name.as_str(), value) {
                ("annotations", Value::Object(below)) => Some((' ', below)),
                ("root" | "process" | "linux", Value::Object(below)) => Some(('.', below)),
                _ => None,
            };
            let mut explain = |field: String| {
                if !self.said.contains_key(&self.hasher.hash_one(field.as_str())) {
                    self.origin(field, from);
                }
            };
            match below {
                Some((dot, below)) => {
                    below.keys().for_each(|key| explain(format!("{name}{dot}{key}")));
                }
                None => explain(name.clone()),
            }
        }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Makes the `config.json` of an image whose root filesystem is open as `root`.
///
/// # Errors
/// [`Kind::Verification`](crate::Kind::Verification) for a configuration that is not what the specification says,
/// [`Kind::Unsupported`](crate::Kind::Unsupported) for one of another system, [`Kind::NotFound`](crate::Kind::NotFound)
/// for a user or group the image does not have, [`Kind::Usage`](crate::Kind::Usage) for a request that means nothing.
pub fn convert(config: &[u8], root: BorrowedFd<'_>, request: &Request) -> Result<Conversion> {
    let mut image = ImageConfig::parse(config)?;
    if !image.os.eq_ignore_ascii_case("linux") && !image.os.is_empty() {
        return Err(Error::unsupported(format!("the image is for {:?}, not for linux", image.os)));
    }
    let mut notes = Notes::default();
    let mut spec = template::base(request, &mut notes)?;
    process::fill(&mut spec, &image, root, request, &mut notes)?;
    mounts::fill(&mut spec, &image, root, request, &mut notes)?;
    let labels = std::mem::take(&mut image.labels);
    annotations::fill(&mut spec, &image, labels, request, &mut notes)?;
    notes.rest(&spec, if request.base.is_some() { "--config-from" } else { "default" });
    Ok(Conversion { spec: Value::Object(spec), origins: notes.origins, warnings: notes.warnings })
}

/// The object `name` of `parent`, made where it is missing.
fn object<'a>(
    parent: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>> {
    let child = parent.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut().ok_or_else(|| Error::usage(format!("--config-from: {name} is no object")))
}

/// The array `name` of `parent`, made where it is missing.
fn array<'a>(parent: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Vec<Value>> {
    let child = parent.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if child.is_null() {
        *child = Value::Array(Vec::new());
    }
    child.as_array_mut().ok_or_else(|| Error::usage(format!("--config-from: {name} is no array")))
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
