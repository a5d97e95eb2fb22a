//! One layer: decompression, tar, and its application to a directory.
