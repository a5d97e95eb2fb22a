//! From what `config.json` says to what will be done: pure, no system call, nothing left to decide afterwards.
//!
//! Every string the child needs is a `CString` already, every absent value has been decided, every invalid one
//! refused with the name of its field. The child executes; [`explain`](Plan::explain) turns its coordinates
//! back into a sentence.

pub mod caps;
mod devices;
mod explain;
mod idmap;
pub mod idmapped;
pub mod list;
pub mod memory_policy;
mod mount_label;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
mod net_devices;
mod personality;
pub mod process;
pub mod scheduling;
mod sysctl;

use std::ffi::CString;
use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::hooks;
use crate::path;
use crate::seccomp;
use crate::spec::{self, Spec, annotations};
use crate::sys::mount::Recursive;

pub use devices::{DeviceOp, LINKS};
pub use idmap::{IdMaps, map_text};
pub use mount_label::MountLabel;
pub use mounts::MountOp;
pub use namespaces::NamespacePlan;
pub use net_devices::NetDeviceOp;
pub use process::ProcessPlan;
pub use sysctl::SysctlOp;

/// What the plan needs to know of the host and of the call.
#[derive(Debug, Clone, Copy)]
pub struct HostFacts<'a> {
    /// Absolute path of the bundle.
    pub bundle: &'a str,
    /// Whether cgroups are the unified hierarchy.
    pub cgroup_v2: bool,
    /// Effective user id.
    pub euid: u32,
}

/// What the call asks beyond `config.json`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Variables for the container (LISTEN_FDS and its kin, NOTIFY_SOCKET).
    pub extra_env: Vec<String>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Whether `process` may be absent: config.md asks for it when `start` is called.
    pub without_process: bool,
}

/// All that will be done to make one container.
#[derive(Debug)]
pub struct Plan {
    /// Namespaces.
    pub namespaces: NamespacePlan,
    /// Id maps of a new user namespace.
    pub idmaps: Option<IdMaps>,
    /// The root filesystem.
    pub root: RootPlan,
    /// Mounts, in order.
    pub mounts: Vec<MountOp>,
    /// SELinux label of the file systems made.
    pub mount_label: Option<MountLabel>,
    /// Device nodes; empty where /dev is the host's.
    pub devices: Vec<DeviceOp>,
    /// Whether devices are bound from the host, because mknod(2) is not allowed.
    pub bind_devices: bool,
    /// A detached file system with those of `linux.devices` that the parent has made for a user namespace, by their index.
    pub made_devices: Option<OwnedFd>,
    /// Whether the links of a fresh /dev are made.
    pub dev_links: bool,
    /// Whether `/dev/ptmx` leads to the container's own devpts.
    pub ptmx_link: bool,
    /// Paths to mask, relative to the root.
    pub masked: Vec<CString>,
    /// Paths to make read-only, relative to the root.
    pub readonly: Vec<CString>,
    /// Host name.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Kernel parameters.
    pub sysctl: Vec<SysctlOp>,
    /// The process.
    pub process: ProcessPlan,
    /// Name of the session keyring to join; `None` keeps the caller's.
    pub keyring: Option<CString>,
    /// Whether there are startContainer hooks: with no_new_privs the filter is loaded after them.
    pub start_container_hooks: bool,
    /// The host's user id who is to own the container's cgroup; `None` leaves it to root.
    pub cgroup_owner: Option<u32>,
    /// Network devices to move in.
    pub net_devices: Vec<NetDeviceOp>,
    /// Whether the runtime has something to do before pivot_root(2): hooks to run, devices to move in.
    pub create_runtime_hooks: bool,
    /// Whether the container can be finished before it is in its cgroups, but for [`Plan::is_made_last`].
    pub joins_late: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// `root`.
#[derive(Debug)]
pub struct RootPlan {
    /// Absolute path on the host.
    pub path: CString,
    /// Whether `/` ends read-only.
    pub readonly: bool,
    /// Propagation of `/`.
    pub propagation: (u64, Recursive),
    /// Whether pivot_root(2) is replaced by a move and chroot(2).
    pub no_pivot: bool,
}

impl Plan {
    /// Whether mounts can be made for the container that nobody else sees.
    pub fn has_own_mounts(&self) -> bool {
        self.namespaces.has(libc::CLONE_NEWNS) || self.detaches_root()
    }

