//! One attack for each published vulnerability of runc, crun and youki (and their neighbours) that can be tried here.
//!
//! | Vulnerability | Test |
//! |---|---|
//! | CVE-2016-9962 (exec'd process open to the container) | `cve_process::exec_shows_the_container_nothing` |
//! | CVE-2019-5736 (overwriting the runtime) | `cve_process::the_runtime_cannot_be_overwritten_*` |
//! | CVE-2019-16884 (a volume over /proc) | `a_volume_over_proc`, `mounts::a_mount_on_proc_other_than_proc_is_refused` |
//! | CVE-2019-18837 (target through a symlink) | `a_target_through_an_absolute_symlink`, `bad_targets` |
//! | CVE-2019-19921, CVE-2023-27561, CVE-2025-54867 (/proc is a symlink) | `proc_is_a_symlink`, `sys_is_a_symlink` |
//! | CVE-2020-15257 (abstract sockets) | `cve_process::no_abstract_socket_is_used` |
//! | CVE-2021-30465, CVE-2024-45310 (symlink swapped under a mount) | `a_mount_target_that_is_swapped_all_the_time` |
//! | CVE-2021-41103 (modes of the state) | `cve_process::nobody_else_can_read_the_state` |
//! | CVE-2021-43784 (lengths that overflow) | `cve_process::very_long_paths_and_maps` |
//! | CVE-2022-0492 (release_agent) | `cve_process::the_release_agent_cannot_be_set` |
//! | CVE-2022-0811 (sysctl injection) | `cve_process::a_sysctl_value_smuggles_nothing` |
//! | CVE-2022-27650, CVE-2022-24769 (inheritable capabilities) | `process::nothing_is_inheritable_by_default` |
//! | CVE-2022-29162 (the same for `exec --cap`) | `exec::exec_does_not_make_capabilities_inheritable` |
//! | CVE-2023-25809 (writable cgroups) | `mounts::cgroup_is_read_only_when_asked` |
//! | CVE-2023-28642 (labels written to a false /proc) | `a_false_proc_is_not_written_to` |
//! | CVE-2024-21626 (a leaked directory) | `cve_process::*_of_a_leaked_directory`, `descriptors::only_the_standard_streams_are_open` |
//! | CVE-2025-23266 (the image's environment in a hook) | `cve_process::the_environment_of_the_image_does_not_reach_hooks` |
//! | CVE-2025-24965 (files written through symlinks) | `device_nodes_are_decoys`, `mount_targets_are_decoys` |
//! | CVE-2025-31133, CVE-2025-62161 (/dev/null is a symlink) | `masking_with_a_false_dev_null`, `cve_mounts::a_dev_null_that_is_swapped_all_the_time` |
//! | CVE-2025-52565 (/dev/pts/N is a symlink) | `a_console_on_false_terminals` |
//! | CVE-2025-52881, CVE-2025-62596 (writes to /proc redirected) | `a_sysctl_on_a_false_proc`, `a_volume_over_proc` |
//! | CVE-2026-30892 (`exec -u 1` is root) | `exec_user` |
//! | CVE-2026-41579, CVE-2026-47766 (/dev is a symlink) | `dev_is_a_symlink`, `cve_mounts::dev_leads_into_a_volume`, `cve_mounts::a_dev_that_is_swapped_all_the_time` |
//! | CVE-2026-46680 (user ids that overflow) | `bad_config::numbers_out_of_range`, `exec_user` |
//! | GHSA-3q8j-pf29-vwv8 (masked path swapped) | `a_masked_path_that_is_swapped_all_the_time` |
//! | TIOCSTI into the caller's terminal | `terminal::an_inherited_terminal_cannot_be_typed_into` |
//!
//! CVE-2026-53489 and CVE-2026-53492 (trust in a checkpoint) are in checkpoint.rs. Not tried, since it needs what this
//! harness has not: the labels of CVE-2019-16884 themselves (an LSM).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::harness::pty::ConsoleSocket;
use crate::harness::runner::cases;
use crate::harness::{Container, Test, json};

