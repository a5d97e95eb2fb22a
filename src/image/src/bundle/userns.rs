//! User namespaces: one to map a mount's ids with (mount_setattr(2) takes them from one), and one that an ordinary user with subordinate
//! ids unpacks and removes in.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use libcontainer::sys::fd::set_cloexec;
use nix::fcntl::OFlag;

use super::inside::{Overlay, Told};
use crate::convert::{IdMap, Mapping};
use crate::digest::Digest;
use crate::draft::open_directory;
use crate::error::{Context, Error, Kind, Result};
use crate::layer::remove_tree;

/// The argument with which this program is only the owner of a namespace: see [`hold`].
pub const HOLD: &str = "internal-user-namespace";

/// The argument before a descriptor and a command line of this program, of which only the unpacking is done, in a namespace: see [`unpack`].
pub const UNPACK: &str = "internal-unpack";

/// The argument before a descriptor and a name, which is removed in a namespace: see [`remove`].
pub const REMOVE: &str = "internal-remove";

/// The argument before a descriptor and a command line of this program, of which only an overlay is made, in a namespace: see [`overlay`].
pub const OVERLAY: &str = "internal-overlay";

/// What a process in a namespace does for another one of this program.
#[derive(Debug)]
pub enum Into {
    /// Unpacks the image into this directory.
    Files(OwnedFd),
    /// Makes an overlay of the image's layers in this bundle ([`super::inside`]), and keeps it until the file ends.
    Overlay(OwnedFd, fs::File),
}

/// [`Into`], and of which image. Its name alone does not say that: what it stands for may be another by now.
#[derive(Debug)]
pub struct Errand {
    /// What is wanted.
    pub into: Into,
    /// The digest of the image's manifest; `None` where the other process has not looked at the image.
    pub manifest: Option<String>,
}

impl Errand {
    /// Refuses another image than the one that was looked at.
    ///
    /// # Errors
    /// [`Kind::Verification`].
    pub fn check(&self, manifest: &str) -> Result<()> {
        match &self.manifest {
            Some(wanted) if wanted != manifest => Err(Error::verification(format!(
                "the image was {wanted}, and its name stands for {manifest} now"
            ))
            .hint("it was replaced meanwhile: try again")),
            _ => Ok(()),
        }
    }
}

/// The ids that the caller has besides his own (subuid(5)), himself as root; `None` where he has none, or nobody maps them for him.
#[must_use]
pub fn subordinate() -> Option<Mapping> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let ranges = |file: &str, own: u32| {
        let mut map = vec![IdMap { container: 0, host: own, size: 1 }];
        let mut next = 1_u32;
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let mut fields = line.trim().split(':');
            let who = fields.next().unwrap_or_default();
            let mut number = || fields.next()?.parse::<u32>().ok();
            let (Some(host), Some(size)) = (number(), number()) else { continue };
            let his = Some(who) == user.as_deref() || who == uid.to_string();
            if let (true, Some(after)) = (his && size > 0, next.checked_add(size)) {
                map.push(IdMap { container: next, host, size });
                next = after;
            }
        }
        (map.len() > 1).then_some(map)
    };
    let (uids, gids) = (ranges("/etc/subuid", uid.as_raw())?, ranges("/etc/subgid", gid.as_raw())?);
    let mapping = Mapping { uids, gids, rootless: true };
    make(&mapping).is_ok().then_some(mapping)
}

/// Whether a user needs help to have these ids: newuidmap(1).
#[must_use]
pub fn is_helped(mapping: &Mapping) -> bool {
    mapping.rootless && mapping.uids.iter().chain(&mapping.gids).any(|map| map.size > 1)
}

/// Does what this process was told to do again, in a user namespace with the ids of `mapping`, as far as the unpacking into `root`. The store is at
/// `store`: inside, the user is another.
///
/// # Errors
/// Where there is no such namespace. Of what fails inside only the kind is known: it has said the rest.
pub fn unpack(mapping: &Mapping, root: BorrowedFd<'_>, store: &Path, manifest: &str) -> Result<()> {
    let helper = start(UNPACK, root, |command| once_more(command, store, manifest))?;
    finish(helper, mapping, "the image could not be unpacked")
}

