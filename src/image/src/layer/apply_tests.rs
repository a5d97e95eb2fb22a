//! The rules of applying a layer, a test for each.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use super::testing::{Item, Place, Tar, needs_root, root, skipped};
use super::{Devices, Format, IdMap, Options, Owners, apply};
use crate::error::Kind;
use crate::limits::Limits;

/// Layers, one after the other, give a tree.
#[track_caller]
fn gives(layers: &[&Tar], tree: &[&str]) {
    let place = Place::new();
    let victim = place.victim();
    place.apply(layers, &Options::default()).unwrap();
    assert_eq!(place.tree(), tree);
    assert_eq!(place.victim(), victim);
}

#[track_caller]
fn fails(layers: &[&Tar], says: &str) {
    let place = Place::new();
    let victim = place.victim();
    let error = place.apply(layers, &Options::default()).unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(place.victim(), victim);
}

fn t() -> Tar {
    Tar::new()
}

#[test]
fn whiteouts_hit_lower_layers_only() {
    let lower = t().dir("d", 0o755).file("d/old", "o").file("f", "1");
    gives(&[&lower, &t().file(".wh.f", "")], &["d755 d", "f644 d/old=o"]);
    gives(&[&lower, &t().file(".wh.d", "")], &["f644 f=1"]);
    // In any order, what the layer itself makes stays.
    gives(&[&t().file("f", "2").file(".wh.f", "")], &["f644 f=2"]);
    gives(&[&lower, &t().file("f", "2").file(".wh.f", "").file(".wh.d", "")], &["f644 f=2"]);
    let only_new = ["d755 d", "f644 d/n=n", "f644 f=1"];
    gives(&[&lower, &t().file(".wh.d", "").file("d/n", "n")], &only_new);
    gives(&[&lower, &t().file("d/n", "n").file(".wh.d", "")], &only_new);
    gives(&[&lower, &t().dir("d", 0o755).file("d/n", "n").file(".wh.d", "")], &only_new);
    gives(&[&lower, &t().dir("d", 0o700).file(".wh.d", "")], &["d700 d", "f644 f=1"]);
    gives(&[&lower, &t().dir(".wh.d", 0o755).flag(".wh.f", b'0')], &[]);
    gives(
        &[&lower, &t().file(".wh.nothing", "").file("no/.wh.x", "")],
        &["d755 d", "f644 d/old=o", "f644 f=1"],
    );
}

#[test]
fn opaque_directories_are_so_in_any_order() {
    let lower = t().dir("d", 0o755).file("d/old", "o").dir("d/sub", 0o755).file("d/sub/old", "o");
    let tree = ["d755 d", "f644 d/n=n", "d755 d/sub", "f644 d/sub/m=m"];
    let opq = "d/.wh..wh..opq";
    gives(&[&lower, &t().file(opq, "").file("d/n", "n").file("d/sub/m", "m")], &tree);
    gives(&[&lower, &t().file("d/n", "n").file("d/sub/m", "m").file(opq, "")], &tree);
    gives(&[&lower, &t().file("d/n", "n").file(opq, "").file("d/sub/m", "m")], &tree);
    gives(&[&lower, &t().dir("d/sub", 0o711).file(opq, "")], &["d755 d", "d711 d/sub"]);
    gives(&[&lower, &t().file(".wh..wh..opq", "").file("x", "")], &["f644 x="]);
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    let lower = t().dir("d", 0o755).file("d/f", "");
    for name in [".wh.", "d/.wh.", "d/.wh..", "d/.wh...", ".wh..", ".wh..."] {
        fails(&[&lower, &t().file(name, "")], "a whiteout of nothing");
    }
    fails(&[&t().file(".wh.d/f", "")], "below a whiteout");
}

#[test]
fn the_bookkeeping_of_aufs_is_left_out() {
    let layer =
        t().dir(".wh..wh.plnk", 0o700).file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "");
    gives(&[&layer.file("f", "")], &["f644 f="]);
}

#[test]
fn the_last_of_one_name_wins() {
    gives(&[&t().file("a", "1").file("a", "2")], &["f644 a=2"]);
    gives(&[&t().file("a", "1").symlink("a", "x")], &["l a -> x"]);
    gives(&[&t().dir("a", 0o700).file("a/b", "").file("a", "2")], &["f644 a=2"]);
}