cases![
    proc_is_a_symlink,
    sys_is_a_symlink,
    a_false_proc_is_not_written_to,
    a_volume_over_proc,
    a_sysctl_on_a_false_proc,
    a_target_through_an_absolute_symlink,
    dev_is_a_symlink,
    device_nodes_are_decoys,
    a_device_path_that_climbs,
    mount_targets_are_decoys,
    a_masked_path_that_is_a_symlink,
    a_read_only_path_that_is_a_symlink,
    masking_with_a_false_dev_null,
    a_console_on_false_terminals,
    a_console_that_is_a_decoy,
    the_working_directory_is_a_symlink_out,
    copying_up_follows_no_symlink_out,
    a_mount_target_that_is_swapped_all_the_time,
    a_missing_target_below_a_swapped_directory,
    a_masked_path_that_is_swapped_all_the_time,
];

/// A directory outside the root whose content must stay as it is.
pub struct Decoy {
    pub dir: PathBuf,
}

impl Decoy {
    pub fn new(t: &Test) -> Self {
        let dir = t.path("decoy");
        fs::create_dir_all(dir.join("sub")).unwrap();
        for name in ["file", "null", "ptmx", "console", "sub/file"] {
            fs::write(dir.join(name), "untouched").unwrap();
        }
        Self { dir }
    }

    /// Every path below the directory with its content.
    pub fn listing(&self) -> Vec<String> {
        fn walk(dir: &Path, into: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                let path = entry.path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let text =
                    if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
                into.push(format!("{} {:?} {text}", path.display(), meta.file_type()));
                if meta.is_dir() {
                    walk(&path, into);
                }
            }
        }
        let mut into = Vec::new();
        walk(&self.dir, &mut into);
        into.sort();
        into
    }

    /// Runs an attack: the container may start or be refused, but the decoy stays as it is.
    #[track_caller]
    pub fn survives(&self, c: &Container<'_>) {
        let before = self.listing();
        let output = c.run();
        assert!(output.code.is_some(), "{output}");
        assert_eq!(self.listing(), before, "{output}");
        c.test.assert_nothing_left();
    }
}

/// How an image may point at a directory of the host's: by an absolute path, and by climbing.
fn ways_out(dir: &Path) -> [PathBuf; 2] {
    [
        dir.to_owned(),
        Path::new("../../../../../../../../../..").join(dir.strip_prefix("/").unwrap()),
    ]
}

fn replace_with_symlink(c: &Container<'_>, inside: &str, target: &Path) {
    let path = c.path(inside);
    let _was_a_directory = fs::remove_dir_all(&path);
    symlink(target, path).unwrap();
}

fn proc_is_a_symlink(t: &Test) {
    let decoy = Decoy::new(t);
    for target in ways_out(&decoy.dir)
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new("/tmp"), Path::new("tmp")])
    {
        let c = t.container();
        replace_with_symlink(&c, "/proc", target);
        decoy.survives(&c);
        c.run().fails().names("/proc");
    }
    t.assert_nothing_left();
}

fn sys_is_a_symlink(t: &Test) {
    let decoy = Decoy::new(t);
    for target in ways_out(&decoy.dir) {
        let c = t.container();
        replace_with_symlink(&c, "/sys", &target);
        decoy.survives(&c);
        c.run().fails().names("/sys");
    }
}

fn a_false_proc_is_not_written_to(t: &Test) {
    // /proc in the image points to a directory with everything in it that a runtime may write to.
    let c = t
        .container()
        .file("/fake/self/attr/exec", "", 0o666)
        .file("/fake/self/attr/apparmor/exec", "", 0o666)
        .file("/fake/self/oom_score_adj", "", 0o666)
        .file("/fake/sys/net/ipv4/ip_forward", "", 0o666)
        .set("/process/oomScoreAdj", json!(100))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    replace_with_symlink(&c, "/proc", Path::new("/fake"));
    c.run().fails();
    for file in [
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "self/oom_score_adj",
        "sys/net/ipv4/ip_forward",
    ] {
        assert_eq!(c.read(&format!("/fake/{file}")), "", "{file} was written");
    }
    t.assert_nothing_left();
}

