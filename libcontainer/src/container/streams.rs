//! The standard streams of a container as others know them: pipes with one end outside, and files of the host.

use std::ffi::CString;

use nix::errno::Errno;

use crate::sys::fd;

/// One end of something that leads out of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    /// CRIU's name: `pipe:[INODE]`, or `file[MOUNT:INODE]`.
    name: String,
    /// Whether it is init's, and as which descriptor.
    number: Option<usize>,
    reads: bool,
    writes: bool,
}

/// CRIU's names of the standard streams that lead out of the container of `init`, whose processes are `pids`; empty for
/// those that do not.
///
/// A shell moves its own streams away while it redirects something, so all descriptors are looked at.
pub(super) fn leading_out(init: i32, pids: &[i32]) -> [String; 3] {
    let mountinfo = std::fs::read(format!("/proc/{init}/mountinfo")).unwrap_or_default();
    let mountinfo = String::from_utf8_lossy(&mountinfo).into_owned();
    let own: Vec<&str> = mountinfo.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut ends = ends_of(init, true, &own);
    for pid in pids.iter().filter(|pid| **pid != init) {
        ends.extend(ends_of(*pid, false, &own));
    }
    assign(&ends)
}

fn assign(ends: &[End]) -> [String; 3] {
    let inside = |end: &End| {
        let of_pipe = |other: &&End| other.name == end.name && other.name.starts_with("pipe:");
        let pipe: Vec<&End> = ends.iter().filter(of_pipe).collect();
        pipe.iter().any(|end| end.reads) && pipe.iter().any(|end| end.writes)
    };
    let out: Vec<&End> = ends.iter().filter(|end| !inside(end)).collect();
    let mut streams = [const { String::new() }; 3];
    for end in &out {
        if let Some(stream) = end.number.and_then(|number| streams.get_mut(number)) {
            stream.clone_from(&end.name);
        }
    }
    for end in out {
        if streams.contains(&end.name) {
            continue;
        }
        let wanted: &[usize] = if end.writes { &[1, 2] } else { &[0] };
        let free = wanted.iter().find(|at| streams.get(**at).is_some_and(String::is_empty));
        if let Some(stream) = free.and_then(|at| streams.get_mut(*at)) {
            stream.clone_from(&end.name);
        }
    }
    streams
}

/// Those of a process, which may end meanwhile.
fn ends_of(pid: i32, init: bool, own_mounts: &[&str]) -> Vec<End> {
    let mut numbers: Vec<usize> = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<usize>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    numbers.into_iter().filter_map(|number| end_of(pid, number, init, own_mounts).ok()).collect()
}

fn end_of(pid: i32, number: usize, init: bool, own_mounts: &[&str]) -> Result<End, Errno> {
    let link = format!("/proc/{pid}/fd/{number}");
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"));
    let info = info.map_err(|error| crate::error::io_errno(&error))?;
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).ok_or(Errno::EIO)
    };
    let flags = i32::from_str_radix(field("flags:")?, 8).map_err(|_damaged| Errno::EIO)?;
    let mode = flags & libc::O_ACCMODE;
    let end = |name| End {
        name,
        number: init.then_some(number),
        reads: mode != libc::O_WRONLY,
        writes: mode != libc::O_RDONLY,
    };
    let target = std::fs::read_link(&link).map_err(|error| crate::error::io_errno(&error))?;
    let target = target.to_string_lossy();
    if target.starts_with("pipe:[") {
        return Ok(end(target.into_owned()));
    }
    let link = CString::new(link).map_err(|_nul| Errno::EINVAL)?;
    let stat = fd::stat_follow(fd::CWD, &link)?;
    let mount = field("mnt_id:")?;
    // What is on no mount at all, as a memfd, is CRIU's.
    let file = (stat.is(libc::S_IFREG) && !target.starts_with("/memfd:")) || stat.is(libc::S_IFCHR);
    if flags & libc::O_PATH != 0 || !file || own_mounts.contains(&mount) {
        return Err(Errno::ENOENT);
    }
    let mount: u32 = mount.parse().map_err(|_damaged| Errno::EIO)?;
    Ok(end(format!("file[{mount:x}:{:x}]", stat.ino)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(name: &str, number: Option<usize>, mode: &str) -> End {
        let (reads, writes) = (mode.contains('r'), mode.contains('w'));
        End { name: name.to_owned(), number, reads, writes }
    }

    #[test]
    fn streams_are_found_although_a_shell_has_moved_them() {
        let ends = [
            end("pipe:[1]", Some(0), "r"),
            end("file[a:1]", Some(2), "w"),
            end("pipe:[2]", Some(10), "w"),
        ];
        assert_eq!(assign(&ends), ["pipe:[1]", "pipe:[2]", "file[a:1]"]);
    }

    #[test]
    fn a_pipe_between_two_processes_is_the_containers_own() {
        let ends = [
            end("pipe:[1]", Some(0), "r"),
            end("pipe:[1]", None, "w"),
            end("file[a:1]", None, "w"),
            end("file[a:1]", None, "w"),
        ];
        assert_eq!(assign(&ends), ["", "file[a:1]", ""]);
        assert_eq!(assign(&[]), ["", "", ""]);
    }

    #[test]
    fn more_than_three_do_not_fit() {
        let ends: Vec<End> = (0..5).map(|at| end(&format!("pipe:[{at}]"), None, "w")).collect();
        assert_eq!(assign(&ends), ["", "pipe:[0]", "pipe:[1]"]);
    }
}
