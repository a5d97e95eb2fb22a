//! Coordinates from the child → a sentence.

use std::ffi::CStr;

use nix::errno::Errno;

use super::mounts::{Action, MountOp};
use super::namespaces;
use super::process::rlimit_name;
use super::{Plan, ProcessPlan, caps, scheduling};
use crate::error::Error;
use crate::seccomp::{self, Filter};
use crate::sync::{Fault, Step};

fn text(path: &CStr) -> String {
    path.to_string_lossy().into_owned()
}

fn absolute(path: &CStr) -> String {
    format!("/{}", path.to_string_lossy())
}

impl Plan {
    /// Says what the child failed to do, to what, and which field asked for it.
    pub fn explain(&self, fault: &Fault) -> Error {
        let index = usize::from(fault.index);
        let error = Error::os(fault.step.text(), fault.errno);
        match fault.step {
            Step::MountTarget
            | Step::MountSource
            | Step::MountOption
            | Step::Mount
            | Step::MountIds
            | Step::MountLabel
            | Step::CopyUp
            | Step::Propagation
                if index < self.mounts.len() =>
            {
                self.explain_mount(fault, index)
            }
            Step::MountTarget | Step::Mount if fault.index == u16::MAX => {
                error.hint("it is the directory for the container's own NOTIFY_SOCKET")
            }
            Step::Device => match self.devices.get(index) {
                Some(device) => {
                    let error = error.path(absolute(&device.target));
                    match device.index {
                        Some(i) => error.field(format!("linux.devices[{i}]")),
                        None => error,
                    }
                }
                None if fault.errno == Errno::ELOOP => {
                    error.path("/dev").hint("\"/dev\" must not be a symlink")
                }
                None => error,
            },
            Step::NamespaceJoin => match self.namespaces.join.get(index) {
                Some(join) => Error::os(
                    format!("{} {}", fault.step.text(), namespaces::name(join.kind)),
                    fault.errno,
                )
                .path(text(&join.path))
                .field(format!("linux.namespaces[{}].path", join.index)),
                None => error,
            },
            Step::TimeOffsets => time_offsets(error, fault.errno),
            Step::Sysctl => match self.sysctl.get(index) {
                Some(sysctl) => Error::os(
                    format!("{} {} = {:?}", fault.step.text(), sysctl.name, sysctl.value),
                    fault.errno,
                )
                .path(format!("/proc/{}", text(&sysctl.file)))
                .field(format!("linux.sysctl[{:?}]", sysctl.name)),
                None => error,
            },
            Step::MaskedPath => self.explain_mask(error, index, fault.errno),
            Step::ReadonlyPath => match self.readonly.get(index) {
                Some(path) => {
                    error.path(absolute(path)).field(format!("linux.readonlyPaths[{index}]"))
                }
                None => error,
            },
            Step::Hostname => error.field("hostname"),
            Step::Domainname => error.field("domainname"),
            Step::Rootfs | Step::Pivot | Step::Chroot => {
                let error = error.path(text(&self.root.path)).field("root.path");
                if fault.step == Step::Pivot && fault.errno == Errno::EINVAL {
                    error.hint("a root on initramfs cannot be pivoted: use --no-pivot")
                } else {
                    error
                }
            }
            Step::UserNamespaceRoot if fault.errno == Errno::EINVAL => {
                error.field("linux.uidMappings").hint(
                    "id 0 of the container is not mapped: linux.uidMappings and linux.gidMappings need it",
                )
            }
            Step::Keyring if fault.errno == Errno::EDQUOT => {
                error.hint("raise /proc/sys/kernel/keys/maxkeys, or use --no-new-keyring")
            }
            Step::Hook => explain_hook(fault),
            _ => self.process.explain_of_config(fault),
        }
    }

    fn explain_mask(&self, error: Error, index: usize, errno: Errno) -> Error {
        let Some(path) = self.masked.get(index) else { return error };
        let error = error.path(absolute(path)).field(format!("linux.maskedPaths[{index}]"));
        match errno {
            Errno::EINVAL => {
                error.hint("the container's root cannot be hidden: does a symlink lead there?")
            }
            _ => error,
        }
    }

