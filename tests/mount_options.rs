//! Options of mounts: attributes, recursive ones, propagation, remounts; read back from mountinfo inside.

use std::fs;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json};
use crate::mounts::{HostMount, host_dir, mountinfo, seen, showing};

cases![
    bind_options_are_set,
    contrary_options_the_last_wins,
    access_time_options_are_set,
    recursive_read_only_reaches_submounts,
    recursive_read_only_works_for_a_file,
    recursive_options_are_set,
    plain_read_only_does_not_reach_submounts,
    a_remount_changes_a_mount,
    nosymfollow_is_set,
    every_attribute_is_set_and_cleared,
    every_recursive_attribute_is_set_and_cleared,
    recursive_options_reach_a_new_file_system,
    access_times_of_the_mounts_below,
    bind_after_rbind_is_still_recursive,
    propagation_words_are_applied_in_order,
    options_without_effect_are_accepted,
    sync_options_reach_the_file_system,
    a_remount_of_a_file_system_changes_its_size,
    a_remount_of_nothing_is_refused,
    a_remount_with_long_options,
    one_string_with_several_options,
    locked_flags_stay_in_a_user_namespace,
    a_bind_mount_without_options_keeps_those_of_its_source,
    a_bind_mount_with_options_is_like_a_new_one,
    access_times_of_a_bind_mount_stay_unless_chosen,
    a_user_namespace_keeps_what_it_could_not_clear,
    a_user_namespace_cannot_clear_by_name,
    a_read_only_dev_still_gets_its_devices,
    a_mount_in_a_read_only_tmpfs,
    a_mount_label_without_selinux_is_ignored_aloud,
    an_unknown_kind_of_mount_context_is_refused,
];

fn bind_options_are_set(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = showing(t).mount(
        "/mnt",
        "bind",
        &dir,
        &["bind", "nosuid", "nodev", "noexec", "ro", "noatime"],
    );
    let mount = seen(&mountinfo(&c), "/mnt");
    for option in ["nosuid", "nodev", "noexec", "ro", "noatime"] {
        assert!(mount.has(option), "{option}: {:?}", mount.options);
    }
    let c = showing(t).mount("/mnt", "bind", &dir, &["bind"]);
    let mount = seen(&mountinfo(&c), "/mnt");
    // Without options it keeps those of the mount its source lies in.
    let source = statvfs(dir.as_str()).unwrap().flags();
    for (option, flag) in [
        ("nosuid", FsFlags::ST_NOSUID),
        ("nodev", FsFlags::ST_NODEV),
        ("noexec", FsFlags::ST_NOEXEC),
        ("ro", FsFlags::ST_RDONLY),
        ("noatime", FsFlags::ST_NOATIME),
    ] {
        assert_eq!(mount.has(option), source.contains(flag), "{option}: {:?}", mount.options);
    }
}

fn contrary_options_the_last_wins(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = showing(t)
        .mount(
            "/mnt",
            "bind",
            &dir,
            &["bind", "ro", "rw", "nosuid", "suid", "exec", "noexec", "nodev", "dev"],
        )
        .mount("/run", "tmpfs", "tmpfs", &["ro", "rw", "noexec", "exec", "dev", "nodev"]);
    let text = mountinfo(&c);
    let mount = seen(&text, "/mnt");
    assert!(
        mount.has("rw") && mount.has("noexec") && !mount.has("nosuid") && !mount.has("nodev"),
        "{:?}",
        mount.options
    );
    let mount = seen(&text, "/run");
    assert!(mount.has("rw") && !mount.has("noexec") && mount.has("nodev"), "{:?}", mount.options);
}

fn access_time_options_are_set(t: &Test) {
    let c = showing(t)
        .mount("/a", "tmpfs", "tmpfs", &["noatime"])
        .mount("/b", "tmpfs", "tmpfs", &["relatime"])
        .mount("/c", "tmpfs", "tmpfs", &["strictatime"])
        .mount("/d", "tmpfs", "tmpfs", &["nodiratime"])
        .mount("/e", "tmpfs", "tmpfs", &[]);
    let text = mountinfo(&c);
    assert!(seen(&text, "/a").has("noatime"));
    assert!(seen(&text, "/b").has("relatime"));
    let strict = seen(&text, "/c");
    assert!(!strict.has("relatime") && !strict.has("noatime"), "{:?}", strict.options);
    assert!(seen(&text, "/d").has("nodiratime"));
    assert!(seen(&text, "/e").has("relatime"));
}

