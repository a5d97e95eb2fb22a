//! The two forms of a layer are one file system: what the plain form gives is what overlayfs shows of the other.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libcontainer::sys::xattr;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::testing::{Item, Place, Tar, needs_root};
use super::{Devices, Format, Options, Report, apply};
use crate::Kind;
use crate::error::Result;
use crate::limits::Limits;

fn t() -> Tar {
    Tar::new()
}

fn overlay() -> Options<'static> {
    Options { format: Format::Overlay { userxattr: false }, ..Options::default() }
}

/// All that is in a tree, but for what of it is the same inode: of a file of a lower layer overlayfs copies one name.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    list(root, Path::new(""), &mut lines);
    lines
}

fn list(root: &Path, below: &Path, lines: &mut Vec<String>) {
    let directory = fs::File::open(root.join(below)).unwrap();
    // Both by name, for a name that readdir(3) gives and stat(2) does not have is a fault too.
    let entries = fs::read_dir(root.join(below)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let shown = below.join(&name);
        let stat = match fs::symlink_metadata(root.join(&shown)) {
            Ok(stat) => stat,
            Err(error) => {
                lines.push(format!("{}: {error}", shown.display()));
                continue;
            }
        };
        let kind = stat.file_type();
        let mut line = format!(
            "{:o} {}:{} {}.{:09} {}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
            shown.display()
        );
        if kind.is_symlink() {
            line += &format!(" -> {}", fs::read_link(root.join(&shown)).unwrap().display());
        } else if kind.is_file() {
            line += &format!(" = {}", fs::read(root.join(&shown)).unwrap().escape_ascii());
        } else if !kind.is_dir() {
            line += &format!(" {}", stat.rdev());
        }
        let base = std::ffi::CString::new(name.as_encoded_bytes()).unwrap();
        for name in xattr::list_at(directory.as_fd(), &base).unwrap() {
            let value = xattr::get_at(directory.as_fd(), &base, &name).unwrap().unwrap();
            if !name.to_bytes().starts_with(b"trusted.") {
                line += &format!(" {}={}", name.to_string_lossy(), value.escape_ascii());
            }
        }
        lines.push(line);
        if kind.is_dir() {
            list(root, &shown, lines);
        }
    }
}

/// Layers in overlay form, each in a directory of its own.
struct Stack {
    places: Vec<Place>,
    reports: Vec<Report>,
    mounted: Option<PathBuf>,
}

impl Stack {
    fn new(layers: &[&Tar], options: &Options<'_>) -> Result<Self> {
        let mut stack = Self { places: Vec::new(), reports: Vec::new(), mounted: None };
        for layer in layers {
            let lowers: Vec<OwnedFd> =
                stack.places.iter().rev().map(|place| place.open("rootfs")).collect();
            let format = Format::Overlay { userxattr: false };
            let options = Options { format, lowers: &lowers, ..options.clone() };
            let place = Place::new();
            let report = apply(&*layer.end(), place.open("rootfs").as_fd(), &options);
            stack.places.push(place);
            stack.reports.push(report?);
        }
        Ok(stack)
    }

    /// What overlayfs makes of them.
    fn mount(&mut self) -> PathBuf {
        let empty = Place::new();
        let mut lowers = Vec::new();
        for (place, report) in self.places.iter().zip(&self.reports).rev() {
            lowers.push(place.rootfs().display().to_string());
            if report.opaque_root {
                break;
            }
        }
        // One alone is not taken.
        lowers.push(empty.rootfs().display().to_string());
        let data = format!("lowerdir={}", lowers.join(":"));
        let at = empty.0.join("victim");
        mount(Some("skep-test"), &at, Some("overlay"), MsFlags::empty(), Some(&*data)).unwrap();
        self.places.push(empty);
        self.mounted = Some(at.clone());
        at
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(at) = &self.mounted {
            umount2(at, MntFlags::MNT_DETACH).unwrap();
        }
    }
}