    fn explain_mount(&self, fault: &Fault, index: usize) -> Error {
        let Some(op) = self.mounts.get(index) else { return Error::os("mount", fault.errno) };
        let field = format!("mounts[{}]", op.index);
        let target = absolute(&op.target);
        let source = match &op.action {
            Action::Bind(bind) => text(&bind.source),
            Action::New(new) => text(&new.source),
            Action::Remount { .. } => "remount".to_owned(),
            Action::CgroupV1 | Action::CgroupV2 => "cgroup".to_owned(),
        };
        // runc's words, which people look for.
        let what = format!("error mounting {source:?} to rootfs at {target:?}");
        let said = String::from_utf8_lossy(&fault.detail);
        let said = if said.is_empty() { String::new() } else { format!(" ({})", said.trim_end()) };
        let error = |what: String| Error::os(what, fault.errno);
        let error = match fault.step {
            Step::MountIds => {
                let error = error(format!("{what}: {}", fault.step.text()));
                return explain_ids(error.field(format!("{field}.uidMappings")), fault.errno);
            }
            Step::MountLabel => {
                let error = error(format!("{what}: {}{said}", fault.step.text()));
                let error = error.field("linux.mountLabel");
                return match fault.errno {
                    Errno::EINVAL => error.hint("the SELinux policy of this host does not know it"),
                    _ => error,
                };
            }
            Step::MountSource if fault.errno == Errno::EMEDIUMTYPE => {
                return Error::config(format!("{what}: only a procfs may be mounted there"))
                    .field(format!("{field}.source"));
            }
            Step::MountSource => {
                return explain_source(
                    error(format!("{what}: {}", fault.step.text())),
                    fault.errno,
                )
                .path(source)
                .field(format!("{field}.source"));
            }
            Step::MountOption => {
                return error(format!("{what}: option{said}")).field(format!("{field}.options"));
            }
            Step::MountTarget => error(format!("{what}: {}", fault.step.text())).path(&target),
            _ => error(format!("{what}{said}")),
        };
        let error = error.field(field);
        if let Some(hint) = self.why_denied(op, fault.errno) {
            return error.hint(hint);
        }
        explain_target(error, op, &target, fault.errno)
    }
}

impl Plan {
    /// Why a new file system is denied: it would show a namespace of the host's, or its device is out of bounds.
    fn why_denied(&self, op: &MountOp, errno: Errno) -> Option<&'static str> {
        let Action::New(new) = &op.action else { return None };
        let lacks = |kind| self.namespaces.has(libc::CLONE_NEWUSER) && !self.namespaces.has(kind);
        match (errno, new.kind.to_bytes()) {
            (Errno::EPERM, b"sysfs") if lacks(libc::CLONE_NEWNET) => Some(
                "in a user namespace sysfs needs a network namespace, or the option ro: then the host's is shown",
            ),
            (Errno::EPERM, _) if new.source.to_bytes().starts_with(b"/dev/") => Some(
                "the container's cgroup may not use the device: allow it in linux.resources.devices",
            ),
            _ => None,
        }
    }
}

fn explain_target(error: Error, op: &MountOp, target: &str, errno: Errno) -> Error {
    match errno {
            Errno::ELOOP if op.no_symlinks => error.hint(format!(
                "it must be mounted on ordinary directory: {target:?} must not be a symlink"
            )),
            Errno::ELOOP => error.hint("the destination leaves the root through a symlink or loops"),
            Errno::ENOTDIR => {
                error.hint("Are you trying to mount a directory onto a file (or vice-versa)?")
            }
            Errno::EPERM if matches!(&op.action, Action::New(new) if new.kind.as_c_str() == c"proc" || new.kind.as_c_str() == c"sysfs") => {
                error.hint(
                    "inside another container the kernel refuses a new procfs or sysfs while the outer one is masked: unmask that, bind its /proc with the host's pid namespace, or give sysfs the option ro",
                )
            }
            Errno::EPERM if matches!(op.action, Action::Bind(_)) => error.hint(
                "a user namespace cannot take from a mount the flags that it has on the host: ro, nosuid, nodev, noexec, access times",
            ),
            Errno::EEXIST if matches!(&op.action, Action::Bind(bind) if bind.copy_symlink) => {
                error.hint("copy-symlink makes a new link and replaces nothing")
            }
            Errno::EINVAL if matches!(op.action, Action::Remount { .. }) => {
                error.hint("a remount changes a mount that is there: is anything mounted on it?")
            }
            Errno::ENODEV => error.hint("this kernel does not have that file system"),
            _ => error,
        }
}

fn explain_source(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::ENOENT => error.hint("the source of a bind mount has to exist"),
        Errno::EMFILE => error.hint(
            "raise the hard limit of open files (ulimit -Hn, LimitNOFILE=): with a user namespace each bind mount is one",
        ),
        _ => error,
    }
}

/// Why the kernel maps no ids here (mount_setattr(2)).
fn explain_ids(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::EINVAL => error.hint("this kernel cannot map the ids of that file system"),
        Errno::EPERM => error.hint(
            "the mount is id-mapped already, or the runtime lacks CAP_SYS_ADMIN where the file system was mounted",
        ),
        Errno::EOPNOTSUPP => error.hint("shorten the options: id-mapped mounts take values of up to 255 bytes"),
        Errno::ENOSYS => error.hint("id-mapped mounts need Linux 5.12"),
        _ => error,
    }
}

