//! The messages of CRIU's RPC that are used here, by the numbers of its `rpc.proto`.

use super::wire::{Fields, Message, Value};
use crate::error::{Error, Result};

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Save a process tree.
    Dump = 1,
    /// Bring one back.
    Restore = 2,
    /// Save memory only.
    PreDump = 4,
    /// CRIU says that it has come to some point, and waits for an answer.
    Notify = 6,
    /// Ask what this CRIU and kernel can do.
    FeatureCheck = 9,
    /// Ask for the version.
    Version = 10,
}

impl Kind {
    /// The word of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "DUMP",
            Self::Restore => "RESTORE",
            Self::PreDump => "PRE_DUMP",
            Self::Notify => "NOTIFY",
            Self::FeatureCheck => "FEATURE_CHECK",
            Self::Version => "VERSION",
        }
    }

    fn of(number: u64) -> Option<Self> {
        let all = [
            Self::Dump,
            Self::Restore,
            Self::PreDump,
            Self::Notify,
            Self::FeatureCheck,
            Self::Version,
        ];
        all.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// What is only on or off in `criu_opts`, by the number of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// The processes go on after a dump.
    LeaveRunning = 3,
    /// Unix sockets may be connected to processes that are not dumped.
    ExtUnixSk = 4,
    /// TCP connections are kept.
    TcpEstablished = 5,
    /// A device file that is not there any more may be opened by another name.
    EvasiveDevices = 6,
    /// The session's leader may be outside.
    ShellJob = 7,
    /// File locks are kept.
    FileLocks = 8,
    /// Every step is announced by [`Kind::Notify`].
    NotifyScripts = 12,
    /// The kernel is told to note which pages are written from now on.
    TrackMem = 15,
    /// Pages that are not needed any more are cut out of the images.
    AutoDedup = 16,
    /// Open files that were unlinked get a name.
    LinkRemap = 18,
    /// cgroups are cared for; older than [`Opts::cgroups_mode`].
    ManageCgroups = 24,
    /// The restored init becomes a child of CRIU's parent.
    RestoreSibling = 26,
    /// Mounts whose master is outside are kept.
    ExternalMasters = 30,
    /// Connections that are being made are left out.
    TcpSkipInFlight = 46,
    /// Pages are brought when they are touched.
    LazyPages = 48,
    /// A terminal whose master is outside is kept, and the new master sent to us.
    OrphanPtsMaster = 50,
    /// TCP connections are closed on restore.
    TcpClose = 52,
    /// Mounts are restored in their places, one after the other, and not joined to their groups at the end.
    MntnsCompatMode = 65,
}

/// `criu_opts` being written.
#[derive(Debug, Clone, Default)]
pub struct Opts(Message);

impl Opts {
    /// Switches something on.
    pub fn switch(&mut self, switch: Switch) {
        self.0.uint(switch as u32, 1);
    }

    /// Where images are: a descriptor of ours.
    pub fn images(&mut self, fd: i32) {
        self.0.int(1, fd);
    }

    /// The process whose tree is dumped.
    pub fn pid(&mut self, pid: i32) {
        self.0.int(2, pid);
    }

    /// The log's name in the work directory, and how much goes there.
    pub fn log(&mut self, file: &str, level: i32) {
        self.0.int(9, level);
        self.0.text(10, file.as_bytes());
    }

    /// Where memory is sent to.
    pub fn page_server(&mut self, address: &str, port: u16) {
        let mut server = Message::default();
        server.text(1, address.as_bytes());
        server.uint(2, port.into());
        self.0.message(11, &server);
    }

    /// The root filesystem.
    pub fn root(&mut self, path: &[u8]) {
        self.0.text(13, path);
    }

    /// The images of an earlier pre-dump, relative to the images.
    pub fn parent(&mut self, path: &[u8]) {
        self.0.text(14, path);
    }

    /// Where logs and statistics go: a descriptor of ours.
    pub fn work(&mut self, fd: i32) {
        self.0.int(17, fd);
    }

    /// A mount that is not CRIU's: at a dump (mount point, name), at a restore (name, path on the host).
    pub fn external_mount(&mut self, key: &[u8], value: &[u8]) {
        let mut map = Message::default();
        map.text(1, key);
        map.text(2, value);
        self.0.message(23, &map);
    }

    /// Where a controller's cgroups begin; an empty one is version 2.
    pub fn cgroup_root(&mut self, controller: &str, path: &str) {
        let mut root = Message::default();
        if !controller.is_empty() {
            root.text(1, controller.as_bytes());
        }
        root.text(2, path.as_bytes());
        self.0.message(25, &root);
    }

    /// A descriptor of CRIU's that takes the place of a file called `key`.
    pub fn inherit(&mut self, key: &str, fd: i32) {
        let mut inherit = Message::default();
        inherit.text(1, key.as_bytes());
        inherit.int(2, fd);
        self.0.message(27, &inherit);
    }

    /// `criu_cg_mode`.
    pub fn cgroups_mode(&mut self, mode: u32) {
        self.0.uint(34, mode.into());
    }

    /// Something that stays outside of a dump.
    pub fn external(&mut self, what: &str) {
        self.0.text(37, what.as_bytes());
    }

    /// Namespaces (`CLONE_NEW*`) whose content is left out.
    pub fn empty_namespaces(&mut self, flags: u32) {
        self.0.uint(38, flags.into());
    }

