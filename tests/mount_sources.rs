//! Sources and targets of bind mounts: symlinks on either side, sources inside the container, odd files; masks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::harness::runner::cases;
use crate::harness::{Kind, Output, Test, json};
use crate::mounts::{HostMount, host_dir, mountinfo, seen, showing};

cases![
    a_symlink_as_source_is_followed,
    copy_symlink_makes_the_link_anew,
    copy_symlink_of_something_else_is_a_bind_mount,
    copy_symlink_replaces_nothing,
    copy_symlink_and_nofollow_are_refused,
    src_nofollow_mounts_the_link_itself,
    dest_nofollow_covers_the_link_itself,
    nofollow_in_a_user_namespace,
    dest_nofollow_does_not_reach_into_proc,
    dangling_links_on_the_way_to_the_target,
    made_directories_inherit_the_group_bit,
    a_source_in_the_root_has_the_earlier_mounts,
    the_whole_tree_of_earlier_mounts_is_bound,
    a_source_in_the_root_stays_in_the_root,
    mountinfo_is_in_the_order_of_the_config,
    more_bind_mounts_than_open_files_in_a_user_namespace,
    a_low_soft_limit_of_open_files_in_a_user_namespace,
    a_low_hard_limit_of_open_files_is_named,
    a_recursive_bind_of_what_holds_the_root_is_the_hosts,
    links_to_what_holds_the_root_are_the_hosts,
    a_source_in_proc_is_the_hosts,
    links_into_proc_are_the_callers,
    what_is_shared_with_the_host_is_said_twice,
    a_destination_may_begin_with_the_path_of_the_root,
    a_fifo_and_a_socket_are_mounted,
    a_source_below_a_private_directory_in_a_user_namespace,
    masked_directories_share_one_file_system,
    a_path_masked_twice_is_masked_once,
    a_masked_path_that_is_missing_is_ignored,
    read_only_paths_keep_their_other_flags,
    a_read_only_path_of_a_file,
];

fn a_symlink_as_source_is_followed(t: &Test) {
    let dir = host_dir(t, "dir");
    symlink("file", format!("{dir}/link")).unwrap();
    t.container()
        .mount("/new/file", "bind", &format!("{dir}/link"), &["bind"])
        .sh("cat /new/file; stat -c %F /new/file")
        .run()
        .ok()
        .prints("from the host\nregular file\n");
}

fn copy_symlink_makes_the_link_anew(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let link = t.path("link").display().to_string();
    symlink("point/to/nowhere", &link).unwrap();
    let c = t
        .container()
        .mount("/a/new/link", "bind", &link, &["rbind", "copy-symlink"])
        .sh("readlink /a/new/link");
    // The second time it is there already.
    for _ in 0..2 {
        c.run().ok().prints("point/to/nowhere\n");
    }
}

fn copy_symlink_of_something_else_is_a_bind_mount(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    t.container()
        .mount("/new", "bind", &dir, &["rbind", "copy-symlink"])
        .mount("/file", "bind", &format!("{dir}/file"), &["rbind", "copy-symlink", "ro"])
        .sh("cat /new/file /file")
        .run()
        .ok()
        .prints("from the host\nfrom the host\n");
}

fn copy_symlink_replaces_nothing(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let link = t.path("link").display().to_string();
    symlink("elsewhere", &link).unwrap();
    let c = t.container().mount("/etc/passwd", "bind", &link, &["bind", "copy-symlink"]);
    c.run().fails().names("/etc/passwd");
    assert!(c.read("/etc/passwd").starts_with("root:"));
    let c = t.container().mount("/etc/x", "bind", &link, &["bind", "copy-symlink"]);
    symlink("another", c.path("/etc/x")).unwrap();
    c.run().fails().names("/etc/x");
    assert_eq!(fs::read_link(c.path("/etc/x")).unwrap().to_str(), Some("another"));
    t.assert_nothing_left();
}

fn copy_symlink_and_nofollow_are_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    for other in ["src-nofollow", "dest-nofollow"] {
        let c = t.container().mount("/mnt", "bind", &dir, &["bind", "copy-symlink", other]);
        c.run().fails().names("mounts[6].options");
    }
    t.assert_nothing_left();
}

