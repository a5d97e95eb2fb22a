//! Id-mapped mounts: mappings of the mount, of the container, of the option; with and without a user namespace.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json};
use crate::mounts::HostMount;
use serde_json::Value;

cases![
    a_mapping_without_a_user_namespace,
    a_mapping_in_a_user_namespace,
    a_mapping_of_several_ranges,
    files_made_inside_belong_to_the_mapped_owner,
    the_containers_own_mapping,
    the_mapping_of_a_joined_user_namespace,
    idmap_leaves_the_mounts_below_alone,
    ridmap_maps_the_mounts_below,
    the_same_source_twice_with_two_mappings,
    a_hundred_mounts_share_one_mapping,
    a_tmpfs_is_mapped,
    the_option_has_ranges,
    ranges_are_relative_to_the_container,
    a_source_of_the_container_is_mapped,
    half_a_mapping_is_refused,
    no_mapping_and_no_user_namespace_is_refused,
    two_mappings_are_refused,
    ranges_that_are_none_are_refused,
    a_file_system_that_cannot_is_named,
    a_cgroup_mount_cannot_be_mapped,
    no_user_namespace_is_left,
];

const BASE: u32 = 200_000;

/// The statfs(2) types of file systems that can be id-mapped on every kernel the tests run on.
const MAPPABLE: [libc::c_int; 4] =
    [0xef53, 0x5846_5342, 0x9123_683e_u32.cast_signed(), 0x0102_1994];

/// A directory with files of several owners; skips where the file system cannot be id-mapped.
pub fn source(t: &Test) -> String {
    let dir = t.path("source");
    fs::create_dir_all(dir.join("sub")).unwrap();
    // A number of another type with musl.
    let kind = nix::sys::statfs::statfs(&dir).unwrap().filesystem_type().0 as libc::c_int;
    t.need(MAPPABLE.contains(&kind), "the file system of the tests cannot be id-mapped");
    for (name, uid, gid) in [("zero", 0, 0), ("one", 1, 2), ("far", 1000, 1001)] {
        fs::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(uid), Some(gid)).unwrap();
    }
    dir.display().to_string()
}

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": size})
}

/// A container with `source` at /mnt, mapped.
fn mapped<'t>(c: Container<'t>, source: &str, options: &[&str], maps: &[Value]) -> Container<'t> {
    let mut mount = json!({"destination": "/mnt", "type": "bind", "source": source,
        "options": options});
    if !maps.is_empty() {
        mount["uidMappings"] = json!(maps);
        mount["gidMappings"] = json!(maps);
    }
    // The root of a user namespace could not make it in the host's directory.
    fs::create_dir(c.path("/mnt")).unwrap();
    c.push("/mounts", mount).sh("cd /mnt; stat -c %n:%u:%g zero one far")
}

fn a_mapping_without_a_user_namespace(t: &Test) {
    let source = source(t);
    for options in [&["bind"][..], &["bind", "idmap"], &["rbind", "ridmap", "ro"]] {
        let c = mapped(t.container(), &source, options, &[map(0, BASE, 1000)]);
        // What is not mapped belongs to nobody.
        c.run().ok().prints("zero:200000:200000\none:200001:200002\nfar:65534:65534\n");
    }
    assert_eq!(fs::metadata(format!("{source}/one")).unwrap().uid(), 1);
}

fn a_mapping_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let source = source(t);
    let c = t.container().user_namespace(BASE);
    mapped(c, &source, &["bind"], &[map(0, BASE, 65536)])
        .run()
        .ok()
        .prints("zero:0:0\none:1:2\nfar:1000:1001\n");
    // Without it, and with another.
    let c = t.container().user_namespace(BASE);
    mapped(c, &source, &["bind"], &[])
        .run()
        .ok()
        .prints("zero:65534:65534\none:65534:65534\nfar:65534:65534\n");
    let c = t.container().user_namespace(BASE);
    mapped(c, &source, &["bind", "idmap"], &[map(0, BASE + 1, 2000)])
        .run()
        .ok()
        .prints("zero:1:1\none:2:3\nfar:1001:1002\n");
}

fn a_mapping_of_several_ranges(t: &Test) {
    let source = source(t);
    let maps = [map(0, 5000, 1), map(1000, 300, 2), map(1, 40, 2)];
    mapped(t.container(), &source, &["bind"], &maps)
        .run()
        .ok()
        .prints("zero:5000:5000\none:40:41\nfar:300:301\n");
}

fn files_made_inside_belong_to_the_mapped_owner(t: &Test) {
    t.need_user_namespaces();
    let source = source(t);
    let c = t.container().user_namespace(BASE);
    let c = mapped(c, &source, &["bind"], &[map(0, BASE, 65536)])
        .with_capabilities(&["CAP_CHOWN"])
        .sh("cd /mnt; touch new other; chown 7:8 other; stat -c %u:%g new other");
    c.run().ok().prints("0:0\n7:8\n");
    let owner = |name: &str| {
        let found = fs::metadata(format!("{source}/{name}")).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("new"), (0, 0));
    assert_eq!(owner("other"), (7, 8));
}

