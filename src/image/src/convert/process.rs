//! `process`: what runs, as whom, where, with what.

use std::os::fd::BorrowedFd;

use serde_json::{Map, Value, json};

use super::{Capabilities, ImageConfig, Mapping, Notes, Request, array, object, user};
use crate::error::{Error, Result};

/// Where programs are looked for in an image that does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fills `process` of `spec`.
///
/// # Errors
/// No program to run; a user the image does not have; variables without a name.
pub(super) fn fill(
    spec: &mut Map<String, Value>,
    image: &ImageConfig,
    root: BorrowedFd<'_>,
    request: &Request,
    notes: &mut Notes,
) -> Result<()> {
    let process = object(spec, "process")?;
    if request.terminal {
        process.insert("terminal".into(), true.into());
        notes.origin("process.terminal", "--tty");
    }
    arguments(process, image, request, notes)?;
    directory(process, image, request, notes);
    let home = run_as(process, image, root, request, notes)?;
    environment(process, image, request, home, notes)?;
    if request.base.is_none() || request.capabilities != Capabilities::default() {
        powers(process, request, notes);
    }
    if let Some(set) = request.no_new_privileges {
        process.insert("noNewPrivileges".into(), set.into());
        notes.origin("process.noNewPrivileges", "--no-new-privileges");
    }
    Ok(())
}

/// Entrypoint and Cmd, as Docker joins them: arguments take the place of Cmd, `--entrypoint` that of both.
fn arguments(
    process: &mut Map<String, Value>,
    image: &ImageConfig,
    request: &Request,
    notes: &mut Notes,
) -> Result<()> {
    let mut from = Vec::new();
    let entrypoint = match &request.entrypoint {
        Some(entrypoint) => {
            from.push("--entrypoint");
            entrypoint
        }
        None => &image.entrypoint,
    };
    if request.entrypoint.is_none() && !entrypoint.is_empty() {
        from.push("image: config.Entrypoint");
    }
    let nothing = Vec::new();
    let rest = match &request.args {
        Some(args) => {
            from.push("command line");
            args
        }
        None if request.entrypoint.is_some() => &nothing,
        None => {
            if !image.cmd.is_empty() {
                from.push("image: config.Cmd");
            }
            &image.cmd
        }
    };
    let args: Vec<&String> = entrypoint.iter().chain(rest).collect();
    if args.is_empty() {
        if process.get("args").and_then(Value::as_array).is_some_and(|args| !args.is_empty()) {
            notes.origin("process.args", "--config-from");
            return Ok(());
        }
        return Err(Error::usage(
            "the image does not say what to run: it has neither Entrypoint nor Cmd",
        )
        .hint("say it after --, as in: -- sh"));
    }
    process.insert("args".into(), json!(args));
    notes.origin("process.args", from.join(", "));
    Ok(())
}

fn directory(
    process: &mut Map<String, Value>,
    image: &ImageConfig,
    request: &Request,
    notes: &mut Notes,
) {
    let (wanted, from) = match &request.workdir {
        Some(wanted) => (wanted.as_str(), "--workdir"),
        None => (image.working_dir.as_str(), "image: config.WorkingDir"),
    };
    let (cwd, from) = match wanted {
        "" if process.contains_key("cwd") => return notes.origin("process.cwd", "--config-from"),
        "" => ("/".to_owned(), "default"),
        // It is not made, not even looked at, on the host: that is the runtime's, inside the container.
        absolute if absolute.starts_with('/') => (absolute.to_owned(), from),
        relative => (format!("/{relative}"), from),
    };
    process.insert("cwd".into(), cwd.into());
    notes.origin("process.cwd", from);
}

