//! Platforms: how they are written, which one this machine is, and which entry of an index fits best.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::error::{Error, Result};

/// An operating system and a processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, in Go's words: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system; Windows has it.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must have.
    #[serde(default, rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// The processor's variant: `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Reads `os/architecture[/variant]`, or an architecture alone for Linux.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage).
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::usage(format!(
                "{text:?} is not a platform: it is written os/architecture[/variant], linux/arm64 for example"
            ))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.len() <= 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !parts.iter().all(word) {
            return Err(bad());
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return Err(bad()),
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        }
        .normal())
    }

    /// The machine this runs on.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        let variant = match architecture {
            "amd64" => Some(amd64_level().to_owned()),
            "arm" => Some(arm_version()),
            _ => None,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant,
            ..Self::default()
        }
        .normal()
    }

    /// The same platform in one spelling: Go's words, and no variant where it is the only or the least one.
    #[must_use]
    pub fn normal(mut self) -> Self {
        self.os = self.os.to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.take().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("aarch64" | "arm64", "v8" | "8" | "v8.0" | "") => ("arm64", ""),
            ("aarch64" | "arm64", "v9.0") => ("arm64", "v9"),
            ("aarch64", v) => ("arm64", v),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (a, v) => (a, v),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        self.architecture = architecture;
        self.variant = (!variant.is_empty()).then_some(variant);
        self
    }

    /// What runs here, the best first: what `self` is, then what is less than it.
    #[must_use]
    pub fn accepts(&self) -> Vec<Self> {
        let with = |architecture: &str, variant: &str| {
            Self {
                os: self.os.clone(),
                architecture: architecture.to_owned(),
                variant: (!variant.is_empty()).then(|| variant.to_owned()),
                ..Self::default()
            }
            .normal()
        };
        let variant = self.variant.as_deref().unwrap_or_default();
        let number = variant.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        let arm =
            |from: u32| (5..=from).rev().map(|n| with("arm", &format!("v{n}"))).collect::<Vec<_>>();
        match (self.architecture.as_str(), number) {
            ("amd64", Some(level @ 2..=9)) => {
                let mut all: Vec<_> =
                    (1..=level).rev().map(|n| with("amd64", &format!("v{n}"))).collect();
                all.push(with("386", ""));
                all
            }
            ("amd64", _) if variant.is_empty() => vec![with("amd64", ""), with("386", "")],
            ("arm", Some(version @ 5..=8)) => arm(version),
            ("arm64", _) => {
                let mut all =
                    arm64_and_less(variant).iter().map(|v| with("arm64", v)).collect::<Vec<_>>();
                all.extend(arm(8));
                all
            }
            _ => vec![self.clone()],
        }
    }
}

