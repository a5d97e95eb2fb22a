//! The one clone, and the namespaces this process has to be in for it.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::oom_score::OomScore;
use super::prepared::Prepared;
use super::serve;
use super::{Launch, Mode, refusal};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::init::{self, Cgroups, InitChild};
use crate::plan;
use crate::sync::{Fault, Step};
use crate::sys::clone::{Side, bits, clone_single_threaded, setns};
use crate::sys::spawn::signal;
use crate::sys::{fd, pidfd, scheduling, spawn};

impl Launch<'_> {
    /// Namespaces that have to be joined before the clone: a pid namespace takes only children, and what the host's user
    /// namespace owns is out of reach of a new one. The guard goes back.
    pub(super) fn join_in_parent(&self, fds: &mut Prepared) -> Result<Vec<Rejoin>> {
        let early = |kind| {
            kind == libc::CLONE_NEWPID
                || (self.plan.namespaces.makes(libc::CLONE_NEWUSER) && kind != libc::CLONE_NEWNS)
        };
        let mut back = Vec::new();
        let (now, later) = std::mem::take(&mut fds.namespaces)
            .into_iter()
            .partition::<Vec<_>, _>(|namespace| early(namespace.kind));
        fds.namespaces = later;
        for namespace in now {
            let name = plan::namespaces::proc_name(namespace.kind);
            let own = CString::new(format!("/proc/self/ns/{name}")).unwrap_or_default();
            let own = fd::openat(fd::CWD, &own, libc::O_RDONLY, 0).doing("open own namespace")?;
            setns(namespace.fd.as_fd(), namespace.kind).map_err(|errno| {
                self.plan.explain(&Fault::new(Step::NamespaceJoin, namespace.index, errno))
            })?;
            back.push(Rejoin { kind: namespace.kind, fd: own });
        }
        Ok(back)
    }

    /// Clones init: its pid and pidfd, and this end of the socket to it.
    ///
    /// It may not be born in what only systemd may move processes to, as when an ordinary user's login session lies beside
    /// his systemd and not below it: then it is moved before it does anything.
    pub(super) fn clone_init(
        &self,
        mut child: InitChild<'_>,
        parent_end: OwnedFd,
        into: Option<&OwnedFd>,
        cgroup: &Cgroup,
    ) -> Result<(Pid, OwnedFd, OwnedFd)> {
        let namespaces = &self.plan.namespaces;
        let late = if self.plan.makes_ipc_late() { libc::CLONE_NEWIPC } else { 0 };
        let new = namespaces.cloned() & !late;
        let two_stages = namespaces.joins(libc::CLONE_NEWUSER).is_some() && new != 0;
        let flags = if two_stages { 0 } else { bits(new) };
        let own = namespaces.has(libc::CLONE_NEWUSER);
        let _score = if own { OomScore::take(&self.plan.process)? } else { None };
        let joins = namespaces.joins(libc::CLONE_NEWUSER).is_some();
        if self.options.mode != Mode::RunForeground {
            // Where the caller ignores it, nothing would be left of a child that dies too early to be asked.
            signal::set_default(libc::SIGCHLD).doing("sigaction")?;
        }
        let beside = matches!(child.cgroups, Cgroups::Awaited);
        let mut outside = false;
        let mut side = clone_single_threaded(flags, into.map(AsFd::as_fd));
        if matches!(side, Err(Errno::EACCES)) && cgroup.unit().is_some() {
            outside = true;
            if !own {
                // One with a user namespace of its own waits for its ids.
                child.cgroups = Cgroups::Awaited;
            }
            side = clone_single_threaded(flags, None);
        }
        // In the user namespace of others it has ids that systemd does not move.
        let moved_first = outside && joins;
        match side {
            Ok(Side::Child) => {
                if !self.plan.leaves_host_mounts() {
                    crate::exeseal::let_go();
                }
                // Else it would never see that the parent is gone.
                drop(parent_end);
                if moved_first && let Err(fault) = child.channel.wait_for_tasks() {
                    child.channel.fail(&fault);
                }
                run_child(child, two_stages, new)
            }
            Ok(Side::Parent(pid, pidfd)) => {
                if beside {
                    spread(pid);
                }
                let awaits = moved_first || matches!(child.cgroups, Cgroups::Awaited);
                child.close();
                if outside {
                    let moved = cgroup.attach(pid.as_raw()).and_then(|()| match awaits {
                        true => serve::send_tasks(parent_end.as_fd(), Vec::new(), 0, None),
                        false => Ok(()),
                    });
                    moved.inspect_err(|_not_moved| end(&pidfd))?;
                }
                Ok((pid, pidfd, parent_end))
            }
            Err(errno) => Err(clone_error(errno, flags, into.is_some(), cgroup)),
        }
    }
}

