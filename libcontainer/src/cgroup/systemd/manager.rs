//! What is asked of systemd (org.freedesktop.systemd1(5)), within a bounded time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::super::host::is_host_root;
use super::{Buses, Property, Unit};
use crate::dbus::{Address, Body, Call, Connection, Failure, Message, Peer, Value};
use crate::{Error, Result};

/// How long one conversation may take, jobs included.
const DEADLINE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// The sockets of the system's systemd: its own, and that of the bus.
const PRIVATE: &str = "/run/systemd/private";
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// Whose systemd it is that root, or whoever is not root of the host, asks.
pub(crate) fn is_users(buses: Option<&Buses>) -> Result<bool> {
    if is_host_root()? {
        return Ok(false);
    }
    // Root of a user namespace is an ordinary user outside; or root of a container that has a systemd itself.
    let none = buses.is_none_or(|buses| buses.session.is_none() && buses.runtime_dir.is_none());
    Ok(!(none && nix::unistd::geteuid().is_root()))
}

/// Where the environment says that systemd is; empty for the usual places of the system's.
pub(super) fn addresses(user: bool, buses: &Buses) -> Result<Vec<String>> {
    let of_use = |bus: &&String| Address::parse(bus).is_some();
    if !user {
        return match &buses.system {
            Some(bus) if !of_use(&bus) => Err(Error::unsupported(format!(
                "DBUS_SYSTEM_BUS_ADDRESS names no unix socket: {bus:?}"
            ))
            .hint("unset it for the systemd of this host; an address is such as unix:path=/run/dbus/system_bus_socket")),
            given => Ok(given.iter().cloned().collect()),
        };
    }
    let mut list: Vec<String> = buses.session.iter().filter(of_use).cloned().collect();
    let directory = buses.runtime_dir.as_deref().filter(|directory| directory.is_absolute());
    if let Some(directory) = directory.and_then(Path::to_str) {
        let escaped = directory.replace('%', "%25").replace(',', "%2c").replace(';', "%3b");
        let bus = format!("unix:path={escaped}/bus");
        if !list.contains(&bus) {
            list.push(bus);
        }
    }
    if list.is_empty() {
        return Err(Error::unsupported(
            "neither DBUS_SESSION_BUS_ADDRESS, with a unix socket, nor XDG_RUNTIME_DIR, with an absolute path, says where this user's systemd is",
        )
        .hint(SESSION));
    }
    Ok(list)
}

const SESSION: &str = "an ordinary user needs a systemd of his own: log in (su and sudo do not), or have root run \
                       `loginctl enable-linger` for him, and set XDG_RUNTIME_DIR=/run/user/UID; or leave --systemd-cgroup off";

/// A conversation about one unit.
pub(super) struct Manager<'u> {
    connection: Connection,
    unit: &'u Unit,
}

impl<'u> Manager<'u> {
    /// Connects to the systemd that has `unit`.
    pub(super) fn connect(unit: &'u Unit) -> Result<Self> {
        Self::connect_within(unit, DEADLINE)
    }

    fn connect_within(unit: &'u Unit, time: Duration) -> Result<Self> {
        let deadline = Instant::now() + time;
        let mut first = None;
        for peer in peers(unit) {
            match Connection::open(&peer, deadline) {
                Ok(connection) => return Ok(Self { connection, unit }),
                // The next one may be there.
                Err(Failure::Connect(errno)) => {
                    first = first.or(Some((Failure::Connect(errno), peer.address.name())));
                }
                Err(failure) => return Err(unreachable(unit, &failure, &peer.address.name())),
            }
        }
        let (failure, path) = first.unwrap_or((Failure::Connect(Errno::ENOENT), PathBuf::new()));
        Err(unreachable(unit, &failure, &path))
    }

    /// Refuses to name processes to a systemd that would take their pids for those of others: it would move them into the
    /// unit, and end them with it.
    pub(super) fn check_pids(&self) -> Result<()> {
        if self.connection.shares_pids() {
            return Ok(());
        }
        Err(Error::unsupported(
            "systemd is outside of this pid namespace, and cannot tell its processes from others:",
        )
        .path(self.connection.name())
        .hint("run skep with the host's pids, or leave --systemd-cgroup off"))
    }

