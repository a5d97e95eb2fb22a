//! `process` of `config.json` or of `exec --process` → what the new process does to itself before execve(2).

use std::collections::BTreeMap;
use std::ffi::CString;

use super::caps::CapSets;
use super::memory_policy::{self, MemoryPolicy};
use super::scheduling::Scheduling;
use super::{cstring, personality};
use crate::error::{Error, Result};
use crate::seccomp::Filter;
use crate::spec;
use crate::sys::exec::CStrArray;

/// Everything about the process itself; the same for a container's init and for `exec`.
#[derive(Debug)]
pub struct ProcessPlan {
    /// argv.
    pub argv: CStrArray,
    /// Environment, without doubles.
    pub env: CStrArray,
    /// Value of PATH in it, for the search of `argv[0]`.
    pub search_path: Option<CString>,
    /// Whether HOME is to be found in the container's /etc/passwd.
    pub find_home: bool,
    /// Working directory.
    pub cwd: CString,
    /// User id, in the container.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; `None` leaves those of the caller (run.oci.keep_original_groups).
    pub groups: Option<Vec<u32>>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capabilities.
    pub caps: CapSets,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// Resource limits: number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// The seccomp filter.
    pub seccomp: Option<Filter>,
    /// Terminal, and its size.
    pub terminal: Option<Option<spec::ConsoleSize>>,
    /// AppArmor profile.
    pub apparmor: Option<CString>,
    /// SELinux label.
    pub selinux: Option<CString>,
    /// Scheduler, I/O priority and CPUs.
    pub scheduling: Scheduling,
    /// NUMA memory policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    pub personality: Option<libc::c_ulong>,
}

/// umask where `process.user.umask` is absent: as runc and crun have it; images rely on it (decisions of the field,
/// config.md says otherwise).
const DEFAULT_UMASK: u32 = 0o022;

/// Resource names and numbers (getrlimit(2)).
#[allow(clippy::unnecessary_cast, reason = "the constants are ints in musl, unsigned in glibc")]
const RLIMITS: &[(&str, u32)] = &[
    ("RLIMIT_AS", libc::RLIMIT_AS as u32),
    ("RLIMIT_CORE", libc::RLIMIT_CORE as u32),
    ("RLIMIT_CPU", libc::RLIMIT_CPU as u32),
    ("RLIMIT_DATA", libc::RLIMIT_DATA as u32),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE as u32),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS as u32),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK as u32),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE as u32),
    ("RLIMIT_NICE", libc::RLIMIT_NICE as u32),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE as u32),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC as u32),
    ("RLIMIT_RSS", libc::RLIMIT_RSS as u32),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO as u32),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME as u32),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING as u32),
    ("RLIMIT_STACK", libc::RLIMIT_STACK as u32),
];

/// The name of resource `number`.
pub fn rlimit_name(number: u32) -> &'static str {
    RLIMITS.iter().find(|(_, known)| *known == number).map_or("RLIMIT_?", |(name, _)| name)
}

/// What the plan of a process needs besides `process` itself.
#[derive(Debug, Default)]
pub struct Context<'a> {
    /// The compiled filter.
    pub seccomp: Option<Filter>,
    /// Variables the runtime adds at the end.
    pub extra_env: Vec<String>,
    /// run.oci.keep_original_groups.
    pub keep_groups: bool,
    /// `linux.memoryPolicy`.
    pub memory_policy: Option<&'a spec::MemoryPolicy<'a>>,
    /// `linux.personality`.
    pub personality: Option<&'a spec::Personality<'a>>,
}

