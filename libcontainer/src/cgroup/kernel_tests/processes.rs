//! Joining, freezing, killing, removing, out of memory.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::{Cgroup, OomEvent, file, processes};
use super::{Unit, has_swap, host, is_directory, plan, unique_path, until};

#[test]
fn a_process_joins_every_hierarchy_by_itself() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    let pid = unit.sleeper();
    assert_eq!(unit.cgroup.pids().unwrap(), [pid]);
    for directory in unit.directories() {
        assert_eq!(processes::all(&directory).unwrap(), [pid], "{directory}");
    }
    let own = file::read(&format!("/proc/{pid}/cgroup")).unwrap();
    let inside = own.lines().filter(|line| line.ends_with(unit.cgroup.path())).count();
    assert_eq!(inside, unit.directories().len(), "{own}");
}

#[test]
fn a_frozen_cgroup_stands_still_until_it_is_thawed() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    let pid = unit.sleeper();
    assert!(!unit.cgroup.is_frozen().unwrap());
    {
        let _frozen = unit.cgroup.freeze_for().unwrap();
        assert!(unit.cgroup.is_frozen().unwrap());
        let _inner = unit.cgroup.freeze_for().unwrap();
    }
    assert!(!unit.cgroup.is_frozen().unwrap(), "the guard thaws");
    unit.cgroup.freeze().unwrap();
    drop(unit.cgroup.freeze_for().unwrap());
    assert!(unit.cgroup.is_frozen().unwrap(), "the guard leaves what was frozen before");
    // A stopped process does not see SIGTERM before it runs again.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
    if !host.is_v2() {
        assert!(unit.children[0].try_wait().unwrap().is_none());
    }
    unit.cgroup.thaw().unwrap();
    assert_eq!(unit.children[0].wait().unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn every_process_gets_the_signal() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    let (a, b) = (unit.sleeper(), unit.sleeper());
    assert_eq!(unit.cgroup.pids().unwrap().len(), 2);
    unit.cgroup.signal_all(libc::SIGUSR1).unwrap();
    for child in &mut unit.children {
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGUSR1));
    }
    assert!(a != b && !unit.cgroup.is_frozen().unwrap());
    unit.children.clear();
    // Children of children, in a cgroup below, and frozen.
    let join = unit.cgroup.join().unwrap();
    let child = unit.shell(&join, "sleep 1000 & sleep 1000 & echo; wait").id();
    for directory in unit.directories() {
        let below = format!("{directory}/below");
        std::fs::create_dir(&below).unwrap();
        if !directory.contains("/cpuset/") {
            file::write(&format!("{below}/cgroup.procs"), &child.to_string()).unwrap();
        }
    }
    until("three processes", || unit.cgroup.pids().unwrap().len() == 3);
    unit.cgroup.freeze().unwrap();
    unit.cgroup.signal_all(libc::SIGKILL).unwrap();
    assert_eq!(unit.children[0].wait().unwrap().signal(), Some(libc::SIGKILL));
    until("an empty cgroup", || unit.cgroup.pids().unwrap().is_empty());
}

#[test]
fn nobody_takes_a_cgroup_while_it_is_asked_whose_it_is() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    assert!(unit.cgroup.kill_unless(&|| panic!("there is nobody to kill")).unwrap());
    let pid = unit.sleeper();
    let path = unit.cgroup.path().to_owned();
    for taken in [true, false] {
        let asked = || {
            assert!(unit.cgroup.is_frozen().unwrap());
            for directory in unit.directories() {
                // Even if the last process ended now.
                std::fs::write(format!("{directory}/../cgroup.procs"), pid.to_string()).unwrap();
            }
            assert!(unit.cgroup.pids().unwrap().is_empty());
            let error = Cgroup::create(&plan(&host, &path, "{}").unwrap(), &host).unwrap_err();
            assert!(error.to_string().contains("frozen"), "{error}");
            Ok(taken)
        };
        assert_eq!(unit.cgroup.kill_unless(&asked).unwrap(), !taken);
        assert!(!unit.cgroup.is_frozen().unwrap());
        assert!(unit.children[0].try_wait().unwrap().is_none());
        for directory in unit.directories() {
            std::fs::write(format!("{directory}/cgroup.procs"), pid.to_string()).unwrap();
        }
    }
    assert!(unit.cgroup.kill_unless(&|| Ok(false)).unwrap());
    assert_eq!(unit.children[0].wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn what_was_found_stays_and_what_was_made_goes() {
    let Some(host) = host() else { return };
    let path = unique_path();
    let planned = plan(&host, &path, "{}").unwrap();
    let all = Cgroup::from_record(planned.record()).unwrap();
    let directories: Vec<_> =
        all.record.hierarchies.iter().map(|member| all.directory(member)).collect();
    let found = directories.last().unwrap();
    std::fs::create_dir_all(format!("{found}/below")).unwrap();
    let cgroup = Cgroup::create(&planned, &host).unwrap();
    assert!(!cgroup.is_fresh());
    cgroup.remove_made().unwrap();
    for directory in &directories {
        assert_eq!(is_directory(directory), directory == found, "{directory}");
    }
    assert!(is_directory(&format!("{found}/below")));
    let _unit = Unit { cgroup: all, children: Vec::new() };
}

#[test]
fn removal_takes_nested_cgroups_along_and_names_who_is_in_the_way() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    for directory in unit.directories() {
        std::fs::create_dir_all(format!("{directory}/a/b")).unwrap();
        std::fs::create_dir_all(format!("{directory}/c")).unwrap();
    }
    let pid = unit.sleeper();
    let error = unit.cgroup.remove().unwrap_err().to_string();
    assert!(error.contains("device or resource busy"), "{error}");
    assert!(error.contains(&format!("{pid} (sleep, waits in ")), "{error}");
    unit.cgroup.signal_all(libc::SIGKILL).unwrap();
    unit.children[0].wait().unwrap();
    unit.cgroup.remove().unwrap();
    for directory in unit.directories() {
        assert!(!is_directory(&directory), "{directory}");
    }
    unit.cgroup.remove().unwrap();
    assert_eq!(unit.cgroup.pids().unwrap(), [] as [i32; 0]);
    assert!(!unit.cgroup.is_frozen().unwrap());
}