/// Sets `user`; the home directory of who it is.
fn run_as(
    process: &mut Map<String, Value>,
    image: &ImageConfig,
    root: BorrowedFd<'_>,
    request: &Request,
    notes: &mut Notes,
) -> Result<Option<String>> {
    let (text, from) = match &request.user {
        Some(user) => (user.as_str(), "--user"),
        None => (image.user.as_str(), "image: config.User"),
    };
    if text.is_empty() && request.base.is_some() && process.contains_key("user") {
        notes.origin("process.user", "--config-from");
        return Ok(None);
    }
    let found = user::find(root, text)?;
    found.warnings.iter().for_each(|warning| notes.warn(warning));
    let mut groups = found.groups;
    if let Some(mapping) = &request.mapping {
        for (what, map, id) in
            [("user", &mapping.uids, found.uid), ("group", &mapping.gids, found.gid)]
        {
            if !Mapping::has(map, id) {
                return Err(Error::usage(format!(
                    "the process is to run as the {what} {id} ({from} {text:?}), which the user namespace does not have"
                ))
                .hint("map more ids, or run it as root of the namespace with --user 0:0"));
            }
        }
        if mapping.rootless && mapping.gids.iter().all(|map| map.size == 1) {
            // user_namespaces(7): such a map comes with setgroups denied.
            groups.clear();
        }
        if mapping.rootless && found.uid == 0 && groups == [found.gid] {
            // Root gains nothing by it, and runc sets none for an ordinary user.
            groups.clear();
        }
        let before = groups.len();
        groups.retain(|group| Mapping::has(&mapping.gids, *group));
        if groups.len() < before {
            notes.warn("groups of the user that the user namespace does not have are left out");
        }
    }
    let user = object(process, "user")?;
    user.insert("uid".into(), found.uid.into());
    user.insert("gid".into(), found.gid.into());
    user.remove("additionalGids");
    if !groups.is_empty() {
        user.insert("additionalGids".into(), json!(groups));
    }
    notes.origin(
        "process.user",
        if text.is_empty() {
            "default: root".to_owned()
        } else {
            format!("{from} {text:?}, /etc/passwd and /etc/group of the image")
        },
    );
    Ok(Some(found.home.unwrap_or_else(|| "/".into())))
}

/// The image's variables, as they are; the command line's over them; what is missing then.
fn environment(
    process: &mut Map<String, Value>,
    image: &ImageConfig,
    request: &Request,
    home: Option<String>,
    notes: &mut Notes,
) -> Result<()> {
    let mut env = Environment::default();
    for entry in array(process, "env")?.iter() {
        let entry = entry
            .as_str()
            .ok_or_else(|| Error::usage("--config-from: process.env has what is no string"))?;
        env.set(entry, "--config-from").ok_or_else(|| {
            Error::usage(format!(
                "--config-from: process.env has {entry:?}, which is no NAME=VALUE"
            ))
        })?;
    }
    for (index, entry) in image.env.iter().enumerate() {
        // Never looked up on the host, which is how an image could have the host's secrets (CVE-2026-57231).
        env.set(entry, "image: config.Env").ok_or_else(|| {
            Error::verification(format!(
                "config.Env[{index}] of the image's configuration is no NAME=VALUE: {entry:?}"
            ))
        })?;
    }
    for entry in &request.env {
        env.set(entry, "--env")
            .ok_or_else(|| Error::usage(format!("--env {entry:?} is no NAME=VALUE")))?;
    }
    env.set_missing("PATH", PATH, "default");
    if request.terminal {
        env.set_missing("TERM", "xterm", "default, for --tty");
    }
    if let Some(home) = home {
        env.set_missing("HOME", &home, "/etc/passwd of the image");
    }
    for (entry, from) in &env.entries {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        notes.origin(format!("process.env {name}"), *from);
    }
    let entries: Vec<String> = env.entries.into_iter().map(|(entry, _)| entry).collect();
    process.insert("env".into(), json!(entries));
    Ok(())
}

/// Variables in the order they came, each once; the last value is its value.
#[derive(Default)]
struct Environment {
    entries: Vec<(String, &'static str)>,
    places: std::collections::HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, entry: &str, from: &'static str) -> Option<()> {
        let (name, _) = entry.split_once('=').filter(|(name, _)| !name.is_empty())?;
        if entry.contains('\0') {
            return None;
        }
        match self.places.get(name).and_then(|place| self.entries.get_mut(*place)) {
            Some(there) => *there = (entry.to_owned(), from),
            None => {
                self.places.insert(name.to_owned(), self.entries.len());
                self.entries.push((entry.to_owned(), from));
            }
        }
        Some(())
    }

    fn set_missing(&mut self, name: &str, value: &str, from: &'static str) {
        if !self.places.contains_key(name) {
            let _with_a_name = self.set(&format!("{name}={value}"), from);
        }
    }
}

fn powers(process: &mut Map<String, Value>, request: &Request, notes: &mut Notes) {
    let names = request.capabilities.names();
    process.insert(
        "capabilities".into(),
        json!({ "bounding": names, "effective": names, "permitted": names }),
    );
    let default = request.capabilities == Capabilities::Docker;
    notes.origin("process.capabilities", if default { "default: docker" } else { "--caps" });
    // With Docker's capabilities sudo and ping are to work; with fewer there is nothing for them to gain.
    process.insert("noNewPrivileges".into(), (!default).into());
    notes.origin("process.noNewPrivileges", "default of the capabilities");
}