impl ProcessPlan {
    /// Plans `process`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) naming the field.
    pub fn build(
        process: &spec::Process<'_>,
        context: Context<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let user = process.user.clone().unwrap_or_default();
        let env = environment(process, context.extra_env)?;
        let search_path = variable(&env, "PATH=").map(ToOwned::to_owned);
        let find_home = variable(&env, "HOME=").is_none_or(str::is_empty);
        let caps = process.capabilities.as_ref();
        Ok(Self {
            argv: arguments(process)?,
            search_path: search_path
                .map(|path| cstring(&path, || "process.env".to_owned()))
                .transpose()?,
            find_home,
            env: CStrArray::new(
                env.iter()
                    .filter(|entry| !(find_home && entry.starts_with("HOME=")))
                    .enumerate()
                    .map(|(i, entry)| cstring(entry, || format!("process.env[{i}]")))
                    .collect::<Result<_>>()?,
            ),
            cwd: working_directory(process)?,
            uid: id(user.uid, "uid")?,
            gid: id(user.gid, "gid")?,
            groups: groups(&user, context.keep_groups)?,
            umask: umask(&user)?,
            // Absent capabilities are none: an omission must not give the container everything.
            caps: caps.map(|caps| CapSets::parse(caps, warnings)).unwrap_or_default(),
            no_new_privileges: process.no_new_privileges.unwrap_or(false),
            rlimits: rlimits(process)?,
            oom_score_adj: oom_score_adj(process)?,
            seccomp: context.seccomp,
            terminal: terminal(process)?,
            apparmor: label(process.apparmor_profile.as_ref(), "process.apparmorProfile")?,
            selinux: label(process.selinux_label.as_ref(), "process.selinuxLabel")?,
            scheduling: Scheduling::build(process)?,
            memory_policy: memory_policy::plan(context.memory_policy)?,
            personality: personality::plan(context.personality)?,
        })
    }
}

impl ProcessPlan {
    /// Whether the filter may forbid the last step, or kill who tries it.
    pub fn filter_denies_execve(&self) -> bool {
        self.seccomp.as_ref().is_some_and(|filter| !filter.allows(libc::SYS_execve))
    }

    /// Whether the process writes to its own files in procfs: labels and `oomScoreAdj`.
    pub fn writes_to_proc(&self) -> bool {
        self.apparmor.is_some() || self.selinux.is_some() || self.oom_score_adj.is_some()
    }

    /// Plans the process of a container that will never be started: it waits, and may nothing.
    ///
    /// # Errors
    /// Those of [`ProcessPlan::build`] for what is not in `process`.
    pub fn without_program(context: Context<'_>) -> Result<Self> {
        let nothing = spec::Process {
            args: spec::List(vec!["none".into()]),
            cwd: Some("/".into()),
            ..spec::Process::default()
        };
        let plan = Self::build(&nothing, context, &mut Vec::new())?;
        Ok(Self { argv: CStrArray::new(Vec::new()), find_home: false, ..plan })
    }
}

fn label(text: Option<&spec::Str<'_>>, field: &str) -> Result<Option<CString>> {
    text.filter(|text| !text.is_empty()).map(|text| cstring(text, || field.to_owned())).transpose()
}

fn arguments(process: &spec::Process<'_>) -> Result<CStrArray> {
    if process.args.is_empty() {
        return Err(Error::config("args must not be empty").field("process.args"));
    }
    if process.args.first().is_some_and(|name| name.is_empty()) {
        return Err(Error::config("exec: \"\": executable file not found in $PATH")
            .field("process.args[0]"));
    }
    let strings = process.args.iter().enumerate();
    let strings = strings.map(|(i, arg)| cstring(arg, || format!("process.args[{i}]")));
    Ok(CStrArray::new(strings.collect::<Result<_>>()?))
}

/// The environment with each name once, the last value winning, at the place of the first.
fn environment(process: &spec::Process<'_>, extra: Vec<String>) -> Result<Vec<String>> {
    let list = Vec::with_capacity(process.env.len() + extra.len() + 1);
    let mut variables = Variables { list, places: BTreeMap::new() };
    for (i, entry) in process.env.iter().enumerate() {
        match entry.split_once('=') {
            Some((name, _)) if !name.is_empty() => variables.add(entry.to_string()),
            _ => {
                return Err(Error::config(format!(
                    "invalid environment variable {entry:?}: it needs a name and \"=\""
                ))
                .field(format!("process.env[{i}]")));
            }
        }
    }
    extra.into_iter().for_each(|entry| variables.add(entry));
    Ok(variables.list)
}

/// As many variables as are looked through; a service has as many as a cluster has services.
const FEW: usize = 64;

struct Variables {
    list: Vec<String>,
    /// Where each name is in `list`, once there are more than a few.
    places: BTreeMap<String, usize>,
}

