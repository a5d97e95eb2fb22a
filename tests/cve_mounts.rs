//! Attacks on mounts and devices that need a volume or a race: what an image can do to the host's directories behind them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::cve::{Decoy, ROUNDS, Swapper};
use crate::harness::pty::ConsoleSocket;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json};

cases![
    dev_leads_into_a_volume,
    a_directory_in_dev_leads_into_a_volume,
    a_console_in_a_dev_that_leads_into_a_volume,
    a_dev_that_is_swapped_all_the_time,
    a_dev_null_that_is_swapped_all_the_time,
    a_copied_symlink_stays_in_the_root,
    a_covered_symlink_stays_in_the_root,
    a_source_in_the_root_that_is_swapped_all_the_time,
    a_read_only_path_that_is_swapped_all_the_time,
    a_proc_that_is_swapped_all_the_time,
    a_copied_up_directory_that_is_swapped_all_the_time,
    a_mount_added_while_its_target_is_swapped,
    a_mount_removed_while_its_target_is_swapped,
];

/// A container without anything mounted on /dev, and a device of its own there.
fn with_the_images_dev(t: &Test) -> Container<'_> {
    t.container()
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .push("/linux/devices", json!({"type": "c", "path": "/dev/mine", "major": 1, "minor": 5}))
}

/// An empty directory of the host's, and the mount that makes it the container's /volume.
fn volume(t: &Test) -> PathBuf {
    let volume = t.path("volume");
    fs::create_dir_all(&volume).unwrap();
    volume
}

fn in_volume<'t>(c: Container<'t>, volume: &std::path::Path) -> Container<'t> {
    c.mount("/volume", "bind", volume.to_str().unwrap(), &["rbind"])
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn dev_leads_into_a_volume(t: &Test) {
    // Inside the root it is, and yet a directory of the host's: nodes made there would stay, for everybody.
    let volume = volume(t);
    for target in ["/volume", "volume", "../../volume", "volume/."] {
        let c = in_volume(with_the_images_dev(t), &volume);
        fs::remove_dir(c.path("/dev")).unwrap();
        symlink(target, c.path("/dev")).unwrap();
        let output = c.run();
        assert_eq!(names(&volume), [""; 0], "{target}: {output}");
        if t.kind() == Kind::Skep {
            output.fails().names("/dev");
        }
        // A file system on the link is no better: it would lie on the volume.
        let c = in_volume(t.container().without_mount("/dev"), &volume)
            .without_mount("/dev/pts")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue")
            .mount("/dev", "tmpfs", "tmpfs", &["mode=755"]);
        fs::remove_dir(c.path("/dev")).unwrap();
        symlink(target, c.path("/dev")).unwrap();
        c.run();
        assert_eq!(names(&volume), [""; 0], "{target}");
    }
    t.assert_nothing_left();
}

fn a_directory_in_dev_leads_into_a_volume(t: &Test) {
    let volume = volume(t);
    let c = in_volume(with_the_images_dev(t), &volume).push(
        "/linux/devices",
        json!({"type": "c", "path": "/dev/deep/mine", "major": 1, "minor": 5}),
    );
    symlink("/volume", c.path("/dev/deep")).unwrap();
    let output = c.run();
    assert_eq!(names(&volume), [""; 0], "{output}");
    if t.kind() == Kind::Skep {
        output.fails().names("/dev/deep/mine");
    }
    t.assert_nothing_left();
}

fn a_console_in_a_dev_that_leads_into_a_volume(t: &Test) {
    let volume = volume(t);
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let c = in_volume(t.container(), &volume)
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .mount("/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"])
        .set("/process/terminal", json!(true));
    fs::remove_dir(c.path("/dev")).unwrap();
    symlink("/volume", c.path("/dev")).unwrap();
    c.bundle_call("create", &["--console-socket", socket.arg()]).run();
    assert_eq!(names(&volume), [""; 0]);
    c.delete_force().ok();
    t.assert_nothing_left();
}

/// Swaps `inside`, a directory of the image, with a symlink to `out`.
fn swapped(c: &Container<'_>, inside: &str, out: &std::path::Path) -> Swapper {
    let link = c.path("/swapped");
    symlink(out, &link).unwrap();
    Swapper::start(c.path(inside), link)
}

