//! What happens, for who watches: a person, a program, or nobody.

use crate::descriptor::Descriptor;
use crate::digest::Digest;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A name has become a digest.
    Resolved {
        /// What was asked for.
        name: &'a str,
        /// The root.
        digest: &'a Digest,
    },
    /// A blob begins to be read.
    BlobStart {
        /// Which.
        descriptor: &'a Descriptor,
        /// How many bytes an earlier try has left.
        offset: u64,
    },
    /// More of a blob has come.
    BlobProgress {
        /// Which.
        descriptor: &'a Descriptor,
        /// How many bytes more.
        bytes: u64,
    },
    /// A blob is whole.
    BlobDone {
        /// Which.
        descriptor: &'a Descriptor,
        /// It was there already.
        cached: bool,
    },
    /// A layer has been applied.
    LayerApplied {
        /// Which.
        descriptor: &'a Descriptor,
        /// Its uncompressed digest.
        diff_id: &'a Digest,
        /// It was there already.
        cached: bool,
    },
    /// Something that a person should know.
    Warning(&'a str),
}

/// Who watches. Threads call it.
pub trait Listener: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Listener for Nobody {
    fn event(&self, _: Event<'_>) {}
}
