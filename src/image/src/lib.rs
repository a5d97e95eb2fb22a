//! Images: where they come from, what they are, and how they become a root file system.
//!
//! | module | what |
//! |---|---|
//! | [`digest`], [`mod@reference`], [`platform`] | names: of content, of images, of machines |
//! | [`document`], [`media`], [`descriptor`], [`manifest`] | the JSON documents of the image specification, read strictly |
//! | [`image`](mod@image) | one image of a source, chosen by platform |
//! | [`source`] | where an image is: layouts, archives, the store, a registry; and the reader that verifies what it gives |
//! | [`store`], [`pull`](mod@pull) | the store, and how images come into it |
//! | [`layer`] | one layer: decompression, tar, and its application to a directory |
//! | [`unpack`] | the layers of an image, each verified while it is applied; [`draft`]: directories that are whole or not there |
//! | [`registry`] | the client of the distribution specification |
//! | [`convert`] | from an image's configuration to `config.json` |
//! | [`bundle`], [`launch`] | directories that a runtime takes, and the runtime on one of them |
//! | [`interrupt`] | what a signal does |
//! | [`cli`], [`event`] | the commands; what they tell while they work |
//! | [`limits`], [`error`] | how much is too much; what went wrong and with which exit code |
//!
//! Documents are kept as the bytes they came in: a digest names bytes, so nothing is ever written anew.

pub mod bundle;
pub mod cli;
pub mod convert;
pub mod descriptor;
pub mod digest;
pub mod document;
pub mod draft;
pub mod error;
pub mod event;
#[cfg(test)]
mod fuzz;
pub mod image;
pub mod interrupt;
pub mod launch;
pub mod layer;
pub mod limits;
pub mod manifest;
pub mod media;
pub mod platform;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod source;
pub mod store;
pub mod unpack;

pub use descriptor::Descriptor;
pub use digest::Digest;
pub use error::{Error, Kind, Result};
pub use image::Image;
pub use limits::Limits;
pub use source::Source;
