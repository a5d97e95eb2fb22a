//! root, the propagation of mounts, what the host sees of them, and what fsconfig(2) cannot mount.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json};
use crate::mounts::{HostMount, host_dir, mountinfo, seen, showing};

cases![
    propagation_of_a_mount_is_set,
    each_propagation_word_is_known,
    root_propagation_is_set,
    a_private_root_hides_later_host_mounts,
    a_slave_root_sees_later_host_mounts,
    a_shared_mount_reaches_the_host,
    the_host_sees_none_of_the_mounts,
    the_root_is_read_only,
    the_root_is_writable_by_default,
    a_read_only_root_still_gets_its_mount_points,
    a_root_may_be_an_absolute_path,
    a_root_may_be_reached_through_a_symlink_in_its_parents,
    a_root_on_a_shared_mount_works,
    no_pivot_works,
    no_pivot_leaves_no_bare_proc,
    no_pivot_leaves_no_bare_proc_of_an_odd_name,
    no_pivot_leaves_no_bare_proc_in_a_user_namespace,
    no_pivot_leaves_no_proc_that_came_meanwhile,
    no_pivot_receives_no_proc_that_comes_later,
    no_pivot_keeps_nothing_of_the_host_mounted,
    no_pivot_keeps_what_protects_procfs,
    the_old_root_is_out_of_reach,
    an_overlay_with_long_options_is_mounted,
    an_overlay_with_long_options_may_be_the_root,
    relative_overlay_directories_mean_the_same_however_long,
    a_tmpfs_with_a_long_source_is_mounted,
    iversion_is_accepted,
    options_longer_than_the_kernel_takes_are_refused,
];

fn propagation_of_a_mount_is_set(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = showing(t)
        .mount("/shared", "bind", &dir, &["rbind", "shared"])
        .mount("/private", "bind", &dir, &["rbind", "private"])
        .mount("/unbindable", "tmpfs", "tmpfs", &["unbindable"]);
    let text = mountinfo(&c);
    assert!(seen(&text, "/shared").optional.contains("shared:"), "{text}");
    assert_eq!(seen(&text, "/private").optional, "");
    assert_eq!(seen(&text, "/unbindable").optional, "unbindable");
}

fn each_propagation_word_is_known(t: &Test) {
    for word in
        ["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"]
    {
        t.container().mount("/mnt", "tmpfs", "tmpfs", &[word]).run().ok();
    }
}

fn root_propagation_is_set(t: &Test) {
    for (word, expected) in [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let c = showing(t).set("/linux/rootfsPropagation", json!(word));
        let text = mountinfo(&c);
        let optional = seen(&text, "/").optional;
        assert!(
            if expected.is_empty() { optional.is_empty() } else { optional.contains(expected) },
            "{word}: {optional:?}"
        );
    }
    for word in ["slave", "rslave"] {
        showing(t).set("/linux/rootfsPropagation", json!(word)).run().ok();
    }
    t.container()
        .set("/linux/rootfsPropagation", json!("nonsense"))
        .run()
        .fails()
        .names("nonsense");
    t.assert_nothing_left();
}

/// A container with a shared mount of the host's at /mnt; on the host something is mounted below it afterwards.
fn later_host_mount(t: &Test, propagation: &str) -> Output {
    let dir = host_dir(t, "dir");
    let outer = HostMount::bind(t, &dir);
    outer.make("shared");
    let c = t.container().mount("/mnt", "bind", &dir, &["rbind", propagation]).lasting();
    c.run_detached();
    let _inner = HostMount::tmpfs(t, &format!("{dir}/sub"));
    fs::write(format!("{dir}/sub/later"), "later\n").unwrap();
    let output = c.exec(&["ls", "/mnt/sub"]).ok();
    c.delete_force().ok();
    output
}

fn a_private_root_hides_later_host_mounts(t: &Test) {
    later_host_mount(t, "rprivate").prints("");
}

fn a_slave_root_sees_later_host_mounts(t: &Test) {
    later_host_mount(t, "rslave").prints("later\n");
}

