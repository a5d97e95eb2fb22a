//! What the two sides of a clone say to each other: frames of fixed size over one `SOCK_SEQPACKET` pair.
//!
//! The child never sends words it made up. A failure is three numbers, [`Fault`]: the parent holds the plan and
//! writes the sentence. What only the inside can know (what a hook printed, which interpreter is missing) follows the
//! frame as bytes.

use nix::errno::Errno;

/// Length of a frame, in bytes.
pub const FRAME: usize = 12;
/// The most bytes that follow a frame.
pub const DETAIL: usize = 4096;
/// The byte with which `start` opens the gate of a created container, and which init leaves there until it comes to
/// execve(2). No frame begins with it.
pub const PASSED: u8 = b'1';

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Where in the container's making something failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            const ALL: &'static [Step] = &[$(Step::$name,)*];

            /// The operation, as the sentence begins.
            pub fn text(self) -> &'static str {
                match self { $(Step::$name => $text,)* }
            }
        }
    };
}

steps! {
    /// The parent went away or said stop.
    Parent = "wait for the runtime",
    /// Joining a v1 cgroup.
    CgroupJoin = "join the cgroup",
    /// setns(2).
    NamespaceJoin = "join the namespace",
    /// unshare(2) or clone3(2) in the child.
    NamespaceNew = "create the namespace",
    /// Writing /proc/PID/timens_offsets.
    TimeOffsets = "set the offsets of the time namespace",
    /// setsid(2).
    Session = "setsid",
    /// Becoming root of the user namespace.
    UserNamespaceRoot = "become root of the user namespace",
    /// keyctl(2).
    Keyring = "join a new session keyring",
    /// Bringing lo up.
    Loopback = "bring up the loopback interface",
    /// Propagation of the old root.
    Propagation = "make the mounts of the host private",
    /// Attaching the root filesystem.
    Rootfs = "mount the root filesystem",
    /// Resolving or making a mount's target.
    MountTarget = "open the mount's destination",
    /// Opening a bind mount's source.
    MountSource = "open the mount's source",
    /// Configuring a file system.
    MountOption = "set the mount's options",
    /// Attaching a mount.
    Mount = "mount",
    /// Copying up into a tmpfs.
    CopyUp = "copy the destination's content into the tmpfs",
    /// Making a device node.
    Device = "create the device",
    /// Making a link in /dev.
    DevLink = "create the link in /dev",
    /// Making the pty.
    Console = "set up the terminal",
    /// A createContainer or startContainer hook; the index says which.
    Hook = "run the hook",
    /// pivot_root(2).
    Pivot = "pivot_root",
    /// chroot(2).
    Chroot = "chroot",
    /// Detaching the old root.
    OldRoot = "unmount the old root",
    /// A sysctl.
    Sysctl = "write the sysctl",
    /// sethostname(2).
    Hostname = "sethostname",
    /// setdomainname(2).
    Domainname = "setdomainname",
    /// Making a path read-only.
    ReadonlyPath = "make the path read-only",
    /// Masking a path.
    MaskedPath = "mask the path",
    /// Making / read-only.
    ReadonlyRoot = "make the root filesystem read-only",
    /// Making a missing cwd.
    CwdCreate = "mkdir cwd",
    /// chdir(2).
    Cwd = "chdir to cwd",
    /// The cwd lies outside the root.
    CwdEscape = "current working directory is outside of container mount namespace root -- possible container breakout detected",
    /// prlimit(2).
    Rlimit = "set the resource limit",
    /// oom_score_adj.
    OomScoreAdj = "write oom_score_adj",
    /// Standard streams.
    Stdio = "prepare the standard streams",
    /// Bounding set.
    Bounding = "drop capabilities from the bounding set",
    /// setgroups(2).
    Groups = "setgroups",
    /// setresgid(2).
    Gid = "setgid",
    /// setresuid(2).
    Uid = "setuid",
    /// capset(2).
    Capabilities = "set the capabilities",
    /// Ambient set.
    Ambient = "set the ambient capabilities",
    /// AppArmor.
    Apparmor = "apparmor failed to apply profile",
    /// SELinux.
    Selinux = "set the SELinux label",
    /// no_new_privs.
    NoNewPrivs = "set no_new_privs",
    /// seccomp(2).
    Seccomp = "load the seccomp filter",
    /// Looking for `argv[0]`.
    Lookup = "find the executable",
    /// Descriptors.
    Descriptors = "close descriptors",
    /// execve(2).
    Exec = "exec",
    /// Scheduling: affinity, policy, I/O priority.
    Scheduler = "set the scheduler",
    /// set_mempolicy(2).
    MemoryPolicy = "set the memory policy",
    /// personality(2).
    Personality = "set the personality",
    /// Mapping the ids of a mount.
    MountIds = "map the ids of the mount",
    /// Labelling a mount for SELinux.
    MountLabel = "label the mount",
    /// Detaching a mount.
    Unmount = "unmount",
}

impl Step {
    fn from_u16(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A failure as the child reports it: where, at which entry, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub step: Step,
    /// Which entry of the list the step walks.
    pub index: u16,
    /// Why.
    pub errno: Errno,
    /// What only the inside knows.
    pub detail: Vec<u8>,
}

impl Fault {
    /// A fault without detail.
    pub fn new(step: Step, index: usize, errno: Errno) -> Self {
        Self { step, index: u16::try_from(index).unwrap_or(u16::MAX), errno, detail: Vec::new() }
    }

    /// Adds what only the inside knows. Of what is too long the middle is left out: a sentence says at its end where the
    /// mistake is.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Vec<u8>>) -> Self {
        const GAP: &[u8] = b" ... ";
        self.detail = detail.into();
        if self.detail.len() > DETAIL {
            let end = self.detail.split_off(self.detail.len() - DETAIL / 2);
            self.detail.truncate(DETAIL - DETAIL / 2 - GAP.len());
            self.detail.extend(GAP.iter().chain(&end));
        }
        self
    }