#[test]
fn a_symlink_on_the_way_is_followed_inside_the_root() {
    gives(
        &[&t().symlink("s", "/victim").file("s/x", "1")],
        &["l s -> /victim", "d755 victim", "f644 victim/x=1"],
    );
    gives(
        &[&t().symlink("s", "../../victim").file("s/x", "1")],
        &["l s -> ../../victim", "d755 victim", "f644 victim/x=1"],
    );
    gives(
        &[&t()
            .dir("usr", 0o755)
            .dir("usr/lib", 0o755)
            .symlink("lib", "usr/lib")
            .file("lib/x", "1")],
        &["l lib -> usr/lib", "d755 usr", "d755 usr/lib", "f644 usr/lib/x=1"],
    );
    // By either name a file is this layer's.
    let lower = t().dir("usr", 0o755).file("usr/x", "1").symlink("l", "usr");
    gives(
        &[&lower, &t().file("usr/x", "2").file("l/.wh.x", "")],
        &["l l -> usr", "d755 usr", "f644 usr/x=2"],
    );
    fails(&[&t().symlink("a", "b").symlink("b", "a").file("a/x", "")], "loop");
}

#[test]
fn what_is_no_directory_makes_way_for_one() {
    gives(
        &[&t().dir("a", 0o755).file("a/f", "1"), &t().file("a/f/x", "2")],
        &["d755 a", "d755 a/f", "f644 a/f/x=2"],
    );
}

#[test]
fn types_replace_each_other() {
    let lower = t().dir("d", 0o755).file("d/f", "").symlink("s", "d").file("f", "1");
    gives(&[&lower, &t().symlink("d", "x")], &["l d -> x", "f644 f=1", "l s -> d"]);
    gives(&[&lower, &t().file("d", "2")], &["f644 d=2", "f644 f=1", "l s -> d"]);
    gives(&[&lower, &t().dir("s", 0o700)], &["d755 d", "f644 d/f=", "f644 f=1", "d700 s"]);
    gives(&[&lower, &t().dir("f", 0o700)], &["d755 d", "f644 d/f=", "d700 f", "l s -> d"]);
    gives(&[&lower, &t().flag("f", b'6')], &["d755 d", "f644 d/f=", "p644 f", "l s -> d"]);
    gives(&[&lower, &t().dir("d", 0o700)], &["d700 d", "f644 d/f=", "f644 f=1", "l s -> d"]);
}

#[test]
fn a_directory_entry_leaves_a_symlink_to_one_where_that_is_asked_for() {
    let place = Place::new();
    let lower = t().dir("d", 0o755).symlink("s", "d");
    let options = Options { keep_dirlinks: true, ..Options::default() };
    place.apply(&[&lower, &t().dir("s", 0o700).file("s/x", "1")], &options).unwrap();
    assert_eq!(place.tree(), ["d700 d", "f644 d/x=1", "l s -> d"]);
}

#[test]
fn a_directory_takes_all_attributes_of_its_entry() {
    let place = Place::new();
    let lower = t().item(&Item {
        name: b"d",
        flag: b'5',
        mode: 0o755,
        pax: vec![(b"SCHILY.xattr.user.old", b"1")],
        ..Item::default()
    });
    place.apply(&[&lower, &t().dir("d", 0o711)], &Options::default()).unwrap();
    let directory = place.open("rootfs/d");
    let names = libcontainer::sys::xattr::list(directory.as_fd()).unwrap();
    assert!(!names.iter().any(|name| name.as_c_str() == c"user.old"), "{names:?}");
    assert_eq!(place.tree(), ["d711 d"]);
}

#[test]
fn the_root_has_an_entry_or_a_default() {
    for (layer, mode, mtime) in
        [(t().dir("./", 0o711), 0o711, 1_000_000_000), (t().file("f", ""), 0o755, 0)]
    {
        let place = Place::new();
        place.apply(&[&layer], &Options::default()).unwrap();
        let stat = fs::metadata(place.rootfs()).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (mode, mtime));
    }
    for name in ["./", "/", "a/.."] {
        fails(&[&t().symlink(name, "/victim")], "the root directory as something else");
        fails(&[&t().file(name, "")], "the root directory as something else");
    }
}