/// `manifest`, and what this process was told to do.
fn once_more(command: &mut Command, store: &Path, manifest: &str) {
    command.arg(manifest).args(std::env::args_os().skip(1)).env("SKEP_STORE", store);
}

/// Does what this process was told to do again, in a user namespace with the ids of `mapping`, where it finds `root` in [`Into::Files`]. `failed` is
/// what is said here when it has not gone well there.
///
/// # Errors
/// As [`unpack`].
pub fn again(mapping: &Mapping, root: BorrowedFd<'_>, store: &Path, failed: &str) -> Result<()> {
    let helper = start(UNPACK, root, |command| once_more(command, store, ""))?;
    finish(helper, mapping, failed)
}

/// Does what this process was told to do again, in a user namespace with the ids of `mapping`, as far as an overlay of the layers in the bundle
/// `directory`; its root filesystem can be read through what is returned.
///
/// # Errors
/// [`Kind::Unsupported`] where there is no such namespace or overlay; as [`unpack`].
pub fn overlay(
    mapping: &Mapping,
    directory: BorrowedFd<'_>,
    store: &Path,
    manifest: &str,
) -> Result<Overlay> {
    let started = start(OVERLAY, directory, |command| once_more(command, store, manifest))?;
    let (mut child, mut control) = started;
    let helper = crate::interrupt::helper(child.id());
    let made = map(&mut child, mapping).and_then(|()| {
        control.write_all(b"+").context(|| "cannot tell the user namespace's process to go on")?;
        told(&mut child)
    });
    if made.is_err() {
        let _ended = child.kill();
    }
    // It ends with this.
    drop(control);
    drop(helper);
    let status = child.wait().context(|| "cannot wait for the owner of a user namespace")?;
    match made? {
        Some(overlay) => Ok(overlay),
        None => {
            Err(Error::new(kind_of(status), "the overlay of the image's layers could not be made"))
        }
    }
}

/// What the process in the namespace tells; all else that it says is passed on. `None` when it ends without a word.
fn told(child: &mut Child) -> Result<Option<Overlay>> {
    let process = child.id();
    let Some(output) = child.stdout.take() else { return Ok(None) };
    for line in BufReader::new(output).lines() {
        let line = line.context(|| "cannot read from the owner of a user namespace")?;
        let (number, layers, mounted) = match Told::read(&line).transpose()? {
            Some(Told::Made { root, layers, mounted }) => (root, layers, mounted),
            Some(Told::Refused(why)) => return Err(Error::unsupported(why)),
            None => {
                let _nowhere_to_say_it = writeln!(std::io::stdout(), "{line}");
                continue;
            }
        };
        let layers = layers.into_iter().map(|(key, path)| Ok((Digest::parse(&key)?, path)));
        let layers = layers.collect::<Result<_>>()?;
        let root = open_directory(Path::new(&format!("/proc/{process}/fd/{number}")))?;
        return Ok(Some(Overlay { root, layers, mounted }));
    }
    Ok(None)
}

/// Removes `name` in `parent`, also where files in it belong to subordinate ids of the caller.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_any(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let removed = remove_tree(parent, name);
    if removed.is_err() && !nix::unistd::geteuid().is_root() {
        return remove(parent, name).or(removed);
    }
    removed
}

/// Removes `name` in `parent`, where files belong to subordinate ids.
///
/// # Errors
/// As [`unpack`].
pub fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let mapping =
        subordinate().ok_or_else(|| Error::new(Kind::Generic, "its files belong to others"))?;
    let helper = start(REMOVE, parent, |command| {
        command.arg(name).stdin(Stdio::null());
    })?;
    finish(helper, &mapping, "it could not be removed")
}

/// Gives the process its ids, and waits until it is done.
fn finish((mut child, control): (Child, fs::File), mapping: &Mapping, failed: &str) -> Result<()> {
    let helper = crate::interrupt::helper(child.id());
    let mapped = map(&mut child, mapping);
    // It goes on with this, and only if it has its ids.
    drop(control);
    if mapped.is_err() {
        let _ended = child.kill();
    } else if let Some(mut output) = child.stdout.take() {
        let _lost = std::io::copy(&mut output, &mut std::io::stdout());
    }
    drop(helper);
    let status = child.wait().context(|| "cannot wait for the owner of a user namespace")?;
    mapped?;
    if status.success() { Ok(()) } else { Err(Error::new(kind_of(status), failed)) }
}