/// The variants of arm64 that run on `variant`, the best first. v9.x has all of v8.(x+5).
fn arm64_and_less(variant: &str) -> Vec<String> {
    let parsed = variant.strip_prefix('v').and_then(|version| {
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let name = |major: u32, minor: u32| {
        if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") }
    };
    let mut all = Vec::new();
    let eight = match parsed {
        Some((9, minor)) if minor <= 9 => {
            all.extend((0..=minor).rev().map(|m| name(9, m)));
            (minor + 5).min(9)
        }
        Some((8, minor)) if minor <= 9 => minor,
        None if variant.is_empty() => 0,
        // Something new: itself, and what every arm64 runs.
        _ => {
            all.push(variant.to_owned());
            0
        }
    };
    all.extend((0..=eight).rev().map(|m| name(8, m)));
    all
}

#[cfg(target_arch = "x86_64")]
fn amd64_level() -> &'static str {
    // What the compiler may use at each level; LAHF-SAHF and CMPXCHG16B cannot be absent where the rest is there.
    macro_rules! all {
        ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
    }
    let v2 = all!("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cmpxchg16b");
    let v3 = v2 && all!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe");
    let v4 = v3 && all!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl");
    match (v2, v3, v4) {
        (_, _, true) => "v4",
        (_, true, _) => "v3",
        (true, _, _) => "v2",
        _ => "v1",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> &'static str {
    "v1"
}

/// The version of a 32 bit ARM, from /proc/cpuinfo.
fn arm_version() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    // The first Raspberry Pi says 7 and is 6.
    if field("model name").is_some_and(|model| model.contains("ARMv6-compatible")) {
        return "v6".to_owned();
    }
    match field("CPU architecture") {
        Some(version @ ("5" | "6" | "7" | "8")) => format!("v{version}"),
        _ => "v7".to_owned(),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// The entry of an index that fits `wanted` best; the first among equals. Statements about images are never chosen, and an
/// only entry without a platform always.
///
/// # Errors
/// [`Kind::NotFound`](crate::Kind::NotFound), naming the platforms there are.
pub fn choose<'a>(entries: &[&'a Descriptor], wanted: &Platform) -> Result<&'a Descriptor> {
    let images: Vec<&Descriptor> =
        entries.iter().copied().filter(|entry| !entry.is_attestation()).collect();
    if let [only] = images.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let found = wanted.accepts().into_iter().find_map(|candidate| {
        let fits = |entry: &&&Descriptor| {
            entry.platform.as_ref().is_some_and(|platform| {
                let platform = platform.clone().normal();
                (&platform.os, &platform.architecture, &platform.variant)
                    == (&candidate.os, &candidate.architecture, &candidate.variant)
            })
        };
        images.iter().find(fits).copied()
    });
    found.ok_or_else(|| {
        let mut names: Vec<String> = images
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(|p| p.to_string())
            .collect();
        names.dedup();
        names.truncate(40);
        let names =
            if names.is_empty() { "none that it names".to_owned() } else { names.join(", ") };
        Error::not_found(format!("the image is not for {wanted}; it is for {names}"))
            .hint("--platform chooses another")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::media::OCI_MANIFEST;

    fn entry(platform: &str) -> Descriptor {
        let mut entry = Descriptor::new(OCI_MANIFEST, Digest::of(platform.as_bytes()), 1);
        let mut parts = platform.split('/').map(str::to_owned);
        entry.platform = Some(Platform {
            os: parts.next().unwrap(),
            architecture: parts.next().unwrap(),
            variant: parts.next(),
            ..Platform::default()
        });
        entry
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<usize> {
        let entries: Vec<Descriptor> = platforms.iter().map(|p| entry(p)).collect();
        let refs: Vec<&Descriptor> = entries.iter().collect();
        let found = choose(&refs, &Platform::parse(wanted).unwrap()).ok()?;
        entries.iter().position(|e| e == found)
    }

    #[test]
    fn the_best_variant_wins() {
        for (platforms, wanted, expected) in [
            (&["linux/amd64", "linux/arm64/v8"] as &[&str], "linux/arm64", Some(1)),
            (&["linux/arm64"], "linux/arm64/v8", Some(0)),
            (&["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7", Some(1)),
            (&["linux/arm/v5", "linux/arm/v6"], "arm", Some(1)),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some(1)),
            (&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], "linux/amd64/v3", Some(2)),
            (&["linux/amd64/v4", "linux/amd64/v2"], "linux/amd64/v3", Some(1)),
            (&["linux/386"], "linux/amd64", Some(0)),
            (&["linux/arm64", "linux/arm64/v8.2"], "linux/arm64/v9", Some(1)),
            (&["linux/arm/v7"], "linux/arm64", Some(0)),
            (&["windows/amd64"], "linux/amd64", None),
            (&["unknown/unknown"], "linux/amd64", None),
            (&["linux/x86_64"], "linux/amd64", Some(0)),
            (&["linux/riscv64", "linux/riscv64"], "linux/riscv64", Some(0)),
        ] {
            assert_eq!(chosen(platforms, wanted), expected, "{platforms:?} for {wanted}");
        }
    }

    #[test]
    fn an_only_entry_needs_no_platform() {
        let mut only = entry("linux/amd64");
        only.platform = None;
        assert!(choose(&[&only], &Platform::host()).is_ok());
        let mut statement = entry("linux/amd64");
        let _absent = statement
            .annotations
            .insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
        assert!(choose(&[&only, &statement], &Platform::host()).is_ok());
        assert!(choose(&[&statement], &Platform::host()).is_err());
        assert!(choose(&[&only, &only], &Platform::host()).is_err());
        assert!(choose(&[], &Platform::host()).is_err());
    }

    #[test]
    fn spellings() {
        assert_eq!(Platform::parse("Linux/x86_64/v1").unwrap().to_string(), "linux/amd64");
        assert_eq!(Platform::parse("armhf").unwrap().to_string(), "linux/arm/v7");
        assert_eq!(Platform::parse("aarch64").unwrap().to_string(), "linux/arm64");
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/../x", "linux/am d64"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Platform::host().os, "linux");
    }
}