impl Variables {
    fn add(&mut self, entry: String) {
        let name = name_of(&entry);
        let place = if self.list.len() < FEW {
            self.list.iter().position(|known| known.starts_with(name))
        } else {
            if self.places.is_empty() {
                let known = self.list.iter().enumerate();
                self.places = known.map(|(i, entry)| (name_of(entry).to_owned(), i)).collect();
            }
            self.places.get(name).copied()
        };
        match place.and_then(|place| self.list.get_mut(place)) {
            Some(known) => *known = entry,
            None => {
                if !self.places.is_empty() {
                    self.places.insert(name.to_owned(), self.list.len());
                }
                self.list.push(entry);
            }
        }
    }
}

/// The name of a variable and its `=`.
fn name_of(entry: &str) -> &str {
    entry.find('=').and_then(|end| entry.get(..=end)).unwrap_or(entry)
}

fn variable<'e>(env: &'e [String], name: &str) -> Option<&'e str> {
    env.iter().find_map(|entry| entry.strip_prefix(name))
}

fn working_directory(process: &spec::Process<'_>) -> Result<CString> {
    let cwd = process.cwd.as_deref().unwrap_or_default();
    if cwd.is_empty() {
        return Err(Error::config("cwd property must not be empty").field("process.cwd"));
    }
    if !cwd.starts_with('/') {
        return Err(Error::config("cwd must be an absolute path").field("process.cwd"));
    }
    cstring(cwd, || "process.cwd".to_owned())
}

/// The kernel takes the largest number for "leave it as it is", which would be root.
const NOBODY: u32 = u32::MAX;

/// The most groups a process may have (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

fn id(id: Option<u32>, name: &str) -> Result<u32> {
    match id.unwrap_or(0) {
        NOBODY => Err(Error::config(format!("{NOBODY} is not a valid {name}"))
            .field(format!("process.user.{name}"))),
        id => Ok(id),
    }
}

fn groups(user: &spec::User, keep: bool) -> Result<Option<Vec<u32>>> {
    let groups = &user.additional_gids;
    if let Some(i) = groups.iter().position(|gid| *gid == NOBODY) {
        return Err(Error::config(format!("{NOBODY} is not a valid gid"))
            .field(format!("process.user.additionalGids[{i}]")));
    }
    if groups.len() > MAX_GROUPS {
        return Err(Error::config(format!(
            "{} groups; the kernel takes {MAX_GROUPS}",
            groups.len()
        ))
        .field("process.user.additionalGids"));
    }
    Ok((!keep).then(|| groups.0.clone()))
}

/// The size of the terminal, if there is one: without it `consoleSize` is ignored.
fn terminal(process: &spec::Process<'_>) -> Result<Option<Option<spec::ConsoleSize>>> {
    if !process.terminal.unwrap_or(false) {
        return Ok(None);
    }
    let size = process.console_size.unwrap_or_default();
    for (value, name) in [(size.height, "height"), (size.width, "width")] {
        if value > u32::from(u16::MAX) {
            return Err(Error::config(format!("{value}; a terminal has at most {}", u16::MAX))
                .field(format!("process.consoleSize.{name}")));
        }
    }
    Ok(Some(process.console_size))
}

fn umask(user: &spec::User) -> Result<u32> {
    match user.umask {
        None => Ok(DEFAULT_UMASK),
        Some(mask) if mask <= 0o777 => Ok(mask),
        Some(mask) => Err(Error::config(format!("umask {mask} is over 511 (octal 0777)"))
            .field("process.user.umask")),
    }
}

fn rlimits(process: &spec::Process<'_>) -> Result<Vec<(u32, u64, u64)>> {
    let mut list: Vec<(u32, u64, u64)> = Vec::with_capacity(process.rlimits.len());
    for (i, limit) in process.rlimits.iter().enumerate() {
        let field = || format!("process.rlimits[{i}]");
        let kind = limit.kind.as_str();
        let Some((_, number)) = RLIMITS.iter().find(|(name, _)| *name == kind) else {
            return Err(Error::config(format!("invalid rlimit type: {kind:?}"))
                .field(format!("{}.type", field())));
        };
        if list.iter().any(|(known, _, _)| known == number) {
            return Err(Error::config(format!("duplicated rlimit type: {kind:?}")).field(field()));
        }
        if limit.soft > limit.hard {
            return Err(Error::config(format!(
                "the soft limit {} of {kind} is above the hard one {}",
                limit.soft, limit.hard
            ))
            .field(field()));
        }
        list.push((*number, limit.soft, limit.hard));
    }
    Ok(list)
}

