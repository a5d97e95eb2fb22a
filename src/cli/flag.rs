//! Every flag, once. Commands list references to these, and the getters of [`super::Args`] take them, so a flag
//! that is asked for but was never declared does not compile.

/// What a flag takes and what a second one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true`/`=false`; the last one wins.
    Bool,
    /// One value; the last one wins.
    Scalar,
    /// One value each; all are kept, in order, and none is split at commas.
    List,
}

/// One flag of the program or of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    /// The name, without dashes.
    pub(crate) long: &'static str,
    /// The one-letter form.
    pub(crate) short: Option<u8>,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What its value is called in the help; empty for [`Kind::Bool`].
    pub(crate) value: &'static str,
    /// The values to choose from, for completion; empty where anything goes.
    pub(crate) choices: &'static [&'static str],
    /// One sentence, without the full stop.
    pub(crate) help: &'static str,
    /// Accepted for old callers and left out of the help.
    pub(crate) hidden: bool,
}

impl Flag {
    const fn new(long: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Self {
        Self { long, short: None, kind, value, choices: &[], help, hidden: false }
    }

    const fn bool(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Bool, "", help)
    }

    const fn scalar(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::Scalar, value, help)
    }

    const fn list(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(long, Kind::List, value, help)
    }

    const fn short(mut self, letter: u8) -> Self {
        self.short = Some(letter);
        self
    }

    const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

macro_rules! flags {
    ($($name:ident = $flag:expr;)*) => { $(pub(crate) static $name: Flag = $flag;)* };
}

// The program, and every command.
flags! {
    HELP = Flag::bool("help", "show this help").short(b'h');
    VERSION = Flag::bool("version", "print the version").short(b'v');
    // crun's spelling of -v.
    VERSION_V = Flag::bool("V", "print the version").hidden();
    ROOT = Flag::scalar("root", "DIR",
        "directory for the state of containers, on a tmpfs (default: /run/skep, or $XDG_RUNTIME_DIR/skep for other users than root)");
    LOG = Flag::scalar("log", "FILE",
        "append errors and warnings to FILE, journald:ID or syslog:ID as well; errors always go to stderr too");
    LOG_FORMAT = Flag::scalar("log-format", "FORMAT", "format of the log: text or json (default: text)")
        .choices(&["text", "json"]);
    LOG_LEVEL = Flag::scalar("log-level", "LEVEL", "least level that is logged: debug, info, warning or error")
        .choices(&["debug", "info", "warning", "error"]);
    DEBUG = Flag::bool("debug", "log what is being done, step by step");
    SYSTEMD_CGROUP = Flag::bool("systemd-cgroup",
        "let systemd make the cgroups; linux.cgroupsPath is then slice:prefix:name");
    CGROUP_MANAGER = Flag::scalar("cgroup-manager", "MANAGER",
        "who makes the cgroups: cgroupfs, systemd or disabled (default: cgroupfs)")
        .choices(&["cgroupfs", "systemd", "disabled"]);
    ROOTLESS = Flag::scalar("rootless", "WHEN",
        "go on where the cgroup may not be made: true, false or auto (default: auto)")
        .choices(&["true", "false", "auto"]);
    CRIU = Flag::scalar("criu", "PATH", "the CRIU of checkpoint and restore (default: criu in $PATH)").hidden();
}

