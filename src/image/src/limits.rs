//! How much is too much. No honest image is known to meet a default.

/// What an image may cost. What an honest one may come near to can be changed on the command line: layers, entries, bytes, names, attributes, their
/// ratio and the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest, an index or a configuration. 4 MiB, as registries and containers/image have it.
    pub document: u64,
    /// How deep an index may stand in an index. 4.
    pub index_depth: usize,
    /// Descriptors in all the indexes of an image together. 10 000.
    pub descriptors: usize,
    /// Layers of an image. 256.
    pub layers: usize,
    /// Entries of all layers together. 5 000 000.
    pub entries: u64,
    /// Uncompressed bytes of all layers together. 64 GiB.
    pub unpacked: u64,
    /// Bytes of one entry's name, or of a link's target. 64 KiB: longer than the kernel's 4096, which depth may reach.
    pub path: usize,
    /// Bytes of one component of a name: the kernel's 255.
    pub component: usize,
    /// Bytes of one entry's pax header. 1 MiB.
    pub pax: usize,
    /// Extended attributes of one entry. 256.
    pub xattrs: usize,
    /// Bytes of one extended attribute's value: the kernel's 64 KiB.
    pub xattr_value: usize,
    /// Uncompressed bytes that one compressed byte may become, beyond [`ratio_free`](Self::ratio_free). 1032 is what deflate can do.
    pub ratio: u64,
    /// Uncompressed bytes that are not held against [`ratio`](Self::ratio). 1 GiB.
    pub ratio_free: u64,
    /// Bytes of the window of a zstd frame, which are all in memory. 32 MiB: what the builders' library makes of its highest level. `zstd --ultra` and
    /// `--long` make 128.
    pub zstd_window: u64,
    /// Bytes of what is kept to the end of a layer, or of a listing: names, attributes of directories, links whose target comes later, and the window
    /// of a zstd frame. 40 MiB: with the rest of the program less than 64 MB. 250 000 directories take less.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document: 4 << 20,
            index_depth: 4,
            descriptors: 10_000,
            layers: 256,
            entries: 5_000_000,
            unpacked: 64 << 30,
            path: 64 << 10,
            component: 255,
            pax: 1 << 20,
            xattrs: 256,
            xattr_value: 64 << 10,
            ratio: 1032,
            ratio_free: 1 << 30,
            zstd_window: 32 << 20,
            memory: 40 << 20,
        }
    }
}
