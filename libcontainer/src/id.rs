//! Container ids.

use std::fmt;

use crate::error::{Error, Result};

/// A container id: checked once, then safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `id`: letters, digits and `_ + - .`, at most 255 bytes, no leading dot.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) with runc's words, and crun's.
    pub fn new(id: &str) -> Result<Self> {
        if id.is_empty() {
            return Err(Error::config("container id cannot be empty"));
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if let Some(other) = id.chars().find(|c| !is_allowed(*c)) {
            let other = other.escape_debug();
            return Err(Error::config(format!(
                "invalid container ID format: {id:?}: invalid character `{other}` in the ID"
            ))
            .hint("use letters, digits, '_', '+', '-' and '.'"));
        }
        if id.starts_with('.') {
            return Err(Error::config(format!("invalid container ID format: {id:?}"))
                .hint("it must not begin with a dot"));
        }
        if id.len() > 255 {
            return Err(Error::config(format!(
                "invalid container ID format: {} characters",
                id.len()
            ))
            .hint("at most 255 fit in a directory name"));
        }
        Ok(Self(id.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        for id in ["a", "A_b+c.d-9", "0", &"x".repeat(255)] {
            assert_eq!(ContainerId::new(id).unwrap().as_str(), id);
        }
        for id in ["", ".", "..", ".a", "a/b", "/", "a b", "a\n", "é", &"x".repeat(256)] {
            assert!(ContainerId::new(id).is_err(), "{id:?}");
        }
        let said = |id: &str| ContainerId::new(id).unwrap_err().to_string();
        assert!(said("a/b").contains("ID format: \"a/b\": invalid character `/` in the ID"));
        assert!(said("a\n").contains("`\\n`"), "{}", said("a\n"));
    }
}