fn recursive_read_only_reaches_submounts(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let c = showing(t).mount("/mnt", "bind", &dir, &["rbind", "rro"]);
    let text = mountinfo(&c);
    assert!(seen(&text, "/mnt").has("ro") && seen(&text, "/mnt/sub").has("ro"), "{text}");
}

fn recursive_read_only_works_for_a_file(t: &Test) {
    // Docker asks for it on /etc/resolv.conf.
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/etc/hosts", "bind", &format!("{dir}/file"), &["rbind", "rro", "rprivate"])
        .sh("cat /etc/hosts; echo x > /etc/hosts");
    let output = c.run().code(1);
    assert_eq!(output.stdout, "from the host\n", "{output}");
}

fn recursive_options_are_set(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let c = showing(t).mount(
        "/mnt",
        "bind",
        &dir,
        &["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime"],
    );
    let text = mountinfo(&c);
    for point in ["/mnt", "/mnt/sub"] {
        let mount = seen(&text, point);
        for option in ["nosuid", "nodev", "noexec", "noatime", "rw"] {
            assert!(mount.has(option), "{option} on {point}: {:?}", mount.options);
        }
    }
}

fn plain_read_only_does_not_reach_submounts(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let c = showing(t).mount("/mnt", "bind", &dir, &["rbind", "ro"]);
    let text = mountinfo(&c);
    assert!(seen(&text, "/mnt").has("ro"));
    assert!(seen(&text, "/mnt/sub").has("rw"));
}

fn a_remount_changes_a_mount(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = showing(t).mount("/mnt", "bind", &dir, &["rbind"]).mount(
        "/mnt",
        "bind",
        &dir,
        &["bind", "remount", "ro", "nosuid"],
    );
    let mount = seen(&mountinfo(&c), "/mnt");
    assert!(mount.has("ro") && mount.has("nosuid"), "{:?}", mount.options);
}

fn nosymfollow_is_set(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let c = t
        .container()
        .mount("/mnt", "tmpfs", "tmpfs", &["nosymfollow"])
        .sh("ln -s /etc/passwd /mnt/x; cat /mnt/x");
    c.run().code(1);
}

/// (option, its opposite, what mountinfo shows)
const ATTRIBUTES: &[(&str, &str, &str)] = &[
    ("ro", "rw", "ro"),
    ("nosuid", "suid", "nosuid"),
    ("nodev", "dev", "nodev"),
    ("noexec", "exec", "noexec"),
    ("noatime", "atime", "noatime"),
    ("nodiratime", "diratime", "nodiratime"),
    ("nosymfollow", "symfollow", "nosymfollow"),
    ("relatime", "norelatime", "relatime"),
];

fn every_attribute_is_set_and_cleared(t: &Test) {
    t.need(t.kind() == Kind::Skep, "nosymfollow is newer than runc 1.1 and crun 1.8");
    let dir = host_dir(t, "dir");
    // What is not set or cleared is the source's.
    let _with_the_usual_attributes = HostMount::tmpfs(t, &dir);
    let mut c = showing(t);
    for (option, opposite, _) in ATTRIBUTES {
        c = c
            .mount(&format!("/bind/{option}"), "bind", &dir, &["bind", option])
            .mount(&format!("/bind/{opposite}"), "bind", &dir, &["bind", option, opposite])
            .mount(&format!("/new/{option}"), "tmpfs", "tmpfs", &[option])
            .mount(&format!("/new/{opposite}"), "tmpfs", "tmpfs", &[option, opposite]);
    }
    let text = mountinfo(&c);
    for (option, opposite, shown) in ATTRIBUTES {
        for kind in ["bind", "new"] {
            assert!(
                seen(&text, &format!("/{kind}/{option}")).has(shown),
                "{kind} {option}: {text}"
            );
            // norelatime is not strictatime: what is left is the default.
            let cleared = *shown == "relatime";
            let mount = seen(&text, &format!("/{kind}/{opposite}"));
            assert_eq!(mount.has(shown), cleared, "{kind} {opposite}: {text}");
        }
    }
}

