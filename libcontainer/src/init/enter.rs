//! From privileged init to the user's program: limits, ids, capabilities, filter, lookup, execve.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::label::Labels;
use super::{Channel, InitChild, diagnose, prepare, scheduling};
use crate::path;
use crate::plan::ProcessPlan;
use crate::plan::caps::{NAMES, SYS_ADMIN, bit};
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::sys::creds::{self, ThreadCaps};
use crate::sys::exec::{CStrArray, execve};
use crate::sys::{self, fd, process};

/// PATH where the environment has none.
const DEFAULT_PATH: &CStr = c"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What it takes to give up what the process shall not have.
pub(super) struct Privileges<'a> {
    pub(super) process: &'a ProcessPlan,
    pub(super) channel: &'a Channel,
    /// Whether this process sets its limits itself.
    pub(super) set_limits: bool,
    /// The labels of the program.
    pub(super) labels: &'a Labels,
}

/// What execve(2) gets.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    /// The environment, where HOME had to be added.
    env: Option<CStrArray>,
}

impl Program {
    /// Its environment.
    pub(super) fn env<'a>(&'a self, process: &'a ProcessPlan) -> &'a [CString] {
        self.env.as_ref().unwrap_or(&process.env).strings()
    }
}

impl Privileges<'_> {
    /// Applies limits, ids, capabilities, cwd, no_new_privs and the filter; finds the program on the way, as the user
    /// but before the filter, which need not allow the search.
    ///
    /// seccomp(2): without no_new_privs a filter needs CAP_SYS_ADMIN, so that one is kept until the filter is loaded; with it
    /// the filter comes last. Either way a single capset(2) or nothing at all runs under the filter.
    pub(super) fn apply(&self) -> Result<Program, Fault> {
        let plan = self.process;
        // As root, for the file may be root's alone; and with the runtime's limits, for it takes descriptors.
        let env = plan.find_home.then(|| with_home(plan));
        self.labels.apply()?;
        drop_bounding(plan)?;
        let had = creds::capget().at(Step::Capabilities, 0)?;
        let sets = plan.caps.within(had.permitted);
        creds::ambient_clear().at(Step::Ambient, 0)?;
        // A directory only root may enter is entered as root, one only the user may (on NFS, say) as the user.
        let entered = nix::unistd::chdir(plan.cwd.as_c_str());
        if self.set_limits {
            for (i, (resource, soft, hard)) in plan.rlimits.iter().enumerate() {
                let own = nix::unistd::Pid::from_raw(0);
                process::prlimit(own, *resource, *soft, *hard).at(Step::Rlimit, i)?;
            }
        }
        scheduling::apply(plan, self.channel, !self.set_limits)?;
        set_ids(plan)?;
        let filter_needs_admin = plan.seccomp.is_some() && !plan.no_new_privileges;
        let extra = if filter_needs_admin { bit(SYS_ADMIN) & had.permitted } else { 0 };
        let target = ThreadCaps {
            effective: sets.effective,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
        };
        let with_admin = ThreadCaps {
            effective: sets.effective | extra,
            permitted: sets.permitted | extra,
            ..target
        };
        creds::capset(with_admin).at(Step::Capabilities, 1)?;
        raise_ambient(sets.ambient)?;
        change_directory(plan, entered)?;
        let path = find(plan)?;
        process::umask(plan.umask);
        // From here on the runtime's death is noticed at the channel.
        creds::set_parent_death_signal(0).at(Step::Parent, 1)?;
        if plan.no_new_privileges {
            creds::set_no_new_privs().at(Step::NoNewPrivs, 0)?;
        }
        self.load_filter()?;
        if with_admin != target {
            creds::capset(target).at(Step::Capabilities, 2)?;
        }
        Ok(Program { path, env })
    }

    /// Loads the filter.
    fn load_filter(&self) -> Result<(), Fault> {
        let Some(filter) = &self.process.seccomp else { return Ok(()) };
        if filter.notify {
            // The next descriptor will be the listener: the parent is told its number beforehand and takes it, because the
            // filter may well hold up whatever this process would send it with.
            let next = nix::unistd::dup(std::io::stdin()).at(Step::Seccomp, 0)?;
            let number = next.as_raw_fd();
            drop(next);
            let frame = Frame::of(Tag::Listener, number);
            self.channel.send(frame).at(Step::Seccomp, 0)?;
        }
        let listener = sys::seccomp::load(&filter.program, filter.flags).at(Step::Seccomp, 0)?;
        if let Some(listener) = listener {
            self.channel.wait()?;
            drop(listener);
        }
        Ok(())
    }
}

fn drop_bounding(plan: &ProcessPlan) -> Result<(), Fault> {
    for cap in 0..63 {
        if plan.caps.bounding & bit(cap) != 0 {
            continue;
        }
        match creds::bounding_drop(cap) {
            Ok(()) => {}
            // Past the last one this kernel knows.
            Err(Errno::EINVAL) => break,
            // Without CAP_SETPCAP only those that are there still are a failure.
            Err(errno) => {
                if creds::bounding_has(cap) == Some(true) {
                    let index = usize::try_from(cap).unwrap_or(NAMES.len());
                    return Err(Fault::new(Step::Bounding, index, errno));
                }
            }
        }
    }
    Ok(())
}

fn set_ids(plan: &ProcessPlan) -> Result<(), Fault> {
    creds::set_keepcaps(true).at(Step::Uid, 0)?;
    if let Some(groups) = &plan.groups {
        match creds::setgroups(groups) {
            // Denied in the user namespace: there is nothing to drop, and nothing was asked for.
            Err(Errno::EPERM) if groups.is_empty() => {}
            other => other.at(Step::Groups, 0)?,
        }
    }
    creds::setresgid(plan.gid).at(Step::Gid, 0)?;
    creds::setresuid(plan.uid).at(Step::Uid, 0)?;
    creds::set_keepcaps(false).at(Step::Uid, 0)?;
    prepare::stay_undumpable()
}

