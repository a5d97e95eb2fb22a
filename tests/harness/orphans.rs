//! What a run that was killed has left: found by its names, which hold the pid of the run, and removed by the next.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::Host;
use super::test::{mount_points, remove_cgroup};

/// The prefix of the directories, before the pid of the run.
pub const DIRECTORY: &str = "skepbb-";
/// The prefix of ids and cgroups, before the pid of the run and a dash.
pub const ID: &str = "bb";

/// The pid in a name, when that process is no more.
fn dead(digits: &str) -> bool {
    digits.parse::<i32>().is_ok_and(|pid| fs::metadata(format!("/proc/{pid}")).is_err())
}

/// Removes the cgroups, with their processes, the mounts and the directories of runs that are no more.
pub fn remove(host: &Host, temporary: &Path) {
    for root in host.cgroup_roots() {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digits = name
                .strip_prefix(ID)
                .and_then(|rest| rest.split_once('-'))
                .map(|(digits, _)| digits);
            if digits.is_some_and(dead) {
                end(&entry.path());
                remove_cgroup(&entry.path());
            }
        }
    }
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.strip_prefix(DIRECTORY).is_some_and(dead) {
            continue;
        }
        let below = format!("{}/", entry.path().display());
        for point in mount_points().into_iter().rev().filter(|point| point.starts_with(&below)) {
            let _best_effort = umount2(point.as_str(), MntFlags::MNT_DETACH);
        }
        let _best_effort = fs::remove_dir_all(entry.path());
    }
}

/// Thaws a cgroup and kills what is in it.
fn end(cgroup: &Path) {
    let _v1_only = fs::write(cgroup.join("freezer.state"), "THAWED");
    let _v2_only = fs::write(cgroup.join("cgroup.freeze"), "0");
    for line in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(pid) = line.parse() {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