/// Starts this program to do `what`, with a directory and the rest of its words. It waits for the file that is returned. Its standard input is the
/// caller's, from which an image may come.
fn start(
    what: &str,
    directory: BorrowedFd<'_>,
    words: impl FnOnce(&mut Command),
) -> Result<(Child, fs::File)> {
    let failed = |errno| Error::sys("cannot pass on a directory", errno);
    let (waited_for, control) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let passed = [directory.as_raw_fd(), waited_for.as_raw_fd()];
    let mut command = Command::new("/proc/self/exe");
    command.arg(what).args(passed.map(|number| number.to_string()));
    words(&mut command);
    let pass = |on: bool| passed.iter().try_for_each(|raw| set_cloexec(*raw, !on)).map_err(failed);
    pass(true)?;
    let spawned = command.stdout(Stdio::piped()).spawn();
    pass(false)?;
    let child = spawned.context(|| "cannot start the owner of a user namespace")?;
    Ok((child, control.into()))
}

/// The kind of the error that another process of this program has said.
fn kind_of(status: ExitStatus) -> Kind {
    match status.code() {
        Some(3) => Kind::NotFound,
        Some(4) => Kind::Auth,
        Some(5) => Kind::Verification,
        Some(6) => Kind::Unsupported,
        Some(7) => Kind::Network,
        Some(8) => Kind::NoSpace,
        _ => Kind::Generic,
    }
}

/// Becomes the owner of a user namespace, and waits for its ids: the start of what [`unpack`] and [`remove`] start. The directory that was passed on,
/// and the file that has told.
///
/// # Errors
/// Those of unshare(2), and of opening.
fn enter(words: &mut dyn Iterator<Item = OsString>) -> Result<(OwnedFd, fs::File)> {
    let mut place = || {
        let word = words.next().unwrap_or_default();
        let number = word.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.ok_or_else(|| Error::usage("that is no descriptor"))?;
        Ok(format!("/proc/self/fd/{number}"))
    };
    let (directory, control) = (place()?, place()?);
    let mut control = fs::File::open(control).context(|| "cannot open what is waited for")?;
    hold_until(&mut control)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::new(Kind::Generic, "the user namespace has no ids"));
    }
    Ok((open_directory(Path::new(&directory))?, control))
}

/// What is to be done inside: of the words behind `what`, which is [`UNPACK`] or [`OVERLAY`], those that are not the command line.
///
/// # Errors
/// Those of entering.
pub fn errand(what: &str, words: &mut dyn Iterator<Item = OsString>) -> Result<Errand> {
    let (directory, control) = enter(words)?;
    let into = match what {
        OVERLAY => Into::Overlay(directory, control),
        _ => Into::Files(directory),
    };
    let manifest = words.next().and_then(|word| word.into_string().ok());
    Ok(Errand { into, manifest: manifest.filter(|digest| !digest.is_empty()) })
}

/// Removes what the words say, inside.
///
/// # Errors
/// Those of removing.
pub fn remove_inside(words: &mut dyn Iterator<Item = OsString>) -> Result<()> {
    let (directory, _) = enter(words)?;
    remove_tree(directory, words.next().unwrap_or_default())
}

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

fn namespace_of(holder: &mut Child, mapping: &Mapping) -> Result<OwnedFd> {
    map(holder, mapping)?;
    let namespace = fs::File::open(format!("/proc/{}/ns/user", holder.id()))
        .context(|| "cannot open a user namespace")?;
    Ok(namespace.into())
}