fn src_nofollow_mounts_the_link_itself(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let link = t.path("link").display().to_string();
    symlink("point/to/nowhere", &link).unwrap();
    let c = t
        .container()
        .mount("/target", "bind", &link, &["bind", "src-nofollow", "dest-nofollow"])
        .sh("readlink /target");
    symlink("somewhere/else", c.path("/target")).unwrap();
    c.run().ok().prints("point/to/nowhere\n");
    assert_eq!(fs::read_link(c.path("/target")).unwrap().to_str(), Some("somewhere/else"));
}

fn dest_nofollow_covers_the_link_itself(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/target", "bind", &format!("{dir}/file"), &["bind", "dest-nofollow"])
        .sh("cat /target; stat -c %F /target; cat /etc/passwd | head -n 1 | cut -c 1-4");
    symlink("etc/passwd", c.path("/target")).unwrap();
    c.run().ok().prints("from the host\nregular file\nroot\n");
}

fn nofollow_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let dir = host_dir(t, "dir");
    let link = t.path("link").display().to_string();
    symlink("point/to/nowhere", &link).unwrap();
    let c = t
        .container()
        .user_namespace(231_072)
        .mount("/one", "bind", &link, &["bind", "src-nofollow", "dest-nofollow"])
        .mount("/two", "bind", &format!("{dir}/file"), &["bind", "dest-nofollow"])
        .sh("readlink /one; cat /two");
    for name in ["/one", "/two"] {
        symlink("dangling", c.path(name)).unwrap();
    }
    c.run().ok().prints("point/to/nowhere\nfrom the host\n");
}

fn dest_nofollow_does_not_reach_into_proc(t: &Test) {
    t.need(t.kind() == Kind::Skep, "options of crun's, newer than 1.8");
    let link = t.path("link").display().to_string();
    symlink("whatever", &link).unwrap();
    let options = ["bind", "src-nofollow", "dest-nofollow"];
    t.container().mount("/proc/self", "bind", &link, &options).run().fails().names("/proc/self");
    let c = t.container().mount("/way/self", "bind", &link, &options);
    symlink("proc", c.path("/way")).unwrap();
    c.run().fails();
    t.assert_nothing_left();
}

fn dangling_links_on_the_way_to_the_target(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1");
    let dir = host_dir(t, "dir");
    let file = format!("{dir}/file");
    let c = t
        .container()
        .mount("/etc/hosts", "bind", &file, &["bind"])
        .mount("/etc/dir", "bind", &dir, &["bind"])
        .sh("cat /tmp/foo/bar/baz/hosts /tmp/made/file");
    symlink("/tmp/foo/bar", c.path("/jump")).unwrap();
    symlink("/jump/baz/hosts", c.path("/etc/hosts")).unwrap();
    symlink("../tmp/made", c.path("/etc/dir")).unwrap();
    c.run().ok().prints("from the host\nfrom the host\n");
}

fn made_directories_inherit_the_group_bit(t: &Test) {
    let c = t.container().mount("/setgid/a/b", "tmpfs", "tmpfs", &["ro"]);
    fs::create_dir(c.path("/setgid")).unwrap();
    fs::set_permissions(c.path("/setgid"), fs::Permissions::from_mode(0o7755)).unwrap();
    c.run().ok();
    let mode = |path: &str| fs::metadata(c.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("/setgid"), mode("/setgid/a"), mode("/setgid/a/b")), (0o7755, 0o2755, 0o2755));
}

fn a_source_in_the_root_has_the_earlier_mounts(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun 1.8 opens sources first");
    let dir = host_dir(t, "dir");
    let c = t.container();
    let inside = c.path("/first").display().to_string();
    c.mount("/first", "bind", &dir, &["bind"])
        .mount("/second", "bind", &inside, &["bind"])
        .mount("/third", "bind", "rootfs/first/sub", &["bind"])
        .sh("cat /second/file; touch /third/new; ls /first/sub")
        .run()
        .ok()
        .prints("from the host\nnew\n");
}

