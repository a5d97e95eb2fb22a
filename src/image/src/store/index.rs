//! The names in the store.

use serde_json::{Value, json};

use super::{Held, INDEX, Store};
use crate::descriptor::{Descriptor, REF_NAME};
use crate::document;
use crate::error::{Error, Result};
use crate::manifest::Index;
use crate::source::Select;
use crate::source::layout::{self, name_of};

/// Bytes of an entry with all that its source says about it. All entries together are one document, which has a limit.
const ENTRY: usize = 4096;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is called.
    pub name: String,
    /// What points at it.
    pub descriptor: Descriptor,
}

impl Held<'_> {
    /// Calls an image, whose manifest is in the store, `name`. One that was called so before is called so no more.
    ///
    /// # Errors
    /// Those of reading and replacing the index.
    pub fn tag(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        let full = Descriptor { urls: Vec::new(), data: None, ..descriptor.clone() };
        let named = |mut entry: Descriptor| {
            entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
            serde_json::to_value(&entry)
                .map_err(|error| Error::usage(format!("{name:?} cannot be written: {error}")))
        };
        let mut entry = named(full)?;
        if entry.to_string().len() > ENTRY {
            // What it is, and no more.
            let media_type = descriptor.media_type.clone();
            entry = named(Descriptor::new(media_type, descriptor.digest.clone(), descriptor.size))?;
        }
        self.change(|manifests| {
            let was = manifests.iter().position(|old| reference_of(old) == Some(name));
            manifests.retain(|old| reference_of(old) != Some(name));
            manifests.insert(was.unwrap_or(manifests.len()).min(manifests.len()), entry);
            Ok(())
        })
    }
}

impl Store {
    /// The images, in the order they were named.
    ///
    /// # Errors
    /// Those of reading the index.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let index = self.source(Select::Only)?.index()?;
        Ok(index
            .manifests
            .into_iter()
            .map(|descriptor| Entry { name: name_of(&descriptor), descriptor })
            .collect())
    }

    /// Takes a name away. The blobs stay until [`gc`](Store::gc).
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound), [`Kind::Usage`](crate::Kind::Usage) when it may be several, those of replacing the index.
    pub fn untag(&self, select: &Select) -> Result<Vec<Entry>> {
        let mut gone = Vec::new();
        let place = self.path.display().to_string();
        self.change(|manifests| {
            let index: Index =
                crate::manifest::typed("index.json", json!({"manifests": manifests}))?;
            let found = match select {
                Select::Digest(digest) => {
                    index.manifests.iter().filter(|e| e.digest == *digest).collect()
                }
                select => layout::select(&index, select, &place)?,
            };
            if found.is_empty() {
                return Err(Error::not_found(format!("{place}{select}: there is no such image")));
            }
            gone = found
                .iter()
                .map(|d| Entry { name: name_of(d), descriptor: (*d).clone() })
                .collect();
            let keep: Vec<bool> =
                index.manifests.iter().map(|entry| !found.contains(&entry)).collect();
            let mut keep = keep.into_iter();
            manifests.retain(|_| keep.next().unwrap_or(true));
            Ok(())
        })?;
        Ok(gone)
    }

    /// Changes the index under its lock. What others have put into it stays as it is.
    fn change(&self, change: impl FnOnce(&mut Vec<Value>) -> Result<()>) -> Result<()> {
        let _lock = self.lock("index", true)?;
        let what = format!("{}/{INDEX}", self.path.display());
        let bytes = self
            .read_small(INDEX)?
            .ok_or_else(|| Error::not_found(format!("there is no {what}")))?;
        let mut value = document::parse(&what, &bytes)?;
        let before;
        match value.get_mut("manifests") {
            Some(Value::Array(manifests)) => {
                before = manifests.len();
                change(manifests)?;
            }
            _ => return Err(Error::verification(format!("{what} has no manifests"))),
        }
        let text = value.to_string();
        let entries = value.get("manifests").and_then(Value::as_array).map_or(0, Vec::len);
        // One that is too large to be read again would be the end of the store.
        let most = self.limits.descriptors;
        let grows = text.len() > bytes.len() || entries > before;
        if grows && (text.len() as u64 > self.limits.document || entries > most) {
            return Err(Error::no_space(format!(
                "{what} has room for {} bytes and {most} names, and is full",
                self.limits.document
            ))
            .hint("store rm takes names away"));
        }
        self.replace(INDEX, text.as_bytes())
    }
}

fn reference_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}