fn a_shared_mount_reaches_the_host(t: &Test) {
    let dir = host_dir(t, "dir");
    let outer = HostMount::bind(t, &dir);
    outer.make("shared");
    let c = t
        .container()
        .mount("/mnt", "bind", &dir, &["rbind", "rshared"])
        .with_capabilities(&["CAP_SYS_ADMIN"])
        .set("/linux/rootfsPropagation", json!("rshared"))
        .sh("mount -t tmpfs tmpfs /mnt/sub && echo inside > /mnt/sub/new");
    c.run().ok();
    let inner = HostMount(format!("{dir}/sub"));
    assert_eq!(fs::read_to_string(format!("{dir}/sub/new")).unwrap(), "inside\n");
    drop(inner);
}

fn the_host_sees_none_of_the_mounts(t: &Test) {
    let c = t.container().mount("/mnt", "tmpfs", "tmpfs", &[]).lasting();
    c.create();
    let inside = c.rootfs().display().to_string();
    let mounts = || {
        crate::harness::test::mount_points()
            .into_iter()
            .filter(|point| point.starts_with(&inside))
            .count()
    };
    assert_eq!(mounts(), 0);
    c.start().ok();
    assert_eq!(mounts(), 0);
}

fn the_root_is_read_only(t: &Test) {
    let c = t
        .container()
        .set("/root/readonly", json!(true))
        .sh("touch /x; touch /etc/x; touch /dev/x && echo dev");
    let output = c.run().ok();
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output}");
    assert_eq!(output.stdout, "dev\n");
}

fn the_root_is_writable_by_default(t: &Test) {
    let c = t.container().unset("/root/readonly").sh("echo written > /x");
    c.run().ok();
    assert_eq!(c.read("/x"), "written\n");
}

fn a_read_only_root_still_gets_its_mount_points(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .set("/root/readonly", json!(true))
        .mount("/not/there", "bind", &dir, &["bind"])
        .set("/process/cwd", json!("/new/cwd"))
        .sh("cat /not/there/file; pwd");
    c.run().ok().prints("from the host\n/new/cwd\n");
}

fn a_root_may_be_an_absolute_path(t: &Test) {
    let c = t.container().sh("echo hello");
    let path = c.rootfs().display().to_string();
    let c = c.set("/root/path", json!(path));
    c.run().ok().prints("hello\n");
}

fn a_root_may_be_reached_through_a_symlink_in_its_parents(t: &Test) {
    let c = t.container().sh("echo hello");
    symlink(&c.dir, t.path("link")).unwrap();
    c.write();
    let bundle = t.path("link");
    t.call(&["run", "--bundle", bundle.to_str().unwrap(), &c.id]).run().ok().prints("hello\n");
}

fn a_root_on_a_shared_mount_works(t: &Test) {
    let c = t.container().sh("echo hello");
    let root = HostMount::bind(t, &c.rootfs().display().to_string());
    root.make("rshared");
    c.run().ok().prints("hello\n");
    drop(root);
    t.assert_nothing_left();
}

fn no_pivot_works(t: &Test) {
    let c = t.container().sh("echo hello; ls /");
    let output = c.bundle_call("run", &["--no-pivot"]).run().ok();
    assert!(output.stdout.starts_with("hello\nbin\n"), "{output}");
}

/// Of the two a bare one could be made by whoever may make a user namespace: the kernel only asks that one is visible.
fn no_pivot_leaves_no_bare_proc(t: &Test) {
    let c = t.container().sh("cat /proc/self/mountinfo");
    let output = c.bundle_call("run", &["--no-pivot"]).run().ok();
    for kind in [" - proc ", " - sysfs "] {
        let points: Vec<_> = output.stdout.lines().filter(|line| line.contains(kind)).collect();
        assert!(points.iter().all(|line| [" /proc", " /sys"].iter().any(|own| line.contains(own))));
        assert!(points.len() < 20, "{points:?}");
    }
    no_bare_proc_is_made(t);
}

/// Mapping the root of the container takes CAP_SETFCAP.
#[track_caller]
fn no_bare_proc_is_made(t: &Test) {
    let c = t.container().with_capabilities(&["CAP_SETFCAP"]);
    let c = c.sh("unshare -Urpfm mount -t proc none /mnt 2>&1; true");
    std::fs::create_dir_all(c.path("/mnt")).unwrap();
    let output = c.bundle_call("run", &["--no-pivot"]).run().ok();
    assert!(output.stdout.starts_with("mount: permission denied"), "{output}");
}