/// runc's "mount order": trees of mounts bound into themselves, by symlinks, in a user namespace and not.
fn the_whole_tree_of_earlier_mounts_is_bound(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    for (letter, deep) in [("a", "x"), ("b", "y"), ("c", "z")] {
        let dir = t.path(&format!("source/{letter}/{deep}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), format!("{letter}/{deep}\n")).unwrap();
        symlink(letter, t.path(&format!("source/sym-{letter}"))).unwrap();
    }
    // Nobody but root may go there.
    fs::set_permissions(t.path("source"), fs::Permissions::from_mode(0o700)).unwrap();
    let source = t.path("source").display().to_string();
    for user_namespace in [false, true] {
        if user_namespace {
            t.need_user_namespaces();
        }
        let c = t.container();
        let c = if user_namespace { c.user_namespace(231_072) } else { c };
        for name in ["/mnt", "/final"] {
            fs::create_dir(c.path(name)).unwrap();
        }
        let at = |inside: &str| c.path(inside).display().to_string();
        let (x, y, mnt) = (at("/mnt/x"), at("/mnt/x/y"), at("/mnt"));
        let (in_x, in_y, last) = (at("/mnt/x/y/z/x"), at("/mnt/x/y/z"), at("/final"));
        c.mount("/mnt", "bind", &format!("{source}/a"), &["bind", "rprivate"])
            .mount("/mnt/x", "bind", &format!("{source}/sym-b"), &["bind", "rprivate"])
            .mount("/mnt/x/y", "bind", &format!("{source}/c"), &["bind", "rprivate"])
            .mount("/mnt/x/y/z", "bind", &format!("{source}/sym-a"), &["bind", "rprivate"])
            .mount(&in_x, "bind", &x, &["rbind", "rprivate"])
            .mount(&in_y, "bind", &y, &["rbind", "rprivate"])
            .mount(&last, "bind", &mnt, &["rbind", "rprivate"])
            .sh("cat /final/x/y/z/z/x/y/z/x/file")
            .run()
            .ok()
            .prints("a/x\n");
    }
}

fn a_source_in_the_root_stays_in_the_root(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun resolve it on the host");
    let outside = host_dir(t, "outside");
    let c = t.container();
    let inside = c.path("/link").display().to_string();
    symlink(&outside, c.path("/link")).unwrap();
    c.mount("/mnt", "bind", &inside, &["bind"]).run().fails().names("/link");
    t.assert_nothing_left();
}

/// runtime-tools' "mounts": the kernel lists mounts as they were made, since Linux 6.8.
fn mountinfo_is_in_the_order_of_the_config(t: &Test) {
    let dir = host_dir(t, "dir");
    let mut c = showing(t);
    let words = ["slave", "rslave", "private", "rprivate", "unbindable", "shared", "rshared"];
    for (n, word) in words.iter().cycle().take(300).enumerate() {
        let target = format!("/m/{n}");
        c = match n % 3 {
            0 => c.mount(&target, "tmpfs", "tmpfs", &["size=4k", word]),
            1 => c.mount(&target, "bind", &dir, &["rbind", word, "ro"]),
            _ => c.mount(&target, "bind", &format!("{dir}/file"), &["bind", word]),
        };
    }
    let text = mountinfo(&c);
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)?.strip_prefix("/m/"));
    let found: Vec<usize> = points.map(|point| point.parse().unwrap()).collect();
    assert_eq!(found, Vec::from_iter(0..300), "{text}");
}

/// There the runtime opens all sources before the container is there.
fn more_bind_mounts_than_open_files_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let dir = host_dir(t, "dir");
    let mut c = t.container().user_namespace(231_072);
    fs::create_dir(c.path("/m")).unwrap();
    fs::set_permissions(c.path("/m"), fs::Permissions::from_mode(0o777)).unwrap();
    for n in 0..1_300 {
        c = c.mount(&format!("/m/{n}"), "bind", &dir, &["rbind", "ro"]);
    }
    let c = c.sh("grep -c ' /m/' /proc/self/mountinfo; ulimit -Sn; cat /m/1299/file");
    let few = ["sh", "-c", "ulimit -S -n 1024; exec \"$@\"", "sh"];
    c.bundle_call("run", &[]).by(&few).run().ok().prints("1300\n1024\nfrom the host\n");
}

/// 240 volumes in a user namespace, by a caller with these limits of open files.
fn with_limits(t: &Test, soft: u32, hard: u32) -> Output {
    t.need_user_namespaces();
    let dir = host_dir(t, "dir");
    let mut c = t.container().user_namespace(231_072).unset("/process/rlimits");
    fs::create_dir(c.path("/m")).unwrap();
    fs::set_permissions(c.path("/m"), fs::Permissions::from_mode(0o777)).unwrap();
    for n in 0..240 {
        c = c.mount(&format!("/m/{n}"), "bind", &dir, &["rbind", "ro"]);
    }
    let c = c.sh("grep -c ' /m/' /proc/self/mountinfo; ulimit -Sn; cat /m/239/file");
    let few = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$@\"");
    c.bundle_call("run", &[]).by(&["sh", "-c", &few, "sh"]).run()
}