fn the_containers_own_mapping(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() != Kind::Runc, "newer than runc 1.1");
    let source = source(t);
    for option in ["idmap", "ridmap"] {
        let c = t.container().user_namespace(BASE);
        mapped(c, &source, &["rbind", option], &[])
            .run()
            .ok()
            .prints("zero:0:0\none:1:2\nfar:1000:1001\n");
    }
}

fn the_mapping_of_a_joined_user_namespace(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() == Kind::Skep, "runc 1.1 and crun 1.8 join no user namespace");
    let source = source(t);
    let first = t.container().user_namespace(BASE).lasting();
    first.run_detached();
    let pid = first.pid();
    let c = mapped(t.container(), &source, &["bind", "idmap"], &[])
        .without_mount("/sys")
        .without_mount("/dev/mqueue")
        .without_namespace("network")
        .without_namespace("ipc")
        .push("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    c.run().ok().prints("zero:0:0\none:1:2\nfar:1000:1001\n");
}

/// The source with a tmpfs below it that has a file of user 0.
fn with_a_mount_below(t: &Test) -> (String, HostMount) {
    let source = source(t);
    let below = HostMount::tmpfs(t, &format!("{source}/sub"));
    fs::write(format!("{source}/sub/inner"), "").unwrap();
    (source, below)
}

fn idmap_leaves_the_mounts_below_alone(t: &Test) {
    let (source, _below) = with_a_mount_below(t);
    for options in [&["rbind"][..], &["rbind", "idmap"]] {
        mapped(t.container(), &source, options, &[map(0, BASE, 1000)])
            .sh("stat -c %u /mnt/zero /mnt/sub/inner")
            .run()
            .ok()
            .prints("200000\n0\n");
    }
}

fn ridmap_maps_the_mounts_below(t: &Test) {
    let (source, _below) = with_a_mount_below(t);
    let c = mapped(t.container(), &source, &["rbind", "ridmap"], &[map(0, BASE, 1000)]);
    c.sh("stat -c %u /mnt/zero /mnt/sub/inner").run().ok().prints("200000\n200000\n");
}

fn the_same_source_twice_with_two_mappings(t: &Test) {
    let source = source(t);
    let c = mapped(t.container(), &source, &["bind"], &[map(0, BASE, 10)]);
    let maps = json!([map(0, 7, 10)]);
    let c = c
        .push(
            "/mounts",
            json!({"destination": "/other", "source": source, "options": ["bind"],
                "uidMappings": maps, "gidMappings": maps}),
        )
        .mount("/plain", "bind", &source, &["bind"])
        .sh("stat -c %u:%g /mnt/one /other/one /plain/one");
    c.run().ok().prints("200001:200002\n8:9\n1:2\n");
}

/// One user namespace for all, and no more descriptors than a small limit allows.
fn a_hundred_mounts_share_one_mapping(t: &Test) {
    let source = source(t);
    let maps = json!([map(0, BASE, 10)]);
    let mut c = t
        .container()
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20}]));
    for n in 0..100 {
        c = c.push(
            "/mounts",
            json!({"destination": format!("/m/{n}"), "source": source, "options": ["bind"],
                "uidMappings": maps, "gidMappings": maps}),
        );
    }
    c.sh("stat -c %u /m/*/zero | sort | uniq -c | xargs").run().ok().prints("100 200000\n");
}

fn a_tmpfs_is_mapped(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc maps bind mounts only");
    let maps = json!([map(0, 77, 10)]);
    let c = t
        .container()
        .push(
            "/mounts",
            json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["mode=750"],
                "uidMappings": maps, "gidMappings": maps}),
        )
        .sh("stat -c %u:%g:%a /mnt");
    let output = c.run();
    if output.stderr.contains("uidMappings") {
        t.skip("this kernel cannot map the ids of a tmpfs");
    }
    output.ok().prints("77:77:750\n");
}

fn the_option_has_ranges(t: &Test) {
    t.need(t.kind() != Kind::Runc, "crun's syntax");
    let source = source(t);
    let option = "idmap=uids=0-500-1#1-600-1;gids=0-700-10";
    mapped(t.container(), &source, &["bind", option], &[])
        .run()
        .ok()
        .prints("zero:500:700\none:600:702\nfar:65534:65534\n");
    let (source, _below) = with_a_mount_below(t);
    mapped(t.container(), &source, &["rbind", "ridmap=uids=0-500-5;gids=0-500-5"], &[])
        .sh("stat -c %u /mnt/zero /mnt/sub/inner")
        .run()
        .ok()
        .prints("500\n500\n");
}

fn ranges_are_relative_to_the_container(t: &Test) {
    t.need_user_namespaces();
    t.need(t.kind() != Kind::Runc, "crun's syntax");
    let source = source(t);
    let c = t.container().user_namespace(BASE);
    mapped(c, &source, &["bind", "idmap=uids=@0-30-10;gids=@0-40-10"], &[])
        .run()
        .ok()
        .prints("zero:30:40\none:31:42\nfar:65534:65534\n");
}