    /// Starts the unit and waits until that is done; false for a slice that was there already.
    pub(super) fn start(&mut self, properties: &[Property]) -> Result<bool> {
        let body = || {
            let body = Body::default().text(&self.unit.name).text("replace");
            body.properties(properties).nothing("(sa(sv))")
        };
        let started = self.job("StartTransientUnit", body());
        match started {
            // One that failed before, or has just ended, and which nobody has cleaned up.
            Err(Failure::Error(name, _)) if name.ends_with(".UnitExists") => {
                if self.unit.is_slice() {
                    return Ok(false);
                }
                self.reset();
                let again = self.job("StartTransientUnit", body());
                again.map(|()| true).map_err(|failure| self.explain("start", &failure))
            }
            other => other.map(|()| true).map_err(|failure| self.explain("start", &failure)),
        }
    }

    /// Stops the unit and waits until that is done. One that is not there is stopped.
    pub(super) fn stop(&mut self) -> Result<()> {
        let stopped = self.job("StopUnit", Body::default().text(&self.unit.name).text("replace"));
        match stopped {
            Err(Failure::Error(name, _)) if name.ends_with(".NoSuchUnit") => return Ok(()),
            other => other.map_err(|failure| self.explain("stop", &failure))?,
        }
        self.reset();
        Ok(())
    }

    /// Sets properties of a unit that runs.
    pub(super) fn set(&mut self, properties: &[Property]) -> Result<()> {
        let body = Body::default().text(&self.unit.name).boolean(true).properties(properties);
        let set = self.call("SetUnitProperties", body);
        set.map(drop).map_err(|failure| self.explain("set properties of", &failure))
    }

    /// Moves a process into the unit's cgroup, or the one below it that the container's processes are in.
    pub(super) fn attach(&mut self, pid: i32) -> Result<()> {
        self.check_pids()?;
        let below =
            self.unit.below.as_deref().map_or_else(String::new, |below| format!("/{below}"));
        let pid = Value::Uint32(pid.unsigned_abs());
        let body = Body::default().text(&self.unit.name).text(&below);
        let body = body.value(&Value::Array("u".into(), vec![pid]));
        let attached = self.call("AttachProcessesToUnit", body);
        attached.map(drop).map_err(|failure| self.explain("attach a process to", &failure))
    }

    /// A failed unit keeps its name until somebody says that he has seen it.
    fn reset(&mut self) {
        let body = Body::default().text(&self.unit.name);
        let _usually_there_is_none = self.call("ResetFailedUnit", body);
    }

    fn call(&mut self, member: &str, body: Body) -> Result<Message, Failure> {
        self.connection.call(&Call {
            destination: SYSTEMD,
            path: OBJECT,
            interface: MANAGER,
            member,
            body,
        })
    }

    /// Calls a method that gives a job, and waits for its end.
    fn job(&mut self, member: &str, body: Body) -> Result<(), Failure> {
        if !self.connection.is_direct() {
            self.connection.add_match(&format!(
                "type='signal',sender='{SYSTEMD}',path='{OBJECT}',interface='{MANAGER}',member='JobRemoved'"
            ))?;
            self.call("Subscribe", Body::default()).map(drop).or_else(|failure| match failure {
                // Somebody has done so over this connection already.
                Failure::Error(name, _) if name.ends_with(".AlreadySubscribed") => Ok(()),
                other => Err(other),
            })?;
        }
        let reply = self.call(member, body)?;
        let job = reply.arguments().into_iter().next().ok_or(Failure::Nonsense)?;
        let result =
            self.connection.wait_for(
                MANAGER,
                "JobRemoved",
                &reply,
                |arguments| match arguments {
                    [_, path, _, result] if *path == job => Some(result.clone()),
                    _ => None,
                },
            )?;
        match result.as_str() {
            "done" | "skipped" => Ok(()),
            _ => Err(Failure::Error("job".into(), format!("the job ended as {result:?}"))),
        }
    }