fn a_low_soft_limit_of_open_files_in_a_user_namespace(t: &Test) {
    with_limits(t, 200, 20_000).ok().prints("240\n200\nfrom the host\n");
}

fn a_low_hard_limit_of_open_files_is_named(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the words are ours");
    with_limits(t, 200, 200).fails().one_line().names("mounts[").names("ulimit -Hn");
    t.assert_nothing_left();
}

fn a_recursive_bind_of_what_holds_the_root_is_the_hosts(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun show the container in itself");
    let c = t.container();
    let above = c.dir.display().to_string();
    c.mount("/a", "tmpfs", "tmpfs", &[])
        .mount("/host", "bind", &above, &["rbind"])
        .mount("/again", "bind", &format!("{above}/.."), &["rbind"])
        .sh("touch /a/seen; ls /host/rootfs/a; cut -d ' ' -f 5 /proc/self/mountinfo | grep -E '^/(host|again)'")
        .run()
        .ok()
        .prints("/host\n/again\n");
}

fn links_to_what_holds_the_root_are_the_hosts(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun show the container in itself");
    for root_is_linked in [false, true] {
        let c = t.container();
        let [link, chain] = ["link", "chain"].map(|name| {
            let path = c.dir.join(name);
            symlink(if name == "link" { "." } else { "link" }, &path).unwrap();
            path.display().to_string()
        });
        let dir = c.dir.display().to_string();
        symlink("..", c.dir.join("above")).unwrap();
        let (root, first) = if root_is_linked {
            (format!("{link}/rootfs"), dir.clone())
        } else {
            ("rootfs".to_owned(), link)
        };
        let shown = format!("^/(host|again|up|magic.*/{}/rootfs)", c.id);
        c.set("/root/path", json!(root))
            .mount("/a", "tmpfs", "tmpfs", &[])
            .mount("/host", "bind", &first, &["rbind"])
            .mount("/again", "bind", &chain, &["rbind"])
            .mount("/up", "bind", &format!("{dir}/above"), &["rbind"])
            .mount("/magic", "bind", "/proc/self/root", &["rbind"])
            .sh(&format!("touch /a/seen; ls /host/rootfs/a; cut -d ' ' -f 5 /proc/self/mountinfo | grep -E '{shown}'"))
            .run()
            .ok()
            .prints("/host\n/again\n/up\n");
    }
}

/// Where the caller's descriptors lead, or another process, init would find its own, or what it may not clone.
fn links_into_proc_are_the_callers(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun look in the container's mount namespace");
    let dir = host_dir(t, "dir");
    let other = t.path("other").display().to_string();
    symlink(format!("/proc/{}/root{dir}", std::process::id()), &other).unwrap();
    let c = t
        .container()
        .mount("/in", "bind", "/dev/stdin", &["bind"])
        .mount("/in-too", "bind", "/dev/fd/0", &["rbind"])
        .mount("/other", "bind", &other, &["rbind"])
        .sh("cat /in /in-too /other/file");
    let fed = format!("exec \"$@\" <{dir}/file");
    let output = c.bundle_call("run", &[]).by(&["sh", "-c", &fed, "sh"]).run().ok();
    output.prints("from the host\nfrom the host\nfrom the host\n");
}

fn a_source_in_proc_is_the_hosts(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun look with the container's namespaces");
    let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
    t.container()
        .mount("/net", "bind", "/proc/self/ns/net", &["bind"])
        .sh("stat -c %i /net")
        .run()
        .ok()
        .prints(&format!("{own}\n"));
}

/// What is mounted on a shared mount inside reaches the host if the root's propagation is shared as well: runc's rule.
fn what_is_shared_with_the_host_is_said_twice(t: &Test) {
    let dir = host_dir(t, "dir");
    let outer = HostMount::bind(t, &dir);
    outer.make("shared");
    for (root, reaches) in [("rslave", false), ("rprivate", false), ("rshared", true)] {
        let c = t
            .container()
            .mount("/mnt", "bind", &dir, &["rbind", "rshared"])
            .with_capabilities(&["CAP_SYS_ADMIN"])
            .set("/linux/rootfsPropagation", json!(root))
            .sh("mount -t tmpfs tmpfs /mnt/sub && echo inside > /mnt/sub/new");
        c.run().ok();
        let inner = reaches.then(|| HostMount(format!("{dir}/sub")));
        assert_eq!(fs::exists(format!("{dir}/sub/new")).unwrap(), reaches, "{root}");
        drop(inner);
    }
}