/// Applies layers in both forms; both fail, or both are the same.
#[track_caller]
fn same_with(layers: &[&Tar], options: &Options<'_>, what: &str) -> Option<Vec<String>> {
    let place = Place::new();
    let plain = place.apply(layers, options);
    let stack = Stack::new(layers, options);
    match (plain, stack) {
        (Ok(_), Ok(mut stack)) => {
            let (plain, at) = (listing(&place.rootfs()), stack.mount());
            assert_eq!(listing(&at), plain, "{what}: overlay and plain");
            Some(plain)
        }
        (Err(plain), Err(overlay)) => {
            assert_eq!(overlay.to_string(), plain.to_string(), "{what}");
            None
        }
        (plain, stack) => panic!(
            "{what}: plain {:?}, overlay {:?}",
            plain.map(drop).map_err(|error| error.to_string()),
            stack.map(drop).map_err(|error| error.to_string())
        ),
    }
}

#[track_caller]
fn same(layers: &[&Tar]) -> Vec<String> {
    same_with(layers, &Options::default(), "").unwrap_or_default()
}

#[test]
fn what_a_layer_has_hidden_so_far_is_not_seen() {
    if !needs_root("the overlay form") {
        return;
    }
    let lower = t()
        .dir("etc", 0o711)
        .symlink("a", "etc")
        .file("f", "below")
        .dir("d", 0o711)
        .file("d/old", "o")
        .dir("d/sub", 0o700)
        .file("d/sub/old", "o");
    for (what, layer) in [
        ("a symlink, then below it", t().file(".wh.a", "").file("a/f", "x")),
        ("below a symlink, then it", t().file("a/f", "x").file(".wh.a", "")),
        ("below a file of this layer", t().file("p", "1").file("p/.wh.x", "")),
        ("below a file of a lower one", t().file("f/.wh.x", "")),
        ("where nothing is", t().file("n/.wh.x", "").file("n/.wh..wh..opq", "").file(".wh.m", "")),
        ("in a directory of this alone", t().dir("n", 0o755).file("n/.wh.x", "")),
        ("nothing, in a lower directory", t().file("d/.wh.x", "")),
        ("nothing, behind a symlink", t().file("a/.wh.x", "")),
        ("a directory, then in it", t().file(".wh.d", "").file("d/n", "")),
        ("in a directory, then it", t().file("d/sub/n", "").file(".wh.d", "")),
        ("twice", t().file("d/n", "").file(".wh.d", "").file(".wh.d", "").file("d/.wh.old", "")),
        ("a directory, then an entry of it", t().file(".wh.d", "").dir("d", 0o755)),
        ("an entry of a directory, then it", t().dir("d", 0o755).file(".wh.d", "")),
        ("in it and all of it", t().file("d/.wh.old", "").file("d/.wh..wh..opq", "")),
        ("all of it and in it", t().file("d/.wh..wh..opq", "").file("d/.wh.old", "")),
        ("all of what is in it and it", t().file("d/.wh..wh..opq", "").file(".wh.d", "")),
        (
            "all of what is in it, more, and it",
            t().file("d/.wh..wh..opq", "").file("d/sub/n", "").file(".wh.d", ""),
        ),
        ("a file over a directory, then another", t().file("d", "").dir("d", 0o755)),
        ("a file over a directory, then in it", t().file("d", "").file("d/n", "")),
        ("a file over a directory, then it", t().file("d", "").file(".wh.d", "")),
        ("the root, then in it", t().file(".wh..wh..opq", "").file("a/x", "").file("d/n", "")),
        ("in it, then the root", t().file("a/x", "").file("d/n", "").file(".wh..wh..opq", "")),
        (
            "a link to what is hidden then",
            t().link("g", "f").file(".wh.f", "").link("h", "d/old").file(".wh.d", ""),
        ),
        ("a link to what is made anew then", t().link("g", "f").file("f", "new")),
        ("a link, whose directory is hidden then", t().link("d/n", "f").file(".wh.d", "")),
        (
            "an entry behind a symlink that is replaced then",
            t().file("a/x", "").symlink("a", "d").file("a/y", "").dir("a/z", 0o500),
        ),
        ("a directory behind a lower symlink", t().dir("a/n", 0o750).dir("a/sub", 0o2755)),
    ] {
        same_with(&[&lower, &layer], &Options::default(), what);
        // With something in between that has nothing of it.
        same_with(&[&lower, &t().file("other", ""), &layer], &Options::default(), what);
        same_with(&[&lower, &layer, &t().file("d/after", "")], &Options::default(), what);
    }
    for hidden in [t().file(".wh.f", "").link("g", "f"), t().file(".wh.d", "").link("g", "d/old")] {
        let error = Stack::new(&[&lower, &hidden], &Options::default()).err().unwrap();
        assert!(error.to_string().contains("which is not there"), "{error}");
        assert!(same_with(&[&lower, &hidden], &Options::default(), "").is_none());
    }
    // Nothing is made of what is nowhere, and no whiteout where there is nothing to hide.
    let nothing = t().file("n/.wh.x", "").file("p", "1").file("p/.wh.x", "").file(".wh.q", "");
    let stack = Stack::new(&[&lower, &nothing], &Options::default()).unwrap();
    assert_eq!(stack.places[1].tree(), ["f644 p=1"]);
    // For another image's layers it would be another tree.
    assert!(stack.reports[1].depends_on_lower);
}