    /// Whether init unmounts the mounts of the host, in a copy of theirs that nobody else has had a hand in: not in a mount
    /// namespace it has joined, where a path leads to where its owner wants it.
    pub fn leaves_host_mounts(&self) -> bool {
        self.namespaces.makes(libc::CLONE_NEWNS)
            && self.namespaces.joins(libc::CLONE_NEWUSER).is_none()
            && !self.root.no_pivot
    }

    /// Whether the container's mounts are made in a copy of its mount namespace, which is the host's or somebody else's,
    /// and then taken along into the namespace itself without being attached there: it keeps what it has, and the mounts
    /// go with the container's last process.
    ///
    /// The root of a user namespace could not come back from the copy: it stays there.
    pub fn detaches_root(&self) -> bool {
        let namespaces = &self.namespaces;
        !namespaces.has(libc::CLONE_NEWUSER)
            && !namespaces.makes(libc::CLONE_NEWNS)
            && (namespaces.joins(libc::CLONE_NEWNS).is_some() || !self.mounts.is_empty())
    }

    /// Whether the new IPC namespace waits until init has ids in its new user namespace. Its message queues belong to who
    /// makes it: to nobody where that has no id in there, and nobody's can be given neither an owner nor a label.
    pub fn makes_ipc_late(&self) -> bool {
        let is_mqueue = |op: &MountOp| matches!(&op.action, mounts::Action::New(new) if new.kind.as_c_str() == c"mqueue");
        self.namespaces.makes(libc::CLONE_NEWUSER)
            && self.namespaces.makes(libc::CLONE_NEWIPC)
            && self.mounts.iter().any(is_mqueue)
    }

    /// Whether init needs nothing of the runtime once it is in its root: in `run` the container is recorded while it still
    /// gives up its privileges.
    pub fn finishes_alone(&self) -> bool {
        let asks = self.process.seccomp.as_ref().is_some_and(|filter| filter.notify);
        !asks && !self.namespaces.has(libc::CLONE_NEWUSER)
    }

    /// The host's id of the user to whom a cgroup below the container's is handed, if it is not root's already.
    pub fn delegate_owner(&self) -> Option<u32> {
        let root = || self.idmaps.as_ref().and_then(|maps| maps.host_uid(0));
        self.cgroup_owner.or_else(root)
    }

    /// Whether the mount is the view of the cgroups, and can wait until they are there: nothing that comes after it
    /// touches its place.
    pub fn is_made_last(&self, op: &MountOp) -> bool {
        if !self.joins_late || !matches!(op.action, mounts::Action::CgroupV1) {
            return false;
        }
        let own = op.target.to_bytes();
        let apart = |path: &CString| {
            let path = path.to_bytes();
            !mounts::is_within(path, own) && !mounts::is_within(own, path)
        };
        let cwd = path::clean(&self.process.cwd.to_string_lossy());
        let later = self.mounts.iter().skip_while(|other| !std::ptr::eq(*other, op)).skip(1);
        later.flat_map(MountOp::places).all(apart)
            && self.masked.iter().chain(&self.readonly).all(apart)
            && self.devices.iter().map(|device| &device.target).all(apart)
            && !mounts::is_within(cwd.as_bytes(), own)
    }

    /// Whether the child makes and opens no device any more once it is in its cgroups.
    pub fn joins_last(&self) -> bool {
        let shows_cgroups = |op: &&MountOp| {
            matches!(op.action, mounts::Action::CgroupV1 | mounts::Action::CgroupV2)
        };
        self.joins_late && self.mounts.iter().filter(shows_cgroups).all(|op| self.is_made_last(op))
    }