/// What an earlier mount has put into the root, by its path on the host (runc's "mount order").
fn a_source_of_the_container_is_mapped(t: &Test) {
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    let source = source(t);
    let c = t.container();
    let inside = c.path("/first").display().to_string();
    let c = c.mount("/first", "bind", &source, &["bind"]);
    mapped(c, &inside, &["rbind", "idmap"], &[map(0, BASE, 10)])
        .run()
        .ok()
        .prints("zero:200000:200000\none:200001:200002\nfar:65534:65534\n");
    t.need_user_namespaces();
    let c = t.container().user_namespace(BASE);
    let inside = c.path("/first").display().to_string();
    let c = c.mount("/first", "bind", &source, &["bind"]);
    fs::create_dir(&inside).unwrap();
    mapped(c, &inside, &["rbind", "idmap"], &[])
        .run()
        .ok()
        .prints("zero:0:0\none:1:2\nfar:1000:1001\n");
}

// --- what is refused ---

fn half_a_mapping_is_refused(t: &Test) {
    let source = source(t);
    for present in ["uidMappings", "gidMappings"] {
        let mut mount = json!({"destination": "/mnt", "source": source, "options": ["bind"]});
        mount[present] = json!([map(0, 1, 1)]);
        let output = t.container().push("/mounts", mount).run().fails();
        if t.kind() == Kind::Skep {
            let missing = if present == "uidMappings" { "gidMappings" } else { "uidMappings" };
            output.names(&format!("mounts[6].{missing}"));
        }
    }
    t.assert_nothing_left();
}

fn no_mapping_and_no_user_namespace_is_refused(t: &Test) {
    let source = source(t);
    t.need(t.kind() == Kind::Skep, "newer than runc 1.1 and crun 1.8");
    for option in ["idmap", "ridmap", "idmap="] {
        let c = mapped(t.container(), &source, &["bind", option], &[]);
        c.run().fails().names("mounts[6].uidMappings");
    }
    t.assert_nothing_left();
}

fn two_mappings_are_refused(t: &Test) {
    let source = source(t);
    t.need(t.kind() == Kind::Skep, "crun takes the option's");
    let options = ["bind", "idmap=uids=0-1-1;gids=0-1-1"];
    let c = mapped(t.container(), &source, &options, &[map(0, 1, 1)]);
    c.run().fails().names("mounts[6].uidMappings");
    t.assert_nothing_left();
}

fn ranges_that_are_none_are_refused(t: &Test) {
    let source = source(t);
    t.need(t.kind() == Kind::Skep, "runc and crun leave it to the kernel");
    for maps in [
        vec![map(0, 0, 0)],
        vec![map(0, u32::MAX, 2)],
        vec![map(0, 0, 10), map(5, 100, 10)],
        vec![map(0, 0, 1); 341],
    ] {
        let output = mapped(t.container(), &source, &["bind"], &maps).run().fails();
        output.names("mounts[6].uidMappings");
    }
    for option in ["idmap=uids=0-1-1", "idmap=uids=0-1;gids=0-1-1", "idmap=x", "ridmap=uids=-1-1-1"]
    {
        let output = mapped(t.container(), &source, &["bind", option], &[]).run().fails();
        output.names("mounts[6].options");
    }
    t.assert_nothing_left();
}

fn a_file_system_that_cannot_is_named(t: &Test) {
    t.need(t.kind() == Kind::Skep, "their words differ");
    // procfs, which no kernel maps.
    let c = mapped(t.container(), "/proc", &["bind"], &[map(0, BASE, 10)]);
    let output = c.run().fails().names("mounts[6].uidMappings");
    assert!(output.stderr.contains("cannot map the ids"), "{output}");
    t.assert_nothing_left();
}

fn a_cgroup_mount_cannot_be_mapped(t: &Test) {
    t.need(t.kind() == Kind::Skep, "their words differ");
    let maps = json!([map(0, 1, 1)]);
    for mount in [
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "uidMappings": maps, "gidMappings": maps}),
        json!({"destination": "/dev", "options": ["remount", "bind"],
            "uidMappings": maps, "gidMappings": maps}),
    ] {
        t.container().push("/mounts", mount).run().fails().names("mounts[6]");
    }
    t.assert_nothing_left();
}

fn no_user_namespace_is_left(t: &Test) {
    let source = source(t);
    let base = 299_001;
    let c = mapped(t.container(), &source, &["bind"], &[map(0, base, 10)]).lasting();
    c.run_detached();
    // The process that held the user namespace has ended and was reaped: nothing here has a map of its own.
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = fs::read_to_string(entry.path().join("uid_map")).unwrap_or_default();
        assert!(!read.contains(&base.to_string()), "{}", entry.path().display());
    }
    c.delete_force().ok();
    t.assert_nothing_left();
}