#[test]
fn a_hard_link_may_lead_to_anything_below() {
    if !needs_root("the overlay form") {
        return;
    }
    let device = Item { name: b"null", flag: b'3', mode: 0o666, device: (1, 3), ..Item::default() };
    let lower = t()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o711)
        .pax("usr/lib/x", "1", &[("SCHILY.xattr.user.a", b"1"), ("mtime", b"7.5")])
        .symlink("lib", "usr/lib")
        .symlink("s", "nowhere")
        .flag("p", b'6')
        .item(&device);
    let links =
        t().link("a", "lib/x").link("b", "s").link("c", "p").link("e", "null").link("f", "a");
    let tree = same(&[&lower, &links]);
    assert!(tree.iter().any(|line| line.ends_with("7.500000000 a = 1 user.a=1")), "{tree:#?}");
    same(&[&lower, &t().link("a", "lib")]);
    assert!(same_with(&[&lower, &t().link("a", "usr/lib")], &Options::default(), "").is_none());
    // A link that is made may be the way to the next.
    same(&[&lower, &t().link("z", "y/x").link("y", "l").symlink("l", "usr/lib")]);
}

#[test]
fn other_options_make_no_difference() {
    if !needs_root("the overlay form") {
        return;
    }
    let device = Item { name: b"d", flag: b'3', mode: 0o666, device: (1, 3), ..Item::default() };
    let lower =
        t().dir("d", 0o755).file("d/f", "").dir("e", 0o711).symlink("s", "e").symlink("t", "x");
    for devices in [Devices::Create, Devices::Skip, Devices::Placeholder] {
        let options = Options { devices, ..Options::default() };
        same_with(&[&lower, &t().item(&device)], &options, "over a directory");
        same_with(&[&lower, &t().item(&device).file("d/n", "")], &options, "and below it");
        same_with(&[&lower, &t().file(".wh.d", "").item(&device)], &options, "that is hidden");
    }
    let options = Options { keep_dirlinks: true, ..Options::default() };
    for layer in [t().dir("s", 0o700).file("s/f", ""), t().dir("t", 0o700), t().dir("t/u", 0o700)] {
        same_with(&[&lower, &layer], &options, "a kept symlink");
        same_with(&[&lower, &layer.file(".wh.s", "")], &options, "a kept symlink, hidden");
    }
}

#[test]
fn an_opaque_root_is_said() {
    if !needs_root("the overlay form") {
        return;
    }
    let lower = t().file("f", "").dir("d", 0o755);
    let layer = t().file(".wh..wh..opq", "").file("g", "").dir("d", 0o700);
    let stack = Stack::new(&[&lower, &layer, &t().file("h", "")], &Options::default()).unwrap();
    assert_eq!(
        stack.reports.iter().map(|r| r.opaque_root).collect::<Vec<_>>(),
        [false, true, false]
    );
    let tree = same(&[&lower, &layer, &t().file("d/h", "").file(".wh.f", "")]);
    assert_eq!(tree.len(), 3, "{tree:?}");
}