    /// A namespace to join at a restore.
    pub fn join(&mut self, kind: &str, path: &[u8]) {
        let mut join = Message::default();
        join.text(1, kind.as_bytes());
        join.text(2, path);
        self.0.message(39, &join);
    }

    /// The cgroup whose freezer stops the processes.
    pub fn freezer(&mut self, directory: &str) {
        self.0.text(44, directory.as_bytes());
    }

    /// A descriptor of ours that is told when lazy pages can be served.
    pub fn status(&mut self, fd: i32) {
        self.0.int(49, fd);
    }

    /// A file of more options.
    pub fn config_file(&mut self, path: &[u8]) {
        self.0.text(51, path);
    }

    /// The LSM profile to restore with.
    pub fn lsm_profile(&mut self, profile: &str) {
        self.0.text(53, profile.as_bytes());
    }

    /// The LSM mount context to restore with.
    pub fn lsm_mount_context(&mut self, context: &str) {
        self.0.text(63, context.as_bytes());
    }

    /// `criu_network_lock_method`.
    pub fn network_lock(&mut self, method: u32) {
        self.0.uint(64, method.into());
    }
}

/// A request: its kind and what goes with it. `keep_open` if another one follows.
pub fn request(kind: Kind, opts: Option<&Opts>, keep_open: bool) -> Message {
    let mut message = Message::default();
    message.uint(1, kind as u64);
    if let Some(opts) = opts {
        message.message(2, &opts.0);
    }
    if keep_open {
        message.uint(4, 1);
    }
    message
}

/// Asks whether this CRIU on this kernel can track memory, and bring pages when they are touched.
pub fn feature_request() -> Message {
    let mut features = Message::default();
    features.uint(1, 1);
    features.uint(2, 1);
    let mut message = request(Kind::FeatureCheck, None, true);
    message.message(5, &features);
    message
}

/// The answer to a [`Kind::Notify`]: whether to go on.
pub fn acknowledgement(go: bool) -> Message {
    let mut message = request(Kind::Notify, None, false);
    message.uint(3, go.into());
    message
}

/// What CRIU says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Which request it is about; `None` for one nobody here makes.
    pub kind: Option<Kind>,
    /// Whether it was served.
    pub success: bool,
    /// The restored init, or the one a notification is about.
    pub pid: i32,
    /// What is notified.
    pub script: String,
    /// Why it was not served; often 0.
    pub errno: i32,
    /// The same as a sentence.
    pub message: String,
    /// Major, minor and sublevel.
    pub version: [u64; 3],
    /// Whether memory can be tracked.
    pub mem_track: bool,
    /// Whether pages can be brought when they are touched.
    pub lazy_pages: bool,
}

impl Response {
    /// Reads a message.
    ///
    /// # Errors
    /// [`crate::Kind::Internal`] for one that is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut response = Self::default();
        each(bytes, &mut |field, value| {
            match field {
                1 => response.kind = Kind::of(value.number()),
                2 => response.success = value.number() != 0,
                4 => each(value.bytes(), &mut |field, value| {
                    if field == 1 {
                        response.pid = value.signed();
                    }
                    Ok(())
                })?,
                5 => each(value.bytes(), &mut |field, value| {
                    match field {
                        1 => response.script = text(value),
                        2 => response.pid = value.signed(),
                        _ => {}
                    }
                    Ok(())
                })?,
                7 => response.errno = value.signed(),
                8 => each(value.bytes(), &mut |field, value| {
                    match field {
                        1 => response.mem_track = value.number() != 0,
                        2 => response.lazy_pages = value.number() != 0,
                        _ => {}
                    }
                    Ok(())
                })?,
                9 => response.message = text(value),
                10 => each(value.bytes(), &mut |field, value| {
                    match field {
                        1 => response.version[0] = value.number(),
                        2 => response.version[1] = value.number(),
                        4 => response.version[2] = value.number(),
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(response)
    }
}

fn text(value: Value<'_>) -> String {
    String::from_utf8_lossy(value.bytes()).into_owned()
}

fn each<'a>(message: &'a [u8], field: &mut dyn FnMut(u32, Value<'a>) -> Result<()>) -> Result<()> {
    for found in Fields::of(message) {
        let (number, value) =
            found.ok_or_else(|| Error::internal("CRIU sent a message nobody can read"))?;
        field(number, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_numbers_of_the_protocol() {
        let mut opts = Opts::default();
        opts.images(7);
        opts.switch(Switch::LeaveRunning);
        let request = request(Kind::Dump, Some(&opts), false);
        assert_eq!(request.bytes(), [0x08, 1, 0x12, 4, 0x08, 7, 0x18, 1]);
        assert_eq!(acknowledgement(true).bytes(), [0x08, 6, 0x18, 1]);
    }

    #[test]
    fn a_notification_is_read() {
        let response = Response::parse(b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x2a");
        let response = response.unwrap();
        assert_eq!(response.kind, Some(Kind::Notify));
        assert!(response.success);
        assert_eq!((response.script.as_str(), response.pid), ("post-restore", 42));
    }

    #[test]
    fn a_failure_is_read() {
        let response = Response::parse(b"\x08\x01\x10\x00\x38\x16\x4a\x03bad").unwrap();
        assert_eq!((response.success, response.errno), (false, 22));
        assert_eq!(response.message, "bad");
        assert!(Response::parse(b"\x2a\x7f").is_err());
    }
}
