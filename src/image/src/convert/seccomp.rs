//! The filter of system calls that a container gets if nothing else is said.
//!
//! It refuses what only administers the host or has a long record of holes, and lets the rest pass: the capabilities are
//! what confines a container, and a list of everything allowed has to be followed with every kernel. Names the kernel
//! or the architecture lacks are nothing to the runtime.

use serde_json::{Value, json};

/// Refused with EPERM.
const REFUSED: &[&str] = &[
    "_sysctl",
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "pivot_root",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "sysfs",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
];

/// `CLONE_NEW*` of clone(2): mount, cgroup, uts, ipc, user, pid, net.
const NAMESPACES: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const AF_VSOCK: u64 = 40;

/// The object `linux.seccomp` for the architecture this program was built for.
#[must_use]
pub fn profile() -> Value {
    let architectures: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        // The runtime's own.
        _ => &[],
    };
    let refuse = |names: Value, errno: u32| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno });
    let mut rules = vec![
        refuse(json!(REFUSED), EPERM),
        // Its flags are in memory, where no filter sees them; C libraries then take clone.
        refuse(json!(["clone3"]), ENOSYS),
    ];
    let mut when = |name: &str, argument: Value| {
        let mut rule = refuse(json!([name]), EPERM);
        if let Some(rule) = rule.as_object_mut() {
            rule.insert("args".into(), json!([argument]));
        }
        rules.push(rule);
    };
    for bit in NAMESPACES {
        when(
            "clone",
            json!({ "index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ" }),
        );
    }
    // Virtual machines' sockets belong to no network namespace.
    when("socket", json!({ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_EQ" }));
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules })
}