fn a_volume_over_proc(t: &Test) {
    let decoy = Decoy::new(t);
    let source = decoy.dir.to_str().unwrap();
    for target in ["/proc", "/proc/self/attr", "/proc/sys/net", "//proc/./self", "/tmp/../proc"] {
        let c = t.container().mount(target, "bind", source, &["bind"]);
        decoy.survives(&c);
        c.run().fails();
    }
    // A tmpfs is no better, and a link to /proc neither.
    t.container().mount("/proc/sys", "tmpfs", "tmpfs", &[]).run().fails();
    let c = t.container().mount("/link/self", "bind", source, &["bind"]);
    symlink("/proc", c.path("/link")).unwrap();
    c.run().fails();
    t.assert_nothing_left();
}

fn a_sysctl_on_a_false_proc(t: &Test) {
    // Instead of proc, the config mounts a directory that looks like it: the write must not go there.
    let fake = t.path("fake");
    fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
    fs::write(fake.join("sys/net/ipv4/ip_forward"), "").unwrap();
    let c = t
        .container()
        .without_mount("/proc")
        .mount("/proc", "bind", fake.to_str().unwrap(), &["bind"])
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    c.run().not_ok();
    assert_eq!(fs::read_to_string(fake.join("sys/net/ipv4/ip_forward")).unwrap(), "");
    t.assert_nothing_left();
}

fn a_target_through_an_absolute_symlink(t: &Test) {
    let decoy = Decoy::new(t);
    let volume = t.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "volume").unwrap();
    let c = t
        .container()
        .mount("/link/sub", "bind", volume.to_str().unwrap(), &["bind"])
        .sh("cat /link/sub/file");
    symlink(&decoy.dir, c.path("/link")).unwrap();
    decoy.survives(&c);
}

fn dev_is_a_symlink(t: &Test) {
    let decoy = Decoy::new(t);
    for target in ways_out(&decoy.dir) {
        // With a tmpfs on /dev and without, with devices of the config and with a terminal.
        let c = t.container();
        replace_with_symlink(&c, "/dev", &target);
        decoy.survives(&c);
        let c = t
            .container()
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue")
            .set(
                "/linux/devices",
                json!([{"type": "c", "path": "/dev/mine", "major": 1, "minor": 5}]),
            );
        replace_with_symlink(&c, "/dev", &target);
        decoy.survives(&c);
    }
}

fn device_nodes_are_decoys(t: &Test) {
    // No mount on /dev: the nodes and links are made in the image, where each is a symlink out already.
    let decoy = Decoy::new(t);
    for target in ["file", "missing"] {
        let c = t
            .container()
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue")
            .set(
                "/linux/devices",
                json!([{"type": "c", "path": "/dev/mine", "major": 1, "minor": 5}]),
            );
        for name in [
            "null", "zero", "full", "random", "urandom", "tty", "mine", "ptmx", "console", "fd",
            "stdin",
        ] {
            symlink(decoy.dir.join(target), c.path("/dev").join(name)).unwrap();
        }
        decoy.survives(&c);
    }
}

fn a_device_path_that_climbs(t: &Test) {
    let decoy = Decoy::new(t);
    let climbing = format!("/dev/../../../../../../../../../..{}/new", decoy.dir.display());
    let c = t
        .container()
        .set("/linux/devices", json!([{"type": "c", "path": climbing, "major": 1, "minor": 5}]));
    decoy.survives(&c);
    let c = t
        .container()
        .set("/linux/devices", json!([{"type": "c", "path": "/link/new", "major": 1, "minor": 5}]));
    symlink(&decoy.dir, c.path("/link")).unwrap();
    decoy.survives(&c);
}

fn mount_targets_are_decoys(t: &Test) {
    let decoy = Decoy::new(t);
    let volume = t.path("volume");
    fs::write(&volume, "volume").unwrap();
    for name in ["file", "sub", "missing", "missing/deeper"] {
        for out in ways_out(&decoy.dir) {
            let c = t.container().mount("/target", "bind", volume.to_str().unwrap(), &["bind"]);
            symlink(out.join(name), c.path("/target")).unwrap();
            decoy.survives(&c);
            let c = t.container().mount("/target/new", "tmpfs", "tmpfs", &[]);
            symlink(out.join(name), c.path("/target")).unwrap();
            decoy.survives(&c);
        }
    }
}