    fn explain(&self, what: &str, failure: &Failure) -> Error {
        let unit = &self.unit.name;
        let user = if self.unit.user { "--user " } else { "" };
        let status =
            format!("see `systemctl {user}status {unit}` and `journalctl {user}-u {unit}`");
        match failure {
            Failure::Error(name, text) => {
                let words = text.trim_end_matches('.');
                let error = Error::unsupported(format!(
                    "unable to {what} unit {unit:?}: systemd says: {words} ({name})"
                ));
                match name.rsplit('.').next().unwrap_or_default() {
                    "UnitExists" => error.hint(
                        "another container, or what is left of one, has the unit: stop it, or choose another id or linux.cgroupsPath",
                    ),
                    "AccessDenied" | "InteractiveAuthorizationRequired" => {
                        error.hint("the caller may not manage units of this systemd")
                    }
                    "job" => error.hint(status),
                    // Names of errno stand for values systemd cannot use.
                    _ => error.hint(format!(
                        "is it one of the properties it does not take, from annotations that begin with \
                         org.systemd.property. or linux.resources? {status}"
                    )),
                }
            }
            Failure::Timeout => Error::unsupported(format!(
                "unable to {what} unit {unit:?}: systemd did not answer within {} seconds",
                DEADLINE.as_secs()
            ))
            .hint(format!("it is overloaded or hangs: see `systemctl {user}list-jobs`, or leave --systemd-cgroup off")),
            other => unreachable(self.unit, other, self.connection.name())
                .context(&format!("unable to {what} unit {unit:?}")),
        }
    }
}

/// Those to try, the nearest first.
fn peers(unit: &Unit) -> Vec<Peer> {
    let own = nix::unistd::geteuid().as_raw();
    let owners = if unit.user { vec![own] } else { vec![0] };
    let peer = |address: Address| Peer { address, owners: owners.clone() };
    let mut list = Vec::new();
    if !unit.user && unit.bus.is_empty() {
        list.push(peer(Address::Direct(PathBuf::from(PRIVATE))));
        list.extend(Address::parse(SYSTEM_BUS).map(peer));
    }
    for address in unit.bus.iter().filter_map(|bus| Address::parse(bus)) {
        // Beside the bus of a user lies the socket of his systemd itself.
        if unit.user
            && address.name().file_name().is_some_and(|name| name == "bus")
            && let Some(directory) = address.name().parent()
        {
            list.push(peer(Address::Direct(directory.join("systemd/private"))));
        }
        list.push(peer(address));
    }
    list
}

