//! One layer: decompression, tar, and its application to a directory.

mod decompress;

pub use decompress::{Decompressor, decompress};
