//! Every command, in the order of the help.

use super::flag::{self, Flag};

/// A command, for dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// `checkpoint`
    Checkpoint,
    /// `completion`
    Completion,
    /// `create`
    Create,
    /// `delete`
    Delete,
    /// `events`
    Events,
    /// `exec`
    Exec,
    /// `features`
    Features,
    /// `help`
    Help,
    /// `kill`
    Kill,
    /// `list`
    List,
    /// `man`
    Man,
    /// `mounts`
    Mounts,
    /// `pause`
    Pause,
    /// `ps`
    Ps,
    /// `restore`
    Restore,
    /// `resume`
    Resume,
    /// `run`
    Run,
    /// `spec`
    Spec,
    /// `start`
    Start,
    /// `state`
    State,
    /// `update`
    Update,
}

/// How many operands a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// Between the two, both included.
    Between(usize, usize),
}

/// Where the flags of a command may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before, between and after the operands.
    Anywhere,
    /// Before the first operand only: what follows belongs to someone else's command line.
    First,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Which one it is.
    pub(crate) name: Name,
    /// What is typed.
    pub(crate) word: &'static str,
    /// One line: what it does.
    pub(crate) about: &'static str,
    /// The operands in the usage line.
    pub(crate) synopsis: &'static str,
    /// What there is to know, in paragraphs divided by empty lines.
    pub(crate) description: &'static str,
    /// An example and what it does.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    /// Its flags; `--help` is understood by all.
    pub(crate) flags: &'static [&'static Flag],
    /// How many operands it takes.
    pub(crate) operands: Operands,
    /// Where its flags may stand.
    pub(crate) order: Order,
    /// Left out of the help.
    pub(crate) hidden: bool,
}

/// Finds the command that is typed `word`.
pub(crate) fn find(word: &[u8]) -> Option<&'static Command> {
    // `h` is urfave/cli's other word for help.
    let word = if word == b"h" { b"help" } else { word };
    COMMANDS.iter().find(|command| command.word.as_bytes() == word)
}

/// What the commands without words of their own are made of.
const PLAIN: Command = Command {
    name: Name::Help,
    word: "",
    about: "",
    synopsis: "<container-id>",
    description: "",
    examples: &[],
    flags: &[],
    operands: Operands::Exactly(1),
    order: Order::Anywhere,
    hidden: false,
};

/// The flags of the program, before the command.
pub(crate) static GLOBALS: &[&Flag] = &[
    &flag::ROOT,
    &flag::LOG,
    &flag::LOG_FORMAT,
    &flag::LOG_LEVEL,
    &flag::DEBUG,
    &flag::SYSTEMD_CGROUP,
    &flag::CGROUP_MANAGER,
    &flag::ROOTLESS,
    &flag::CRIU,
    &flag::VERSION,
    &flag::VERSION_V,
];