#[test]
fn an_out_of_memory_kill_is_seen() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, r#"{"memory":{"limit":16777216}}"#);
    if has_swap(&unit) {
        unit.update(r#"{"memory":{"limit":16777216,"swap":16777216}}"#).unwrap();
    }
    let keeper = unit.sleeper();
    let mut watch = unit.cgroup.watch_oom().unwrap();
    assert_eq!(watch.read().unwrap(), OomEvent { kills: 0, gone: false });
    let join = unit.cgroup.join().unwrap();
    unit.shell(&join, "exec tail /dev/zero");
    let mut kills = 0;
    until("an event", || {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(1000_u16)).unwrap() > 0 {
            kills += watch.read().unwrap().kills;
        }
        kills > 0
    });
    assert_eq!(unit.children[1].wait().unwrap().signal(), Some(libc::SIGKILL));
    // Whoever sleeps was not the one.
    assert_eq!(unit.cgroup.pids().unwrap(), [keeper]);
    unit.cgroup.signal_all(libc::SIGKILL).unwrap();
    unit.children[0].wait().unwrap();
    unit.cgroup.remove().unwrap();
    until("the end", || watch.read().unwrap().gone);
}

#[test]
fn exec_joins_the_sub_cgroup_it_names() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    for directory in unit.directories() {
        std::fs::create_dir(format!("{directory}/sub")).unwrap();
        if directory.contains("/cpuset/") {
            for name in ["cpuset.cpus", "cpuset.mems"] {
                let value = file::read(&format!("{directory}/{name}")).unwrap();
                file::write(&format!("{directory}/sub/{name}"), &value).unwrap();
            }
        }
    }
    let join = unit.cgroup.join_exec(&["sub"]).unwrap();
    let pid = unit.shell(&join, "exec sleep 1000").id();
    let own = file::read(&format!("/proc/{pid}/cgroup")).unwrap();
    let inside =
        own.lines().filter(|l| l.ends_with(&format!("{}/sub", unit.cgroup.path()))).count();
    assert_eq!(inside, unit.directories().len(), "{own}");
    assert!(unit.cgroup.join_exec(&["nowhere"]).is_err());
    assert!(unit.cgroup.join_exec(&["../x"]).is_err());
    let one = unit.cgroup.join_exec(&["memory:sub"]);
    if host.is_v2() {
        let error = one.unwrap_err().to_string();
        assert!(error.contains("unknown controller memory"), "{error}");
        return;
    }
    let pid = unit.shell(&one.unwrap(), "exec sleep 1000").id();
    let own = file::read(&format!("/proc/{pid}/cgroup")).unwrap();
    let memory = own.lines().find(|line| line.contains(":memory:")).unwrap();
    let pids = own.lines().find(|line| line.contains(":pids:")).unwrap();
    assert!(memory.ends_with("/sub") && !pids.ends_with("/sub"), "{own}");
}

#[test]
fn exec_falls_back_to_where_the_init_has_gone() {
    let Some(host) = host() else { return };
    let mut unit = Unit::new(&host, "{}");
    let pid = unit.sleeper();
    let join = unit.cgroup.join_of(pid).unwrap();
    if !host.is_v2() {
        assert_eq!(join.tasks.len(), unit.directories().len() - usize::from(join.into.is_some()));
        return;
    }
    // What systemd does in a container: a leaf for itself, controllers for the others.
    let directory = unit.cgroup.v2().unwrap();
    std::fs::create_dir(format!("{directory}/init.scope")).unwrap();
    file::write(&format!("{directory}/init.scope/cgroup.procs"), &pid.to_string()).unwrap();
    file::write(&format!("{directory}/cgroup.subtree_control"), "+memory").unwrap();
    let join = unit.cgroup.join_of(pid).unwrap();
    let fd = join.into.as_ref().unwrap().as_raw_fd();
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert!(target.ends_with("init.scope"), "{}", target.display());
    unit.shell(&join, "exec sleep 1000");
    assert_eq!(unit.cgroup.pids().unwrap().len(), 2);
    let error = unit.cgroup.join_error(Errno::EBUSY).to_string();
    assert!(error.contains("may hold no processes itself"), "{error}");
}