// create, run, restore, spec, exec.
flags! {
    BUNDLE = Flag::scalar("bundle", "DIR", "the bundle directory (default: the current directory)").short(b'b');
    CONFIG = Flag::scalar("config", "FILE", "read or write FILE instead of the bundle's config.json").short(b'f');
    IMAGE = Flag::scalar("image", "SOURCE",
        "make the bundle of this image (docker://debian, oci:DIR:TAG, ...); `skep-image run --help` lists the options that go with it");
    CONSOLE_SOCKET = Flag::scalar("console-socket", "PATH",
        "unix socket that receives the file descriptor of the terminal's master end");
    PIDFD_SOCKET = Flag::scalar("pidfd-socket", "PATH",
        "unix socket that receives a pidfd of the container's process");
    PID_FILE = Flag::scalar("pid-file", "FILE", "write the process id to FILE");
    NO_PIVOT = Flag::bool("no-pivot",
        "move the root mount and chroot(2) instead of pivot_root(2); only for a host on an initramfs: the host's root stays below the container's, and CAP_SYS_ADMIN in the container is enough to come back to it");
    NO_NEW_KEYRING = Flag::bool("no-new-keyring", "keep the session keyring of the caller");
    PRESERVE_FDS = Flag::scalar("preserve-fds", "N",
        "pass N more file descriptors to the container, from 3 on, after those of $LISTEN_FDS (default: 0)");
    NO_SUBREAPER = Flag::bool("no-subreaper", "do not adopt the orphans of the container");
    DETACH = Flag::bool("detach", "do not wait for the process to end").short(b'd');
    KEEP = Flag::bool("keep", "keep the container's state after it ends, for a later delete");
}

// exec, kill, delete, list, ps, events.
flags! {
    CWD = Flag::scalar("cwd", "DIR", "working directory in the container");
    ENV = Flag::list("env", "NAME=VALUE", "set an environment variable; may be repeated").short(b'e');
    TTY = Flag::bool("tty", "give the process a terminal").short(b't');
    USER = Flag::scalar("user", "UID[:GID]", "run as this user and group, by number").short(b'u');
    ADDITIONAL_GIDS = Flag::list("additional-gids", "GID", "add a group; may be repeated").short(b'g');
    PROCESS = Flag::scalar("process", "FILE", "read the process, as in config.json, from FILE").short(b'p');
    PROCESS_LABEL = Flag::scalar("process-label", "LABEL", "SELinux label of the process");
    APPARMOR = Flag::scalar("apparmor", "PROFILE", "AppArmor profile of the process");
    NO_NEW_PRIVS = Flag::bool("no-new-privs", "forbid the process to gain privileges");
    CAP = Flag::list("cap", "CAP_NAME", "add a capability; may be repeated").short(b'c');
    CGROUP = Flag::list("cgroup", "[CONTROLLER:]PATH",
        "run in this existing cgroup below the container's; may be repeated");
    IGNORE_PAUSED = Flag::bool("ignore-paused", "do not refuse a paused container; the process starts when it is resumed");
    ALL = Flag::bool("all", "send the signal to every process of the container").short(b'a');
    REGEX = Flag::bool("regex", "the id is an extended regular expression; every container is meant that has it in its id").short(b'r');
    FORCE = Flag::bool("force", "kill the container first if it still runs; succeed if there is none").short(b'f');
    FORMAT = Flag::scalar("format", "FORMAT", "table or json (default: table)").short(b'f').choices(&["table", "json"]);
    QUIET = Flag::bool("quiet", "print ids only").short(b'q');
    INTERVAL = Flag::scalar("interval", "DURATION", "time between two reports, such as 500ms or 1m30s (default: 5s)");
    STATS = Flag::bool("stats", "print one report and end");
    ROOTLESS_SPEC = Flag::bool("rootless", "write a configuration for a container started without root");
}