fn a_masked_path_that_is_a_symlink(t: &Test) {
    let decoy = Decoy::new(t);
    for name in ["file", "sub"] {
        let c = t.container().push("/linux/maskedPaths", json!("/target"));
        symlink(decoy.dir.join(name), c.path("/target")).unwrap();
        decoy.survives(&c);
    }
}

fn a_read_only_path_that_is_a_symlink(t: &Test) {
    let decoy = Decoy::new(t);
    let c = t.container().push("/linux/readonlyPaths", json!("/target"));
    symlink(&decoy.dir, c.path("/target")).unwrap();
    decoy.survives(&c);
    fs::write(decoy.dir.join("file"), "writable").unwrap();
}

fn masking_with_a_false_dev_null(t: &Test) {
    // The image's /dev/null is a symlink: what is bound over the masked path must be the real device, or nothing.
    let secret = "/proc/timer_list";
    t.need(fs::metadata(secret).is_ok(), "no /proc/timer_list on this kernel");
    let dev = t.path("dev");
    fs::create_dir(&dev).unwrap();
    for target in ["/proc/sysrq-trigger", "/etc/passwd", "/proc/self/mem"] {
        let _first_round = fs::remove_file(dev.join("null"));
        symlink(target, dev.join("null")).unwrap();
        let c = t
            .container()
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue")
            .mount("/dev", "bind", dev.to_str().unwrap(), &["bind"])
            .sh(&format!("stat -c '%F %t:%T' {secret}"));
        let output = c.run();
        if output.code == Some(0) {
            output.prints("character special file 1:3\n");
        } else {
            output.not_ok();
        }
        t.assert_nothing_left();
    }
}

