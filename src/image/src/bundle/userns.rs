//! A user namespace to map a mount's ids with (mount_setattr(2) takes them from one).

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::convert::{IdMap, Mapping};
use crate::error::{Context, Error, Kind, Result};

/// The argument with which this program is only the owner of a namespace: see [`hold`].
pub const HOLD: &str = "internal-user-namespace";

/// Makes a user namespace with the ids of `mapping`. It lives as long as the descriptor does.
///
/// # Errors
/// Where the kernel or the host's configuration refuses it.
pub fn make(mapping: &Mapping) -> Result<OwnedFd> {
    let mut holder = Command::new("/proc/self/exe")
        .arg(HOLD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| "cannot start the owner of a user namespace")?;
    let made = namespace_of(&mut holder, mapping);
    // Its input ends with this, and so does it.
    drop(holder.stdin.take());
    let _reaped = holder.wait();
    made
}

fn namespace_of(holder: &mut std::process::Child, mapping: &Mapping) -> Result<OwnedFd> {
    let mut ready = [0];
    let said = holder.stdout.as_mut().map(|output| output.read_exact(&mut ready));
    if !matches!(said, Some(Ok(()))) {
        return Err(Error::new(
            Kind::Unsupported,
            "cannot make a user namespace to map the ids of the layers with",
        )
        .hint("see user.max_user_namespaces in sysctl(8); --rootfs=copy needs none"));
    }
    let process = format!("/proc/{}", holder.id());
    for (name, map) in [("uid_map", &mapping.uids), ("gid_map", &mapping.gids)] {
        fs::write(format!("{process}/{name}"), lines(map))
            .context(|| format!("cannot write {name} of a user namespace"))?;
    }
    let namespace =
        fs::File::open(format!("{process}/ns/user")).context(|| "cannot open a user namespace")?;
    Ok(namespace.into())
}

fn lines(map: &[IdMap]) -> String {
    map.iter().map(|range| format!("{} {} {}\n", range.container, range.host, range.size)).collect()
}

/// Is the owner of a new user namespace until the standard input ends.
///
/// # Errors
/// Those of unshare(2).
pub fn hold() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| Error::sys("cannot make a user namespace", errno))?;
    let told = std::io::stdout().write_all(b"+").and_then(|()| std::io::stdout().flush());
    told.context(|| "cannot say that the user namespace is there")?;
    let _until_it_ends = std::io::stdin().read(&mut [0]);
    Ok(())
}