/// Runs the container again and again; the decoy stays as it is.
#[track_caller]
fn survives_all(decoy: &Decoy, c: &Container<'_>) {
    let before = decoy.listing();
    for _ in 0..ROUNDS {
        let output = c.run();
        assert!(output.code.is_some(), "{output}");
        assert_eq!(decoy.listing(), before, "{output}");
    }
}

fn a_dev_that_is_swapped_all_the_time(t: &Test) {
    let decoy = Decoy::new(t);
    let c = with_the_images_dev(t);
    let swapper = swapped(&c, "/dev", &decoy.dir);
    survives_all(&decoy, &c);
    drop(swapper);
    // Into a volume, where the link stays inside the root.
    let volume = volume(t);
    let c = in_volume(with_the_images_dev(t), &volume);
    let swapper = swapped(&c, "/dev", std::path::Path::new("/volume"));
    for _ in 0..ROUNDS {
        let output = c.run();
        assert_eq!(names(&volume), [""; 0], "{output}");
    }
    drop(swapper);
    t.assert_nothing_left();
}

fn a_dev_null_that_is_swapped_all_the_time(t: &Test) {
    // What masks a file must be the null device, whatever stands at /dev/null of the container's at any moment.
    let dev = t.path("dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("null"), "").unwrap();
    symlink("/etc/passwd", dev.join("link")).unwrap();
    let swapper = Swapper::start(dev.join("null"), dev.join("link"));
    let c = t
        .container()
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .mount("/dev", "bind", dev.to_str().unwrap(), &["bind"])
        .set("/linux/maskedPaths", json!(["/etc/group"]))
        .sh("stat -c '%F %t:%T' /etc/group");
    for _ in 0..ROUNDS {
        let output = c.run();
        if output.code == Some(0) {
            output.prints("character special file 1:3\n");
        } else {
            output.not_ok();
        }
    }
    drop(swapper);
    t.assert_nothing_left();
}

fn a_copied_symlink_stays_in_the_root(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let decoy = Decoy::new(t);
    let source = t.path("source").display().to_string();
    symlink("/etc/shadow", &source).unwrap();
    for target in ["/link/new", "/link/file", "/link/sub/new"] {
        let c = t.container().mount(target, "bind", &source, &["bind", "copy-symlink"]);
        symlink(&decoy.dir, c.path("/link")).unwrap();
        decoy.survives(&c);
    }
}

fn a_covered_symlink_stays_in_the_root(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let decoy = Decoy::new(t);
    let source = t.path("source").display().to_string();
    fs::write(&source, "").unwrap();
    for target in ["/link/new", "/link/file", "/link/sub"] {
        let c = t.container().mount(target, "bind", &source, &["bind", "dest-nofollow"]);
        symlink(&decoy.dir, c.path("/link")).unwrap();
        decoy.survives(&c);
    }
}

fn a_source_in_the_root_that_is_swapped_all_the_time(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun resolve it on the host");
    let outside = t.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret of the host").unwrap();
    let c = t.container();
    fs::create_dir(c.path("/data")).unwrap();
    let source = c.path("/data").display().to_string();
    let swapper = swapped(&c, "/data", &outside);
    let c = c.mount("/mnt", "bind", &source, &["bind"]).sh("cat /mnt/secret 2>&1; ls /mnt");
    for _ in 0..ROUNDS {
        let output = c.run();
        assert!(!output.stdout.contains("secret of the host"), "{output}");
    }
    drop(swapper);
    t.assert_nothing_left();
}

fn a_read_only_path_that_is_swapped_all_the_time(t: &Test) {
    let decoy = Decoy::new(t);
    let c = t.container();
    fs::create_dir(c.path("/target")).unwrap();
    let swapper = swapped(&c, "/target", &decoy.dir);
    let c = c.set("/linux/readonlyPaths", json!(["/target"]));
    survives_all(&decoy, &c);
    drop(swapper);
    fs::write(decoy.dir.join("file"), "still writable").unwrap();
    t.assert_nothing_left();
}

fn a_proc_that_is_swapped_all_the_time(t: &Test) {
    // CVE-2019-19921 as a race: what is written to /proc/self and /proc/sys must not go to the image's files.
    let c = t.container();
    for file in ["self/oom_score_adj", "sys/net/ipv4/ip_forward", "self/attr/exec"] {
        let path = c.path("/fake").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let swapper = swapped(&c, "/proc", std::path::Path::new("/fake"));
    let c = c
        .set("/process/oomScoreAdj", json!(100))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
        .sh("cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward");
    for _ in 0..ROUNDS {
        // The mount moves along with its directory, so that the program may find the image's empty files at /proc.
        let output = c.run();
        let mut said = output.stdout.split_whitespace();
        assert!(said.all(|word| ["100", "1"].contains(&word)), "{output}");
    }
    drop(swapper);
    for file in ["self/oom_score_adj", "sys/net/ipv4/ip_forward", "self/attr/exec"] {
        let text = fs::read_to_string(c.path("/fake").join(file)).unwrap();
        assert_eq!(text, "", "{file} was written");
    }
    t.assert_nothing_left();
}

fn a_copied_up_directory_that_is_swapped_all_the_time(t: &Test) {
    let decoy = Decoy::new(t);
    fs::write(decoy.dir.join("file"), "secret of the host").unwrap();
    let c = t.container().mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]).sh("cat /data/sub/file");
    for dir in ["/data/sub", "/data/deep/er"] {
        fs::create_dir_all(c.path(dir)).unwrap();
        fs::write(c.path(dir).join("file"), "of the image").unwrap();
    }
    symlink(&decoy.dir, c.path("/swapped")).unwrap();
    let swapper = Swapper::start(c.path("/data/sub"), c.path("/swapped"));
    for _ in 0..ROUNDS {
        let output = c.run();
        assert!(!output.stdout.contains("secret"), "{output}");
    }
    drop(swapper);
    t.assert_nothing_left();
}