fn every_recursive_attribute_is_set_and_cleared(t: &Test) {
    t.need(t.kind() == Kind::Skep, "rsymfollow is newer than runc 1.1 and crun 1.8");
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let mut c = showing(t);
    for (option, opposite, _) in ATTRIBUTES {
        let (option, opposite) = (format!("r{option}"), format!("r{opposite}"));
        c = c.mount(&format!("/{option}"), "bind", &dir, &["rbind", &option]).mount(
            &format!("/{opposite}"),
            "bind",
            &dir,
            &["rbind", &option, &opposite],
        );
    }
    let text = mountinfo(&c);
    for (option, opposite, shown) in ATTRIBUTES {
        for below in ["", "/sub"] {
            assert!(seen(&text, &format!("/r{option}{below}")).has(shown), "r{option}: {text}");
            let mount = seen(&text, &format!("/r{opposite}{below}"));
            assert_eq!(mount.has(shown), *shown == "relatime", "r{opposite}: {text}");
        }
    }
}

fn recursive_options_reach_a_new_file_system(t: &Test) {
    t.need(t.kind() != Kind::Crun, "crun 1.8 has them for bind mounts only");
    let c = showing(t).mount("/mnt", "tmpfs", "tmpfs", &["rro", "rnosuid", "rnoexec"]);
    let mount = seen(&mountinfo(&c), "/mnt");
    assert!(mount.has("ro") && mount.has("nosuid") && mount.has("noexec"), "{:?}", mount.options);
}

fn access_times_of_the_mounts_below(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    let c = showing(t)
        .mount("/noatime", "bind", &dir, &["rbind", "rnoatime"])
        .mount("/strict", "bind", &dir, &["rbind", "rstrictatime"])
        .mount("/nostrict", "bind", &dir, &["rbind", "rstrictatime", "rnostrictatime"]);
    let text = mountinfo(&c);
    for below in ["", "/sub"] {
        assert!(seen(&text, &format!("/noatime{below}")).has("noatime"), "{text}");
        let strict = seen(&text, &format!("/strict{below}"));
        assert!(!strict.has("relatime") && !strict.has("noatime"), "{text}");
        assert!(seen(&text, &format!("/nostrict{below}")).has("relatime"), "{text}");
    }
}

fn bind_after_rbind_is_still_recursive(t: &Test) {
    let dir = host_dir(t, "dir");
    let _sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    for options in [&["rbind", "rprivate", "bind"][..], &["bind", "rbind"]] {
        let text = mountinfo(&showing(t).mount("/mnt", "bind", &dir, options));
        assert_eq!(seen(&text, "/mnt/sub").kind, "tmpfs", "{options:?}");
    }
}

fn propagation_words_are_applied_in_order(t: &Test) {
    let dir = host_dir(t, "dir");
    let sub = HostMount::tmpfs(t, &format!("{dir}/sub"));
    sub.make("shared");
    let c = showing(t)
        .mount("/a", "bind", &dir, &["rbind", "rprivate", "shared"])
        .mount("/b", "bind", &dir, &["rbind", "rshared", "private"])
        .mount("/c", "tmpfs", "tmpfs", &["shared", "private"])
        .mount("/d", "tmpfs", "tmpfs", &["private", "shared"])
        .mount("/e", "bind", &dir, &["rbind", "rslave"])
        .mount("/f", "bind", &dir, &["rbind", "rprivate", "runbindable", "shared"]);
    let text = mountinfo(&c);
    let optional = |point: &str| seen(&text, point).optional;
    assert!(optional("/a").starts_with("shared:") && optional("/a/sub").is_empty(), "{text}");
    assert!(optional("/b").is_empty() && optional("/b/sub").starts_with("shared:"), "{text}");
    assert_eq!((optional("/c").as_str(), optional("/d").starts_with("shared:")), ("", true));
    assert!(optional("/e/sub").starts_with("master:"), "{text}");
    assert!(optional("/f").starts_with("shared:"), "{text}");
    assert_eq!(optional("/f/sub"), "unbindable", "{text}");
}

fn options_without_effect_are_accepted(t: &Test) {
    let dir = host_dir(t, "dir");
    let mut options = vec!["bind", "defaults", "loud", "silent", "nomand"];
    if t.kind() != Kind::Runc {
        // crun's, which does nothing for them either.
        options.extend(["rsync", "rasync", "rdirsync", "rmand", "rnomand"]);
    }
    t.need(t.kind() != Kind::Crun, "crun 1.8 takes loud and silent for the file system's");
    t.container().mount("/mnt", "bind", &dir, &options).sh("cat /mnt/file").run().ok();
}