#[test]
fn what_is_copied_from_below_is_held_against_the_limit_and_has_its_holes() {
    if !needs_root("the overlay form") {
        return;
    }
    let sparse: &[(&str, &[u8])] =
        &[("GNU.sparse.map", b"0,1,8388608,1"), ("GNU.sparse.size", b"16777216")];
    let lower = t().pax("s", "xy", sparse);
    let layer = t().link("h", "s");
    let unpacked =
        |unpacked| Options { limits: Limits { unpacked, ..Limits::default() }, ..overlay() };
    let below = Place::new();
    let used = below.apply(&[&lower], &unpacked(17 << 20)).unwrap()[0].used;
    assert!(used.bytes >= 16 << 20, "holes are bytes wherever the file is copied");
    let lowers = [below.open("rootfs")];
    let upper = Place::new();
    let options = Options { lowers: &lowers, used, ..unpacked(17 << 20) };
    assert_eq!(upper.apply(&[&layer], &options).unwrap_err().kind(), Kind::NoSpace);
    let upper = Place::new();
    let options = Options { lowers: &lowers, used, ..unpacked(40 << 20) };
    assert!(upper.apply(&[&layer], &options).unwrap()[0].used.bytes >= 32 << 20);
    let (from, to) = (below.rootfs().join("s"), upper.rootfs().join("h"));
    assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
    assert!(fs::metadata(&to).unwrap().blocks() <= fs::metadata(&from).unwrap().blocks() + 16);
    // Many sparse files are together what each is alone.
    let many = (0..3).fold(t(), |tar, number| tar.pax(&format!("s{number}"), "xy", sparse));
    let error =
        Place::new().apply(&[&many], &Options { format: Format::Plain, ..unpacked(40 << 20) });
    assert_eq!(error.unwrap_err().kind(), Kind::NoSpace);
}

#[test]
fn nothing_is_inherited_from_a_directory_below() {
    if !needs_root("giving files away") {
        return;
    }
    // A default list with an entry for the user 7.
    let mut list = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1_u8, 7_u8, u32::MAX), (2, 7, 7), (4, 7, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        list.extend_from_slice(&[tag, 0, permissions, 0]);
        list.extend_from_slice(&id.to_le_bytes());
    }
    let pax = vec![
        (b"gid".as_slice(), b"50".as_slice()),
        (b"SCHILY.xattr.system.posix_acl_default", &list),
    ];
    let local = Item { name: b"local", flag: b'5', mode: 0o2775, pax, ..Item::default() };
    let lower = t().item(&local).dir("local/there", 0o755);
    let upper = t()
        .dir("local/app", 0o755)
        .file("local/app/f", "x")
        .file("local/app/implied/f", "x")
        .file("local/f", "x")
        .flag("local/p", b'6')
        .symlink("local/s", "x")
        .file("local/there/f", "x");
    let tree = same(&[&lower, &upper]);
    assert_eq!(tree.len(), 10);
    for line in tree.iter().filter(|line| !line.contains(" local ")) {
        assert!(line.contains(" 0:0 ") && !line.contains("posix_acl"), "{line}");
    }
    let place = Place::new();
    let options = Options { owners: super::Owners::Single, ..Options::default() };
    place.apply(&[&t().item(&Item { pax: vec![], ..local })], &options).unwrap();
    std::os::unix::fs::chown(place.rootfs().join("local"), None, Some(50)).unwrap();
    place.apply(&[&upper], &Options { first: false, ..options }).unwrap();
    let listed = listing(&place.rootfs());
    assert!(listed.iter().skip(1).all(|line| line.contains(" 0:0 ")), "{listed:#?}");
}