fn raise_ambient(ambient: u64) -> Result<(), Fault> {
    for cap in (0..63).filter(|cap| ambient & bit(*cap) != 0) {
        let index = usize::try_from(cap).unwrap_or(NAMES.len());
        creds::ambient_raise(cap).at(Step::Ambient, index)?;
    }
    Ok(())
}

/// Enters cwd as the user if root could not, and checks that it is a place inside the root (CVE-2024-21626).
fn change_directory(plan: &ProcessPlan, entered: nix::Result<()>) -> Result<(), Fault> {
    match entered {
        Err(Errno::EACCES | Errno::EPERM) => nix::unistd::chdir(plan.cwd.as_c_str()),
        other => other,
    }
    .at(Step::Cwd, 0)?;
    let mut buffer = [0; 4096];
    match process::getcwd(&mut buffer) {
        Ok(_) if buffer.first() == Some(&b'/') => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(Fault::new(Step::CwdEscape, 0, Errno::EXDEV)),
        // A path longer than the buffer begins at the root all the same, or the walk here would have failed.
        Err(Errno::ERANGE | Errno::ENAMETOOLONG) => Ok(()),
        Err(errno) => Err(Fault::new(Step::Cwd, 0, errno)),
    }
}

/// Closes all descriptors but the standard streams, those to keep and the ones still needed: nothing of the host may
/// be reachable through /proc/self/fd when cwd and program are looked up (CVE-2024-21626).
pub(super) fn close_descriptors(child: &InitChild<'_>, labels: &Labels) -> Result<(), Errno> {
    let mut needed = prepare::needed(child);
    needed.extend(labels.numbers());
    fd::close_all_but(child.keep_fds, needed)
}

/// Finds the program as the user it will run as: in PATH, or by its path.
fn find(plan: &ProcessPlan) -> Result<CString, Fault> {
    // Of a container that cannot be started.
    let Some(name) = plan.argv.strings().first() else { return Ok(CString::default()) };
    if name.to_bytes().contains(&b'/') {
        return executable(name).at(Step::Lookup, 0).map(|()| name.clone());
    }
    let search = plan.search_path.as_deref().unwrap_or(DEFAULT_PATH);
    for directory in search.to_bytes().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b".".as_slice() } else { directory };
        let candidate = CString::new([directory, b"/", name.to_bytes()].concat());
        if let Ok(candidate) = candidate
            && executable(&candidate).is_ok()
        {
            return Ok(candidate);
        }
    }
    Err(Fault::new(Step::Lookup, 0, Errno::ENOENT))
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let stat = fd::stat_follow(fd::CWD, path)?;
    if stat.is(libc::S_IFDIR) {
        return Err(Errno::EISDIR);
    }
    process::access(path, libc::X_OK)
}

/// execve(2). Returns only to say why not.
pub(super) fn become_program(plan: &ProcessPlan, program: &Program) -> Fault {
    let path = &program.path;
    let mut errno = execve(path, &plan.argv, program.env.as_ref().unwrap_or(&plan.env));
    // EACCES for a directory is what the kernel says; callers look for the other word.
    if errno == Errno::EACCES && executable(path) == Err(Errno::EISDIR) {
        errno = Errno::EISDIR;
    }
    Fault::new(Step::Exec, 0, errno).detail(diagnose::why(path, errno))
}

/// The environment with HOME from the container's own /etc/passwd.
fn with_home(plan: &ProcessPlan) -> CStrArray {
    let mut home = b"HOME=".to_vec();
    home.extend_from_slice(&home_of(plan.uid));
    let mut strings = plan.env.strings().to_vec();
    strings.push(CString::new(home).unwrap_or_default());
    CStrArray::new(strings)
}

/// The home directory of `uid` in the container's own /etc/passwd; `/` for somebody who is not in it.
///
/// The file is the image's: it may be anything, so only a regular file is read, and only its first mebibyte.
fn home_of(uid: u32) -> Vec<u8> {
    let read = || -> Result<Vec<u8>, Errno> {
        let root = fd::openat(fd::CWD, c"/", libc::O_PATH, 0)?;
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = path::open_with(root.as_fd(), c"etc/passwd", flags)?;
        if !fd::stat(file.as_fd(), c"")?.is(libc::S_IFREG) {
            return Err(Errno::EINVAL);
        }
        read_at_most(&file, 1 << 20)
    };
    let passwd = read().unwrap_or_default();
    home_in(&passwd, uid).map_or_else(|| b"/".to_vec(), <[u8]>::to_vec)
}

fn read_at_most(file: &std::os::fd::OwnedFd, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while text.len() < limit {
        match nix::unistd::read(file, &mut chunk) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(text)
}

/// passwd(5): name:password:uid:gid:comment:home:shell.
fn home_in(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let number = std::str::from_utf8(fields.nth(2)?).ok()?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (number == uid && !home.is_empty() && !home.contains(&0)).then_some(home)
    })
}

/// The name of a program, for the sentence.
pub(super) fn display(path: &[u8]) -> String {
    std::ffi::OsStr::from_bytes(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_sixth_field_of_the_line_with_the_uid() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\nbad\na:x:1000:1000::/home/a:/bin/sh\nb:x:7:7:::\n";
        assert_eq!(home_in(passwd, 0), Some(b"/root".as_slice()));
        assert_eq!(home_in(passwd, 1000), Some(b"/home/a".as_slice()));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in(passwd, 8), None);
    }
}