fn sync_options_reach_the_file_system(t: &Test) {
    let c = showing(t)
        .mount("/sync", "tmpfs", "tmpfs", &["sync", "dirsync"])
        .mount("/async", "tmpfs", "tmpfs", &["sync", "async"])
        .mount("/lazy", "tmpfs", "tmpfs", &["lazytime"]);
    t.need(t.kind() != Kind::Crun, "crun 1.8 takes lazytime for the file system's");
    let text = mountinfo(&c);
    let superblock = |point: &str| format!(",{},", seen(&text, point).superblock);
    assert!(superblock("/sync").contains(",sync,dirsync,"), "{text}");
    assert!(!superblock("/async").contains(",sync,"), "{text}");
    assert!(superblock("/lazy").contains(",lazytime,"), "{text}");
}

fn a_remount_of_a_file_system_changes_its_size(t: &Test) {
    let c = showing(t).mount("/mnt", "tmpfs", "tmpfs", &["size=64k", "nosuid", "noexec"]).mount(
        "/mnt",
        "tmpfs",
        "tmpfs",
        &["remount", "size=128k", "nodev"],
    );
    let mount = seen(&mountinfo(&c), "/mnt");
    assert!(mount.superblock.contains("size=128k"), "{}", mount.superblock);
    assert!(mount.has("nodev"), "{:?}", mount.options);
}

fn a_remount_of_nothing_is_refused(t: &Test) {
    t.container()
        .mount("/etc", "tmpfs", "tmpfs", &["remount", "size=1m"])
        .run()
        .fails()
        .names("/etc");
    t.container().mount("/not/there", "tmpfs", "tmpfs", &["remount", "ro"]).run().fails();
    t.assert_nothing_left();
}

/// fsconfig(2) takes 255 bytes, mount(2) a page.
fn a_remount_with_long_options(t: &Test) {
    let base = t.path("layers").display().to_string();
    let _tmpfs = HostMount::tmpfs(t, &base);
    let long = format!("{base}/{}", "l".repeat(250));
    for dir in [&long, &format!("{base}/u"), &format!("{base}/w")] {
        fs::create_dir(dir).unwrap();
    }
    let lower = format!("lowerdir={long}");
    let (upper, work) = (format!("upperdir={base}/u"), format!("workdir={base}/w"));
    let c = showing(t)
        .mount("/mnt", "overlay", "overlay", &[&lower, &upper, &work, "nosuid"])
        .mount("/mnt", "overlay", "overlay", &["remount", "ro", &lower, &upper, &work]);
    let mount = seen(&mountinfo(&c), "/mnt");
    assert!(mount.has("ro") && mount.has("nosuid"), "{:?}", mount.options);
}

fn one_string_with_several_options(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc and crun hand it to the file system");
    let c = showing(t).mount("/mnt", "tmpfs", "tmpfs", &["nosuid,size=64k,noexec"]);
    let mount = seen(&mountinfo(&c), "/mnt");
    assert!(mount.has("nosuid") && mount.has("noexec"), "{:?}", mount.options);
    assert!(mount.superblock.contains("size=64k"), "{}", mount.superblock);
}

/// What the host has locked a user namespace cannot clear: ro and the like are added to it.
fn locked_flags_stay_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let dir = host_dir(t, "dir");
    let locked = HostMount::sized(t, &format!("{dir}/sub"), "nosuid,nodev,noexec,noatime");
    let c = showing(t).user_namespace(231_072);
    for point in ["a", "b"] {
        fs::create_dir(c.path(point)).unwrap();
    }
    let c = c
        .mount("/a", "bind", &locked.0, &["bind"])
        .mount("/b", "bind", &locked.0, &["bind", "ro"])
        .set("/linux/readonlyPaths", json!(["/a"]));
    let text = mountinfo(&c);
    for point in ["/a", "/b"] {
        let mount = seen(&text, point);
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            assert!(mount.has(option), "{option} on {point}: {text}");
        }
    }
}

fn has_selinux() -> bool {
    fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs")
}

