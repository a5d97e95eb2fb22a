//! Where the state is kept when nobody says where: runc's rule, so that an ordinary user has a place of his own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::harness::runner::cases;
use crate::harness::{Kind, Output, Test};

cases![
    a_user_has_a_directory_of_his_own,
    the_directory_of_a_user_is_private_and_kept,
    root_ignores_the_directory_of_a_session,
    a_default_root_that_is_missing_is_empty,
    a_directory_of_somebody_elses_is_refused,
    a_user_without_a_session_is_told_what_to_do,
    an_explicit_root_that_is_missing_is_an_error,
];

/// `list --quiet` without --root, as this user, with a session directory.
fn list(t: &Test, user: u32, args: &[&str]) -> Output {
    session(t);
    call(t, user, args)
}

/// The same with the directory as it is.
fn call(t: &Test, user: u32, args: &[&str]) -> Output {
    t.need(t.kind() == Kind::Skep, "the directory is named after the runtime");
    t.need_program("setpriv");
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let call = t.bare_call(args).env("XDG_RUNTIME_DIR", t.path("session").to_str().unwrap());
    call.env("USER", "root").by(&["setpriv", &uid, &gid, "--clear-groups"]).run()
}

fn session(t: &Test) -> std::path::PathBuf {
    let dir = t.path("session");
    fs::create_dir_all(&dir).unwrap();
    for path in [t.store, &t.dir, &dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    chown(&dir, Some(1000), Some(1000)).unwrap();
    dir
}

/// An entry without a record, which only `delete --force` takes for one.
fn entry(t: &Test, id: &str) -> std::path::PathBuf {
    let dir = session(t).join("skep").join(id);
    fs::create_dir_all(&dir).unwrap();
    for path in [dir.parent().unwrap(), &dir] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    dir
}

fn a_user_has_a_directory_of_his_own(t: &Test) {
    let dir = entry(t, "his");
    list(t, 1000, &["delete", "--force", "his"]).ok();
    assert!(!dir.exists());
}

fn the_directory_of_a_user_is_private_and_kept(t: &Test) {
    let session = session(t);
    let c = t.container();
    c.write();
    // Where it fails it is for want of privileges, after the directory was made.
    let output = list(t, 1000, &["create", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    if output.code == Some(0) {
        list(t, 1000, &["delete", "--force", &c.id]).ok();
    }
    if let Ok(found) = fs::metadata(session.join("skep")) {
        // The sticky bit keeps systemd-tmpfiles away.
        assert_eq!(found.permissions().mode() & 0o7777, 0o1700);
        assert_eq!(fs::read_dir(session.join("skep")).unwrap().count(), 0);
    }
}

fn root_ignores_the_directory_of_a_session(t: &Test) {
    let dir = entry(t, "not-roots");
    list(t, 0, &["delete", "--force", "not-roots"]).ok();
    assert!(dir.exists());
}

fn a_directory_of_somebody_elses_is_refused(t: &Test) {
    let session = session(t);
    let own = session.join("skep");
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |why: &str| {
        for args in [&["list"][..], &["delete", "--force", "x"], &["state", "x"]] {
            call(t, 1000, args).fails().one_line().names(why).names("--root");
        }
    };
    // Whoever owns the session, or may write to it, may put there what he likes.
    chown(&session, Some(1001), Some(1001)).unwrap();
    refused("it belongs to user 1001, not to 1000");
    chown(&session, Some(1000), Some(1000)).unwrap();
    mode(&session, 0o777);
    refused("others may write to it");
    // But not where it is sticky, as /tmp is: only what is there already counts.
    mode(&session, 0o1777);
    call(t, 1000, &["list", "--quiet"]).ok();
    fs::create_dir(&own).unwrap();
    chown(&own, Some(1001), Some(1001)).unwrap();
    refused("it belongs to user 1001, not to 1000");
    fs::remove_dir(&own).unwrap();
    // A link somewhere of the user's own.
    fs::create_dir(session.join("home")).unwrap();
    chown(session.join("home"), Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::symlink("home", &own).unwrap();
    std::os::unix::fs::lchown(&own, Some(1001), Some(1001)).unwrap();
    refused("it belongs to user 1001, not to 1000");
    std::os::unix::fs::lchown(&own, Some(1000), Some(1000)).unwrap();
    call(t, 1000, &["list", "--quiet"]).ok();
}

fn a_user_without_a_session_is_told_what_to_do(t: &Test) {
    t.need(t.kind() == Kind::Skep, "the directory is named after the runtime");
    t.need_program("setpriv");
    session(t);
    // Nobody's number, so that there is no /run/user of his.
    let by = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];
    for args in [&["list"][..], &["state", "x"], &["kill", "x"]] {
        let output = t.bare_call(args).by(&by).run().fails().one_line();
        output.names("$XDG_RUNTIME_DIR").names("--root");
    }
    // What needs no state works.
    t.bare_call(&["features"]).by(&by).run().ok();
}

fn a_default_root_that_is_missing_is_empty(t: &Test) {
    let output = list(t, 1000, &["list", "--quiet"]).ok();
    output.prints("").no_stderr();
}

fn an_explicit_root_that_is_missing_is_an_error(t: &Test) {
    // Some make it, so it has to lie where it is taken away again.
    let root = t.path("no/such/root").display().to_string();
    t.bare_call(&["--root", &root, "list"]).run().fails().names(&root);
    assert!(fs::metadata(&root).is_err(), "it was made");
}