fn oom_score_adj(process: &spec::Process<'_>) -> Result<Option<i32>> {
    match process.oom_score_adj {
        Some(value) if !(-1000..=1000).contains(&value) => {
            Err(Error::config(format!("oomScoreAdj {value} is not within -1000 and 1000"))
                .field("process.oomScoreAdj"))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ProcessPlan> {
        let process: spec::Process<'_> = serde_json::from_str(json).unwrap();
        ProcessPlan::build(&process, Context::default(), &mut Vec::new())
    }

    #[test]
    fn the_last_value_of_a_variable_wins_at_the_place_of_the_first() {
        let plan =
            parse(r#"{"args":["a"],"cwd":"/","env":["A=1","PATH=/x","A=2","AB=3","HOME="]}"#)
                .unwrap();
        let env: Vec<_> = plan.env.strings().iter().map(|s| s.to_str().unwrap()).collect();
        assert_eq!(env, ["A=2", "PATH=/x", "AB=3"]);
        assert_eq!(plan.search_path.unwrap().to_str().unwrap(), "/x");
        assert!(plan.find_home);
    }

    #[test]
    fn a_great_many_variables_are_told_apart_in_time() {
        let mut env: Vec<String> = (0..200_000).map(|i| format!("\"A{i}={i}\"")).collect();
        env.extend(["\"A5=x\"".to_owned(), "\"A100000=y\"".to_owned(), "\"B=\"".to_owned()]);
        let start = std::time::Instant::now();
        let plan =
            parse(&format!(r#"{{"args":["a"],"cwd":"/","env":[{}]}}"#, env.join(","))).unwrap();
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
        let seen = plan.env.strings();
        assert_eq!(seen.len(), 200_001);
        assert_eq!(seen[5].to_str().unwrap(), "A5=x");
        assert_eq!(seen[100_000].to_str().unwrap(), "A100000=y");
        assert_eq!(seen[200_000].to_str().unwrap(), "B=");
    }

    #[test]
    fn what_is_absent_is_decided() {
        let plan = parse(r#"{"args":["a"],"cwd":"/","env":null,"capabilities":null}"#).unwrap();
        assert_eq!((plan.uid, plan.gid, plan.umask), (0, 0, 0o022));
        assert_eq!(plan.caps, CapSets::default());
        assert!(!plan.no_new_privileges);
    }

    #[test]
    fn bad_values_name_their_field() {
        for (json, field) in [
            (r#"{"cwd":"/"}"#, "process.args"),
            (r#"{"args":[],"cwd":"/"}"#, "process.args"),
            (r#"{"args":["a\u0000b"],"cwd":"/"}"#, "process.args[0]"),
            (r#"{"args":["a"]}"#, "process.cwd"),
            (r#"{"args":["a"],"cwd":"tmp"}"#, "process.cwd"),
            (r#"{"args":["a"],"cwd":"/","env":["A"]}"#, "process.env[0]"),
            (r#"{"args":["a"],"cwd":"/","env":["=A"]}"#, "process.env[0]"),
            (r#"{"args":["a"],"cwd":"/","user":{"umask":512}}"#, "process.user.umask"),
            (r#"{"args":["a"],"cwd":"/","user":{"uid":4294967295}}"#, "process.user.uid"),
            (r#"{"args":["a"],"cwd":"/","user":{"gid":4294967295}}"#, "process.user.gid"),
            (
                r#"{"args":["a"],"cwd":"/","user":{"additionalGids":[1,4294967295]}}"#,
                "process.user.additionalGids[1]",
            ),
            (r#"{"args":["a"],"cwd":"/","oomScoreAdj":1001}"#, "process.oomScoreAdj"),
            (
                r#"{"args":["a"],"cwd":"/","terminal":true,"consoleSize":{"height":65536,"width":1}}"#,
                "process.consoleSize.height",
            ),
            (r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_X"}]}"#, "process.rlimits[0]"),
            (
                r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU"},{"type":"RLIMIT_CPU"}]}"#,
                "process.rlimits[1]",
            ),
            (
                r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]}"#,
                "process.rlimits[0]",
            ),
        ] {
            let message = parse(json).unwrap_err().to_string();
            assert!(message.contains(field), "{json}: {message}");
        }
    }
}