#[test]
fn what_a_layer_costs_grows_with_its_size_alone() {
    // Each waits for the next.
    let count = 20_000;
    let name = |number: usize| format!("l{number:06}");
    let chain = (0..count).fold(t(), |tar, number| tar.link(&name(number), &name(number + 1)));
    let place = Place::new();
    place.apply(&[&chain.file(&name(count), "x")], &Options::default()).unwrap();
    assert_eq!(fs::metadata(place.rootfs().join(name(0))).unwrap().nlink(), 20_001);
    // Each hides again what is left of a directory.
    let again = (0..2_000).fold(t(), |tar, _| tar.file(".wh.d", "").file("d/.wh..wh..opq", ""));
    let mut full = (0..2_000).fold(t(), |tar, number| tar.file(&format!("d/{number}"), ""));
    full.0.extend_from_slice(&again.0);
    let place = Place::new();
    place.apply(&[&t().file("d/old", ""), &full], &Options::default()).unwrap();
    assert_eq!(fs::read_dir(place.rootfs().join("d")).unwrap().count(), 2_000);
    let records: Vec<u8> =
        (0..30_000).flat_map(|n| format!("28 SCHILY.xattr.user.{n:05}=\n").into_bytes()).collect();
    assert_eq!(records.len(), 30_000 * 28);
    let header = super::testing::header(b"pax", b'x', b"", 0o644, records.len(), (0, 0));
    let layer = t().raw(&header, &records).file("f", "");
    let error = Place::new().apply(&[&layer], &Options::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(error.to_string().contains("more than 256 extended attributes"), "{error}");
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Few names, so that they meet.
    fn name(&mut self) -> String {
        let count = 1 + self.below(3);
        let parts: Vec<&str> = (0..count).map(|_| ["a", "b", "c"][self.below(3)]).collect();
        parts.join("/")
    }

    fn layer(&mut self, entries: usize) -> Tar {
        let mut layer = t();
        for _ in 0..entries {
            let name = self.name();
            let (parent, base) = name.rsplit_once('/').unwrap_or(("", &name));
            let mtime = format!("{}.25", self.below(1_000_000));
            let pax: Vec<(&[u8], &[u8])> = match self.below(3) {
                0 => vec![(b"SCHILY.xattr.user.a", b"1"), (b"mtime", mtime.as_bytes())],
                1 => vec![(b"uid", b"5"), (b"gid", b"6"), (b"mtime", mtime.as_bytes())],
                _ => vec![(b"mtime", mtime.as_bytes())],
            };
            let mode = [0o755, 0o500, 0o2711, 0o1777][self.below(4)];
            let content = mtime.clone();
            let mut item = Item { name: name.as_bytes(), mode, pax, ..Item::default() };
            let other = match self.below(2) {
                0 => self.name(),
                _ => format!("{}{}", ["", "/", "../"][self.below(3)], self.name()),
            };
            let hidden = if parent.is_empty() {
                format!(".wh.{base}")
            } else {
                format!("{parent}/.wh.{base}")
            };
            let opaque = format!("{name}/.wh..wh..opq");
            layer = match self.below(16) {
                0..=3 => layer.item(&Item { flag: b'5', ..item }),
                4..=6 => {
                    item.data = content.as_bytes();
                    layer.item(&item)
                }
                7 | 8 => layer.item(&Item { flag: b'2', link: other.as_bytes(), ..item }),
                9 | 10 => layer.link(&name, &other),
                11 => layer.flag(&name, b'6'),
                12 => layer.file(&opaque, ""),
                13 if self.below(8) == 0 => layer.file(".wh..wh..opq", ""),
                _ => layer.file(&hidden, ""),
            };
        }
        layer
    }
}

/// `SKEP_FORMS_SEEDS=1000000..2000000` tries others.
#[test]
fn random_layers_are_the_same_in_both_forms() {
    if !needs_root("the overlay form") {
        return;
    }
    let seeds = std::env::var("SKEP_FORMS_SEEDS").unwrap_or_else(|_| "0..25".into());
    let (first, end) = seeds.split_once("..").unwrap();
    let mut applied = 0;
    for seed in first.parse::<u64>().unwrap()..end.parse().unwrap() {
        let mut random = Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let keep_dirlinks = random.below(4) == 0;
        // One that is refused ends the stack: what is above it is not tried.
        let mut layers: Vec<Tar> = Vec::new();
        let options = Options { keep_dirlinks, ..Options::default() };
        for _ in 0..4 {
            let entries = 2 + random.below(7);
            layers.push(random.layer(entries));
            let all: Vec<&Tar> = layers.iter().collect();
            if Place::new().apply(&all, &options).is_err() {
                same_with(&all, &options, &format!("seed {seed}"));
                layers.pop();
            }
        }
        let all: Vec<&Tar> = layers.iter().collect();
        if all.is_empty() {
            continue;
        }
        applied += usize::from(same_with(&all, &options, &format!("seed {seed}")).is_some());
    }
    assert!(applied > 0);
}
