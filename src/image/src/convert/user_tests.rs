use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::*;

/// A root with the given files, gone when it is dropped.
pub(in crate::convert) struct Root {
    pub(in crate::convert) path: PathBuf,
    pub(in crate::convert) fd: OwnedFd,
}

impl Root {
    pub(in crate::convert) fn new(files: &[(&str, &[u8])]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("skep-convert-{}-{number}", std::process::id()));
        std::fs::create_dir_all(path.join("etc")).unwrap();
        for (name, content) in files {
            std::fs::write(path.join(name), content).unwrap();
        }
        let fd = std::fs::File::open(&path).unwrap().into();
        Self { path, fd }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _leftover = std::fs::remove_dir_all(&self.path);
    }
}

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# comment\n\nbroken\nnobody:x:65534:65534:nobody:/nonexistent:/x\n\
    app:x:1000:1001:,,,:/home/app:/bin/sh\r\nrel:x:1002:1002::relative:/x\n1234:x:0:0::/evil:/x\n\
    bad:x:abc:0::/:\nneg:x:-1:0::/:\nplus:x:+5:0::/:\nhuge:x:4294967296:0::/:\nnogid:x:7:\nshort:x:8:8\napp:x:2000:2000::/second:\n";
const GROUP: &[u8] = b"root:x:0:root\nbin:x:1:root,app\nwheel:x:10:app\napp:x:1001:\nstaff:x:50:app,app\nstaff2:x:50:app\n\
    bad:x:-4:app\nbad2:x::app\nbad3\nlonger:x:60:application,app2\n5678:x:77:\n";

fn root() -> Root {
    Root::new(&[("etc/passwd", PASSWD), ("etc/group", GROUP)])
}

fn ids(root: &Root, text: &str) -> (u32, u32, Vec<u32>, Option<String>) {
    let user = find(root.fd.as_fd(), text).unwrap_or_else(|e| panic!("{text}: {e}"));
    (user.uid, user.gid, user.groups, user.home)
}

#[test]
fn a_user_is_found_as_conversion_md_says() {
    let root = root();
    let home = |home: &str| Some(home.to_owned());
    assert_eq!(ids(&root, ""), (0, 0, vec![0, 1], home("/root")));
    assert_eq!(ids(&root, "root"), (0, 0, vec![0, 1], home("/root")));
    assert_eq!(ids(&root, "app"), (1000, 1001, vec![1001, 1, 10, 50], home("/home/app")));
    assert_eq!(ids(&root, "1000"), (1000, 1001, vec![1001, 1, 10, 50], home("/home/app")));
    assert_eq!(ids(&root, "app:"), (1000, 1001, vec![1001, 1, 10, 50], home("/home/app")));
    assert_eq!(ids(&root, "app:wheel"), (1000, 10, vec![10], home("/home/app")));
    assert_eq!(ids(&root, "app:5"), (1000, 5, vec![5], home("/home/app")));
    assert_eq!(ids(&root, "4242"), (4242, 0, vec![0], None));
    assert_eq!(ids(&root, "4242:4243"), (4242, 4243, vec![4243], None));
    assert_eq!(ids(&root, ":wheel"), (0, 10, vec![10], home("/root")));
    assert_eq!(ids(&root, "rel"), (1002, 1002, vec![1002], None));
    assert_eq!(ids(&root, "short"), (8, 8, vec![8], None));
    assert_eq!(ids(&root, "00"), (0, 0, vec![0, 1], home("/root")));
    assert_eq!(ids(&root, "2147483647"), (2_147_483_647, 0, vec![0], None));
}

#[test]
fn a_number_is_never_a_name() {
    let root = root();
    let user = find(root.fd.as_fd(), "1234").unwrap();
    assert_eq!((user.uid, user.gid, user.home), (1234, 0, None));
    assert!(user.warnings[0].contains("gives that as a name to the id 0"), "{:?}", user.warnings);
    assert_eq!(find(root.fd.as_fd(), "app:5678").unwrap().gid, 5678);
}