fn a_mount_label_without_selinux_is_ignored_aloud(t: &Test) {
    t.need(!has_selinux(), "this host has SELinux");
    t.need(t.kind() != Kind::Runc, "runc hands it to the kernel, which refuses it");
    let c = t
        .container()
        .mount("/mnt", "tmpfs", "tmpfs", &["size=64k"])
        .set("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0:c1,c2"));
    c.run().ok();
    if t.kind() == Kind::Skep {
        let output = c.bundle_call("run", &[]).global(&["--log-level", "warning"]).run().ok();
        output.names("linux.mountLabel is ignored");
    }
}

fn an_unknown_kind_of_mount_context_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun asks only where there is SELinux");
    let c = t
        .container()
        .set("/linux/mountLabel", json!("system_u:object_r:t:s0"))
        .set("/annotations", json!({"run.oci.mount_context_type": "nonsense"}));
    c.run().fails().names("run.oci.mount_context_type");
    t.assert_nothing_left();
}

/// A container that shows /mnt: a bind mount with `options` of a host mount that has `attributes`.
fn of_a_mount_with<'t>(
    t: &'t Test,
    source: &HostMount,
    attributes: &str,
    options: &str,
    user_namespace: bool,
) -> Container<'t> {
    source.attributes(attributes);
    let c = showing(t);
    fs::create_dir(c.path("/mnt")).unwrap();
    let c = if user_namespace { c.user_namespace(231_072) } else { c };
    c.mount("/mnt", "bind", &source.0, &options.split(',').collect::<Vec<_>>())
}

/// (attributes of the source, options, attributes that are there then, attributes that are not)
type Bound = (&'static str, &'static str, &'static str, &'static str);

fn expect(t: &Test, table: &[Bound], user_namespace: bool) {
    let dir = t.path("source").display().to_string();
    fs::create_dir(&dir).unwrap();
    let source = HostMount::sized(t, &dir, "rw,suid,dev,exec,strictatime");
    for (attributes, options, with, without) in table {
        let c = of_a_mount_with(t, &source, attributes, options, user_namespace);
        let mount = seen(&mountinfo(&c), "/mnt");
        for option in with.split(',').filter(|option| !option.is_empty()) {
            assert!(mount.has(option), "{attributes} + {options}: {:?}", mount.options);
        }
        for option in without.split(',').filter(|option| !option.is_empty()) {
            assert!(!mount.has(option), "{attributes} + {options}: {:?}", mount.options);
        }
    }
}

fn a_bind_mount_without_options_keeps_those_of_its_source(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let table: &[Bound] = &[
        ("ro,noexec,nosymfollow,nodiratime", "bind", "ro,noexec,nosymfollow,nodiratime", "rw"),
        ("ro,nosuid", "rbind,rprivate", "ro,nosuid", "rw"),
        ("noexec", "rbind,rro", "ro,noexec", "rw"),
    ];
    expect(t, table, false);
    t.need_user_namespaces();
    fs::remove_dir(t.path("source")).unwrap();
    expect(t, table, true);
}

/// What no option names is cleared, as runc has it.
fn a_bind_mount_with_options_is_like_a_new_one(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let table: &[Bound] = &[
        ("ro,noexec,nosymfollow,nodiratime", "bind,dev", "rw,nodiratime", "ro,noexec,nosymfollow"),
        ("ro", "bind,nosuid,nodev,rprivate", "rw,nosuid,nodev", "ro"),
        ("ro", "bind,rw,nosuid,nodev,rprivate", "rw,nosuid,nodev", "ro"),
        (
            "nosuid,nodev,noexec,noatime",
            "bind,dev,suid,exec,atime",
            "rw,noatime",
            "nosuid,nodev,noexec",
        ),
        ("rw,nodev,nosuid,noexec,noatime", "bind,ro", "ro,noatime", "nosuid,nodev,noexec"),
        ("rw,nodev,nosymfollow", "bind,ro,symfollow", "ro", "nodev,nosymfollow"),
        ("nodev,nosuid,noatime", "rbind,ro,exec", "ro,noatime", "nodev,nosuid,noexec"),
        ("nodev", "rbind,rro,noexec", "ro,noexec", "nodev"),
    ];
    expect(t, table, false);
}