    /// The frame, and the detail after it.
    pub fn encode(&self) -> Vec<u8> {
        let frame = Frame {
            tag: Tag::Fault,
            step: self.step as u16,
            index: self.index,
            value: self.errno as i32,
        };
        let mut bytes = frame.encode().to_vec();
        bytes.extend_from_slice(&self.detail);
        bytes
    }
}

/// Attaches coordinates to an errno.
pub trait At<T> {
    /// Says which step failed, and at which entry.
    ///
    /// # Errors
    /// The [`Fault`].
    fn at(self, step: Step, index: usize) -> Result<T, Fault>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: Step, index: usize) -> Result<T, Fault> {
        self.map_err(|errno| Fault::new(step, index, errno))
    }
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// Child: something failed; it is exiting.
    Fault = 1,
    /// Child: write my id maps.
    MapIds,
    /// Stage 1: the init's pid is `value`; reap me.
    InitForked,
    /// Child: run the prestart and createRuntime hooks.
    RunHooks,
    /// Child: here is the pty's master, as a descriptor.
    Console,
    /// Child: the seccomp listener will be my descriptor `value`; take it from me.
    Listener,
    /// Child: set the limits I may not set myself.
    Limits,
    /// Child: set the scheduler and I/O priority I may not set myself.
    Scheduling,
    /// Child: write the offsets of the time namespace my children would have.
    TimeOffsets,
    /// Child: map the ids of the mount whose descriptor comes along; it is that of `mounts[value]` of the plan.
    MapMount,
    /// Child: everything is done but `start`.
    Ready,
    /// Parent: the cgroup is made; the descriptors are the `tasks` files to join it by, the bits of `value` the planned
    /// hierarchies of version 1 that it is not in.
    Cgroups,
    /// The same, and the last descriptor is the container's view of them, mounted nowhere yet.
    CgroupsAndView,
    /// Parent: go on; `value` is the child's pid as the parent sees it.
    Go,
}

impl Tag {
    fn from_u16(number: u16) -> Option<Self> {
        [
            Self::Fault,
            Self::MapIds,
            Self::InitForked,
            Self::RunHooks,
            Self::Console,
            Self::Listener,
            Self::Limits,
            Self::Scheduling,
            Self::TimeOffsets,
            Self::MapMount,
            Self::Ready,
            Self::Cgroups,
            Self::CgroupsAndView,
            Self::Go,
        ]
        .into_iter()
        .find(|tag| *tag as u16 == number)
    }
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What it is about.
    pub tag: Tag,
    /// A [`Step`], in a fault.
    pub step: u16,
    /// An entry, in a fault.
    pub index: u16,
    /// An errno, a pid or a descriptor.
    pub value: i32,
}

impl Frame {
    /// A frame that carries only `value`.
    pub fn of(tag: Tag, value: i32) -> Self {
        Self { tag, step: 0, index: 0, value }
    }

    /// The bytes on the socket.
    pub fn encode(self) -> [u8; FRAME] {
        let [a, b] = (self.tag as u16).to_ne_bytes();
        let [c, d] = self.step.to_ne_bytes();
        let [e, f] = self.index.to_ne_bytes();
        let [g, h, i, j] = self.value.to_ne_bytes();
        [a, b, c, d, e, f, 0, 0, g, h, i, j]
    }

    /// Reads a frame; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f, _, _, g, h, i, j] = bytes.first_chunk::<FRAME>()?;
        Some(Self {
            tag: Tag::from_u16(u16::from_ne_bytes([a, b]))?,
            step: u16::from_ne_bytes([c, d]),
            index: u16::from_ne_bytes([e, f]),
            value: i32::from_ne_bytes([g, h, i, j]),
        })
    }
}

/// Reads a fault from a whole message.
pub fn decode_fault(bytes: &[u8]) -> Option<Fault> {
    let frame = Frame::decode(bytes)?;
    (frame.tag == Tag::Fault).then_some(())?;
    Some(Fault {
        step: Step::from_u16(frame.step)?,
        index: frame.index,
        errno: Errno::from_raw(frame.value),
        detail: bytes.get(FRAME..).unwrap_or_default().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_crosses_the_fork_as_coordinates() {
        for (number, step) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, number);
            let fault = Fault::new(*step, number, Errno::ELOOP).detail(*b"/lib/ld.so");
            assert_eq!(decode_fault(&fault.encode()), Some(fault));
        }
    }

    #[test]
    fn no_fault_begins_like_the_byte_at_the_gate() {
        let fault = Fault::new(Step::Exec, 0, Errno::ENOENT).detail([b'x'; 2 * DETAIL]);
        assert_ne!(fault.encode().first(), Some(&PASSED));
        // A FIFO of a user who has many has two pages.
        assert!(fault.encode().len() + 2 < 8192);
    }

    #[test]
    fn a_long_detail_keeps_both_ends() {
        for len in [0, 1, DETAIL - 1, DETAIL, DETAIL + 1, 3 * DETAIL] {
            let text = [b"<", vec![b'x'; len].as_slice(), b">"].concat();
            let fault = Fault::new(Step::Hook, 0, Errno::EIO).detail(text.clone());
            assert_eq!(fault.detail.len(), text.len().min(DETAIL));
            assert!(fault.detail.starts_with(b"<") && fault.detail.ends_with(b">"));
        }
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        assert_eq!(Frame::decode(b"short"), None);
        assert_eq!(Frame::decode(&[0xff; 12]), None);
        assert_eq!(decode_fault(&Frame::of(Tag::Ready, 0).encode()), None);
    }
}