#[test]
fn hard_links_may_come_before_their_target_and_below_it() {
    gives(&[&t().file("a", "1").link("b", "a")], &["f644 a=1", "h b = a"]);
    gives(
        &[&t().link("b", "a").link("c", "b").file("a", "1")],
        &["f644 a=1", "h b = a", "h c = a"],
    );
    gives(&[&t().file("a", "1"), &t().link("b", "/a")], &["f644 a=1", "h b = a"]);
    gives(&[&t().file("a", "1"), &t().link("b", "../../a")], &["f644 a=1", "h b = a"]);
    gives(&[&t().symlink("s", "x").link("t", "s")], &["l s -> x", "h t = s"]);
    fails(&[&t().link("b", "missing")], "a hard link to \"missing\", which is not there");
    fails(&[&t().dir("d", 0o755).link("b", "d")], "a hard link to the directory");
    fails(&[&t().file("a", "").link("a", "a")], "a hard link to itself");
    fails(&[&t().link("a", "/")], "a hard link to the root");
}

#[test]
fn times_have_nanoseconds_and_lower_directories_keep_theirs() {
    let place = Place::new();
    let times: &[(&str, &[u8])] = &[("mtime", b"1500000000.123456789"), ("atime", b"-1.5")];
    let lower = t().dir("d", 0o755).pax("f", "x", times);
    place.apply(&[&lower, &t().file("d/new", "")], &Options::default()).unwrap();
    let stat = fs::metadata(place.rootfs().join("f")).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_500_000_000, 123_456_789));
    assert_eq!((stat.atime(), stat.atime_nsec()), (-2, 500_000_000));
    assert_eq!(fs::metadata(place.rootfs().join("d")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn directories_without_permissions_are_filled_first() {
    let layer = t().dir("d", 0o500).dir("d/e", 0).file("d/e/f", "1");
    let place = Place::new();
    place.apply(&[&layer], &Options::default()).unwrap();
    let tree = place.tree();
    assert_eq!(tree[..2], ["d500 d", "d0 d/e"]);
    // Dropping the place removes them, as a user too.
}

#[test]
fn names_beyond_path_max_are_reached() {
    let component = "x".repeat(250);
    let deep = vec![component.as_str(); 30].join("/");
    assert!(deep.len() > 4096);
    let place = Place::new();
    let layer = t().file(&format!("{deep}/f"), "1").file(&format!("{deep}/g"), "1");
    place.apply(&[&layer, &t().file(&format!("{deep}/.wh.f"), "")], &Options::default()).unwrap();
    fails(&[&t().file(&"y".repeat(256), "")], "component");
    let very = "a/".repeat(2000);
    gives_no_error(&t().file(&format!("{very}f"), ""));
    fails(&[&t().file(&format!("{}f", "a/".repeat(10_000)), "")], "depth");
}

fn gives_no_error(layer: &Tar) {
    Place::new().apply(&[layer], &Options::default()).unwrap();
}

#[test]
fn names_are_bytes() {
    let names: [&[u8]; 3] = [b"\xff\xfe", b"new\nline", b" "];
    let layer = names.iter().fold(t(), |tar, name| tar.item(&Item { name, ..Item::default() }));
    let place = Place::new();
    place.apply(&[&layer], &Options::default()).unwrap();
    assert_eq!(place.tree().len(), 3);
    gives(
        &[&t().file("A/F", "1").file("a/f", "2")],
        &["d755 A", "f644 A/F=1", "d755 a", "f644 a/f=2"],
    );
}

#[test]
fn setuid_survives_the_change_of_owner() {
    let layer = t().item(&Item { mode: 0o6755, ..Item::default() });
    gives(&[&layer], &["f6755 f="]);
}

#[test]
fn sparse_files_of_all_versions_are_expanded() {
    let expected =
        [vec![0; 100], b"abc".to_vec(), vec![0; 50], b"de".to_vec(), vec![0; 45]].concat();
    let v00: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"200"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"100"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"153"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    let v01: &[(&str, &[u8])] = &[("GNU.sparse.size", b"200"), ("GNU.sparse.map", b"100,3,153,2")];
    let v10: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"200"),
        ("GNU.sparse.name", b"f"),
    ];
    let map = format!("2\n100\n3\n153\n2\n{}abcde", "\0".repeat(512 - 14));
    let mut old = super::testing::header(b"f", b'S', b"", 0o644, 5, (0, 0));
    old[257..265].copy_from_slice(b"ustar  \0");
    for (at, number) in [(386, 100), (398, 3), (410, 153), (422, 2), (483, 200)] {
        old[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    }
    let old = t().raw(&super::testing::sum(old), b"abcde");
    for layer in
        [t().pax("f", "abcde", v00), t().pax("f", "abcde", v01), t().pax("g", &map, v10), old]
    {
        let place = Place::new();
        place.apply(&[&layer.file("after", "")], &Options::default()).unwrap();
        assert_eq!(fs::read(place.rootfs().join("f")).unwrap(), expected);
        assert_eq!(place.tree().len(), 2);
    }
}

#[test]
fn global_headers_are_ignored_and_a_missing_end_is_a_remark() {
    let layer = t().raw(
        &super::testing::header(b"pax_global_header", b'g', b"", 0, 12, (0, 0)),
        b"12 path=xxx\n",
    );
    gives(&[&layer.file("f", "")], &["f644 f="]);
    let place = Place::new();
    let root = place.open("rootfs");
    let options = Options { owners: Owners::Single, ..Options::default() };
    let report = apply(&*t().file("f", "").0, root.as_fd(), &options).unwrap();
    assert!(report.warnings[0].contains("no end-of-archive"), "{:?}", report.warnings);
    assert_eq!(apply(&b""[..], root.as_fd(), &options).unwrap().used.entries, 0);
}

/// As umoci insert writes them: what is missing is nobody's. A byte less, and it is.
#[test]
fn a_missing_padding_at_the_end_is_a_remark() {
    let layer = t().file("f", "made!").0;
    let options = Options { owners: Owners::Single, ..Options::default() };
    for there in [5, 6, 511] {
        let place = Place::new();
        let root = place.open("rootfs");
        let report = apply(&layer[..512 + there], root.as_fd(), &options).unwrap();
        assert!(report.warnings[0].contains("padding"), "{:?}", report.warnings);
        assert_eq!(place.tree(), ["f644 f=made!"]);
    }
    let place = Place::new();
    let error = apply(&layer[..512 + 4], place.open("rootfs").as_fd(), &options).unwrap_err();
    assert!(error.to_string().contains("in the middle of a file"), "{error}");
}

/// GNU tar's own way for names of more than 100 bytes: L before an entry is its name, K its target, in any order, and for that entry alone.
#[test]
fn long_names_of_gnu_tar() {
    let long = |flag, text: &str| {
        let text = [text.as_bytes(), b"\0"].concat();
        (super::testing::header(b"././@LongLink", flag, b"", 0, text.len(), (0, 0)), text)
    };
    let with = |tar: Tar, flag, text: &str| {
        let (header, text) = long(flag, text);
        tar.raw(&header, &text)
    };
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(255));
    let target = format!("/{}", "t/".repeat(200));
    let mut tar = with(t(), b'L', &name).file("cut short", "x");
    tar = with(with(tar, b'K', &target), b'L', "s").symlink("cut", "short");
    tar = with(with(tar, b'L', "h"), b'K', &name).link("cut", "short");
    tar = tar.file("after", "");
    gives(
        &[&tar],
        &[
            "f644 after=",
            &format!("d755 {}", "d".repeat(120)),
            &format!("f644 {name}=x"),
            &format!("h h = {name}"),
            &format!("l s -> {target}"),
        ],
    );
    // A pax record is of this entry, and of more readers.
    let both = with(t(), b'L', "gnu").pax("f", "", &[("path", b"pax")]);
    gives(&[&both], &["f644 pax="]);
}

