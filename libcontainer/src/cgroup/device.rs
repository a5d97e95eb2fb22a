//! Rules of the device controller: a list where the last rule that matches decides, for each kind of access.

use crate::spec::DeviceRule;
use crate::{Error, Result};

/// `BPF_DEVCG_ACC_MKNOD`, `_READ` and `_WRITE`.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block,
    Char,
}

/// One rule; an absent number is every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of [`MKNOD`], [`READ`] and [`WRITE`].
    pub access: u8,
}

impl Rule {
    /// Whether every device `other` names is one of this rule's.
    fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    fn same_devices(&self, other: &Self) -> bool {
        self.kind == other.kind && self.major == other.major && self.minor == other.minor
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meets(self.major, other.major) && meets(self.minor, other.minor)
    }

    /// The line of `devices.allow` or `devices.deny`.
    pub(super) fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let mut line = format!("{kind} {}:{} ", number(self.major), number(self.minor));
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                line.push(letter);
            }
        }
        line
    }
}

/// The rules of one container, in order, as far as the last one for all devices matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// What holds for a device no rule names.
    pub default_allow: bool,
    pub list: Vec<Rule>,
}

const fn char_device(major: u32, minor: Option<u32>) -> Rule {
    Rule { allow: true, kind: Kind::Char, major: Some(major), minor, access: ALL }
}

/// What every container may use (config-linux.md "Default Devices"), and making nodes, which by itself opens nothing.
const DEFAULT: &[Rule] = &[
    Rule { allow: true, kind: Kind::Char, major: None, minor: None, access: MKNOD },
    Rule { allow: true, kind: Kind::Block, major: None, minor: None, access: MKNOD },
    char_device(1, Some(3)),    // null
    char_device(1, Some(5)),    // zero
    char_device(1, Some(7)),    // full
    char_device(1, Some(8)),    // random
    char_device(1, Some(9)),    // urandom
    char_device(5, Some(0)),    // tty
    char_device(5, Some(1)),    // console
    char_device(136, None),     // pts
    char_device(5, Some(2)),    // ptmx
    char_device(10, Some(200)), // net/tun
];

impl Rules {
    /// Reads `linux.resources.devices`; `defaults` appends what every container may use. Nothing is allowed at the
    /// start, as in runc.
    pub(super) fn new(rules: &[DeviceRule<'_>], defaults: bool) -> Result<Self> {
        let mut out = Self { default_allow: false, list: Vec::new() };
        for (i, rule) in rules.iter().enumerate() {
            out.add(rule).map_err(|(name, error)| {
                error.field(format!("linux.resources.devices[{i}].{name}"))
            })?;
        }
        if defaults {
            out.list.extend_from_slice(DEFAULT);
        }
        Ok(out)
    }

    /// Adds a rule, or says which of its properties is wrong.
    fn add(&mut self, rule: &DeviceRule<'_>) -> Result<(), (&'static str, Error)> {
        let access = match rule.access.as_deref() {
            None | Some("") => ALL,
            Some(letters) => access(letters).map_err(|error| ("access", error))?,
        };
        let major = number(rule.major, 0xfff, "major").map_err(|error| ("major", error))?;
        let minor = number(rule.minor, 0xf_ffff, "minor").map_err(|error| ("minor", error))?;
        let kinds: &[Kind] = match rule.kind.as_deref() {
            None | Some("a" | "") => &[Kind::Block, Kind::Char],
            Some("b") => &[Kind::Block],
            Some("c") => &[Kind::Char],
            Some(other) => {
                let sentence = format!("the device type {other:?} is not a, b or c");
                return Err(("type", Error::config(sentence)));
            }
        };
        if kinds.len() == 2 && major.is_none() && minor.is_none() && access == ALL {
            self.default_allow = rule.allow;
            self.list.clear();
            return Ok(());
        }
        for &kind in kinds {
            self.list.push(Rule { allow: rule.allow, kind, major, minor, access });
        }
        Ok(())
    }

    /// The same rules without order: devices to which the opposite of the default applies, each once.
    ///
    /// # Errors
    /// The rule that would punch a hole into a wider one, which version 1 has no words for.
    pub(super) fn exceptions(&self) -> std::result::Result<Vec<Rule>, Rule> {
        let mut out: Vec<Rule> = Vec::new();
        for rule in &self.list {
            if rule.allow == self.default_allow {
                for exception in &mut out {
                    if rule.covers(exception) {
                        exception.access &= !rule.access;
                    } else if rule.overlaps(exception) && rule.access & exception.access != 0 {
                        return Err(*rule);
                    }
                }
                out.retain(|exception| exception.access != 0);
            } else if let Some(same) = out.iter_mut().find(|e| e.same_devices(rule)) {
                same.access |= rule.access;
            } else {
                out.push(*rule);
            }
        }
        Ok(out)
    }

    /// Whether everything is allowed, so that nothing needs to be done.
    pub(super) fn allow_all(&self) -> bool {
        self.default_allow && self.list.iter().all(|rule| rule.allow)
    }
}

fn access(letters: &str) -> Result<u8> {
    let mut access = 0;
    for letter in letters.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // "All", as for a type; runc has always taken it.
            'a' => READ | WRITE | MKNOD,
            other => {
                return Err(Error::config(format!(
                    "the device access {other:?} is not one of r, w and m"
                )));
            }
        };
    }
    Ok(access)
}

/// One above `max` no device has; and version 1 takes the highest there is for every device.
fn number(value: Option<i64>, max: u32, name: &str) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => Err(Error::config(format!("{value} is not a {name} device number"))),
        },
    }
}

/// The state of a version 1 cgroup, read from `devices.list`.
pub(super) fn parse_list(text: &str) -> Rules {
    let mut out = Rules { default_allow: false, list: Vec::new() };
    for line in text.lines() {
        let mut words = line.split([' ', ':']);
        let kind = match words.next() {
            // "a *:* rwm" is alone: the kernel does not show the exceptions to it.
            Some("a") => return Rules { default_allow: true, list: Vec::new() },
            Some("b") => Kind::Block,
            Some("c") => Kind::Char,
            _ => continue,
        };
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
        let major = number(words.next());
        let minor = number(words.next());
        let access = words.next().and_then(|letters| access(letters).ok()).unwrap_or(ALL);
        out.list.push(Rule { allow: true, kind, major, minor, access });
    }
    out
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
