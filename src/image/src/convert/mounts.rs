//! Mounts that are not the kernel's: the image's volumes, `--mount`, and the host's files that `--net host` needs.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use libcontainer::path::{self, clean};
use libcontainer::sys::fd;
use serde_json::{Map, Value, json};

use super::{ImageConfig, Mapping, Network, Notes, Request, Volumes, array};
use crate::error::{Error, Result};

/// Volumes of an image: more are no image but an attack.
const MAX_VOLUMES: usize = 256;
/// Where the kernel's file systems are. An image that puts something over them would hide masked paths.
const RESERVED: &[&str] = &["proc", "sys", "dev"];

/// Fills `mounts` of `spec`.
///
/// # Errors
/// Too many volumes.
pub(super) fn fill(
    spec: &mut Map<String, Value>,
    image: &ImageConfig,
    root: BorrowedFd<'_>,
    request: &Request,
    notes: &mut Notes,
) -> Result<()> {
    let mounts = array(spec, "mounts")?;
    if request.network == Network::Host && request.base.is_none() {
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            if std::fs::metadata(file).is_ok_and(|found| found.is_file()) {
                mounts.push(json!({ "destination": file, "type": "bind", "source": file,
                    "options": ["bind", "nosuid", "noexec", "nodev", "ro"] }));
                notes.origin(format!("mounts {file}"), "--net host");
            }
        }
    }
    volumes(mounts, image, root, request, notes)?;
    for mount in &request.mounts {
        let destination = mount.get("destination").and_then(Value::as_str).unwrap_or_default();
        notes.origin(format!("mounts {destination}"), "--mount");
        mounts.push(mount.clone());
    }
    Ok(())
}

fn volumes(
    mounts: &mut Vec<Value>,
    image: &ImageConfig,
    root: BorrowedFd<'_>,
    request: &Request,
    notes: &mut Notes,
) -> Result<()> {
    if image.volumes.len() > MAX_VOLUMES {
        return Err(Error::unsupported(format!(
            "the image has {} volumes; {MAX_VOLUMES} is the most",
            image.volumes.len()
        )));
    }
    if request.volumes == Volumes::Ignore {
        return Ok(());
    }
    let wanted: Vec<String> = request
        .mounts
        .iter()
        .filter_map(|mount| mount.get("destination").and_then(Value::as_str).map(clean))
        .collect();
    let mut made: Vec<String> = Vec::new();
    for volume in &image.volumes {
        let place = clean(volume);
        let first = place.split('/').next().unwrap_or_default();
        if place.is_empty() || RESERVED.contains(&first) {
            notes.warn(format!(
                "the image's volume {volume:?} is left out: what is there is the container's own"
            ));
            continue;
        }
        // Docker does the same: what the caller mounts there is the volume.
        if wanted.contains(&place) || made.contains(&place) {
            continue;
        }
        let mut options: Vec<String> =
            ["rw", "nosuid", "nodev", "tmpcopyup"].map(str::to_owned).to_vec();
        options.extend(owner(root, &place, request.mapping.as_ref()));
        mounts.push(json!({ "destination": format!("/{place}"), "type": "tmpfs", "source": "tmpfs", "options": options }));
        notes.origin(format!("mounts /{place}"), "image: config.Volumes");
        made.push(place);
    }
    Ok(())
}

/// Options that give a tmpfs the mode and owner of the directory it covers, which its programs rely on.
fn owner(root: BorrowedFd<'_>, place: &str, mapping: Option<&Mapping>) -> Vec<String> {
    let Ok(name) = CString::new(place) else { return Vec::new() };
    let Ok(found) = path::open(root, &name) else { return Vec::new() };
    let Ok(stat) = fd::stat(found.as_fd(), c"") else { return Vec::new() };
    if !stat.is(libc::S_IFDIR) {
        return Vec::new();
    }
    let mut options = vec![format!("mode={:04o}", stat.mode & 0o1777)];
    let inside = |id, map: fn(&Mapping) -> &[super::IdMap]| match mapping {
        Some(mapping) => Mapping::inside(map(mapping), id),
        None => Some(id),
    };
    for (name, id) in [
        ("uid", inside(stat.uid, |mapping| &mapping.uids)),
        ("gid", inside(stat.gid, |mapping| &mapping.gids)),
    ] {
        if let Some(id) = id.filter(|id| *id != 0) {
            options.push(format!("{name}={id}"));
        }
    }
    options
}

