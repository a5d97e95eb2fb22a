//! Joining namespaces, and becoming root of a user namespace.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::prepare::write_proc;
use super::{Channel, InitChild, Namespace};
use crate::sync::{At, Fault, Frame, Step, Tag};
use crate::sys::clone::{Side, bits, clone_sibling, setns, unshare};
use crate::sys::{creds, fd, process};

/// Joins all of `namespaces`: first what the present privileges allow, then the user namespace, then what belongs to it.
pub(super) fn join(namespaces: &[Namespace]) -> Result<(), Fault> {
    let user = namespaces.iter().find(|namespace| namespace.kind == libc::CLONE_NEWUSER);
    let mut later = Vec::new();
    // The mount namespace last: it changes what every path means.
    let mut others: Vec<&Namespace> =
        namespaces.iter().filter(|namespace| namespace.kind != libc::CLONE_NEWUSER).collect();
    others.sort_by_key(|namespace| namespace.kind == libc::CLONE_NEWNS);
    for namespace in others {
        match setns(namespace.fd.as_fd(), namespace.kind) {
            Err(Errno::EPERM) if user.is_some() => later.push(namespace),
            other => other.at(Step::NamespaceJoin, namespace.index)?,
        }
    }
    if let Some(user) = user {
        setns(user.fd.as_fd(), user.kind).at(Step::NamespaceJoin, user.index)?;
    }
    for namespace in later {
        setns(namespace.fd.as_fd(), namespace.kind).at(Step::NamespaceJoin, namespace.index)?;
    }
    Ok(())
}

/// Becomes root of the user namespace this process is in.
pub(super) fn become_root() -> Result<(), Fault> {
    creds::setresgid(0).at(Step::UserNamespaceRoot, 0)?;
    // Denied where the caller may not set groups at all; then there are none to take along either.
    let _denied = creds::setgroups(&[]);
    creds::setresuid(0).at(Step::UserNamespaceRoot, 0)?;
    // A change of ids leaves the process as undumpable as before, whatever fs.suid_dumpable says.
    creds::set_dumpable(false).at(Step::UserNamespaceRoot, 0)
}

/// A new mount namespace, a copy of the one this process has joined.
pub(super) fn new_mount_namespace() -> Result<(), Fault> {
    unshare(libc::CLONE_NEWNS).at(Step::NamespaceNew, 1)
}

/// A new IPC namespace, whose message queues are this process's.
pub(super) fn new_ipc_namespace() -> Result<(), Fault> {
    unshare(libc::CLONE_NEWIPC).at(Step::NamespaceNew, 3)
}

/// A new cgroup namespace, rooted where this process now is.
pub(super) fn new_cgroup_namespace() -> Result<(), Fault> {
    unshare(libc::CLONE_NEWCGROUP).at(Step::NamespaceNew, 0)
}

/// A new time namespace for this process, with the clocks as `offsets` say.
///
/// clone3(2) would put the process into it at once, and then it takes no offsets any more: unshare(2) makes it for the
/// children only, and setns(2) follows them. What belongs to a user namespace is written by the parent, because the files
/// of an undumpable process are root's; where the parent is not root either, this process is dumpable for as long.
pub(super) fn new_time_namespace(child: &InitChild<'_>, offsets: &str) -> Result<(), Fault> {
    unshare(libc::CLONE_NEWTIME).at(Step::NamespaceNew, 2)?;
    let proc = child.proc.as_fd();
    if child.user_namespace {
        creds::set_dumpable(!child.privileged).at(Step::TimeOffsets, 0)?;
        child.channel.ask(Tag::TimeOffsets, 0)?;
        creds::set_dumpable(false).at(Step::TimeOffsets, 0)?;
    } else {
        write_proc(proc, c"self/timens_offsets", offsets.as_bytes()).at(Step::TimeOffsets, 0)?;
    }
    let made = fd::openat(proc, c"self/ns/time_for_children", libc::O_RDONLY, 0)
        .at(Step::NamespaceNew, 2)?;
    setns(made.as_fd(), libc::CLONE_NEWTIME).at(Step::NamespaceNew, 2)
}

/// The life of a process whose new user namespace is all that is wanted of it: sends the namespace, and ends once the
/// parent has closed its end.
pub(crate) fn hold_user_namespace(channel: &Channel) -> ! {
    let held = || -> Result<(), Fault> {
        creds::set_parent_death_signal(libc::SIGKILL).at(Step::Parent, 1)?;
        let own = fd::openat(fd::CWD, c"/proc/self/ns/user", libc::O_RDONLY, 0)
            .at(Step::NamespaceNew, 2)?;
        channel.send_fd(Frame::of(Tag::Ready, 0), own.as_fd()).at(Step::Parent, 0)?;
        channel.wait().map(drop)
    };
    let _over = held();
    process::exit_now(0)
}

/// The one case of two clones: a user namespace is joined and others are new. They have to be made after the join to
/// belong to it, and a new pid namespace needs a process of its own, so this one joins, clones the init as its
/// sibling and ends.
///
/// Returns in the init only.
pub(crate) fn stage1(
    channel: &Channel,
    namespaces: &[Namespace],
    new: libc::c_int,
) -> Result<(), Fault> {
    join(namespaces)?;
    become_root()?;
    fork_sibling(channel, new)
}

/// Clones this process as its own sibling and ends; returns in the new one, once the parent knows it.
pub(super) fn fork_sibling(channel: &Channel, new: libc::c_int) -> Result<(), Fault> {
    match clone_sibling(bits(new)).at(Step::NamespaceNew, 0)? {
        // The parent has to know this process before it is asked anything by it.
        Side::Child => channel.wait().map(drop),
        Side::Parent(_, pidfd) => {
            // The number is of this process's pid namespace, which may not be the parent's: the descriptor is nobody's.
            let told = channel.send_fd(Frame::of(Tag::InitForked, 0), pidfd.as_fd());
            process::exit_now(i32::from(told.is_err()));
        }
    }
}