    /// Plans the container that `spec` describes.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) or [`Kind::Unsupported`](crate::Kind::Unsupported), naming the field.
    pub fn build(
        spec: &Spec<'_>,
        host: &HostFacts<'_>,
        request: Request,
        id: &str,
    ) -> Result<Self> {
        let mut warnings = Vec::new();
        check_version(spec)?;
        check_annotations(spec)?;
        // Without the section nothing of it is asked for: no namespaces, no limits.
        let none = spec::Linux::default();
        let linux = spec.linux.as_deref().unwrap_or(&none);
        let namespaces = NamespacePlan::build(&linux.namespaces, &linux.time_offsets)?;
        let idmaps = IdMaps::build(linux, &namespaces)?;
        if spec.process.is_none() && !request.without_process {
            return Err(no_process());
        }
        let seccomp = compile_seccomp(spec, &mut warnings)?;
        let keep_groups =
            spec.annotations.get(annotations::KEEP_ORIGINAL_GROUPS).is_some_and(|v| *v == "1");
        let context = process::Context {
            seccomp,
            extra_env: request.extra_env,
            keep_groups,
            memory_policy: linux.memory_policy.as_ref(),
            personality: linux.personality.as_ref(),
        };
        let process = match &spec.process {
            Some(process) => ProcessPlan::build(process, context, &mut warnings)?,
            None => ProcessPlan::without_program(context)?,
        };
        let root = root(spec, linux, host, request.no_pivot)?;
        let mounts = plan_mounts(spec, linux, host, &namespaces, &root)?;
        check_mount_namespace(&namespaces, linux, &mounts)?;
        let host_dev = binds_dev(&mounts);
        let hooks = spec.hooks.as_deref();
        if let Some(hooks) = hooks {
            hooks::check_all(hooks)?;
        }
        let has = |pick: fn(&spec::Hooks<'_>) -> bool| hooks.is_some_and(pick);
        let start_container_hooks = has(|hooks| !hooks.start_container.is_empty());
        if start_container_hooks {
            process.scheduling.check_forks()?;
        }
        let create_runtime_hooks = !linux.net_devices.is_empty()
            || spec.asks_for_delegate()
            || has(|hooks| !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty());
        // A hook finds the container in its cgroups; and whoever asks the runtime gets the way there in answer.
        let joins_late = !create_runtime_hooks
            && !has(|hooks| !hooks.create_container.is_empty())
            && process.terminal.is_none();
        Ok(Self {
            devices: if host_dev { Vec::new() } else { devices::plan(&linux.devices)? },
            bind_devices: namespaces.has(libc::CLONE_NEWUSER),
            made_devices: None,
            dev_links: !host_dev,
            ptmx_link: mounts.iter().any(|mount| mount.target.as_c_str() == c"dev/pts"),
            masked: masked(linux)?,
            readonly: paths(&linux.readonly_paths, "linux.readonlyPaths")?,
            hostname: uts_name(spec.hostname.as_deref(), "hostname", &namespaces)?,
            domainname: uts_name(spec.domainname.as_deref(), "domainname", &namespaces)?,
            sysctl: sysctl::plan(&linux.sysctl, &namespaces, spec.domainname.as_deref())?,
            keyring: keyring(request.no_new_keyring, id)?,
            start_container_hooks,
            create_runtime_hooks,
            cgroup_owner: cgroup_owner(linux, &namespaces, &mounts, process.uid),
            net_devices: net_devices::plan(&linux.net_devices, &namespaces, host.euid)?,
            joins_late,
            root,
            mount_label: mount_label::plan(spec, linux)?,
            namespaces,
            idmaps,
            mounts,
            process,
            warnings,
        })
    }
}

/// What is said of a configuration without `process` when one is needed.
pub(crate) fn no_process() -> Error {
    Error::config("process property must not be empty").field("process")
}

/// A C string, or an error that names the field with the NUL in it.
pub(crate) fn cstring(text: &str, field: impl FnOnce() -> String) -> Result<CString> {
    CString::new(text).map_err(|nul| {
        Error::config(format!("a NUL byte at position {}", nul.nul_position())).field(field())
    })
}

/// config.md "Specification version": SemVer 2.0.0, of the one major version there is.
fn check_version(spec: &Spec<'_>) -> Result<()> {
    let Some(version) = spec.oci_version.as_deref().filter(|version| !version.is_empty()) else {
        return Err(
            Error::config("the version of the specification is missing").field("ociVersion")
        );
    };
    let bad =
        || Error::config(format!("{version:?} is not a semantic version")).field("ociVersion");
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let numeric = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() != 3 || !numbers.iter().all(numeric) {
        return Err(bad());
    }
    if version.len() > core.len() + 1 || version.len() == core.len() {
        if numbers.first() == Some(&"1") {
            return Ok(());
        }
        return Err(Error::config(format!(
            "version {version} of the specification is not supported"
        ))
        .field("ociVersion")
        .hint(format!("skep implements {} and its 1.x predecessors", spec::OCI_VERSION)));
    }
    Err(bad())
}

/// config.md "Annotations": keys are not empty.
fn check_annotations(spec: &Spec<'_>) -> Result<()> {
    if spec.annotations.get("").is_some() {
        return Err(
            Error::config("the key of an annotation must not be empty").field("annotations[\"\"]")
        );
    }
    Ok(())
}

/// Compiles `linux.seccomp`, if there is one; or takes the program of an annotation in its place.
///
/// # Errors
/// [`Kind::Config`](crate::Kind::Config) naming the field.
pub(crate) fn compile_seccomp(
    spec: &Spec<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<seccomp::Filter>> {
    let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_deref());
    if let Some(data) = spec.annotations.get(annotations::SECCOMP_BPF_DATA) {
        let field =
            |error: Error| error.field(format!("annotations[{:?}]", annotations::SECCOMP_BPF_DATA));
        return seccomp::raw(data, profile).map(Some).map_err(field);
    }
    let Some(profile) = profile else { return Ok(None) };
    let fail = annotations::SECCOMP_FAIL_UNKNOWN_SYSCALL;
    let fail = spec.annotations.get(fail).is_some_and(|v| *v == "1");
    for (i, rule) in profile.syscalls.iter().enumerate() {
        if rule.names.is_empty() {
            return Err(Error::config("a rule needs the names of system calls")
                .field(format!("linux.seccomp.syscalls[{i}].names")));
        }
    }
    let options = seccomp::CompileOptions { fail_unknown_syscall: fail, ..Default::default() };
    let mut filter = seccomp::compile(profile, &options)?;
    if let Some(filter) = &mut filter {
        warnings.append(&mut filter.warnings);
    }
    Ok(filter)
}

fn plan_mounts(
    spec: &Spec<'_>,
    linux: &spec::Linux<'_>,
    host: &HostFacts<'_>,
    namespaces: &NamespacePlan,
    root: &RootPlan,
) -> Result<Vec<MountOp>> {
    let root = path::clean(&root.path.to_string_lossy());
    let root = if root.is_empty() { root } else { format!("/{root}/") };
    let around = mounts::Surroundings::new(host, linux, namespaces, &root);
    let mounts = spec.mounts.iter().enumerate();
    mounts.map(|(i, mount)| mounts::plan(i, mount, around)).collect()
}

/// What is masked in the runtime's own mount namespace any process of the container could unmask; and the root of a user
/// namespace cannot mount anything there.
fn check_mount_namespace(
    namespaces: &NamespacePlan,
    linux: &spec::Linux<'_>,
    mounts: &[MountOp],
) -> Result<()> {
    if namespaces.has(libc::CLONE_NEWNS) {
        return Ok(());
    }
    // They are made in a copy of the host's, and cloned out of it: what cannot be cloned would be lost.
    let unbindable =
        |op: &&MountOp| op.propagation.iter().any(|(flag, _)| *flag == libc::MS_UNBINDABLE);
    if let Some(op) = mounts.iter().find(unbindable) {
        return Err(Error::unsupported("an unbindable mount needs a mount namespace of its own")
            .field(format!("mounts[{}].options", op.index))
            .hint("add {\"type\": \"mount\"} to linux.namespaces"));
    }
    for (present, field) in [
        (!mounts.is_empty() && namespaces.has(libc::CLONE_NEWUSER), "mounts"),
        (!linux.masked_paths.is_empty(), "linux.maskedPaths"),
        (!linux.readonly_paths.is_empty(), "linux.readonlyPaths"),
    ] {
        if present {
            return Err(Error::config(
                "unable to restrict sys entries without a private MNT namespace",
            )
            .field(field)
            .hint("add {\"type\": \"mount\"} to linux.namespaces"));
        }
    }
    Ok(())
}

/// config-linux.md "Cgroup ownership": the user of the process, where the container sees a version 2 hierarchy of its own
/// that it may write to.
fn cgroup_owner(
    linux: &spec::Linux<'_>,
    namespaces: &NamespacePlan,
    mounts: &[MountOp],
    uid: u32,
) -> Option<u32> {
    let writable = mounts.iter().any(|op| {
        matches!(op.action, mounts::Action::CgroupV2)
            && op.target.as_c_str() == c"sys/fs/cgroup"
            && op.attr.set & libc::MOUNT_ATTR_RDONLY == 0
    });
    if !writable || !namespaces.makes(libc::CLONE_NEWCGROUP) {
        return None;
    }
    if namespaces.has(libc::CLONE_NEWUSER) {
        return idmap::host(&linux.uid_mappings, uid);
    }
    // It is root's already.
    (uid != 0).then_some(uid)
}

/// A bind mount on /dev is somebody else's device directory: nothing is made in it.
fn binds_dev(mounts: &[MountOp]) -> bool {
    mounts.iter().any(|mount| {
        mount.target.as_c_str() == c"dev" && matches!(mount.action, mounts::Action::Bind(_))
    })
}

fn paths(list: &[spec::Str<'_>], field: &str) -> Result<Vec<CString>> {
    let one = |(i, path): (usize, &spec::Str<'_>)| {
        let field = || format!("{field}[{i}]");
        if !path.starts_with('/') {
            return Err(Error::config(format!("{path:?} is not an absolute path")).field(field()));
        }
        cstring(&path::clean(path), field)
    };
    list.iter().enumerate().map(one).collect()
}

/// The root cannot be hidden: whatever lies on it, nobody's path leads there.
fn masked(linux: &spec::Linux<'_>) -> Result<Vec<CString>> {
    let list = paths(&linux.masked_paths, "linux.maskedPaths")?;
    match list.iter().position(|path| path.is_empty()) {
        Some(i) => Err(Error::config("the container's root cannot be hidden")
            .field(format!("linux.maskedPaths[{i}]"))),
        None => Ok(list),
    }
}

fn uts_name(name: Option<&str>, field: &str, namespaces: &NamespacePlan) -> Result<Option<String>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    if !namespaces.has(libc::CLONE_NEWUTS) {
        return Err(Error::config(format!(
            "unable to set {field} without a private UTS namespace"
        ))
        .field(field)
        .hint("add {\"type\": \"uts\"} to linux.namespaces"));
    }
    if name.contains('\0') {
        return Err(Error::config("a NUL byte in a name").field(field));
    }
    if name.len() > 64 {
        return Err(
            Error::config(format!("{} bytes; the kernel takes 64", name.len())).field(field)
        );
    }
    Ok(Some(name.to_owned()))
}

fn keyring(no_new_keyring: bool, id: &str) -> Result<Option<CString>> {
    if no_new_keyring {
        return Ok(None);
    }
    cstring(&format!("_ses.{id}"), String::new).map(Some)
}

fn root(
    spec: &Spec<'_>,
    linux: &spec::Linux<'_>,
    host: &HostFacts<'_>,
    no_pivot: bool,
) -> Result<RootPlan> {
    let root = spec
        .root
        .as_ref()
        .filter(|root| !root.path.is_empty())
        .ok_or_else(|| Error::config("root.path is required").field("root.path"))?;
    let path = if root.path.starts_with('/') {
        root.path.to_string()
    } else {
        format!("{}/{}", host.bundle, root.path)
    };
    let propagation = match linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty()) {
        None => (libc::MS_SLAVE, Recursive::Yes),
        Some(word) => mount_options::propagation(word).ok_or_else(|| {
            Error::config(format!("unknown propagation {word:?}"))
                .field("linux.rootfsPropagation")
                .hint(
                    "use shared, slave, private or unbindable, or one of them with an r before it",
                )
        })?,
    };
    Ok(RootPlan {
        path: cstring(&path, || "root.path".to_owned())?,
        readonly: root.readonly.unwrap_or(false),
        propagation,
        no_pivot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Result<()> {
        check_version(&Spec { oci_version: Some(text.to_owned().into()), ..Spec::default() })
    }

    #[test]
    fn any_1_x_version_is_accepted_and_nothing_else() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0+meta", "1.0.0-rc5-dev"] {
            assert!(version(good).is_ok(), "{good}");
        }
        for bad in ["", "1", "1.0", "2.0.0", "0.9.0", "1.0.0-", "v1.0.0", "1.0.x", "1.0.0.0", "one"]
        {
            assert!(version(bad).is_err(), "{bad}");
        }
    }