fn a_console_on_false_terminals(t: &Test) {
    // /dev/pts is a volume with symlinks where the terminal would be.
    let decoy = Decoy::new(t);
    let pts = t.path("pts");
    fs::create_dir(&pts).unwrap();
    for number in 0..20 {
        symlink(decoy.dir.join("file"), pts.join(number.to_string())).unwrap();
    }
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let c = t
        .container()
        .without_mount("/dev/pts")
        .mount("/dev/pts", "bind", pts.to_str().unwrap(), &["bind"])
        .set("/process/terminal", json!(true))
        .sh("echo written > /dev/console");
    let before = decoy.listing();
    c.bundle_call(
        "run",
        &[
            "--detach",
            "--console-socket",
            socket.arg(),
            "--pid-file",
            c.dir.join("pid").to_str().unwrap(),
        ],
    )
    .run();
    if fs::metadata(c.dir.join("pid")).is_ok() {
        c.wait_exit();
    }
    assert_eq!(decoy.listing(), before);
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn a_console_that_is_a_decoy(t: &Test) {
    let decoy = Decoy::new(t);
    let dev = t.path("dev");
    fs::create_dir_all(dev.join("pts")).unwrap();
    symlink(decoy.dir.join("console"), dev.join("console")).unwrap();
    symlink(decoy.dir.join("ptmx"), dev.join("ptmx")).unwrap();
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let c = t
        .container()
        .without_mount("/dev")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .set("/process/terminal", json!(true))
        .sh("echo hello > /dev/console");
    let c = {
        let mut c = c;
        c.config["mounts"].as_array_mut().unwrap().insert(
            1,
            json!({"destination": "/dev", "type": "bind", "source": dev.to_str(), "options": ["bind"]}),
        );
        c
    };
    let before = decoy.listing();
    c.bundle_call("run", &["--detach", "--console-socket", socket.arg()]).run();
    assert_eq!(decoy.listing(), before);
    c.delete_force().ok();
    assert_eq!(decoy.listing(), before);
}

fn the_working_directory_is_a_symlink_out(t: &Test) {
    let decoy = Decoy::new(t);
    for name in ["sub", "missing"] {
        for out in ways_out(&decoy.dir) {
            let c = t.container().set("/process/cwd", json!("/link/new")).sh("echo written > file");
            symlink(out.join(name), c.path("/link")).unwrap();
            decoy.survives(&c);
        }
    }
}

fn copying_up_follows_no_symlink_out(t: &Test) {
    let decoy = Decoy::new(t);
    fs::write(decoy.dir.join("file"), "secret of the host").unwrap();
    let c = t
        .container()
        .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
        .sh("cat /data/* 2>/dev/null; true");
    fs::create_dir(c.path("/data")).unwrap();
    symlink(decoy.dir.join("file"), c.path("/data/file")).unwrap();
    let output = c.run();
    assert!(!output.stdout.contains("secret"), "{output}");
    let c = t
        .container()
        .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
        .sh("cat /data/* 2>/dev/null; true");
    symlink(&decoy.dir, c.path("/data")).unwrap();
    let output = c.run();
    assert!(!output.stdout.contains("secret"), "{output}");
}

// --- races ---

/// Swaps two names in a directory as fast as it can, until dropped.
pub struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    pub fn start(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    crate::harness::sys::exchange(&one, &other).unwrap();
                }
                std::thread::yield_now();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

pub const ROUNDS: u32 = 25;

/// A volume in which a directory and a symlink out of the root change places all the time.
fn swapped_volume(t: &Test, out: &Path) -> (PathBuf, Swapper) {
    let volume = t.path("volume");
    fs::create_dir_all(volume.join("target")).unwrap();
    symlink(out, volume.join("link")).unwrap();
    let swapper = Swapper::start(volume.join("target"), volume.join("link"));
    (volume, swapper)
}

fn a_mount_target_that_is_swapped_all_the_time(t: &Test) {
    let decoy = Decoy::new(t);
    let (volume, _swapper) = swapped_volume(t, &decoy.dir);
    let before = decoy.listing();
    let source = t.path("source");
    fs::create_dir(&source).unwrap();
    let c = t
        .container()
        .mount("/volume", "bind", volume.to_str().unwrap(), &["bind"])
        .mount("/volume/target", "bind", source.to_str().unwrap(), &["bind"])
        .mount("/volume/target/deep/er", "tmpfs", "tmpfs", &[])
        .sh("true");
    for _ in 0..ROUNDS {
        let output = c.run();
        assert!(output.code.is_some(), "{output}");
        assert_eq!(decoy.listing(), before, "{output}");
    }
    t.assert_nothing_left();
}

fn a_missing_target_below_a_swapped_directory(t: &Test) {
    let decoy = Decoy::new(t);
    let (volume, _swapper) = swapped_volume(t, &decoy.dir);
    let before = decoy.listing();
    let file = t.path("file");
    fs::write(&file, "volume").unwrap();
    for round in 0..ROUNDS {
        let c = t.container().mount("/volume", "bind", volume.to_str().unwrap(), &["bind"]).mount(
            &format!("/volume/target/new{round}/file"),
            "bind",
            file.to_str().unwrap(),
            &["bind"],
        );
        let output = c.run();
        assert!(output.code.is_some(), "{output}");
        assert_eq!(decoy.listing(), before, "{output}");
    }
    t.assert_nothing_left();
}

fn a_masked_path_that_is_swapped_all_the_time(t: &Test) {
    let decoy = Decoy::new(t);
    let (volume, _swapper) = swapped_volume(t, &decoy.dir);
    let before = decoy.listing();
    let c = t
        .container()
        .mount("/volume", "bind", volume.to_str().unwrap(), &["bind"])
        .push("/linux/maskedPaths", json!("/volume/target"))
        .push("/linux/readonlyPaths", json!("/volume/target"));
    for _ in 0..ROUNDS {
        let output = c.run();
        assert!(output.code.is_some(), "{output}");
        assert_eq!(decoy.listing(), before, "{output}");
    }
    fs::write(decoy.dir.join("file"), "still writable").unwrap();
    t.assert_nothing_left();
}