/// Whatever the host calls the directory it is mounted on, whose name the kernel writes in its own way.
fn no_pivot_leaves_no_bare_proc_of_an_odd_name(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 compares the names as they are written");
    let proc = HostMount::proc(t, t.path("a b\\040\tc").to_str().unwrap());
    no_bare_proc_is_made(t);
    drop(proc);
    t.assert_nothing_left();
}

/// There the host's mounts are locked, so they can only be covered.
fn no_pivot_leaves_no_bare_proc_in_a_user_namespace(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun 1.8 leaves them");
    let c = t.container().user_namespace(200_000).with_capabilities(&["CAP_SETFCAP"]).sh(BARE);
    let dir = t.path("proc").display().to_string();
    let proc = HostMount::proc(t, &dir);
    // As in a container: a file cannot be covered by a directory.
    let below = ["sys", "stat"].map(|name| HostMount::bind(t, &format!("{dir}/{name}")));
    std::fs::create_dir_all(c.path("/mnt")).unwrap();
    c.bundle_call("run", &["--no-pivot"]).run().ok().prints(DENIED);
    drop((below, proc));
    t.assert_nothing_left();
}

/// Makes a bare one where the kernel lets it.
const BARE: &str = "unshare -Urpfm mount -t proc none /mnt 2>&1 | grep -c denied";
const DENIED: &str = "1\n";

/// A container that would make one, and where a host may mount another.
fn beside_a_proc(t: &Test) -> (Container<'_>, String) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 look too early");
    t.need_capability("CAP_SYS_ADMIN");
    t.need_program("unshare");
    let c = t.container().with_capabilities(&["CAP_SETFCAP"]);
    let dir = t.path("dir with proc");
    for dir in [&c.path("/mnt"), &dir] {
        fs::create_dir_all(dir).unwrap();
    }
    (c, dir.display().to_string())
}

/// Words that run a script in a mount namespace where everything is shared, as systemd leaves a host. `$@` is the call.
fn shared(script: &str) -> [&str; 7] {
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
}

fn no_pivot_leaves_no_proc_that_came_meanwhile(t: &Test) {
    let (c, dir) = beside_a_proc(t);
    // Init waits for the hook, with its own copy of the host's mounts.
    let c = c.hook("createRuntime", &format!("exec mount -t proc none '{dir}'")).sh(BARE);
    let words = shared("mount --make-rshared / && exec \"$@\"");
    let words = [&words[..], &["sh"]].concat();
    c.bundle_call("run", &["--no-pivot"]).by(&words).run().ok().prints(DENIED);
    t.assert_nothing_left();
}

fn no_pivot_receives_no_proc_that_comes_later(t: &Test) {
    let (c, dir) = beside_a_proc(t);
    let c = c.sh(&format!("{BARE} > /found"));
    let pid_file = c.dir.join("pid").display().to_string();
    let script = format!(
        "mount --make-rshared / && \"$@\" && mount -t proc none '{dir}' && exec '{}' --root '{}' start {}",
        t.runtime.path.display(),
        t.root.display(),
        c.id
    );
    let words = [&shared(&script)[..], &["sh"]].concat();
    c.bundle_call("create", &["--no-pivot", "--pid-file", &pid_file]).by(&words).run().ok();
    c.wait_exit();
    assert_eq!(c.read("/found"), DENIED);
    c.delete().ok();
    t.assert_nothing_left();
}