/// Reads a `--mount`: Docker's `type=bind,source=A,target=B,readonly`, or a mount of config.json as JSON. A relative
/// source is below `here`.
///
/// # Errors
/// What is neither.
pub fn parse(text: &str, here: &Path) -> Result<Value> {
    let bad = |why: String| Error::usage(format!("--mount {text:?}: {why}"));
    if text.trim_start().starts_with('{') {
        let mount: Value = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        return match mount.get("destination").and_then(Value::as_str) {
            Some(destination) if destination.starts_with('/') => Ok(mount),
            _ => Err(bad("it has no absolute destination".into())),
        };
    }
    let mut mount = Wanted::default();
    for field in fields(text).ok_or_else(|| bad("a quotation mark is not closed".into()))? {
        mount.field(&field).map_err(bad)?;
    }
    mount.build(here).map_err(bad)
}

/// Comma-separated fields; one with commas stands in quotation marks, as Docker takes it.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let field = fields.last_mut()?;
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    (!quoted).then_some(fields)
}

#[derive(Default)]
struct Wanted {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    options: Vec<String>,
    read_only: bool,
    not_recursive: bool,
}

impl Wanted {
    fn field(&mut self, field: &str) -> Result<(), String> {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (field, None),
        };
        let some = || value.map(str::to_owned).ok_or_else(|| format!("{name} wants a value"));
        let switch = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("{name}={other} is neither true nor false")),
        };
        match name {
            "type" => self.kind = Some(some()?),
            "source" | "src" => self.source = Some(some()?),
            "target" | "destination" | "dst" => self.target = Some(some()?),
            "readonly" | "ro" => self.read_only = switch()?,
            "bind-nonrecursive" => self.not_recursive = switch()?,
            "bind-propagation" | "option" => self.options.push(some()?),
            "tmpfs-size" => self.options.push(format!("size={}", some()?)),
            "tmpfs-mode" => self.options.push(format!("mode={}", some()?)),
            "" => return Err("it has an empty field".into()),
            other => return Err(format!("there is no field {other:?}")),
        }
        Ok(())
    }

    fn build(mut self, here: &Path) -> Result<Value, String> {
        let target = self.target.ok_or("it has no target")?;
        if !target.starts_with('/') {
            return Err(format!("the target {target:?} is not absolute"));
        }
        let kind = self.kind.as_deref().unwrap_or("bind");
        let source = match (kind, self.source) {
            ("volume" | "image" | "npipe" | "cluster", _) => {
                return Err(format!("type {kind} needs an engine"));
            }
            ("bind", None) => return Err("a bind has a source".into()),
            ("bind", Some(source)) => {
                let source = here.join(source);
                source.to_str().ok_or("its source is not UTF-8")?.to_owned()
            }
            (_, Some(source)) => source,
            (other, None) => other.to_owned(),
        };
        if kind == "bind" {
            self.options.insert(0, if self.not_recursive { "bind" } else { "rbind" }.into());
        }
        if self.read_only {
            self.options.push("ro".into());
        }
        Ok(
            json!({ "destination": target, "type": kind, "source": source, "options": self.options }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_said_in_dockers_words_or_the_specifications() {
        let here = Path::new("/here");
        let read = |text| parse(text, here).unwrap();
        assert_eq!(
            read("type=bind,source=data,target=/data,readonly"),
            json!({"destination":"/data","type":"bind","source":"/here/data","options":["rbind","ro"]})
        );
        assert_eq!(
            read("src=/a,dst=/b,bind-nonrecursive=true,bind-propagation=rslave,ro=false"),
            json!({"destination":"/b","type":"bind","source":"/a","options":["bind","rslave"]})
        );
        assert_eq!(
            read(r#"type=tmpfs,"target=/with,comma ""x""",tmpfs-size=1m,tmpfs-mode=1777"#),
            json!({"destination":"/with,comma \"x\"","type":"tmpfs","source":"tmpfs","options":["size=1m","mode=1777"]})
        );
        assert_eq!(
            read(r#"{"destination":"/a","type":"tmpfs"}"#),
            json!({"destination":"/a","type":"tmpfs"})
        );
        for (text, words) in [
            ("", "empty field"),
            ("src=/a", "no target"),
            ("dst=/a", "has a source"),
            ("src=/a,dst=b", "not absolute"),
            ("src=/a,dst=/b,x=y", "no field \"x\""),
            ("src,dst=/b", "wants a value"),
            ("type=volume,src=a,dst=/b", "needs an engine"),
            ("src=/a,dst=/b,ro=perhaps", "neither true nor false"),
            ("\"src=/a,dst=/b", "not closed"),
            ("{}", "no absolute destination"),
            (r#"{"destination":"a"}"#, "no absolute destination"),
            ("{", "EOF"),
        ] {
            let error = parse(text, here).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Usage);
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }
}