#[test]
fn pax_wins_over_the_header() {
    // CVE-2025-62518: who takes the size of the header finds an archive in the file.
    let inner = t().file("smuggled", "").end();
    let size = inner.len().to_string();
    let mut item = Tar::new().item(&Item {
        name: b"f",
        data: &inner,
        pax: vec![(b"size", size.as_bytes())],
        ..Item::default()
    });
    let at = item.0.len() - inner.len() - 512;
    let mut header: [u8; 512] = item.0[at..at + 512].try_into().unwrap();
    header[124..136].copy_from_slice(b"00000000000\0");
    item.0[at..at + 512].copy_from_slice(&super::testing::sum(header));
    let place = Place::new();
    place.apply(&[&item], &Options::default()).unwrap();
    assert_eq!(fs::read(place.rootfs().join("f")).unwrap(), inner);
    assert_eq!(place.tree().len(), 1);
}

#[test]
fn attributes_of_the_host_are_not_set() {
    let place = Place::new();
    let layer = t().pax(
        "f",
        "",
        &[
            ("SCHILY.xattr.user.a", b"1"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.ima", b"y"),
            ("SCHILY.xattr.trusted.x", b"y"),
        ],
    );
    let reports = place.apply(&[&layer], &Options::default()).unwrap();
    let file = place.open("rootfs/f");
    let names = libcontainer::sys::xattr::list(file.as_fd()).unwrap();
    if reports[0].warnings.iter().any(|warning| warning.contains("has no attributes like user.a")) {
        skipped("no extended attributes on this file system");
        return;
    }
    assert_eq!(names, [c"user.a".to_owned()]);
    assert_eq!(reports[0].warnings.len(), 5, "{:?}", reports[0].warnings);
}

#[test]
fn owners_capabilities_and_lists_are_mapped() {
    if !needs_root("giving files away") {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut list = vec![2, 0, 0, 0];
    for (tag, id) in [(1_u8, u32::MAX), (2, 5), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)] {
        list.extend_from_slice(&[tag, 0, 4, 0]);
        list.extend_from_slice(&id.to_le_bytes());
    }
    let layer = t().pax(
        "f",
        "",
        &[
            ("uid", b"7"),
            ("gid", b"8"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.system.posix_acl_access", &list),
        ],
    );
    let map = IdMap(vec![(0, 100_000, 1000)]);
    let owners = Owners::Mapped { uids: map.clone(), gids: map.clone(), squash: None };
    let options = Options { owners, ..Options::default() };
    let place = Place::new();
    place.apply(&[&layer], &options).unwrap();
    let stat = fs::metadata(place.rootfs().join("f")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (100_007, 100_008));
    assert_eq!(fs::metadata(place.rootfs()).unwrap().uid(), 100_000);
    let file = place.open("rootfs/f");
    let get = |name| libcontainer::sys::xattr::get(file.as_fd(), name).unwrap();
    let capability = get(c"security.capability").unwrap();
    assert_eq!((capability[3], capability.len()), (3, 24));
    assert_eq!(capability[20..], 100_000_u32.to_le_bytes());
    if let Ok(Some(list)) = libcontainer::sys::xattr::get(file.as_fd(), c"system.posix_acl_access")
    {
        assert_eq!(list[16..20], 100_005_u32.to_le_bytes());
    }
    let beyond = t().pax("f", "", &[("uid", b"1000")]);
    let error = place.apply(&[&beyond], &options).unwrap_err();
    assert!(error.to_string().contains("uid 1000 is in no range"), "{error}");
    let owners = Owners::Mapped { uids: map.clone(), gids: map, squash: Some((65534, 65534)) };
    place.apply(&[&beyond], &Options { owners, ..Options::default() }).unwrap();
    assert_eq!(fs::metadata(place.rootfs().join("f")).unwrap().uid(), 65534);
}

#[test]
fn devices_are_made_skipped_or_replaced() {
    let layer = t().item(&Item {
        name: b"null",
        flag: b'3',
        mode: 0o666,
        device: (1, 3),
        ..Item::default()
    });
    let both = layer.item(&Item { name: b"w", flag: b'3', mode: 0, ..Item::default() });
    for (devices, tree) in [
        (Devices::Create, vec!["c666 null 1:3", "c0 w 0:0"]),
        (Devices::Skip, vec![]),
        (Devices::Placeholder, vec!["f0 null=", "f0 w="]),
    ] {
        if devices == Devices::Create && !needs_root("making devices") {
            continue;
        }
        let place = Place::new();
        place.apply(&[&both], &Options { devices, ..Options::default() }).unwrap();
        assert_eq!(place.tree(), tree);
    }
}

fn overlay() -> Options<'static> {
    Options { format: Format::Overlay { userxattr: false }, ..Options::default() }
}

#[test]
fn the_overlay_form_has_its_own_whiteouts() {
    if !needs_root("whiteouts of overlayfs") {
        return;
    }
    let (lower, place) = (Place::new(), Place::new());
    let below = t()
        .file("a", "")
        .dir("d", 0o755)
        .file("d/b", "")
        .dir("o", 0o755)
        .file("o/c", "")
        .dir("e", 0o755)
        .file("e/old", "")
        .file("f", "");
    lower.apply(&[&below], &overlay()).unwrap();
    let lowers = [lower.open("rootfs")];
    let layer = t()
        .file(".wh.a", "")
        .file("d/.wh.b", "")
        .file("o/.wh..wh..opq", "")
        .file("o/.wh.c", "")
        .file("o/n", "")
        .file(".wh.e", "")
        .file("e/n", "")
        .file(".wh.f", "")
        .file("f", "1");
    place.apply(&[&layer], &Options { lowers: &lowers, ..overlay() }).unwrap();
    assert_eq!(
        place.tree(),
        [
            "c0 a 0:0",
            "d755 d",
            "c0 d/b 0:0",
            "d755 e",
            "f644 e/n=",
            "f644 f=1",
            "d755 o",
            "f644 o/n="
        ]
    );
    for name in ["rootfs/o", "rootfs/e"] {
        let fd = place.open(name);
        let value = libcontainer::sys::xattr::get(fd.as_fd(), c"trusted.overlay.opaque").unwrap();
        assert_eq!(value.as_deref(), Some(b"y".as_slice()), "{name}");
    }
}

#[test]
fn the_overlay_form_refuses_and_escapes_what_speaks_to_overlayfs() {
    if !needs_root("attributes of overlayfs") {
        return;
    }
    let place = Place::new();
    let device = t().item(&Item { name: b"w", flag: b'3', ..Item::default() });
    let error = place.apply(&[&device], &overlay()).unwrap_err();
    assert!(error.to_string().contains("takes for a whiteout"), "{error}");
    let layer = t().pax("f", "", &[("SCHILY.xattr.trusted.overlay.redirect", b"/x")]);
    place.apply(&[&layer], &overlay()).unwrap();
    let file = place.open("rootfs/f");
    let names = libcontainer::sys::xattr::list(file.as_fd()).unwrap();
    assert_eq!(names, [c"trusted.overlay.overlay.redirect".to_owned()]);
}

#[test]
fn the_overlay_form_takes_from_below_what_it_needs() {
    if !needs_root("the overlay form") {
        return;
    }
    let (lower, upper) = (Place::new(), Place::new());
    let below = t().dir("tmp", 0o1777).dir("usr", 0o711).symlink("lib", "usr").file("f", "content");
    lower.apply(&[&below], &overlay()).unwrap();
    let lowers = [lower.open("rootfs")];
    let options = Options { lowers: &lowers, ..overlay() };
    let layer = t().file("tmp/x", "").file("lib/y", "").link("g", "f");
    let reports = upper.apply(&[&layer], &options).unwrap();
    assert_eq!(
        upper.tree(),
        ["f644 f=content", "h g = f", "d1777 tmp", "f644 tmp/x=", "d711 usr", "f644 usr/y="]
    );
    assert!(reports[0].depends_on_lower);
}

#[test]
fn limits_hold_for_all_layers_together() {
    let place = Place::new();
    let limits = Limits { entries: 3, ..Limits::default() };
    let two = t().file("a", "").file("b", "");
    let used = place.apply(&[&two], &Options { limits, ..Options::default() }).unwrap()[0].used;
    assert_eq!(used.entries, 2);
    let error = place.apply(&[&two], &Options { limits, used, ..Options::default() }).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    let limits = Limits { unpacked: 4096, ..Limits::default() };
    let error = place
        .apply(&[&t().file("a", &"x".repeat(5000))], &Options { limits, ..Options::default() });
    assert_eq!(error.unwrap_err().kind(), Kind::NoSpace);
}

#[test]
fn a_large_file_comes_whole() {
    let data: String =
        (0..300_000).map(|number: u32| char::from(b'a' + (number % 23) as u8)).collect();
    let place = Place::new();
    let big = data.repeat(5);
    place.apply(&[&t().file("f", &big).file("g", "x")], &Options::default()).unwrap();
    assert!(fs::read_to_string(place.rootfs().join("f")).unwrap() == big);
    assert!(!root() || fs::metadata(place.rootfs().join("g")).unwrap().uid() == 0);
}

#[test]
fn what_waits_for_the_end_of_a_layer_is_bounded() {
    let value = vec![b'x'; 60_000];
    let keys: Vec<String> = (0..16).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let pax: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (key.as_bytes(), &*value)).collect();
    let layer = (0..80).fold(t(), |tar, number: u32| {
        let name = format!("d{number}");
        tar.item(&Item { name: name.as_bytes(), flag: b'5', pax: pax.clone(), ..Item::default() })
    });
    fails(&[&layer], "that is the limit");
}