fn a_destination_may_begin_with_the_path_of_the_root(t: &Test) {
    t.need(t.kind() != Kind::Crun, "runc's rule");
    let dir = host_dir(t, "dir");
    let c = t.container();
    let inside = c.path("/deep/mnt").display().to_string();
    let c = c.mount(&inside, "bind", &dir, &["bind"]).sh("cat /deep/mnt/file");
    c.run().ok().prints("from the host\n");
}

fn a_fifo_and_a_socket_are_mounted(t: &Test) {
    let fifo = t.path("fifo").display().to_string();
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = t.path("socket");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut c = t.container();
    for options in [&["bind"][..], &["bind", "ro"], &["rbind", "rprivate"]] {
        c = c.mount("/one", "bind", &fifo, options).mount(
            "/two",
            "bind",
            path.to_str().unwrap(),
            options,
        );
    }
    c.sh("stat -c %F /one /two").run().ok().prints("fifo\nsocket\n");
    drop(socket);
}

fn a_source_below_a_private_directory_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let dir = host_dir(t, "private/dir");
    fs::set_permissions(t.path("private"), fs::Permissions::from_mode(0o700)).unwrap();
    let c = t.container().user_namespace(231_072);
    fs::create_dir(c.path("/mnt")).unwrap();
    let c = c.mount("/mnt", "bind", &dir, &["rbind", "ro"]).sh("cat /mnt/file");
    t.need(t.kind() != Kind::Runc, "newer than runc 1.1");
    c.run().ok().prints("from the host\n");
}

// --- masked and read-only paths ---

fn masked_directories_share_one_file_system(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let c = t
        .container()
        .set("/linux/maskedPaths", json!(["/one", "/two", "/three", "/etc/passwd"]))
        .sh("stat -c %d /one /two /three | uniq | wc -l; ls -A /one /two /three; touch /one/x; \
             cat /etc/passwd; stat -c '%F %t:%T' /etc/passwd");
    for name in ["/one", "/two", "/three"] {
        fs::create_dir(c.path(name)).unwrap();
        fs::write(c.path(name).join("secret"), "").unwrap();
    }
    let output = c.run().ok();
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    output.prints("1\n/one:\n\n/three:\n\n/two:\ncharacter special file 1:3\n");
}

fn a_path_masked_twice_is_masked_once(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let c = showing(t).set(
        "/linux/maskedPaths",
        json!(["/etc/passwd", "/home", "/etc//passwd", "/home/", "/home/../home"]),
    );
    let text = mountinfo(&c);
    for point in ["/etc/passwd", "/home"] {
        let found = text.lines().filter(|line| line.split(' ').nth(4) == Some(point)).count();
        assert_eq!(found, 1, "{point}: {text}");
    }
}

fn a_masked_path_that_is_missing_is_ignored(t: &Test) {
    let c = t
        .container()
        .set("/linux/maskedPaths", json!(["/not/there", "/etc/passwd/below", "/bin/sh/x"]))
        .set("/linux/readonlyPaths", json!(["/not/there", "/etc/passwd/below"]))
        .sh("ls /not 2>&1 | grep -c No");
    c.run().ok().prints("1\n");
}

fn read_only_paths_keep_their_other_flags(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = showing(t)
        .mount("/mnt", "bind", &dir, &["bind", "nosuid", "nodev", "noexec", "noatime"])
        .mount("/mnt/sub", "tmpfs", "tmpfs", &["nosuid"])
        .set("/linux/readonlyPaths", json!(["/mnt", "/mnt/sub", "/mnt"]));
    let text = mountinfo(&c);
    let mount = seen(&text, "/mnt");
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(mount.has(option), "{option}: {text}");
    }
    let below = seen(&text, "/mnt/sub");
    assert!(below.has("ro") && below.has("nosuid"), "{text}");
}

fn a_read_only_path_of_a_file(t: &Test) {
    let c = t
        .container()
        .set("/linux/readonlyPaths", json!(["/etc/passwd"]))
        .sh("echo x > /etc/passwd; head -n 1 /etc/passwd | cut -c 1-4; echo y > /etc/group");
    let output = c.run().ok();
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    assert_eq!((output.stdout.as_str(), c.read("/etc/group").as_str()), ("root\n", "y\n"));
}