fn access_times_of_a_bind_mount_stay_unless_chosen(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let table: &[Bound] = &[
        ("noatime", "bind", "noatime", "relatime"),
        ("noatime", "bind,norelatime", "noatime", "relatime"),
        ("noatime", "bind,atime", "noatime", "relatime"),
        ("noatime", "bind,relatime", "relatime", "noatime"),
        ("noatime", "bind,nodiratime", "nodiratime,relatime", "noatime"),
        ("nodiratime", "bind,strictatime", "", "relatime,noatime,nodiratime"),
        ("noatime", "bind,nodiratime,strictatime", "nodiratime", "noatime,relatime"),
        ("noatime", "bind,nodiratime,norelatime", "nodiratime,relatime", "noatime"),
        ("nodiratime", "bind,diratime", "nodiratime", "noatime"),
    ];
    expect(t, table, false);
}

fn a_user_namespace_keeps_what_it_could_not_clear(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let table: &[Bound] = &[
        ("ro,noexec,nosymfollow,nodiratime", "bind,dev", "ro,noexec,nodiratime", "rw,nosymfollow"),
        ("ro", "bind,nosuid,nodev,rprivate", "ro,nosuid,nodev", "rw"),
        ("rw,nodev,nosuid,noexec,noatime", "bind,ro", "ro,nosuid,nodev,noexec,noatime", ""),
        ("rw,nodev,nosymfollow", "bind,ro,symfollow", "ro,nodev", "nosymfollow"),
        ("rw,nodev,nosymfollow", "bind,rw", "rw,nodev", "nosymfollow"),
        ("nodev,nosuid,noatime", "bind,ro,exec", "ro,nosuid,nodev,noatime", "noexec"),
        ("strictatime", "bind", "", "noatime,relatime,nodiratime"),
        ("relatime", "bind,norelatime", "relatime", ""),
        ("noatime,nodiratime", "bind,atime", "noatime,nodiratime", ""),
        ("nodiratime", "bind,diratime", "nodiratime", ""),
    ];
    expect(t, table, true);
}

fn a_user_namespace_cannot_clear_by_name(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let dir = t.path("source").display().to_string();
    fs::create_dir(&dir).unwrap();
    let source = HostMount::sized(t, &dir, "rw,suid,dev,exec,strictatime");
    for (attributes, options) in [
        ("ro", "bind,rw,nosuid"),
        ("nodev,nosuid,noatime", "bind,dev,suid,exec"),
        ("nodiratime", "bind,strictatime"),
        ("relatime", "bind,strictatime"),
        ("noatime", "bind,strictatime"),
        ("relatime", "bind,noatime"),
        ("relatime", "bind,nodiratime"),
        ("strictatime", "bind,relatime"),
        ("strictatime", "bind,nodiratime"),
        ("noatime", "bind,relatime"),
    ] {
        let output = of_a_mount_with(t, &source, attributes, options, true).run().fails();
        let output = output.names("mounts[4]").names("error mounting");
        assert!(output.stderr.contains("operation not permitted"), "{attributes}: {output}");
    }
    drop(source);
    t.assert_nothing_left();
}

fn a_read_only_dev_still_gets_its_devices(t: &Test) {
    let c = t
        .container()
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .mount("/dev", "tmpfs", "tmpfs", &["ro", "nosuid", "mode=755", "size=64k"])
        .mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"])
        .mount("/dev/shm", "tmpfs", "shm", &["mode=1777"])
        .push("/linux/devices", json!({"type": "c", "path": "/dev/mine", "major": 1, "minor": 3}))
        .sh("echo x > /dev/null && ls -l /dev/mine | cut -c 1 && touch /dev/shm/x && touch /dev/x");
    let output = c.run().code(1);
    assert_eq!(output.stdout, "c\n", "{output}");
    assert!(output.stderr.contains("/dev/x: Read-only file system"), "{output}");
}

fn a_mount_in_a_read_only_tmpfs(t: &Test) {
    let dir = host_dir(t, "dir");
    let c = t
        .container()
        .mount("/mnt", "tmpfs", "tmpfs", &["ro", "size=64k"])
        .mount("/mnt/deep/dir", "bind", &dir, &["bind"])
        .mount("/mnt/file", "bind", &format!("{dir}/file"), &["bind", "ro"])
        .set("/process/cwd", json!("/mnt/cwd"))
        .sh("cat /mnt/deep/dir/file /mnt/file; pwd; touch /mnt/x");
    let output = c.run().code(1);
    assert_eq!(output.stdout, "from the host\nfrom the host\n/mnt/cwd\n", "{output}");
    assert!(output.stderr.contains("Read-only file system"), "{output}");
}