/// Why there is no talking to systemd. Without the words of the errno, which engines take for a missing program.
fn unreachable(unit: &Unit, failure: &Failure, path: &Path) -> Error {
    let whose = if unit.user { "the user's systemd" } else { "systemd" };
    let off = "is it overloaded? leave --systemd-cgroup off to do without it";
    let error = match failure {
        Failure::Connect(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR) if unit.user => {
            return Error::unsupported(
                "no systemd of this user is running, cannot use systemd cgroups manager",
            )
            .path(path)
            .hint(SESSION);
        }
        Failure::Connect(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR) => {
            return Error::unsupported(
                "systemd not running on this host, cannot use systemd cgroups manager",
            )
            .path(path)
            .hint("leave --systemd-cgroup off, and have the engine use the cgroupfs driver");
        }
        Failure::Connect(Errno::EACCES | Errno::EPERM) => {
            Error::unsupported(format!("may not connect to {whose} at"))
                .hint("the socket is another user's")
        }
        Failure::Connect(errno) => {
            Error::unsupported(format!("cannot connect to {whose} ({errno:?}) at"))
        }
        Failure::Lost(errno) => {
            Error::unsupported(format!("lost the connection to {whose} ({errno:?}) at")).hint(off)
        }
        Failure::Stranger(owner) => Error::unsupported(format!(
            "who listens there is user {owner} and not {whose}, of user {}:",
            if unit.user { nix::unistd::geteuid().as_raw() } else { 0 }
        ))
        .hint("DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR have to be this user's own"),
        Failure::Rejected(line) => {
            Error::unsupported(format!("{whose} does not let this process in ({line:?}) at"))
        }
        Failure::Timeout => Error::unsupported(format!(
            "{whose} did not answer within {} seconds at",
            DEADLINE.as_secs()
        ))
        .hint(off),
        Failure::Nonsense => Error::unsupported("what answers there does not speak D-Bus:"),
        Failure::Error(name, text) => {
            Error::unsupported(format!("the bus refuses: {text} ({name}) at"))
        }
    };
    error.path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_beside_the_users_bus_comes_first() {
        let unit = |user, bus: &[&str]| Unit {
            user,
            bus: bus.iter().map(|bus| (*bus).to_owned()).collect(),
            ..Unit::default()
        };
        let names = |unit: &Unit| -> Vec<String> {
            peers(unit).iter().map(|peer| peer.address.name().display().to_string()).collect()
        };
        assert_eq!(names(&unit(false, &[])), [PRIVATE, "/run/dbus/system_bus_socket"]);
        assert_eq!(names(&unit(false, &["unix:path=/x/bus"])), ["/x/bus"]);
        assert_eq!(
            names(&unit(true, &["unix:path=/run/user/7/bus"])),
            ["/run/user/7/systemd/private", "/run/user/7/bus"]
        );
        assert_eq!(names(&unit(true, &["unix:abstract=/tmp/b"])), ["@/tmp/b"]);
    }

    #[test]
    fn the_environment_says_where_a_users_systemd_is() {
        let buses = |session: Option<&str>, directory: Option<&str>| Buses {
            system: Some("unix:path=/fake".into()),
            session: session.map(str::to_owned),
            runtime_dir: directory.map(PathBuf::from),
        };
        let both = buses(Some("unix:path=/run/user/7/bus"), Some("/run/user/7"));
        assert_eq!(addresses(true, &both).unwrap(), ["unix:path=/run/user/7/bus"]);
        let odd = buses(None, Some("/a,b"));
        assert_eq!(addresses(true, &odd).unwrap(), ["unix:path=/a%2cb/bus"]);
        assert_eq!(addresses(false, &both).unwrap(), ["unix:path=/fake"]);
        let error = addresses(true, &buses(None, None)).unwrap_err().to_string();
        assert!(error.contains("XDG_RUNTIME_DIR") && error.contains("enable-linger"), "{error}");
        assert!(addresses(false, &Buses::default()).unwrap().is_empty());
        // What leads nowhere is told here, not as a systemd that does not run.
        for (session, directory) in [
            (Some("autolaunch:"), None),
            (Some("tcp:host=x"), Some("run/user/7")),
            (None, Some(".")),
        ] {
            let error = addresses(true, &buses(session, directory)).unwrap_err().to_string();
            assert!(error.contains("absolute") && error.contains("unix socket"), "{error}");
        }
        assert_eq!(
            addresses(true, &buses(Some("tcp:host=x"), Some("/run/user/7"))).unwrap(),
            ["unix:path=/run/user/7/bus"]
        );
        let odd = Buses { system: Some("unix:path=relative".into()), ..Buses::default() };
        let error = addresses(false, &odd).unwrap_err().to_string();
        assert!(error.contains("DBUS_SYSTEM_BUS_ADDRESS") && error.contains("relative"), "{error}");
    }

    #[test]
    fn a_systemd_that_is_not_there_or_hangs_is_told_by_name() {
        let missing = Unit { bus: vec!["unix:path=/nonexistent/bus".into()], ..Unit::default() };
        let error = Manager::connect(&missing).map(drop).unwrap_err().to_string();
        assert!(
            error.contains("systemd not running on this host, cannot use systemd cgroups manager"),
            "{error}"
        );
        assert!(!error.contains("no such file"), "{error}");
        let path = std::env::temp_dir().join(format!("systemd-hangs-{}", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let own = nix::unistd::geteuid().is_root();
        let unit = Unit {
            user: !own,
            bus: vec![format!("unix:path={}", path.display())],
            ..Unit::default()
        };
        let begun = Instant::now();
        let error =
            Manager::connect_within(&unit, Duration::from_millis(100)).map(drop).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("did not answer within"), "{error}");
    }
}
