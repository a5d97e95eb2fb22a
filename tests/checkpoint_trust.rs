//! Who may have a hand in what CRIU reads and writes as root: root and the caller, nobody else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::checkpoint_scripts::{NOT_DUMPED, TAKE, VERSION_4_2, script};
use crate::harness::runner::cases;
use crate::harness::{Kind, Test};

cases![
    a_directory_that_was_exchanged_keeps_its_files,
    a_new_directory_that_is_exchanged_at_once_is_refused,
    what_somebody_else_may_write_to_is_refused,
    an_access_control_list_is_refused,
    what_engines_leave_there_is_not_refused,
];

fn give(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn a_directory_that_was_exchanged_keeps_its_files(t: &Test) {
    t.need(t.kind() == Kind::Skep, "for skep's --criu");
    let (images, moved, victim) = (t.path("images"), t.path("moved"), t.path("victim"));
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    let exchange =
        format!("mv {0} {1}; ln -s {2} {0}", images.display(), moved.display(), victim.display());
    let criu = script(&t.path("criu"), &format!("{VERSION_4_2}; {TAKE}; {exchange}; {NOT_DUMPED}"));
    let c = t.container().lasting();
    c.run_detached();
    let call = c.call("checkpoint", &["--image-path", images.to_str().unwrap()]);
    call.global(&["--criu", &criu]).run().fails();
    assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&moved).unwrap().count(), 0, "images are left");
    assert!(fs::symlink_metadata(&images).unwrap().is_symlink());
}

/// The same between the making of it and its opening cannot be timed; it is opened without following a link.
fn a_new_directory_that_is_exchanged_at_once_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "for skep's order of calls");
    t.need_program("strace");
    let criu = script(&t.path("criu"), &format!("{VERSION_4_2}; {TAKE}; {NOT_DUMPED}"));
    let c = t.container().lasting();
    c.run_detached();
    let (images, trace) = (t.path("images"), t.path("trace"));
    let call = c.call("checkpoint", &["--image-path", images.to_str().unwrap()]);
    let words = ["strace", "-o", trace.to_str().unwrap(), "-e", "trace=openat,mkdirat"];
    call.global(&["--criu", &criu]).by(&words).run().fails();
    let trace = fs::read_to_string(trace).unwrap();
    let made = trace.lines().skip_while(|line| !line.contains("\"images\", 0700)")).nth(1);
    let made = made.unwrap_or_default();
    assert!(made.contains("\"images\"") && made.contains("O_NOFOLLOW"), "{trace}");
}

/// What is wrong with a directory, the words that say so, and whether it is wrong for a work directory too.
type Wrong = (&'static str, bool, fn(&Test, &Path));

const WRONG: &[Wrong] = &[
    ("belongs to user 1000", true, |_, dir| give(dir, 1000)),
    ("everybody may write", true, |_, dir| mode(dir, 0o777)),
    ("what group 1000 may write", true, |_, dir| {
        chown(dir, None, Some(1000)).unwrap();
        mode(dir, 0o770);
    }),
    ("belongs to user 1000", true, |_, dir| {
        fs::write(dir.join("inventory.img"), "").unwrap();
        give(&dir.join("inventory.img"), 1000);
    }),
    ("belongs to user 1000", true, |t, dir| {
        symlink(t.path("victim"), dir.join("stats-dump")).unwrap();
        give(&dir.join("stats-dump"), 1000);
    }),
    ("everybody may write", false, |_, dir| {
        fs::write(dir.join("pages-1.img"), "").unwrap();
        mode(&dir.join("pages-1.img"), 0o666);
    }),
    ("what group 1000 may write", false, |_, dir| {
        fs::write(dir.join("pages-1.img"), "").unwrap();
        chown(dir.join("pages-1.img"), None, Some(1000)).unwrap();
        mode(&dir.join("pages-1.img"), 0o660);
    }),
    ("a symbolic link as an image", false, |t, dir| {
        symlink(t.path("victim"), dir.join("inventory.img")).unwrap();
    }),
    ("a FIFO as an image", false, |_, dir| {
        nix::unistd::mkfifo(&dir.join("descriptors.json"), Mode::S_IRWXU).unwrap();
    }),
    ("belongs to user 1000", false, |t, dir| {
        fs::create_dir(t.path("first")).unwrap();
        give(&t.path("first"), 1000);
        symlink("../first", dir.join("parent")).unwrap();
    }),
    ("everybody may write", false, |t, dir| {
        fs::create_dir(t.path("first")).unwrap();
        fs::write(t.path("first/pages-1.img"), "").unwrap();
        mode(&t.path("first/pages-1.img"), 0o666);
        symlink("../first", dir.join("parent")).unwrap();
    }),
    // Its own, but in a directory in which it can be exchanged.
    ("on the way", false, |t, dir| {
        fs::create_dir_all(t.path("first/own")).unwrap();
        mode(&t.path("first"), 0o777);
        symlink("../first/own", dir.join("parent")).unwrap();
    }),
    ("without symbolic links", false, |t, dir| {
        symlink("/", t.path("first")).unwrap();
        symlink("../first", dir.join("parent")).unwrap();
    }),
    ("more than 256 parents", false, |_, dir| symlink(".", dir.join("parent")).unwrap()),
    ("belongs to user 1000", false, |_, dir| {
        symlink("../none", dir.join("parent")).unwrap();
        give(&dir.join("parent"), 1000);
    }),
];

fn what_somebody_else_may_write_to_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc takes whatever it is given");
    let asked = t.path("asked");
    let ask = format!("{VERSION_4_2}; {TAKE}; : > {}; {NOT_DUMPED}", asked.display());
    let criu = script(&t.path("criu"), &ask);
    fs::write(t.path("victim"), "precious").unwrap();
    let c = t.container().lasting();
    c.run_detached();
    let new = t.container().lasting();
    let (images, work) = (t.path("images"), t.path("work"));
    for (words, wrong_for_work, spoil) in WRONG {
        for (command, spoilt) in [
            ("checkpoint", &images),
            ("restore", &images),
            ("checkpoint", &work),
            ("restore", &work),
        ] {
            let is_work = *spoilt == work;
            if is_work && !wrong_for_work {
                continue;
            }
            for dir in [&images, &work] {
                fs::create_dir(dir).unwrap();
                fs::write(dir.join("dump.log"), "old").unwrap();
                fs::write(dir.join("restore.log"), "old").unwrap();
            }
            spoil(t, spoilt);
            let flags =
                ["--image-path", images.to_str().unwrap(), "--work-path", work.to_str().unwrap()];
            let call = if command == "restore" {
                new.bundle_call(command, &flags)
            } else {
                c.call(command, &flags)
            };
            let output = call.global(&["--criu", &criu]).run();
            output.fails().names(words).names(spoilt.to_str().unwrap()).one_line();
            assert!(asked.metadata().is_err(), "{command}: {words}: CRIU was asked");
            assert_eq!(fs::read_to_string(t.path("victim")).unwrap(), "precious");
            for log in ["dump.log", "restore.log"] {
                assert_eq!(fs::read_to_string(work.join(log)).unwrap(), "old");
            }
            for dir in [&images, &work] {
                fs::remove_dir_all(dir).unwrap();
            }
            if t.path("first").symlink_metadata().is_ok_and(|first| first.is_symlink()) {
                fs::remove_file(t.path("first")).unwrap();
            } else {
                let _none = fs::remove_dir_all(t.path("first"));
            }
        }
    }
    // The parent of a checkpoint is read as well.
    for (at, spoil) in [("first", 1000), ("second", 0)] {
        fs::create_dir(t.path(at)).unwrap();
        give(&t.path(at), spoil);
    }
    let flags = ["--leave-running", "--image-path", images.to_str().unwrap(), "--parent-path"];
    // It can track memory.
    let features = r"head -c 1 <&3 >/dev/null; printf '\010\011\020\001\102\002\010\001' >&3";
    let ask = ask.replacen(TAKE, &format!("{features}; {TAKE}"), 1);
    let criu = script(&t.path("criu"), &ask);
    let call = |parent: &str| {
        let flags: Vec<_> = flags.iter().copied().chain([parent]).collect();
        c.call("checkpoint", &flags).global(&["--criu", &criu]).run().fails()
    };
    call("../first").names("belongs to user 1000").one_line();
    assert!(asked.metadata().is_err() && images.metadata().is_err());
    call("../second");
    assert!(asked.metadata().is_ok());
    assert_eq!(c.status(), "running");
}