    fn owner(uid: u32, cgroup_mount: &str, rest: &str) -> Option<u32> {
        let config = format!(
            r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"process":{{"args":["a"],"cwd":"/","user":{{"uid":{uid},"gid":0}}}},
                "mounts":[{cgroup_mount}],"linux":{{{rest}}}}}"#
        );
        let spec: Spec<'_> = serde_json::from_str(&config).unwrap();
        let host = HostFacts { bundle: "/b", cgroup_v2: true, euid: 0 };
        Plan::build(&spec, &host, Request::default(), "id").unwrap().cgroup_owner
    }

    #[test]
    fn the_cgroup_is_its_users_where_he_sees_and_may_write_it() {
        const MOUNT: &str = r#"{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup"}"#;
        const READ_ONLY: &str = r#"{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro"]}"#;
        const ELSEWHERE: &str = r#"{"destination":"/cgroup","type":"cgroup2","source":"cgroup"}"#;
        const OWN: &str = r#""namespaces":[{"type":"mount"},{"type":"cgroup"}]"#;
        const SHARED: &str =
            r#""namespaces":[{"type":"mount"},{"type":"cgroup","path":"/proc/1/ns/cgroup"}]"#;
        let user = |namespace: &str| {
            format!(
                r#""namespaces":[{{"type":"mount"}},{{"type":"cgroup"}},{namespace}],
                "uidMappings":[{{"containerID":0,"hostID":5000,"size":100}}],
                "gidMappings":[{{"containerID":0,"hostID":5000,"size":100}}]"#
            )
        };
        let (new, joined) = (user(r#"{"type":"user"}"#), user(r#"{"type":"user","path":"/u"}"#));
        for (uid, mount, rest, expected) in [
            (7, MOUNT, OWN, Some(7)),
            (0, MOUNT, OWN, None),
            (7, READ_ONLY, OWN, None),
            (7, ELSEWHERE, OWN, None),
            (7, "", OWN, None),
            (7, MOUNT, SHARED, None),
            (0, MOUNT, &new, Some(5000)),
            (7, MOUNT, &new, Some(5007)),
            (100, MOUNT, &new, None),
            (7, MOUNT, &joined, Some(5007)),
        ] {
            assert_eq!(owner(uid, mount, rest), expected, "{uid} {mount} {rest}");
        }
    }

    #[test]
    fn a_full_quota_of_keys_is_explained() {
        let text =
            br#"{"ociVersion":"1.2.0","root":{"path":"r"},"process":{"cwd":"/","args":["x"]}}"#;
        let spec = crate::bundle::parse(text).unwrap();
        let host = HostFacts { bundle: "/b", cgroup_v2: true, euid: 0 };
        let plan = Plan::build(&spec, &host, Request::default(), "id").unwrap();
        let fault = |errno| crate::sync::Fault::new(crate::sync::Step::Keyring, 0, errno);
        let error = plan.explain(&fault(nix::errno::Errno::EDQUOT)).to_string();
        assert!(error.contains("maxkeys") && error.contains("--no-new-keyring"), "{error}");
        let error = plan.explain(&fault(nix::errno::Errno::EACCES)).to_string();
        assert!(!error.contains("maxkeys"), "{error}");
    }
}
