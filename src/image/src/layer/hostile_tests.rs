//! Hostile and broken layers: each is refused with an error that names layer, entry and rule, or is applied as decided.
//! None escapes: beside the root there is a victim that must be as it was.

use super::testing::{Item, Place, Tar, header, sum};
use super::{Options, Owners, apply};
use crate::error::Kind;
use crate::limits::Limits;

enum Then {
    /// An error with these words.
    Error(&'static str),
    /// This tree.
    Tree(&'static [&'static str]),
}
use Then::{Error, Tree};

fn t() -> Tar {
    Tar::new()
}

fn flagged(name: &[u8], flag: u8, link: &[u8]) -> Tar {
    t().item(&Item { name, flag, link, ..Item::default() })
}

fn device(flag: u8, major: u32, minor: u32) -> Tar {
    t().item(&Item { flag, device: (major, minor), ..Item::default() })
}

/// A header of `f` with a field changed and a right checksum.
fn field(at: usize, bytes: &[u8]) -> Tar {
    let mut block = header(b"f", b'0', b"", 0o644, 0, (0, 0));
    block[at..at + bytes.len()].copy_from_slice(bytes);
    t().raw(&sum(block), b"")
}

fn pax(records: &[u8]) -> Tar {
    t().raw(&header(b"x", b'x', b"", 0, records.len(), (0, 0)), records).file("f", "")
}

fn one_pax(key: &str, value: &[u8]) -> Tar {
    t().pax("f", "", &[(key, value)])
}

fn sparse(map: &[u8], size: &[u8]) -> Tar {
    t().pax("f", "abcde", &[("GNU.sparse.map", map), ("GNU.sparse.size", size)])
}

fn sparse_one(map: &str) -> Tar {
    let fields: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"99")];
    t().pax("f", map, fields)
}

/// Links, names and whiteouts that want out.
#[allow(clippy::too_many_lines, reason = "a table")]
fn escapes() -> Vec<(&'static str, Vec<Tar>, Then)> {
    let s = |to: &str| t().symlink("s", to);
    vec![
        (
            "dot dot",
            vec![t().file("../victim/file", "x")],
            Tree(&["d755 victim", "f644 victim/file=x"]),
        ),
        (
            "many dot dots",
            vec![t().file("a/../../../victim/file", "x")],
            Tree(&["d755 victim", "f644 victim/file=x"]),
        ),
        ("absolute", vec![t().file("/etc/passwd", "x")], Tree(&["d755 etc", "f644 etc/passwd=x"])),
        (
            "CVE-2021-29136 .",
            vec![t().symlink(".", "../victim").file("file", "x")],
            Error("the root directory as something else"),
        ),
        (
            "CVE-2021-29136 /",
            vec![t().symlink("/", "../victim")],
            Error("the root directory as something else"),
        ),
        (
            "CVE-2021-29136 a/..",
            vec![t().symlink("a/..", "../victim")],
            Error("the root directory as something else"),
        ),
        (
            "root as a file",
            vec![t().file("./", "x")],
            Error("the root directory as something else"),
        ),
        (
            "root as a hard link",
            vec![t().link("/", "f")],
            Error("the root directory as something else"),
        ),
        (
            "root as a device",
            vec![flagged(b".", b'3', b"")],
            Error("the root directory as something else"),
        ),
        (
            "through a relative symlink",
            vec![s("../victim").file("s/file", "x")],
            Tree(&["l s -> ../victim", "d755 victim", "f644 victim/file=x"]),
        ),
        (
            "through an earlier layer's",
            vec![s("../victim"), t().file("s/file", "x")],
            Tree(&["l s -> ../victim", "d755 victim", "f644 victim/file=x"]),
        ),
        (
            "through a chain",
            vec![t().symlink("a", "b").symlink("b", "..").file("a/victim/file", "x")],
            Tree(&["l a -> b", "l b -> ..", "d755 victim", "f644 victim/file=x"]),
        ),
        ("onto a symlink", vec![s("../victim/file").file("s", "x")], Tree(&["f644 s=x"])),
        ("a directory onto a symlink", vec![s("../victim").dir("s", 0o777)], Tree(&["d777 s"])),
        (
            "CVE-2026-33056",
            vec![t().dir("s", 0o777).symlink("s", "../victim")],
            Tree(&["l s -> ../victim"]),
        ),
        (
            "CVE-2026-33056 below",
            vec![t().dir("a/s", 0o777).symlink("a", "../victim")],
            Tree(&["l a -> ../victim"]),
        ),
        ("a fifo onto a symlink", vec![s("../victim/file").flag("s", b'6')], Tree(&["p644 s"])),
        (
            "CVE-2018-20990",
            vec![s("../victim/file").link("h", "s").file("h", "x")],
            Tree(&["f644 h=x", "l s -> ../victim/file"]),
        ),
        ("a hard link out", vec![t().link("h", "../victim/file")], Error("not there")),
        ("an absolute hard link", vec![t().link("h", "/etc/shadow")], Error("not there")),
        (
            "a hard link through a symlink",
            vec![s("../victim").link("h", "s/file")],
            Error("not there"),
        ),
        (
            "a hard link to a directory",
            vec![t().dir("d", 0o755).link("h", "d")],
            Error("hard link to the directory"),
        ),
        ("a hard link to itself", vec![t().link("h", "h")], Error("hard link to itself")),
        (
            "two hard links to each other",
            vec![t().link("a", "b").link("b", "a")],
            Error("not there"),
        ),
        ("a hard link to nothing", vec![flagged(b"h", b'1', b"")], Error("hard link to the root")),
        (
            "a hard link to a whiteout",
            vec![t().link("h", ".wh.x")],
            Error("hard link to a whiteout"),
        ),
        (
            "a whiteout through a symlink",
            vec![s("../victim"), t().file("s/.wh.file", "")],
            Tree(&["l s -> ../victim"]),
        ),
        (
            "an opaque symlink",
            vec![s("../victim"), t().file("s/.wh..wh..opq", "")],
            Tree(&["l s -> ../victim"]),
        ),
        (
            "a whiteout of dot dot",
            vec![t().dir("a", 0o755).file("a/.wh...", "")],
            Error("whiteout of nothing"),
        ),
        (
            "a whiteout of dot",
            vec![t().dir("a", 0o755).file("a/.wh..", "")],
            Error("whiteout of nothing"),
        ),
        ("a whiteout of nothing", vec![t().file(".wh.", "")], Error("whiteout of nothing")),
        ("a whiteout with a slash", vec![t().file(".wh.../victim", "")], Error("below a whiteout")),
        (
            "symlinks in a loop",
            vec![t().symlink("a", "b").symlink("b", "a").file("a/f", "")],
            Error("loop"),
        ),
        ("a symlink to itself", vec![t().symlink("a", "a").file("a/f", "")], Error("loop")),
        ("a symlink to nothing", vec![flagged(b"s", b'2', b"")], Error("target has 0 bytes")),
        (
            "a symlink longer than PATH_MAX",
            vec![t().symlink("s", &"x/".repeat(2100))],
            Error("target has 4200 bytes"),
        ),
    ]
}