/// On a host with so few CPUs none of them is far from another.
const FEW_CPUS: u32 = 8;

/// Gives `child` another CPU than this process's, which goes on as well. The kernel often leaves a new process on its
/// parent's CPU although another one is idle (a third to a half of them, Linux 6.18 with two), where it waits until the parent
/// does.
fn spread(child: Pid) {
    let (Ok(cpu), Ok(mask)) = (scheduling::current_cpu(), scheduling::affinity()) else {
        return;
    };
    if !(2..=FEW_CPUS).contains(&mask.iter().map(|word| word.count_ones()).sum()) {
        return;
    }
    let mut others = mask;
    if let Some(word) = usize::try_from(cpu / u64::BITS).ok().and_then(|i| others.get_mut(i)) {
        *word &= !(1 << (cpu % u64::BITS));
    }
    // It is moved, and may be moved again: on a busy host the other CPU may be the worse one.
    if scheduling::set_affinity_of(child, &others).is_ok() {
        let _taken_back_when_it_joins = scheduling::set_affinity_of(child, &mask);
    }
}

fn end(child: &OwnedFd) {
    let _gone = pidfd::send_signal(child.as_fd(), libc::SIGKILL);
    let _reaped = spawn::wait(child.as_fd());
}

fn run_child(child: InitChild<'_>, two_stages: bool, new: libc::c_int) -> ! {
    let mut child = child;
    if two_stages {
        let namespaces = std::mem::take(&mut child.namespaces);
        if let Err(fault) = init::stage1(&child.channel, &namespaces, new) {
            child.channel.fail(&fault);
        }
    }
    init::run(child)
}

fn clone_error(errno: Errno, flags: u64, into_cgroup: bool, cgroup: &Cgroup) -> Error {
    let error = Error::os("clone3", errno);
    match errno {
        Errno::EBUSY | Errno::EOPNOTSUPP | Errno::EACCES if into_cgroup => cgroup.join_error(errno),
        Errno::ENOSPC => error.hint(refusal::full(flags)),
        Errno::EPERM | Errno::EACCES | Errno::EUSERS if flags & bits(libc::CLONE_NEWUSER) != 0 => {
            error.hint(refusal::user_namespace())
        }
        Errno::EINVAL if flags & bits(libc::CLONE_NEWTIME) != 0 => {
            error.hint("this kernel may have been built without time namespaces (CONFIG_TIME_NS)")
        }
        Errno::EPERM => error.hint("making namespaces needs CAP_SYS_ADMIN or a user namespace"),
        Errno::EAGAIN => error.hint("the pids limit of the cgroup or RLIMIT_NPROC is reached"),
        Errno::ENOSYS => error.hint(
            "a seccomp filter refuses it, as around an outer container: run that one with seccomp=unconfined",
        ),
        _ => error,
    }
}

/// A namespace of the runtime's own to go back to.
pub(super) struct Rejoin {
    kind: libc::c_int,
    fd: OwnedFd,
}

impl Drop for Rejoin {
    fn drop(&mut self) {
        // It was this process's a moment ago; the process ends soon in any case.
        let _back = setns(self.fd.as_fd(), self.kind);
    }
}
