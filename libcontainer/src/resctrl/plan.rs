//! `linux.intelRdt`, checked. Pure.

use super::{CLOS_FIELD, FIELD};
use crate::error::{Error, Result};
use crate::spec::IntelRdt;

/// Names at the root of a class or of the file system that are no classes.
const RESERVED: &[&str] = &[".", "..", "info", "mon_groups", "mon_data"];

/// Lines for a `schemata` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schemata(Vec<String>);

impl Schemata {
    /// `l3CacheSchema` first, then `memBwSchema`, then the lines of `schemata`.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for a memBwSchema that does not begin with `MB:`, and for line breaks and NUL.
    pub fn new(l3: Option<&str>, mb: Option<&str>, lines: &[&str]) -> Result<Self> {
        let mut list = Vec::new();
        // "SHOULD NOT contain newlines", and callers have put two lines in it.
        for line in l3.unwrap_or_default().lines() {
            list.push(one_line(line, format!("{FIELD}.l3CacheSchema"))?);
        }
        if let Some(mb) = mb.filter(|mb| !mb.is_empty()) {
            let field = format!("{FIELD}.memBwSchema");
            if !mb.starts_with("MB:") {
                return Err(Error::config(format!("{mb:?} does not begin with MB:")).field(field));
            }
            list.push(one_line(mb, field)?);
        }
        for (i, line) in lines.iter().enumerate() {
            list.push(one_line(line, format!("{FIELD}.schemata[{i}]"))?);
        }
        list.retain(|line| !line.is_empty());
        Ok(Self(list))
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `resource` (such as `L3`, also as `L3CODE`) is one of those asked for.
    pub(super) fn names(&self, resource: &str) -> bool {
        self.0.iter().any(|line| line.trim_start().starts_with(resource))
    }

    /// What is written.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Checks that `present`, the content of a schemata file, says what these lines say. It may say more.
    pub(super) fn compare(&self, present: &str) -> Result<()> {
        for line in &self.0 {
            let (resource, wanted) = line.split_once(':').unwrap_or((line, ""));
            let resource = resource.trim();
            let found = present.lines().find_map(|other| {
                let (name, values) = other.split_once(':')?;
                (name.trim() == resource).then_some(values)
            });
            let same = |wanted: &str| {
                let (domain, value) = wanted.split_once('=').unwrap_or((wanted, ""));
                found.unwrap_or_default().split(';').any(|other| {
                    let (other_domain, other_value) = other.split_once('=').unwrap_or((other, ""));
                    domain.trim() == other_domain.trim() && is_same(resource, value, other_value)
                })
            };
            if !wanted.split(';').all(same) {
                return Err(Error::config(format!(
                    "the class of service exists with other schemata: {line:?} is asked, and it has {:?}",
                    found.map(str::trim).unwrap_or("nothing of the kind")
                ))
                .field(CLOS_FIELD));
            }
        }
        Ok(())
    }
}

/// Bit masks have any number of leading zeros, and numbers any blanks before them.
fn is_same(resource: &str, one: &str, other: &str) -> bool {
    let (one, other) = (one.trim(), other.trim());
    let radix = if resource.starts_with('L') { 16 } else { 10 };
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), radix).ok();
    one == other || number(one).is_some_and(|number_one| number(other) == Some(number_one))
}

fn one_line(text: &str, field: String) -> Result<String> {
    if text.contains(['\n', '\0']) {
        return Err(Error::config(format!("{text:?} has a line break or a NUL in it")).field(field));
    }
    Ok(text.to_owned())
}

/// A container's place in resctrl, planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResctrlPlan {
    /// Name of the class; `None` is the root.
    class: Option<String>,
    /// Whether the class is the container's own.
    pub(super) own: bool,
    pub(super) id: String,
    pub(super) schemata: Schemata,
    pub(super) monitoring: bool,
}

impl ResctrlPlan {
    /// Decides where the container `id` goes.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] naming the property.
    pub fn build(rdt: &IntelRdt<'_>, id: &str) -> Result<Self> {
        let lines: Vec<&str> = rdt.schemata.iter().map(AsRef::as_ref).collect();
        let schemata =
            Schemata::new(rdt.l3_cache_schema.as_deref(), rdt.mem_bw_schema.as_deref(), &lines)?;
        let given = rdt.clos_id.as_deref().filter(|name| !name.is_empty());
        let name = given.unwrap_or(id);
        let is_root = given == Some("/");
        let is_name = !name.contains(['/', '\0', '\n']) && !RESERVED.contains(&name);
        if !is_root && (!is_name || name.len() > 255) {
            let error = Error::config(format!("invalid intelRdt.ClosID {name:?}"));
            let field = if given.is_some() { CLOS_FIELD } else { FIELD };
            return Err(error
                .field(field)
                .hint("it is the name of a directory, or / for the root"));
        }
        Ok(Self {
            class: (!is_root).then(|| name.to_owned()),
            own: given.is_none(),
            id: id.to_owned(),
            schemata,
            monitoring: rdt.enable_monitoring == Some(true),
        })
    }

    /// A class of its own for the container `id`, which was made without.
    pub fn own(id: &str) -> Self {
        Self {
            class: Some(id.to_owned()),
            own: true,
            id: id.to_owned(),
            schemata: Schemata::default(),
            monitoring: false,
        }
    }

    /// Name of the class; `None` is the root.
    pub(super) fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }
}