// update.
flags! {
    RESOURCES = Flag::scalar("resources", "FILE",
        "read the new values, in the form of linux.resources, from FILE, or from standard input if it is -; every other flag is then ignored").short(b'r');
    BLKIO_WEIGHT = Flag::scalar("blkio-weight", "N", "relative weight of block I/O, 10 to 1000");
    CPU_PERIOD = Flag::scalar("cpu-period", "USEC", "CFS period in microseconds");
    CPU_QUOTA = Flag::scalar("cpu-quota", "USEC", "CPU time allowed in each period, in microseconds; -1 for no limit");
    CPU_BURST = Flag::scalar("cpu-burst", "USEC", "CPU time that may be saved up for later periods, in microseconds");
    CPU_SHARE = Flag::scalar("cpu-share", "N", "relative share of CPU time");
    CPU_RT_PERIOD = Flag::scalar("cpu-rt-period", "USEC", "realtime period in microseconds (cgroup v1)");
    CPU_RT_RUNTIME = Flag::scalar("cpu-rt-runtime", "USEC", "realtime CPU time in each period, in microseconds (cgroup v1)");
    CPU_IDLE = Flag::scalar("cpu-idle", "0|1", "1 gives the container only CPU time nobody else wants").choices(&["0", "1"]);
    CPUSET_CPUS = Flag::scalar("cpuset-cpus", "LIST", "CPUs to run on, such as 0-3,7");
    CPUSET_MEMS = Flag::scalar("cpuset-mems", "LIST", "memory nodes to use, such as 0-1");
    KERNEL_MEMORY = Flag::scalar("kernel-memory", "BYTES", "obsolete; ignored").hidden();
    KERNEL_MEMORY_TCP = Flag::scalar("kernel-memory-tcp", "BYTES", "obsolete; ignored").hidden();
    MEMORY = Flag::scalar("memory", "BYTES", "memory limit, such as 64m; -1 for none");
    MEMORY_RESERVATION = Flag::scalar("memory-reservation", "BYTES", "memory that is reclaimed last");
    MEMORY_SWAP = Flag::scalar("memory-swap", "BYTES", "limit of memory and swap together; -1 for none");
    PIDS_LIMIT = Flag::scalar("pids-limit", "N", "most processes and threads; -1 for no limit");
    L3_CACHE_SCHEMA = Flag::scalar("l3-cache-schema", "SCHEMA", "L3 cache schema for resctrl");
    MEM_BW_SCHEMA = Flag::scalar("mem-bw-schema", "SCHEMA", "memory bandwidth schema for resctrl");
}

// checkpoint and restore.
flags! {
    IMAGE_PATH = Flag::scalar("image-path", "DIR", "directory of the CRIU image files (default: checkpoint)");
    WORK_PATH = Flag::scalar("work-path", "DIR", "directory for CRIU's work files and logs");
    PARENT_PATH = Flag::scalar("parent-path", "DIR", "images of an earlier pre-dump, relative to the image directory");
    LEAVE_RUNNING = Flag::bool("leave-running", "leave the container running");
    TCP_ESTABLISHED = Flag::bool("tcp-established", "allow open TCP connections");
    TCP_SKIP_IN_FLIGHT = Flag::bool("tcp-skip-in-flight", "leave out TCP connections that are being made");
    TCP_CLOSE = Flag::bool("tcp-close", "close established TCP connections on restore");
    LINK_REMAP = Flag::bool("link-remap", "allow open files that have been unlinked");
    EXT_UNIX_SK = Flag::bool("ext-unix-sk", "allow connected unix sockets");
    SHELL_JOB = Flag::bool("shell-job", "allow processes of a shell job");
    LAZY_PAGES = Flag::bool("lazy-pages", "restore memory pages when they are used, by userfaultfd(2)");
    STATUS_FD = Flag::scalar("status-fd", "N", "CRIU writes a zero byte to this file descriptor once lazy pages can be served");
    PAGE_SERVER = Flag::scalar("page-server", "ADDRESS:PORT", "send memory pages to this page server");
    FILE_LOCKS = Flag::bool("file-locks", "keep file locks");
    PRE_DUMP = Flag::bool("pre-dump", "dump memory only and leave the container running");
    MANAGE_CGROUPS_MODE = Flag::scalar("manage-cgroups-mode", "MODE",
        "what CRIU does with cgroups: soft, full, strict or ignore (default: soft)").choices(&["soft", "full", "strict", "ignore"]);
    EMPTY_NS = Flag::list("empty-ns", "NAMESPACE", "make this namespace anew instead of restoring it: network");
    AUTO_DEDUP = Flag::bool("auto-dedup", "drop memory pages from the images once they are not needed");
    NETWORK_LOCK = Flag::scalar("network-lock", "METHOD",
        "how the network is held still: iptables, nftables or skip").choices(&["iptables", "nftables", "skip"]);
    LSM_PROFILE = Flag::scalar("lsm-profile", "TYPE:NAME", "LSM profile to restore with");
    LSM_MOUNT_CONTEXT = Flag::scalar("lsm-mount-context", "CONTEXT", "LSM mount context to restore with");
}