/// It would be busy as long as the container lives, whatever the host unmounts.
fn no_pivot_keeps_nothing_of_the_host_mounted(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 keep all but procfs and sysfs");
    t.need_program("nsenter");
    let dir = t.path("dir").display().to_string();
    let outer = HostMount::tmpfs(t, &dir);
    // One over the other, and one that is hidden by both.
    let hidden = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let inner = HostMount::tmpfs(t, &dir);
    let c = t.container().lasting();
    c.bundle_call(
        "run",
        &["--no-pivot", "--detach", "--pid-file", c.dir.join("pid").to_str().unwrap()],
    )
    .run()
    .ok();
    let inside = |words: &[&str]| {
        let file = format!("--mount=/proc/{}/ns/mnt", c.pid());
        let mut command = std::process::Command::new("nsenter");
        let output = crate::harness::reaper::output(command.arg(file).args(words)).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    inside(&["/bin/busybox", "umount", "-l", "/"]);
    // Whoever comes now comes to the root of the host.
    let seen = inside(&["sh", "-c", "mount -t proc none /proc && cat /proc/self/mountinfo"]);
    assert_eq!(seen.lines().count(), 2, "{seen}");
    c.delete_force().ok();
    drop((inner, hidden, outer));
    t.assert_nothing_left();
}

/// What the host has mounted in the root is under the container's own by the time the host's mounts are taken away.
fn no_pivot_keeps_what_protects_procfs(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc 1.1 takes away the container's own");
    let c = t.container().sh("echo mine > /proc/sys/kernel/domainname || echo refused");
    let proc = HostMount::proc(t, &c.path("/proc").display().to_string());
    let output = c.bundle_call("run", &["--no-pivot"]).run().ok();
    assert_eq!(output.stdout, "refused\n", "{output}");
    drop(proc);
    t.assert_nothing_left();
}

fn the_old_root_is_out_of_reach(t: &Test) {
    let c = showing(t);
    let text = mountinfo(&c);
    let dir = t.dir.display().to_string();
    for line in text.lines() {
        let point = line.split(' ').nth(4).unwrap();
        assert!(!point.starts_with(&dir) && !point.contains("old"), "{line}");
    }
    // The number of mounts is that of the config: root, mounts, masked and read-only paths.
    assert!(text.lines().count() < 30, "{text}");
}

/// fsconfig(2) takes 255 bytes for a value; Podman's `:O` volumes and BuildKit's mounts have more.
fn an_overlay_with_long_options_is_mounted(t: &Test) {
    let base = t.path("layers").display().to_string();
    let _tmpfs = HostMount::tmpfs(t, &base);
    let layer = |letter: char| format!("{base}/{}", letter.to_string().repeat(150));
    let (one, two, upper, work) = (layer('a'), layer('b'), layer('u'), layer('w'));
    for dir in [&one, &two, &upper, &work] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(format!("{one}/one"), "1\n").unwrap();
    fs::write(format!("{two}/two"), "2\n").unwrap();
    let options =
        [format!("lowerdir={one}:{two}"), format!("upperdir={upper}"), format!("workdir={work}")];
    let [lower, upper_option, work_option] = options.each_ref().map(String::as_str);
    let c = t
        .container()
        .mount("/mnt/new", "overlay", "overlay", &[lower, upper_option, work_option, "nosuid", "noexec"])
        .mount("/mnt/new/sub", "tmpfs", "tmpfs", &["size=1m"])
        .mount("/ro", "overlay", "overlay", &[lower, "ro", "nodev", "shared"])
        .sh("cat /mnt/new/one /mnt/new/two /ro/two; echo 3 > /mnt/new/three; echo 4 > /ro/four; cat /proc/self/mountinfo");
    let output = c.run().ok();
    assert!(output.stdout.starts_with("1\n2\n2\n"), "{output}");
    assert_eq!(fs::read_to_string(format!("{upper}/three")).unwrap(), "3\n");
    assert!(!std::path::Path::new(&format!("{one}/four")).exists());
    let new = seen(&output.stdout, "/mnt/new");
    assert!(new.has("nosuid") && new.has("noexec") && new.has("rw"), "{output}");
    assert_eq!((new.kind.as_str(), new.optional.as_str()), ("overlay", ""));
    let ro = seen(&output.stdout, "/ro");
    assert!(ro.has("ro") && ro.has("nodev") && ro.optional.contains("shared:"), "{output}");
    assert_eq!(seen(&output.stdout, "/mnt/new/sub").kind, "tmpfs");
}

/// What mount(2) mounts has to be found again: there is no path to a mount on the root.
fn an_overlay_with_long_options_may_be_the_root(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun 1.8 mounts nothing on the root");
    let c = t.container().file("/of-the-image", "1\n", 0o644);
    let base = t.path("layers").display().to_string();
    let layers = HostMount::tmpfs(t, &base);
    let layer = |letter: char| format!("{base}/{}", letter.to_string().repeat(150));
    let (one, two, upper, work) = (layer('a'), layer('b'), layer('u'), layer('w'));
    for dir in [&one, &two, &upper, &work] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(format!("{one}/of-the-layer"), "2\n").unwrap();
    let lower = format!("lowerdir={one}:{two}:{}", c.rootfs().display());
    let (upper_option, work_option) = (format!("upperdir={upper}"), format!("workdir={work}"));
    let overlay = json!({"destination": "/", "type": "overlay", "source": "overlay",
        "options": [lower, upper_option, work_option]});
    let mut mounts = c.config.pointer("/mounts").unwrap().as_array().unwrap().clone();
    mounts.insert(0, overlay);
    let c = c.set("/mounts", json!(mounts.clone()));
    let c = c.sh("cat /of-the-image /of-the-layer; echo 3 >/new; cat /proc/self/mountinfo; test -c /dev/null");
    let shown = c.run().ok().stdout;
    assert!(shown.starts_with("1\n2\n"), "{shown}");
    assert_eq!(seen(&shown, "/").kind, "overlay");
    assert_eq!(seen(&shown, "/proc").kind, "proc");
    assert_eq!(fs::read_to_string(format!("{upper}/new")).unwrap(), "3\n");
    let c = t.container().set("/mounts", json!(mounts)).set("/root/readonly", json!(true));
    c.sh("! echo x >/sealed && cat /new").run().ok().prints("3\n");
    drop(layers);
    t.assert_nothing_left();
}

/// Both are relative to the bundle, whichever system call mounts.
fn relative_overlay_directories_mean_the_same_however_long(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc is in the root by then");
    for name in ["short".to_owned(), "l".repeat(250)] {
        let c = t.container();
        for layer in [&name, "other"] {
            fs::create_dir(c.dir.join(layer)).unwrap();
        }
        fs::write(c.dir.join(&name).join("file"), "of the layer\n").unwrap();
        let c = c
            .mount("/mnt", "overlay", "overlay", &[&format!("lowerdir={name}:other")])
            .sh("cat /mnt/file");
        c.run().ok().prints("of the layer\n");
    }
}

fn a_tmpfs_with_a_long_source_is_mounted(t: &Test) {
    let source = "s".repeat(300);
    let c = t
        .container()
        .file("/data/file", "content\n", 0o640)
        .mount("/data", "tmpfs", &source, &["tmpcopyup", "size=64k", "sync", "ro"])
        .sh("cat /data/file; stat -c %a /data /data/file; cat /proc/self/mountinfo");
    fs::set_permissions(c.path("/data"), fs::Permissions::from_mode(0o1770)).unwrap();
    let output = c.run().ok();
    if t.kind() == Kind::Skep {
        assert!(output.stdout.starts_with("content\n1770\n640\n"), "{output}");
    }
    assert!(output.stdout.contains(&format!(" - tmpfs {source} ")), "{output}");
    let data = seen(&output.stdout, "/data");
    assert!(data.has("ro") && data.superblock.contains("size=64k"), "{output}");
}

fn iversion_is_accepted(t: &Test) {
    let c = showing(t).mount("/with", "tmpfs", "tmpfs", &["iversion", "size=64k", "nosuid"]).mount(
        "/without",
        "tmpfs",
        "tmpfs",
        &["noiversion", "size=64k"],
    );
    let text = mountinfo(&c);
    assert!(seen(&text, "/with").has("nosuid"), "{text}");
    assert!(seen(&text, "/without").superblock.contains("size=64k"), "{text}");
}

fn options_longer_than_the_kernel_takes_are_refused(t: &Test) {
    let lower = format!("lowerdir=/{}", ["x"; 2100].join("/"));
    let c = t.container().mount("/mnt", "overlay", "overlay", &[&lower]);
    let output = c.run().fails();
    if t.kind() == Kind::Skep {
        // In place of what the kernel would say to the half of it.
        output.names("argument list too long");
    }
    t.assert_nothing_left();
}