#[test]
fn what_is_not_there_or_out_of_range_is_an_error() {
    let root = root();
    for (text, kind) in [
        ("nosuch", Kind::NotFound),
        ("bad", Kind::NotFound),
        ("neg", Kind::NotFound),
        ("plus", Kind::NotFound),
        ("huge", Kind::NotFound),
        ("nogid", Kind::NotFound),
        ("# comment", Kind::NotFound),
        ("-1", Kind::NotFound),
        ("+5", Kind::NotFound),
        ("0x10", Kind::NotFound),
        ("1 ", Kind::NotFound),
        ("app:nosuch", Kind::NotFound),
        ("app:bad", Kind::NotFound),
        ("4294967296", Kind::Usage),
        ("4294967295", Kind::Usage),
        ("2147483648:1", Kind::Usage),
        ("1:2147483648", Kind::Usage),
        ("99999999999999999999999", Kind::Usage),
        ("a:b:c", Kind::Usage),
    ] {
        let error = find(root.fd.as_fd(), text).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
    }
    let empty = Root::new(&[]);
    assert_eq!(ids(&empty, ""), (0, 0, vec![0], None));
    assert_eq!(ids(&empty, "5:6"), (5, 6, vec![6], None));
    let error = find(empty.fd.as_fd(), "root").unwrap_err();
    assert!(error.to_string().contains("/etc/passwd is not there"), "{error}");
}

#[test]
fn hostile_files_neither_hang_nor_reach_the_host() {
    // A FIFO: to open it would wait for a writer for ever.
    let fifo = Root::new(&[]);
    nix::unistd::mkfifo(&fifo.path.join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = find(fifo.fd.as_fd(), "app").unwrap_err();
    assert_eq!(error.kind(), Kind::Verification, "{error}");
    // Of two numbers only the home directory needs it.
    let user = find(fifo.fd.as_fd(), "1:2").unwrap();
    assert_eq!((user.uid, user.gid, user.warnings.len()), (1, 2, 1));

    // Links are followed inside the root only.
    let link = Root::new(&[("real", b"app:x:7:8::/h:\n")]);
    std::os::unix::fs::symlink("/real", link.path.join("etc/passwd")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../etc/group", link.path.join("etc/group"))
        .unwrap();
    // A link to itself is no group file.
    let error = find(link.fd.as_fd(), "app").unwrap_err();
    assert!(error.to_string().contains("/etc/group of the image"), "{error}");
    std::fs::remove_file(link.path.join("etc/group")).unwrap();
    assert_eq!(ids(&link, "app"), (7, 8, vec![8], Some("/h".into())));
    std::fs::remove_file(link.path.join("etc/passwd")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root/etc/passwd", link.path.join("etc/passwd")).unwrap();
    assert_eq!(find(link.fd.as_fd(), "root").unwrap_err().kind(), Kind::NotFound);

    // A directory, and /etc itself a file.
    let directory = Root::new(&[]);
    std::fs::create_dir(directory.path.join("etc/passwd")).unwrap();
    assert_eq!(find(directory.fd.as_fd(), "app").unwrap_err().kind(), Kind::Verification);
    std::fs::remove_dir_all(directory.path.join("etc")).unwrap();
    std::fs::write(directory.path.join("etc"), "").unwrap();
    assert_eq!(ids(&directory, "3"), (3, 0, vec![0], None));
}

#[test]
fn hostile_files_are_bounded() {
    let large = Root::new(&[("etc/passwd", PASSWD), ("etc/group", GROUP)]);
    std::fs::File::options()
        .write(true)
        .open(large.path.join("etc/group"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    let error = find(large.fd.as_fd(), "app").unwrap_err();
    assert!(error.to_string().contains("/etc/group of the image is larger"), "{error}");
    assert_eq!(find(large.fd.as_fd(), "app:5").unwrap().gid, 5);

    let mut groups = String::new();
    for gid in 0..66_000 {
        groups.push_str(&format!(":x:{gid}:u\n"));
    }
    let many = Root::new(&[("etc/passwd", b"u:x:1:70000::/:\n"), ("etc/group", groups.as_bytes())]);
    let error = find(many.fd.as_fd(), "u").unwrap_err();
    assert!(error.to_string().contains("66001 groups"), "{error}");

    // One line of a megabyte, without an end, with what is no UTF-8.
    let mut line = b"app:x:1000:1000:\xff\xfe:/home\xff:".to_vec();
    line.resize((1 << 20) - 1, b'x');
    let line = Root::new(&[("etc/passwd", &line)]);
    assert_eq!(ids(&line, "app"), (1000, 1000, vec![1000], None));
    let colons =
        Root::new(&[("etc/passwd", &vec![b':'; 1 << 20]), ("etc/group", &vec![b','; 1 << 20])]);
    assert_eq!(find(colons.fd.as_fd(), "app").unwrap_err().kind(), Kind::NotFound);
}