/// Archives that are wrong, or that readers understand differently.
#[allow(clippy::too_many_lines, reason = "a table")]
fn archives() -> Vec<(&'static str, Vec<Tar>, Then)> {
    let mut wrong_sum = header(b"f", b'0', b"", 0o644, 0, (0, 0));
    wrong_sum[0] = b'g';
    let two = [header(b"x", b'x', b"", 0, 0, (0, 0)), header(b"x", b'x', b"", 0, 0, (0, 0))];
    let many: String = (0..70_000).map(|n| format!("{},0,", n * 2)).collect();
    let many = many.trim_end_matches(',').to_owned();
    let long_line = "9".repeat(100_000);
    vec![
        ("a wrong checksum", vec![t().raw(&wrong_sum, b"")], Error("checksum")),
        ("noise", vec![Tar(vec![0x5a; 2048])], Error("checksum")),
        ("half a header", vec![Tar(vec![b'a'; 100])], Error("checksum")),
        (
            "a lone zero block",
            vec![Tar([vec![0; 512], t().file("f", "").0].concat())],
            Error("single zero block"),
        ),
        (
            "entries behind the end",
            vec![Tar([t().file("f", "").end(), t().file("g", "").0].concat())],
            Tree(&["f644 f="]),
        ),
        ("a size that wraps", vec![field(124, b"\x80\0\0\x01\0\0\0\0\0\0\x02\0")], Error("size")),
        (
            "a negative size",
            vec![field(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")],
            Error("negative"),
        ),
        (
            "a size of 2^63-1",
            vec![field(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")],
            Error("archive ends"),
        ),
        ("a size of letters", vec![field(124, b"zzz")], Error("size")),
        ("a negative uid", vec![field(108, b"\xff\xff\xff\xff\xff\xff\xff\xff")], Error("uid -1")),
        ("a uid of 2^32-1", vec![one_pax("uid", b"4294967295")], Error("uid 4294967295")),
        ("a uid of 2^32", vec![one_pax("uid", b"4294967296")], Error("uid 4294967296")),
        ("a gid of words", vec![one_pax("gid", b"root")], Error("no number")),
        ("a time of words", vec![one_pax("mtime", b"now")], Error("no number")),
        ("a time before 1970", vec![one_pax("mtime", b"-1.5")], Tree(&["f644 f="])),
        (
            "a time at the end of time",
            vec![one_pax("mtime", b"9223372036854775807")],
            Tree(&["f644 f="]),
        ),
        (
            "a hard link with data",
            vec![t().raw(&header(b"h", b'1', b"f", 0, 5, (0, 0)), b"12345")],
            Error("has a size"),
        ),
        (
            "a symlink with data",
            vec![t().raw(&header(b"h", b'2', b"f", 0, 5, (0, 0)), b"12345")],
            Error("has a size"),
        ),
        (
            "a directory with a size",
            vec![t().raw(&header(b"d", b'5', b"", 0o755, 5, (0, 0)), b"").file("f", "")],
            Tree(&["d755 d", "f644 f="]),
        ),
        ("an unknown type", vec![t().flag("f", b'Z')], Error("unknown type 'Z'")),
        ("a GNU volume", vec![t().flag("f", b'V')], Error("unknown type 'V'")),
        ("a GNU continuation", vec![t().flag("f", b'M')], Error("unknown type 'M'")),
        ("a GNU directory dump", vec![t().flag("f", b'D')], Error("unknown type 'D'")),
        (
            "contiguous",
            vec![t().item(&Item { flag: b'7', data: b"x", ..Item::default() })],
            Tree(&["f644 f=x"]),
        ),
        (
            "a pax header about nothing",
            vec![t().raw(&header(b"x", b'x', b"", 0, 0, (0, 0)), b"")],
            Error("ends where an entry must be"),
        ),
        (
            "two pax headers",
            vec![t().raw(&two[0], b"").raw(&two[1], b"").file("f", "")],
            Error("two extension headers"),
        ),
        (
            "a record longer than its header",
            vec![pax(b"99 path=x\n")],
            Error("not what its length says"),
        ),
        ("a record without newline", vec![pax(b"9 path=xx")], Error("not what its length says")),
        ("a record of no length", vec![pax(b"path=x\n")], Error("not what its length says")),
        (
            "records after a bad one",
            vec![pax(b"9 path=g\nx\n10 size=99\n")],
            Error("not what its length says"),
        ),
        ("a NUL in a pax path", vec![one_pax("path", b"a\0b")], Error("NUL")),
        (
            "a pax header beyond the limit",
            vec![one_pax("comment", &vec![b'x'; 2 << 20])],
            Error("larger than the limit"),
        ),
        (
            "a GNU name beyond the limit",
            vec![
                t().raw(&header(b"L", b'L', b"", 0, 100_000, (0, 0)), &vec![b'x'; 100_000])
                    .file("f", ""),
            ],
            Error("larger than the limit"),
        ),
        (
            "a header that says 8 GiB of records",
            vec![t().raw(&header(b"x", b'x', b"", 0, 0o77_777_777_777, (0, 0)), b"")],
            Error("larger than the limit"),
        ),
        (
            "an attribute beyond the limit",
            vec![one_pax("SCHILY.xattr.user.a", &vec![b'x'; 70_000])],
            Error("larger than the limit"),
        ),
        (
            "an attribute's name beyond the limit",
            vec![one_pax(&format!("SCHILY.xattr.user.{}", "a".repeat(300)), b"x")],
            Error("longer than 255"),
        ),
        ("a component beyond the limit", vec![t().file(&"x".repeat(256), "")], Error("component")),
        ("a name of 70 000 bytes", vec![t().file(&"x/".repeat(35_000), "")], Error("length")),
        ("10 000 directories deep", vec![t().file(&"x/".repeat(10_000), "")], Error("depth")),
        ("pieces that overlap", vec![sparse(b"0,3,2,2", b"10")], Error("overlap")),
        ("pieces out of order", vec![sparse(b"5,3,0,2", b"10")], Error("out of order")),
        (
            "a piece behind the end",
            vec![sparse(b"0,3,9,2", b"10")],
            Error("a piece that ends at 11"),
        ),
        ("pieces of more than the data", vec![sparse(b"0,9", b"10")], Error("its data 5")),
        (
            "a piece with no end",
            vec![sparse(b"0,3,9223372036854775807,9223372036854775807", b"10")],
            Error("sparse"),
        ),
        ("an odd map", vec![sparse(b"0,3,5", b"10")], Error("odd count")),
        (
            "a file of 8 EiB of holes",
            vec![sparse(b"0,5", b"9223372036854775807")],
            Error("that is the limit"),
        ),
        (
            "CVE-2025-58183",
            vec![sparse(many.as_bytes(), b"200000")],
            Error("more than 65536 pieces"),
        ),
        ("CVE-2025-58183, version 1.0", vec![sparse_one("9000000\n")], Error("9000000 pieces")),
        ("a map without end", vec![sparse_one(&long_line)], Error("sparse")),
        ("a map cut short", vec![sparse_one("2\n0\n5\n")], Error("ends in a sparse file")),
        ("a sparse file of no GNU header", vec![t().flag("f", b'S')], Error("not GNU's")),
        ("a device major number that wraps to 0", vec![device(b'3', 4096, 0)], Error("major")),
        ("a block device's", vec![device(b'4', 1 << 20, 0)], Error("major")),
        ("a device minor number that wraps to 0", vec![device(b'3', 0, 1 << 20)], Error("minor")),
        (
            "a device of version 7",
            vec![{
                let mut b = header(b"f", b'3', b"", 0, 0, (1, 3));
                b[257..265].fill(0);
                t().raw(&sum(b), b"")
            }],
            Error("version 7"),
        ),
        ("an empty layer", vec![t()], Tree(&[])),
    ]
}

/// Whether `text` has the layer, and the entry by the name it has there; or says that it is the first, or which it comes after.
fn says_where(text: &str, layers: &[&Tar]) -> bool {
    let Some(text) = text.strip_prefix("layer 7: ") else { return false };
    if text.starts_with("at the first entry: ") {
        return true;
    }
    let Some(text) = text.strip_prefix("after entry ").unwrap_or(text).strip_prefix('"') else {
        return false;
    };
    let Some((name, rest)) = text.split_once('"') else { return false };
    // Long ones are shown in part.
    let name = name.split("[...]").next().unwrap_or_default().as_bytes();
    let there = |tar: &&Tar| tar.0.windows(name.len()).any(|bytes| bytes == name);
    !name.is_empty()
        && layers.iter().any(there)
        && (rest.starts_with(": ") || rest.starts_with(" (number "))
}

#[test]
fn hostile_layers_are_refused_or_applied_as_decided() {
    let table: Vec<_> = escapes().into_iter().chain(archives()).collect();
    assert!(table.len() >= 60, "{}", table.len());
    for (what, layers, then) in table {
        let place = Place::new();
        let victim = place.victim();
        let layers: Vec<&Tar> = layers.iter().collect();
        let options = Options { name: "layer 7".into(), ..Options::default() };
        let result = place.apply(&layers, &options);
        match (&then, &result) {
            (Error(says), Err(error)) => {
                let text = error.to_string();
                assert!(text.contains(says), "{what}: {text}");
                assert!(says_where(&text, &layers), "{what}: {text}");
                assert_ne!(error.kind(), Kind::Generic, "{what}: {text}");
            }
            (Tree(tree), Ok(_)) => assert_eq!(place.tree(), *tree, "{what}"),
            (_, Ok(_)) => panic!("{what}: applied: {:?}", place.tree()),
            (_, Err(error)) => panic!("{what}: {error}"),
        }
        assert_eq!(place.victim(), victim, "{what}");
    }
}

#[test]
fn a_layer_cut_at_any_byte_does_not_hang_and_stays_inside() {
    let layer =
        t().dir("d", 0o755).pax("d/f", &"x".repeat(600), &[("mtime", b"1.5")]).symlink("s", "d");
    let whole = layer.end();
    for length in (0..whole.len()).step_by(37) {
        let place = Place::new();
        use std::os::fd::AsFd;
        let root = place.open("rootfs");
        let options = Options { owners: Owners::Single, ..Options::default() };
        let _either = apply(&whole[..length], root.as_fd(), &options);
    }
}

/// CVE-2018-15664: somebody inside swaps a directory for a symlink while a layer goes into it.
#[test]
fn a_directory_that_is_swapped_meanwhile_leads_nowhere() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut layer = t();
    for n in 0..400 {
        layer = layer.dir(&format!("a{}/b", n % 2), 0o755).file(&format!("a{}/b/f{n}", n % 2), "x");
        layer = layer.link(&format!("a{}/l{n}", n % 2), &format!("a{}/b/f{n}", n % 2));
        layer = layer.file(&format!("a{}/.wh.file", n % 2), "");
    }
    for _ in 0..5 {
        let place = Place::new();
        let victim = place.victim();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (root, mut swapped) = (place.rootfs(), 0);
                std::os::unix::fs::symlink("../victim", root.join("s")).unwrap();
                std::os::unix::fs::symlink(place.0.join("victim"), root.join("t")).unwrap();
                while !over.load(Ordering::Relaxed) || swapped < 2 {
                    for (name, link) in [("a0", "s"), ("a1", "t")] {
                        // Each becomes the other, when both are there.
                        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                        let (one, two) = (root.join(name), root.join(link));
                        let at = nix::fcntl::AT_FDCWD;
                        let _either = nix::fcntl::renameat2(at, &one, at, &two, flags);
                    }
                    swapped += 1;
                }
            });
            let _either = place.apply(&[&layer], &Options::default());
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(place.victim(), victim);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn name(&mut self) -> String {
        const PARTS: [&str; 14] = [
            "a",
            "b",
            "c",
            "d",
            "..",
            ".",
            "",
            ".wh.a",
            ".wh..wh..opq",
            ".wh.",
            "victim",
            "a/b",
            "file",
            ".wh.b",
        ];
        let count = 1 + self.below(4);
        let parts: Vec<&str> = (0..count).map(|_| PARTS[self.below(14)]).collect();
        parts.join("/")
    }
}

/// Layers of entries with few names, so that they meet: whatever comes of it is inside the root and can be removed.
#[test]
fn random_layers_stay_inside() {
    for seed in 1..=100_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let place = Place::new();
        let victim = place.victim();
        for _ in 0..3 {
            let mut layer = t();
            for _ in 0..12 {
                let (name, link) = (random.name(), random.name());
                let name = if name.is_empty() { "x".into() } else { name };
                layer = match random.below(6) {
                    0 => layer.dir(&name, [0o755, 0o500, 0, 0o1777][random.below(4)]),
                    1 => layer.symlink(
                        &name,
                        ["..", "/", "../victim", "a", "b/c", "/victim"][random.below(6)],
                    ),
                    2 => layer.link(&name, &link),
                    3 => layer.flag(&name, b'6'),
                    _ => layer.file(&name, "x"),
                };
            }
            let mut bytes = layer;
            if random.below(3) == 0 {
                let at = random.below(bytes.0.len());
                bytes.0[at] ^= 1 << random.below(8);
            }
            let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
            let _either = place.apply(&[&bytes], &Options { limits, ..Options::default() });
        }
        assert_eq!(place.victim(), victim, "seed {seed}");
    }
}

#[test]
fn what_waits_for_the_end_is_counted_as_what_it_takes() {
    use std::sync::atomic::AtomicUsize;
    let many = |entry: fn(Tar, usize) -> Tar| (0..3000).fold(t(), entry);
    let lower = t().dir("lower", 0o755);
    for (what, layer, bytes) in [
        ("directories", many(|tar, n| tar.dir(&format!("d{n}"), 0o755)), 500_000),
        ("links", many(|tar, n| tar.link(&format!("l{n}"), &format!("gone{n}"))), 300_000),
        ("files", many(|tar, n| tar.file(&format!("f{n}"), "")), 40_000),
        ("a long way", t().dir(&format!("{}d", "d/".repeat(1500)), 0o755), 1_000_000),
    ] {
        let held = AtomicUsize::new(20_000_000);
        let place = Place::new();
        let mut options = Options::default();
        options.limits.memory = bytes;
        let error = place.apply(&[&lower, &layer], &options).unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace, "{what}: {error}");
        assert!(error.to_string().contains("--max-memory"), "{what}: {error}");
        // With what the decompression holds it is the same limit.
        options.limits.memory = 20_000_000 + bytes;
        options.held = Some(&held);
        let place = Place::new();
        let error = place.apply(&[&lower, &layer], &options).unwrap_err();
        assert!(error.to_string().contains("with 20000000 of the window"), "{what}: {error}");
        // A limit four times as large is enough.
        options.limits.memory = 4 * bytes;
        options.held = None;
        match Place::new().apply(&[&lower, &layer], &options) {
            Ok(_) => assert_ne!(what, "links"),
            Err(error) => assert_eq!((error.kind(), what), (Kind::Verification, "links")),
        }
    }
}
