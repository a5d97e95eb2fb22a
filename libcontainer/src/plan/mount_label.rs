//! `linux.mountLabel`: the SELinux context of the file systems made for the container.

use std::ffi::{CStr, CString};

use super::cstring;
use crate::error::{Error, Result};
use crate::spec::annotations::MOUNT_CONTEXT_TYPE;
use crate::spec::{self, Spec};

/// The label, and the mount option that carries it (mount(8) "context").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLabel {
    /// `context`, `fscontext`, `defcontext` or `rootcontext`.
    pub option: &'static CStr,
    /// The context.
    pub text: CString,
}

/// What crun's annotation, which Podman sets, chooses from.
const OPTIONS: [&CStr; 4] = [c"context", c"fscontext", c"defcontext", c"rootcontext"];

/// Plans the label of all mounts.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) for an unknown option or a NUL.
pub(super) fn plan(spec: &Spec<'_>, linux: &spec::Linux<'_>) -> Result<Option<MountLabel>> {
    let label = linux.mount_label.as_deref().filter(|label| !label.is_empty());
    let Some(label) = label else { return Ok(None) };
    let wanted = spec.annotations.get(MOUNT_CONTEXT_TYPE).map_or("context", |word| word.as_str());
    let option = OPTIONS.into_iter().find(|option| option.to_bytes() == wanted.as_bytes());
    let option = option.ok_or_else(|| {
        Error::config(format!("{wanted:?} is no kind of mount context"))
            .field(format!("annotations[{MOUNT_CONTEXT_TYPE:?}]"))
            .hint("use context, fscontext, defcontext or rootcontext")
    })?;
    let text = cstring(label, || "linux.mountLabel".to_owned())?;
    Ok(Some(MountLabel { option, text }))
}

impl MountLabel {
    /// Whether a new file system of the type `kind`, with these options, gets it at the mount.
    ///
    /// procfs and sysfs have labels of their own, mqueue gets its one afterwards; and who gives a context knows better.
    pub fn is_for(&self, kind: &CStr, given: &[super::mounts::Parameter]) -> bool {
        let own =
            matches!(kind.to_bytes(), b"proc" | b"sysfs" | b"mqueue" | b"cgroup" | b"cgroup2");
        !own && !given.iter().any(|(key, _)| OPTIONS.contains(&key.as_c_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(
        label: &'static str,
        annotation: Option<&'static str>,
    ) -> Result<Option<MountLabel>> {
        let linux = spec::Linux { mount_label: Some(label.into()), ..spec::Linux::default() };
        let config = annotation.map_or_else(
            || "{}".to_owned(),
            |word| format!(r#"{{"annotations": {{"{MOUNT_CONTEXT_TYPE}": "{word}"}}}}"#),
        );
        let spec: Spec<'_> = serde_json::from_str(&config).unwrap();
        plan(&spec, &linux)
    }

    #[test]
    fn the_annotation_chooses_the_option() {
        assert_eq!(planned("", None).unwrap(), None);
        let label = planned("system_u:object_r:t:s0:c1,c2", None).unwrap().unwrap();
        assert_eq!(
            (label.option, label.text.as_c_str()),
            (c"context", c"system_u:object_r:t:s0:c1,c2")
        );
        for word in ["context", "fscontext", "defcontext", "rootcontext"] {
            assert_eq!(
                planned("x", Some(word)).unwrap().unwrap().option.to_bytes(),
                word.as_bytes()
            );
        }
        let error = planned("x", Some("nocontext")).unwrap_err().to_string();
        assert!(error.contains(MOUNT_CONTEXT_TYPE), "{error}");
        assert!(planned("a\0b", None).unwrap_err().to_string().contains("linux.mountLabel"));
    }

    #[test]
    fn some_file_systems_have_their_own() {
        let label = planned("x", None).unwrap().unwrap();
        assert!(
            label.is_for(c"tmpfs", &[]) && label.is_for(c"overlay", &[(c"ro".to_owned(), None)])
        );
        assert!(!label.is_for(c"proc", &[]) && !label.is_for(c"mqueue", &[]));
        assert!(!label.is_for(c"tmpfs", &[(c"rootcontext".to_owned(), Some(c"y".to_owned()))]));
    }
}