impl ProcessPlan {
    /// The same as [`Self::explain`], of the process of `config.json`: what `exec` has from its operands has a name there.
    pub fn explain_of_config(&self, fault: &Fault) -> Error {
        let error = self.explain(fault);
        // Engines look for these sentences in one piece.
        match fault.step {
            Step::Exec | Step::Lookup => error.field_last("process.args[0]"),
            Step::Cwd => error.field_last("process.cwd"),
            _ => error,
        }
    }

    /// Says which part of becoming the process failed.
    pub fn explain(&self, fault: &Fault) -> Error {
        let index = usize::from(fault.index);
        let error = Error::os(fault.step.text(), fault.errno);
        let cwd = text(&self.cwd);
        match fault.step {
            Step::Exec | Step::Lookup => self.explain_exec(fault),
            Step::Cwd => Error::os(
                format!("chdir to cwd ({cwd:?}) set in config.json failed"),
                fault.errno,
            ),
            Step::CwdCreate => Error::os("mkdir cwd", fault.errno).path(cwd).field("process.cwd"),
            Step::CwdEscape => Error::config(fault.step.text()).path(cwd).field("process.cwd"),
            Step::Rlimit => match self.rlimits.get(index) {
                Some((number, soft, hard)) => {
                    let name = rlimit_name(*number);
                    let error = Error::os(format!("setting {name} to {soft}, {hard}"), fault.errno)
                        .field(format!("process.rlimits[{index}]"));
                    if fault.errno == Errno::EPERM {
                        error.hint("a hard limit above the runtime's own needs CAP_SYS_RESOURCE")
                    } else {
                        error
                    }
                }
                None => error,
            },
            Step::OomScoreAdj => {
                Error::os("failed to update /proc/self/oom_score_adj", fault.errno)
                    .field("process.oomScoreAdj")
                    .hint("lowering it needs CAP_SYS_RESOURCE")
            }
            Step::Bounding => {
                let name = caps::NAMES.get(index).copied().unwrap_or("?");
                error.context(name).field("process.capabilities.bounding")
            }
            Step::Ambient => {
                let name = caps::NAMES.get(index).copied().unwrap_or("?");
                error
                    .context(name)
                    .field("process.capabilities.ambient")
                    .hint("an ambient capability has to be permitted and inheritable as well")
            }
            Step::Capabilities => error.field("process.capabilities"),
            Step::Groups if fault.errno == Errno::EPERM => {
                error.field("process.user.additionalGids").hint(
                    "cannot set any additional groups in a rootless container: setgroups is denied in its user namespace",
                )
            }
            Step::Groups => error.field("process.user.additionalGids"),
            Step::Uid => unmapped(error.field("process.user.uid"), fault.errno, "uid", self.uid),
            Step::Gid => unmapped(error.field("process.user.gid"), fault.errno, "gid", self.gid),
            Step::Apparmor => {
                let profile = self.apparmor.as_deref().map(text).unwrap_or_default();
                let error = error.field("process.apparmorProfile");
                match fault.errno {
                    Errno::ENOENT => error.hint(format!(
                        "no profile {profile:?} is loaded: see /sys/kernel/security/apparmor/profiles, and load it with \
                         apparmor_parser(8)"
                    )),
                    Errno::EACCES | Errno::EPERM => error.hint(format!(
                        "the profile around the runtime, or no_new_privs, does not let it change to {profile:?}"
                    )),
                    _ => error.hint(format!("the profile is {profile:?}")),
                }
            }
            // Podman takes the path in these quotes for a label that could not be set.
            Step::Selinux => error
                .context("write `/proc/self/attr/exec`")
                .field("process.selinuxLabel"),
            Step::Seccomp => load_filter(error.field("linux.seccomp"), fault.errno, self.seccomp.as_ref()),
            Step::Scheduler => self.explain_scheduling(index, fault.errno),
            Step::MemoryPolicy => error.field("linux.memoryPolicy").hint(match fault.errno {
                Errno::ENOSYS => "this kernel was built without CONFIG_NUMA",
                _ => "are the nodes online and in the cpuset, and does this kernel know the mode?",
            }),
            Step::Personality => error.field("linux.personality"),
            Step::Hook => explain_hook(fault),
            _ => error,
        }
    }

