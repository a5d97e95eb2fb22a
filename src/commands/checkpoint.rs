//! `checkpoint` and `restore`.

use std::ffi::OsStr;
use std::path::Path;

use libcontainer::container::{self, Checkpoint, Saved};
use libcontainer::criu::message::Switch;
use libcontainer::criu::{self, CgroupMode, NetworkLock};
use libcontainer::launch::{Mode, Restore};
use libcontainer::{Error, Result};

use super::create::{absolute, enter_bundle, launch_options, stay};
use super::{id, store};
use crate::cli::flag::{self, Flag};
use crate::cli::{Args, Globals};
use crate::logging::Logger;

/// What is on or off for both.
const SWITCHES: &[(&Flag, Switch)] = &[
    (&flag::TCP_ESTABLISHED, Switch::TcpEstablished),
    (&flag::EXT_UNIX_SK, Switch::ExtUnixSk),
    (&flag::SHELL_JOB, Switch::ShellJob),
    (&flag::FILE_LOCKS, Switch::FileLocks),
    (&flag::LAZY_PAGES, Switch::LazyPages),
    (&flag::AUTO_DEDUP, Switch::AutoDedup),
];
const CHECKPOINT: &[(&Flag, Switch)] = &[
    (&flag::LEAVE_RUNNING, Switch::LeaveRunning),
    (&flag::LINK_REMAP, Switch::LinkRemap),
    (&flag::TCP_SKIP_IN_FLIGHT, Switch::TcpSkipInFlight),
];
const RESTORE: &[(&Flag, Switch)] = &[(&flag::TCP_CLOSE, Switch::TcpClose)];

/// `checkpoint`.
///
/// # Errors
/// Why it could not be made; the container runs on then.
pub(crate) fn checkpoint(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<()> {
    let (store, id) = (store(globals)?, id(args)?);
    let options = options(args, globals, CHECKPOINT)?;
    let how = Checkpoint {
        pre_dump: args.flag(&flag::PRE_DUMP),
        parent: args.path(&flag::PARENT_PATH).map(Path::to_owned),
        page_server: args.text(&flag::PAGE_SERVER)?.map(page_server).transpose()?,
        status_fd: status_fd(args)?,
    };
    let saved = Saved::open_locked(&store, &id)?;
    if saved.container()?.checkpoint(&options, &how, log)? {
        container::delete_checkpointed(&saved, &store, &id, log);
    }
    Ok(())
}

/// `restore`; the status is the container's, unless it is detached.
///
/// # Errors
/// Why it could not be restored; nothing of it is left.
pub(crate) fn restore(args: &Args<'_>, globals: &Globals<'_>, log: &Logger) -> Result<i32> {
    let store = store(globals)?;
    let detach = args.flag(&flag::DETACH);
    let mode = if detach { Mode::RunDetached } else { Mode::RunForeground };
    let criu = options(args, globals, RESTORE)?;
    let how = Restore {
        criu: &criu,
        lsm_profile: args.text(&flag::LSM_PROFILE)?.map(lsm_profile).transpose()?,
        lsm_mount_context: args.text(&flag::LSM_MOUNT_CONTEXT)?,
    };
    let options = launch_options(args, globals, &store, mode)?;
    enter_bundle(&options.bundle);
    let launch = || libcontainer::launch::restore(&options, &how, log);
    if detach {
        return launch().map(|_| 0);
    }
    stay(args, &store, &options.id, log, launch)
}

fn options(
    args: &Args<'_>,
    globals: &Globals<'_>,
    more: &[(&'static Flag, Switch)],
) -> Result<criu::Options> {
    let on = SWITCHES.iter().chain(more).filter(|(flag, _)| args.flag(flag));
    let search = std::env::var_os("PATH").unwrap_or_default();
    let program = globals.value(&flag::CRIU).filter(|name| !name.is_empty());
    let program = program.unwrap_or(OsStr::new("criu"));
    Ok(criu::Options {
        // A path is meant from here, not from the bundle, where a restore goes; a name is looked for.
        program: match program.as_encoded_bytes().contains(&b'/') {
            true => absolute(Path::new(program))?.into_os_string(),
            false => program.to_owned(),
        },
        search,
        images: absolute(args.path(&flag::IMAGE_PATH).unwrap_or(Path::new("checkpoint")))?,
        work: args.path(&flag::WORK_PATH).map(absolute).transpose()?,
        switches: on.map(|(_, switch)| *switch).collect(),
        cgroups: args.text(&flag::MANAGE_CGROUPS_MODE)?.map(cgroup_mode).transpose()?,
        network_lock: args.text(&flag::NETWORK_LOCK)?.map(network_lock).transpose()?,
        empty_network: empty_network(args)?,
    })
}

fn cgroup_mode(name: &str) -> Result<CgroupMode> {
    Ok(match name {
        "soft" => CgroupMode::Soft,
        "full" => CgroupMode::Full,
        "strict" => CgroupMode::Strict,
        "ignore" => CgroupMode::Ignore,
        _ => return Err(Error::config(format!("Invalid manage-cgroups-mode value: {name:?}"))),
    })
}

fn network_lock(name: &str) -> Result<NetworkLock> {
    Ok(match name {
        "iptables" => NetworkLock::Iptables,
        "nftables" => NetworkLock::Nftables,
        "skip" => NetworkLock::Skip,
        _ => return Err(Error::config(format!("invalid value {name:?} for flag -network-lock"))),
    })
}

fn empty_network(args: &Args<'_>) -> Result<bool> {
    let mut network = false;
    for name in args.values(&flag::EMPTY_NS) {
        if name != "network" {
            return Err(Error::unsupported(format!(
                "namespace {:?} is not supported for flag -empty-ns",
                name.display().to_string()
            ))
            .hint("CRIU can leave out the content of network only"));
        }
        network = true;
    }
    Ok(network)
}

/// `ADDRESS:PORT`, an IPv6 address in brackets or not.
fn page_server(text: &str) -> Result<(String, u16)> {
    let wrong = || {
        Error::config("Use --page-server ADDRESS:PORT to specify page server")
            .hint("a port is 1 to 65535")
    };
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    if address.is_empty() {
        return Err(wrong());
    }
    Ok((address.to_owned(), port))
}

fn status_fd(args: &Args<'_>) -> Result<Option<i32>> {
    // runc takes -1, its default, for none.
    let Some(number) = args.int(&flag::STATUS_FD)?.filter(|number| *number >= 0) else {
        return Ok(None);
    };
    i32::try_from(number)
        .map(Some)
        .map_err(|_large| Error::config(format!("--status-fd {number} is not a descriptor")))
}

fn lsm_profile(text: &str) -> Result<&str> {
    let known = ["apparmor:", "selinux:"]
        .iter()
        .any(|kind| text.len() > kind.len() && text.starts_with(kind));
    if known {
        return Ok(text);
    }
    Err(Error::config(format!("invalid value {text:?} for flag -lsm-profile"))
        .hint("it is apparmor:NAME or selinux:LABEL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers() {
        assert_eq!(page_server("10.0.0.1:27").unwrap(), ("10.0.0.1".to_owned(), 27));
        assert_eq!(page_server("[::1]:9").unwrap(), ("::1".to_owned(), 9));
        for wrong in ["", ":", "a", "a:", ":1", "a:0", "a:65536", "a:x"] {
            assert!(page_server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lsm_profiles_have_a_type() {
        assert!(lsm_profile("apparmor:a").is_ok() && lsm_profile("selinux:a:b").is_ok());
        assert!(lsm_profile("apparmor:").is_err() && lsm_profile("a").is_err());
    }
}
