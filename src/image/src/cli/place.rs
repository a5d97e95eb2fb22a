//! From what was typed to a source.

use super::Context;
use crate::error::{Error, Result};
use crate::source::{Location, Select, Source};

/// Opens the source that `location` names.
pub(super) fn open(location: &Location, context: &Context) -> Result<Box<dyn Source + Send>> {
    if let Some(local) = location.open_local(&context.limits)? {
        return Ok(local);
    }
    match location {
        Location::Store(select) => {
            let select = match select {
                // What people type is completed as it was when the image was pulled.
                Select::Name(name) => stored_name(context, name)?,
                other => other.clone(),
            };
            Ok(Box::new(context.open_store()?.source(select)?))
        }
        Location::Registry(reference) => Ok(Box::new(context.remote.registry(reference)?)),
        other => Err(Error::unsupported(format!("{other} cannot be read"))),
    }
}

/// The name in the store that `name` means: itself, or the complete one.
pub(super) fn stored_name(context: &Context, name: &str) -> Result<Select> {
    let entries = context.open_store()?.entries()?;
    if entries.iter().any(|entry| entry.name == name) {
        return Ok(Select::Name(name.to_owned()));
    }
    match crate::reference::Reference::parse(name) {
        Ok(reference) if entries.iter().any(|entry| entry.name == reference.to_string()) => {
            Ok(Select::Name(reference.to_string()))
        }
        _ => Ok(Select::Name(name.to_owned())),
    }
}

/// What an image from `location` is called in the store.
pub(super) fn name_for(location: &Location) -> String {
    let of_path = |path: &std::path::Path| {
        path.file_stem()
            .map_or_else(|| "image".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    match location {
        Location::Registry(reference) => reference.to_string(),
        Location::Store(Select::Name(name)) => name.clone(),
        Location::Oci(_, Select::Name(name))
        | Location::OciArchive(_, Select::Name(name))
        | Location::DockerArchive(_, Select::Name(name))
        | Location::Archive(_, Select::Name(name)) => name.clone(),
        Location::Oci(path, select)
        | Location::OciArchive(path, select)
        | Location::DockerArchive(path, select)
        | Location::Archive(path, select) => {
            format!("{}{select}", of_path(path))
        }
        Location::Dir(path) => of_path(path),
        Location::Store(select) => select.to_string(),
    }
}