// --- a container that runs already, and defends itself ---

fn swapping_inside(t: &Test) -> Container<'_> {
    t.need(
        t.kind() == Kind::Skep,
        "runc has no such command, and crun is not told to survive this",
    );
    let c = t.container().sh(
        "mkdir -p /race/target /race/other; ln -s /proc/self /race/link; echo up > /ready; \
         while true; do mv /race/target /race/away; mv /race/link /race/target; \
         mv /race/target /race/link; mv /race/away /race/target; done",
    );
    c.run_detached();
    c.wait_file("/ready");
    c
}

fn a_mount_added_while_its_target_is_swapped(t: &Test) {
    let decoy = Decoy::new(t);
    let source = t.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("comm"), "false").unwrap();
    let c = swapping_inside(t);
    let host = crate::harness::test::host_mounts(t);
    let before = decoy.listing();
    let list = t.path("list");
    let one = json!([{"destination": "/race/target", "source": source, "options": ["bind"]}]);
    fs::write(&list, one.to_string()).unwrap();
    for _ in 0..ROUNDS {
        let output = t.call(&["mounts", "add", &c.id, list.to_str().unwrap()]).run();
        assert!(output.code.is_some(), "{output}");
        assert_eq!(crate::harness::test::host_mounts(t), host);
        // Never over /proc/self.
        c.exec(&["cat", "/proc/self/comm"]).ok().prints("cat\n");
    }
    assert_eq!(decoy.listing(), before);
    c.delete_force().ok();
    t.assert_nothing_left();
}

fn a_mount_removed_while_its_target_is_swapped(t: &Test) {
    let c = swapping_inside(t);
    let list = t.path("list");
    fs::write(&list, json!([{"destination": "/race/target"}]).to_string()).unwrap();
    let host = crate::harness::test::host_mounts(t);
    for _ in 0..ROUNDS {
        // Nothing is mounted there, or on what the link leads to.
        t.call(&["mounts", "remove", &c.id, list.to_str().unwrap()]).run().fails();
    }
    assert_eq!(crate::harness::test::host_mounts(t), host);
    c.exec(&["cat", "/proc/self/comm"]).ok().prints("cat\n");
    c.delete_force().ok();
    t.assert_nothing_left();
}