/// The ids of this process's user namespace, as it has them: what it makes belongs to others than the same made elsewhere. `None` in the first.
#[must_use]
pub fn own_ids() -> Option<String> {
    let map = |name: &str| {
        let text = fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    super::overlay::in_user_namespace().then(|| format!("{}/{}", map("uid_map"), map("gid_map")))
}

/// What [`own_ids`] is in the namespaces in which this user's images are unpacked.
#[must_use]
pub fn ids() -> Vec<String> {
    let shown = |mapping: &Mapping| {
        let map = |map: &[IdMap]| lines(map).trim_end().replace('\n', " ");
        format!("{}/{}", map(&mapping.uids), map(&mapping.gids))
    };
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let users = (!uid.is_root()).then(|| {
        let single = Mapping::single(uid.as_raw(), gid.as_raw());
        subordinate().into_iter().chain([single]).map(|mapping| shown(&mapping)).collect::<Vec<_>>()
    });
    own_ids().into_iter().chain(users.into_iter().flatten()).collect()
}

/// Whether this process's user namespace has root and nobody else.
#[must_use]
pub fn is_alone() -> bool {
    own_ids().is_some_and(|ids| {
        ids.split('/').all(|map| {
            let numbers: Vec<&str> = map.split(' ').collect();
            matches!(numbers.as_slice(), ["0", _, "1"])
        })
    })
}

/// Waits until `holder` has its namespace, and gives it its ids.
fn map(holder: &mut Child, mapping: &Mapping) -> Result<()> {
    let mut ready = [0];
    let said = holder.stdout.as_mut().map(|output| output.read_exact(&mut ready));
    if !matches!(said, Some(Ok(()))) {
        return Err(Error::new(
            Kind::Unsupported,
            "cannot make a user namespace to map the ids of the layers with",
        )
        .hint("see user.max_user_namespaces in sysctl(8); --rootfs=copy needs none"));
    }
    let process = holder.id().to_string();
    if mapping.rootless && !is_helped(mapping) {
        // user_namespaces(7): else the kernel takes no map of groups from a user.
        fs::write(format!("/proc/{process}/setgroups"), "deny")
            .context(|| "cannot write setgroups of a user namespace")?;
    }
    for (name, map) in [("uid_map", &mapping.uids), ("gid_map", &mapping.gids)] {
        if is_helped(mapping) {
            let helper = if name == "uid_map" { "newuidmap" } else { "newgidmap" };
            helped(helper, &process, map)?;
        } else {
            fs::write(format!("/proc/{process}/{name}"), lines(map))
                .context(|| format!("cannot write {name} of a user namespace"))?;
        }
    }
    Ok(())
}

/// newuidmap(1) and newgidmap(1). Not by `$PATH`: what is setuid root is where root put it.
fn helped(helper: &str, process: &str, map: &[IdMap]) -> Result<()> {
    let places = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];
    let program = places
        .iter()
        .map(|place| Path::new(place).join(helper))
        .find(|at| fs::metadata(at).is_ok_and(|found| found.is_file()));
    let program = program.ok_or_else(|| {
        Error::unsupported(format!("there is no {helper} to map subordinate ids"))
    })?;
    let numbers = map.iter().flat_map(|map| [map.container, map.host, map.size]);
    let done = Command::new(&program)
        .arg(process)
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot execute {}", program.display()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Error::unsupported(format!("{}: {}", program.display(), said.trim())))
}

fn lines(map: &[IdMap]) -> String {
    map.iter().map(|range| format!("{} {} {}\n", range.container, range.host, range.size)).collect()
}

/// Is the owner of a new user namespace until the standard input ends.
///
/// # Errors
/// Those of unshare(2).
pub fn hold() -> Result<()> {
    hold_until(&mut std::io::stdin())
}

/// As [`hold`], until `input` ends or says something.
fn hold_until(input: &mut dyn Read) -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| Error::sys("cannot make a user namespace", errno))?;
    let told = std::io::stdout().write_all(b"+").and_then(|()| std::io::stdout().flush());
    told.context(|| "cannot say that the user namespace is there")?;
    let _until_it_ends = input.read(&mut [0]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_image_of_the_name_is_refused() {
        let of = |manifest: Option<&str>| Errand {
            into: Into::Files(open_directory(Path::new("/")).unwrap()),
            manifest: manifest.map(str::to_owned),
        };
        assert!(of(Some("sha256:1")).check("sha256:1").is_ok());
        assert!(of(None).check("sha256:1").is_ok());
        let refused = of(Some("sha256:1")).check("sha256:2").unwrap_err();
        assert_eq!(refused.kind(), Kind::Verification);
    }
}