fn an_access_control_list_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc takes whatever it is given");
    let criu = script(&t.path("criu"), &format!("{VERSION_4_2}; {TAKE}; {NOT_DUMPED}"));
    let images = t.path("images");
    fs::create_dir(&images).unwrap();
    // Owner and user 1000 may do everything: version 2; tag, permissions and id of each entry.
    let entries =
        [(1, 7, u32::MAX), (2, 7, 1000), (4, 0, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(id.to_le_bytes());
    }
    let set = crate::harness::sys::set_attribute(&images, c"system.posix_acl_access", &list);
    t.need(set.is_ok(), "this file system has no access control lists");
    let c = t.container().lasting();
    c.run_detached();
    let flags = ["--image-path", images.to_str().unwrap()];
    let output = c.call("checkpoint", &flags).global(&["--criu", &criu]).run();
    output.fails().names("access control list").names("setfacl -b").one_line();
    assert_eq!(c.status(), "running");
}

fn what_engines_leave_there_is_not_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "for skep's --criu");
    let asked = t.path("asked");
    let criu = script(
        &t.path("criu"),
        &format!("{VERSION_4_2}; {TAKE}; : > {}; {NOT_DUMPED}", asked.display()),
    );
    let (images, work) = (t.path("images"), t.path("work"));
    for dir in [&images, &work] {
        fs::create_dir(dir).unwrap();
        // A server of lazy pages, Docker's note, a file system's own directory.
        let _socket = UnixListener::bind(dir.join("lazy-pages.socket")).unwrap();
        fs::write(dir.join("config.json"), "{}").unwrap();
        fs::create_dir(dir.join("lost+found")).unwrap();
        mode(dir, 0o770);
    }
    // Podman's bundle is the work directory: conmon's FIFOs and links, a directory of the container's root.
    nix::unistd::mkfifo(&work.join("ctl"), Mode::S_IRWXU).unwrap();
    symlink("/run", work.join("attach")).unwrap();
    fs::create_dir(work.join("shm")).unwrap();
    give(&work.join("shm"), 1000);
    symlink("../none", images.join("parent")).unwrap();
    let flags = ["--image-path", images.to_str().unwrap(), "--work-path", work.to_str().unwrap()];
    let c = t.container().lasting();
    c.run_detached();
    c.call("checkpoint", &flags).global(&["--criu", &criu]).run().fails().names("criu failed");
    fs::remove_file(&asked).unwrap();
    c.delete_force().ok();
    let call = t.container().lasting().bundle_call("restore", &flags);
    call.global(&["--criu", &criu]).run().fails().names("criu failed");
    assert!(asked.metadata().is_ok());
    t.assert_nothing_left();
}
