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
    an_explicit_root_that_is_missing_is_an_error,
];

/// `list --quiet` without --root, as this user, with a session directory.
fn list(t: &Test, user: u32, args: &[&str]) -> Output {
    t.need(t.kind() == Kind::Skep, "the directory is named after the runtime");
    t.need_program("setpriv");
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let call = t.bare_call(args).env("XDG_RUNTIME_DIR", session(t).to_str().unwrap());
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