/// The commands.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        name: Name::Create,
        word: "create",
        about: "create a container",
        description: "Makes the container that the bundle's config.json describes: its namespaces, cgroup and mounts. \
            Its process waits, and nothing of the image has run, until start is called.\n\n\
            The bundle is a directory with config.json and the root filesystem that it names. The id must be unique \
            under --root; it may hold letters, digits, _, +, - and . but not begin with a dot.",
        examples: &[("skep create -b /srv/web web1", "create web1 from the bundle /srv/web")],
        flags: &[
            &flag::BUNDLE,
            &flag::IMAGE,
            &flag::CONFIG,
            &flag::CONSOLE_SOCKET,
            &flag::PIDFD_SOCKET,
            &flag::PID_FILE,
            &flag::NO_PIVOT,
            &flag::NO_NEW_KEYRING,
            &flag::PRESERVE_FDS,
            &flag::NO_SUBREAPER,
        ],
        ..PLAIN
    },
    Command {
        name: Name::Start,
        word: "start",
        about: "start the process of a created container",
        description: "Lets the process that create prepared begin. Fails, with the reason, when a startContainer \
            hook or the execution of the program itself fails.",
        ..PLAIN
    },
    Command {
        name: Name::Run,
        word: "run",
        about: "create a container and start it",
        description: "Does what create and start do. Without --detach it waits for the process, passes signals on \
            to it, removes the container and exits with the status of the process: its exit code, or 128 and the \
            number of the signal that ended it. Errors of skep itself exit with 1.",
        examples: &[
            ("cd bundle && skep run web1", "run the bundle in the current directory"),
            (
                "skep run --image docker://docker.io/library/debian:stable -t deb -- bash",
                "run a command in an image",
            ),
            ("skep run -d --pid-file web1.pid -b /srv/web web1", "run it in the background"),
        ],
        flags: &[
            &flag::BUNDLE,
            &flag::IMAGE,
            &flag::CONFIG,
            &flag::DETACH,
            &flag::CONSOLE_SOCKET,
            &flag::PIDFD_SOCKET,
            &flag::PID_FILE,
            &flag::KEEP,
            &flag::NO_SUBREAPER,
            &flag::NO_PIVOT,
            &flag::NO_NEW_KEYRING,
            &flag::PRESERVE_FDS,
        ],
        ..PLAIN
    },
    Command {
        name: Name::Exec,
        word: "exec",
        about: "run another process in a running container",
        synopsis: "<container-id> <command> [argument...]",
        description: "Runs the command, or the process that --process describes, inside the container. What is not \
            given comes from the container's own process. Flags go before the container id; everything after it \
            belongs to the command.\n\nWithout --detach it exits with the status of the command; errors of skep \
            itself exit with 255.",
        examples: &[
            ("skep exec -t web1 sh", "a shell in web1"),
            ("skep exec -u 1000:1000 -e LANG=C web1 id", "as another user, with a variable"),
        ],
        flags: &[
            &flag::CONSOLE_SOCKET,
            &flag::PIDFD_SOCKET,
            &flag::CWD,
            &flag::ENV,
            &flag::TTY,
            &flag::USER,
            &flag::ADDITIONAL_GIDS,
            &flag::PROCESS,
            &flag::DETACH,
            &flag::PID_FILE,
            &flag::PROCESS_LABEL,
            &flag::APPARMOR,
            &flag::NO_NEW_PRIVS,
            &flag::CAP,
            &flag::PRESERVE_FDS,
            &flag::CGROUP,
            &flag::IGNORE_PAUSED,
        ],
        operands: Operands::AtLeast(1),
        order: Order::First,
        ..PLAIN
    },
    Command {
        name: Name::Kill,
        word: "kill",
        about: "send a signal to a container",
        synopsis: "<container-id> [signal]",
        description: "Sends the signal, SIGTERM if none is given, to the container's first process. The signal is a \
            number or a name with or without SIG, such as 9, KILL or SIGRTMIN+3.\n\n\
            A container that shares the pid namespace of its host is killed whole by SIGKILL.",
        examples: &[("skep kill web1 HUP", "tell web1 to read its configuration again")],
        flags: &[&flag::ALL, &flag::REGEX],
        operands: Operands::Between(1, 2),
        order: Order::First,
        ..PLAIN
    },
    Command {
        name: Name::Delete,
        word: "delete",
        about: "remove a container that has ended",
        description: "Removes the cgroup and the state of a container and runs its poststop hooks. A container that \
            was created but never started is ended first; a running one only with --force.",
        flags: &[&flag::FORCE, &flag::REGEX],
        ..PLAIN
    },
    Command {
        name: Name::State,
        word: "state",
        about: "print the state of a container as JSON",
        description: "Prints id, status, pid, bundle and annotations in the form of the runtime specification.",
        ..PLAIN
    },
    Command {
        name: Name::List,
        word: "list",
        about: "list the containers",
        synopsis: "",
        description: "Lists the containers under --root.",
        flags: &[&flag::FORMAT, &flag::QUIET],
        operands: Operands::Exactly(0),
        ..PLAIN
    },
    Command {
        name: Name::Ps,
        word: "ps",
        about: "list the processes of a container",
        synopsis: "<container-id> [ps-option...]",
        description: "Prints what ps(1) of the host prints, -ef unless other options are given, for the processes \
            of the container only. Flags go before the container id.",
        flags: &[&flag::FORMAT],
        operands: Operands::AtLeast(1),
        order: Order::First,
        ..PLAIN
    },
    Command {
        name: Name::Events,
        word: "events",
        about: "print events and statistics of a container as JSON",
        description: "Prints one JSON object on each line: statistics at every interval, and an event whenever the \
            kernel kills a process for lack of memory. Ends when the container does.",
        flags: &[&flag::INTERVAL, &flag::STATS],
        ..PLAIN
    },
    Command {
        name: Name::Pause,
        word: "pause",
        about: "freeze all processes of a container",
        description: "Freezes the container's cgroup. resume lets it go on.",
        ..PLAIN
    },
    Command {
        name: Name::Resume,
        word: "resume",
        about: "let a paused container go on",
        description: "Thaws the container's cgroup.",
        ..PLAIN
    },
    Command {
        name: Name::Update,
        word: "update",
        about: "change the resource limits of a container",
        description: "Changes what is given and leaves the rest as it is. Sizes are bytes and may end in k, m, g or \
            t, for powers of 1024.",
        examples: &[
            ("skep update --memory 256m --cpu-quota 50000 web1", "256 MiB and half a CPU"),
            ("echo '{\"pids\":{\"limit\":100}}' | skep update -r - web1", "from JSON"),
        ],
        flags: &[
            &flag::RESOURCES,
            &flag::BLKIO_WEIGHT,
            &flag::CPU_PERIOD,
            &flag::CPU_QUOTA,
            &flag::CPU_BURST,
            &flag::CPU_SHARE,
            &flag::CPU_RT_PERIOD,
            &flag::CPU_RT_RUNTIME,
            &flag::CPU_IDLE,
            &flag::CPUSET_CPUS,
            &flag::CPUSET_MEMS,
            &flag::KERNEL_MEMORY,
            &flag::KERNEL_MEMORY_TCP,
            &flag::MEMORY,
            &flag::MEMORY_RESERVATION,
            &flag::MEMORY_SWAP,
            &flag::PIDS_LIMIT,
            &flag::L3_CACHE_SCHEMA,
            &flag::MEM_BW_SCHEMA,
        ],
        ..PLAIN
    },
    Command {
        name: Name::Mounts,
        word: "mounts",
        about: "change the mounts of a running container",
        synopsis: "add|remove <container-id> <file>",
        description: "Makes the mounts that the file lists in a container that was created or runs: a JSON array \
            like mounts of config.json. Either all are made or none. Bind sources are looked for on the host. \
            remove detaches what is mounted at the destinations that the file lists, and all below it.\n\n\
            The file - is standard input. What is added is gone with the container.",
        examples: &[("skep mounts add web1 volumes.json", "make the mounts of volumes.json")],
        operands: Operands::Exactly(3),
        ..PLAIN
    },
    Command {
        name: Name::Checkpoint,
        word: "checkpoint",
        about: "save the state of a running container to disk",
        description: "Saves the container's processes with CRIU, so that restore can bring them back, here or on another \
            host. The container is gone afterwards, unless it is left running. Needs CRIU 3.16 or newer.\n\n\
            Standard streams that are pipes or files of the host are those of restore then. Further options for CRIU come \
            from the file that the annotation org.criu.config names, or from /etc/criu/skep.conf or runc.conf.",
        examples: &[
            ("skep checkpoint --image-path /var/lib/web1 web1", "save web1 and end it"),
            (
                "skep checkpoint --pre-dump --image-path first web1 && \
                 skep checkpoint --image-path second --parent-path ../first web1",
                "save most of the memory while it runs",
            ),
        ],
        flags: &[
            &flag::IMAGE_PATH,
            &flag::WORK_PATH,
            &flag::PARENT_PATH,
            &flag::LEAVE_RUNNING,
            &flag::TCP_ESTABLISHED,
            &flag::TCP_SKIP_IN_FLIGHT,
            &flag::LINK_REMAP,
            &flag::EXT_UNIX_SK,
            &flag::SHELL_JOB,
            &flag::LAZY_PAGES,
            &flag::STATUS_FD,
            &flag::PAGE_SERVER,
            &flag::FILE_LOCKS,
            &flag::PRE_DUMP,
            &flag::MANAGE_CGROUPS_MODE,
            &flag::NETWORK_LOCK,
            &flag::EMPTY_NS,
            &flag::AUTO_DEDUP,
        ],
        ..PLAIN
    },
    Command {
        name: Name::Restore,
        word: "restore",
        about: "bring a container back from a checkpoint",
        description: "Makes the container again from the bundle and the images that checkpoint saved. The id may be \
            another; limits, cgroup, joined namespaces and sources of bind mounts are those of config.json as it is now. \
            The root filesystem has to be as it was.\n\n\
            Images decide what runs with which rights: they must belong to the caller or to root. Prestart and \
            createRuntime hooks run again. Without --detach it stays, as run does.",
        examples: &[(
            "skep restore -d --image-path /var/lib/web1 -b /srv/web web1",
            "go on with web1",
        )],
        flags: &[
            &flag::CONSOLE_SOCKET,
            &flag::IMAGE_PATH,
            &flag::WORK_PATH,
            &flag::TCP_ESTABLISHED,
            &flag::TCP_CLOSE,
            &flag::EXT_UNIX_SK,
            &flag::SHELL_JOB,
            &flag::FILE_LOCKS,
            &flag::MANAGE_CGROUPS_MODE,
            &flag::NETWORK_LOCK,
            &flag::BUNDLE,
            &flag::DETACH,
            &flag::PID_FILE,
            &flag::NO_SUBREAPER,
            &flag::NO_PIVOT,
            &flag::EMPTY_NS,
            &flag::AUTO_DEDUP,
            &flag::LAZY_PAGES,
            &flag::LSM_PROFILE,
            &flag::LSM_MOUNT_CONTEXT,
        ],
        ..PLAIN
    },
    Command {
        name: Name::Spec,
        word: "spec",
        about: "write a config.json to start from",
        synopsis: "",
        description: "Writes config.json to the current directory or the bundle. It runs sh, with a terminal, in \
            the directory rootfs. A file that is already there is not overwritten.",
        examples: &[(
            "mkdir -p b/rootfs/bin && cp /bin/busybox b/rootfs/bin/sh && cd b && skep spec && skep run first",
            "a first container",
        )],
        flags: &[&flag::BUNDLE, &flag::CONFIG, &flag::ROOTLESS_SPEC],
        operands: Operands::Exactly(0),
        ..PLAIN
    },
    Command {
        name: Name::Features,
        word: "features",
        about: "print what this runtime supports as JSON",
        synopsis: "",
        description: "Prints the features document of the runtime specification.",
        operands: Operands::Exactly(0),
        ..PLAIN
    },
    Command {
        name: Name::Completion,
        word: "completion",
        about: "print shell completions",
        synopsis: "bash|zsh|fish",
        description: "Prints a script that makes the shell complete commands, flags and container ids.",
        examples: &[("source <(skep completion bash)", "complete in this shell")],
        ..PLAIN
    },
    Command {
        name: Name::Man,
        word: "man",
        about: "print a manual page in the man(7) format",
        synopsis: "[command]",
        description: "Prints the manual page of the program or of a command.",
        operands: Operands::Between(0, 1),
        hidden: true,
        ..PLAIN
    },
    Command {
        name: Name::Help,
        word: "help",
        about: "show the help of the program or of a command",
        synopsis: "[command]",
        operands: Operands::Between(0, 1),
        ..PLAIN
    },
];
