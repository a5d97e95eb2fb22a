//! From an image's configuration to a bundle.
