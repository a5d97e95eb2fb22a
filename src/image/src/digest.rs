//! Names of content: `algorithm:encoded`, and the hashes that make them.

use std::fmt;

use sha2::Digest as _;

use crate::error::{Error, Result};

/// How content is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256: what everybody uses.
    Sha256,
    /// SHA-512: registered, and rare.
    Sha512,
}

/// A digest. Only [`parse`](Self::parse) and [`Hasher`] make one, so its two parts are safe as names of files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Box<str>,
    hex: Box<str>,
}

impl Digest {
    /// Reads a digest as the image specification writes it. A registered algorithm has its exact number of lowercase
    /// hexadecimal digits; another one is accepted if its parts hold nothing but what the grammar allows: it can be
    /// copied, and not verified.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification) for anything else. What is no digest would be used as a path or as part
    /// of a URL (CVE-2024-3727).
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // What is hostile may be long, too.
            let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
            Error::verification(format!("{shown:?} is not a digest: {why}"))
        };
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(bad("there is no colon"));
        };
        let lower_hex = |length: usize| {
            hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match algorithm {
            "sha256" if lower_hex(64) => {}
            "sha512" if lower_hex(128) => {}
            "sha256" => return Err(bad("sha256 has 64 digits 0-9a-f")),
            "sha512" => return Err(bad("sha512 has 128 digits 0-9a-f")),
            _ => {
                let component = |part: &str| {
                    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric())
                };
                let lower = !algorithm.bytes().any(|b| b.is_ascii_uppercase());
                if algorithm.len() > 32
                    || !lower
                    || !algorithm.split(['+', '.', '_', '-']).all(component)
                {
                    return Err(bad("the name of the algorithm is not one"));
                }
                let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-');
                if hex.is_empty() || hex.len() > 128 || !hex.bytes().all(allowed) {
                    return Err(bad("the part after the colon has characters that no digest has"));
                }
            }
        }
        Ok(Self { algorithm: algorithm.into(), hex: hex.into() })
    }

    /// The digest of `content`, with SHA-256.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(content);
        hasher.finish()
    }

    /// Which algorithm made it; `None` when it is one that this crate cannot compute.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        match &*self.algorithm {
            "sha256" => Some(Algorithm::Sha256),
            "sha512" => Some(Algorithm::Sha512),
            _ => None,
        }
    }

    /// The part before the colon: one safe component of a path.
    #[must_use]
    pub fn algorithm_name(&self) -> &str {
        &self.algorithm
    }

    /// The part after the colon: one safe component of a path.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex.get(..12).unwrap_or(&self.hex)
    }

    /// A hash of the same algorithm.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::Kind::Unsupported): content that cannot be verified is not used.
    pub fn hasher(&self) -> Result<Hasher> {
        self.algorithm().map(Hasher::new).ok_or_else(|| {
            Error::unsupported(format!("{self} cannot be verified: only sha256 and sha512 can"))
        })
    }

    /// Holds content that is in memory against this digest.
    ///
    /// # Errors
    /// [`Kind::Verification`](crate::Kind::Verification) with both digests, or as [`hasher`](Self::hasher).
    pub fn verify(&self, content: &[u8]) -> Result<()> {
        let mut hasher = self.hasher()?;
        hasher.update(content);
        let found = hasher.finish();
        if found == *self {
            return Ok(());
        }
        Err(Error::verification(format!("content of {self} has the digest {found}")))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl std::str::FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A hash that is fed piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hash of nothing yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    /// Feeds it.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all it was fed.
    #[must_use]
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(state) => ("sha256", hex(&state.finalize())),
            State::Sha512(state) => ("sha512", hex(&state.finalize())),
        };
        Digest { algorithm: algorithm.into(), hex: hex.into() }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_digests() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        let mut sha512 = Hasher::new(Algorithm::Sha512);
        sha512.update(b"a");
        sha512.update(b"bc");
        assert!(sha512.finish().to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        assert!(Digest::parse(EMPTY).unwrap().verify(b"").is_ok());
        assert!(Digest::parse(EMPTY).unwrap().verify(b"x").is_err());
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let long = format!("sha256:{}", "a".repeat(100_000));
        for text in [
            "",
            ":",
            "sha256",
            "sha256:",
            ":abc",
            "sha256:../../../../etc/passwd",
            "../x:abc",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85\n",
            "SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256+:abc",
            "a..b:abc",
            ".:abc",
            "x:a/b",
            "x:a.b",
            "x:.",
            "x:a b",
            "x:\u{e9}",
            &long,
        ] {
            assert!(Digest::parse(text).is_err(), "{text:.80}");
        }
    }

    #[test]
    fn an_unknown_algorithm_is_copied_and_not_verified() {
        let digest =
            Digest::parse("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8")
                .unwrap();
        assert!(digest.algorithm().is_none());
        assert_eq!(digest.verify(b"").unwrap_err().kind(), crate::Kind::Unsupported);
    }
}