    /// Which of affinity, scheduler and I/O priority was refused, and what it would take.
    fn explain_scheduling(&self, index: usize, errno: Errno) -> Error {
        if index == 0 {
            return Error::os("set the CPU affinity", errno)
                .field("process.execCPUAffinity.final")
                .hint("none of these CPUs is online and in the container's cpuset");
        }
        if index == 2 {
            let error = Error::os("set the I/O priority", errno).field("process.ioPriority");
            return match errno {
                Errno::EPERM => error.hint("IOPRIO_CLASS_RT needs CAP_SYS_NICE on the host"),
                _ => error,
            };
        }
        let policy = self.scheduling.attributes.map_or(0, |attributes| attributes.policy);
        let policy = scheduling::policy_name(policy);
        let error =
            Error::os(format!("set the scheduler {policy}"), errno).field("process.scheduler");
        match (errno, policy) {
            (Errno::EPERM, "SCHED_DEADLINE") => error.hint(
                "it needs CAP_SYS_NICE on the host and all its CPUs: process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)",
            ),
            (Errno::EPERM, "SCHED_FIFO" | "SCHED_RR") => error.hint(
                "it needs CAP_SYS_NICE on the host or RLIMIT_RTPRIO, and on cgroup v1 linux.resources.cpu.realtimeRuntime",
            ),
            (Errno::EPERM, _) => error.hint("a nice value below 0 needs CAP_SYS_NICE on the host or RLIMIT_NICE"),
            (Errno::EBUSY, "SCHED_DEADLINE") => {
                error.hint("other deadlines leave less than runtime/period of the CPUs")
            }
            (Errno::EINVAL, "SCHED_ISO") => error.hint("no kernel has this policy: the number is reserved"),
            (Errno::EINVAL, "SCHED_DEADLINE") => {
                error.hint("runtime is at least 1024 ns, and the period within kernel.sched_deadline_period_*_us")
            }
            (Errno::EOPNOTSUPP, _) => error.hint("this kernel was built without CONFIG_UCLAMP_TASK"),
            _ => error,
        }
    }

    /// Keeps the words callers derive exit codes from, and says why the kernel said so.
    fn explain_exec(&self, fault: &Fault) -> Error {
        let name = self.argv.strings().first().map(|name| text(name)).unwrap_or_default();
        let said = String::from_utf8_lossy(&fault.detail).into_owned();
        let error = match (fault.step, fault.errno) {
            (Step::Lookup, Errno::ENOENT) if !name.contains('/') => Error::new(
                crate::Kind::Os,
                format!("exec: {name:?}: executable file not found in $PATH"),
            ),
            (Step::Lookup, Errno::ENOENT) => {
                Error::os(format!("exec: {name:?}: stat {name}"), Errno::ENOENT)
            }
            // Callers look for the one word or the other; the kernel's own is EACCES.
            (_, Errno::EISDIR) => {
                Error::os(format!("exec: {name:?}: is a directory"), Errno::EACCES)
            }
            // What is found and is no program execve(2) itself has refused; Go's words for that have no quotes.
            (Step::Exec, errno @ (Errno::ENOENT | Errno::ENOEXEC)) => {
                Error::new(crate::Kind::Exec, format!("exec {name}")).errno(errno)
            }
            (_, errno) => Error::os(format!("exec: {name:?}"), errno),
        };
        match fault.step {
            _ if !said.is_empty() => error.hint(said),
            Step::Exec if self.filter_denies_execve() => {
                error.hint("the seccomp profile does not allow execve")
            }
            _ => error,
        }
    }
}

fn time_offsets(error: Error, errno: Errno) -> Error {
    let error = error.field("linux.timeOffsets");
    match errno {
        Errno::ERANGE => error.hint(
            "a clock would be before 0, or more than 146 years after: the offset is added to the host's clock",
        ),
        _ => error,
    }
}

/// What seccomp(2) means by its errno.
fn load_filter(error: Error, errno: Errno, filter: Option<&Filter>) -> Error {
    match errno {
        Errno::EINVAL => {
            let flags = filter.map_or(0, |filter| filter.flags);
            let unknown: Vec<&str> = seccomp::unsupported_flags(flags).collect();
            if unknown.is_empty() {
                return error;
            }
            error.field("linux.seccomp.flags").hint(format!(
                "this kernel does not know {}: remove it, or see supportedFlags of `skep features`",
                unknown.join(" and ")
            ))
        }
        Errno::EBUSY => error.hint(
            "another filter of this process has a listener already, and there can be but one",
        ),
        Errno::ENOMEM => {
            error.hint("all filters of a process together may have 32768 instructions")
        }
        Errno::EACCES => error.hint("without noNewPrivileges it needs CAP_SYS_ADMIN"),
        _ => error,
    }
}

fn unmapped(error: Error, errno: Errno, kind: &str, id: u32) -> Error {
    if errno == Errno::EINVAL {
        error.hint(format!("{kind} {id} has no mapping in the container's user namespace"))
    } else {
        error
    }
}

/// A hook's failure is told whole by the child: which, how it ended, what it printed.
fn explain_hook(fault: &Fault) -> Error {
    let said = String::from_utf8_lossy(&fault.detail);
    let said = if said.is_empty() { "error running hook".into() } else { said };
    Error::new(crate::Kind::Hook, said.into_owned())
}
