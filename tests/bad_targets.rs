//! Mounts whose target is a symlink out of the root: inside or refused, and the outside as it was.

use std::fs;
use std::os::unix::fs::symlink;

use crate::bad_input::{clear, refused};
use crate::harness::runner::cases;
use crate::harness::{Container, Test};

cases![
    a_mount_whose_target_is_an_absolute_symlink_out,
    a_mount_whose_target_is_a_relative_symlink_out,
    a_mount_whose_target_climbs_out,
    a_mount_whose_target_is_a_dangling_symlink,
    a_file_mount_whose_target_is_a_symlink_out,
    a_symlink_loop_as_a_target,
];

/// A directory outside every rootfs that must stay as it is.
fn decoy(t: &Test) -> std::path::PathBuf {
    let decoy = t.path("decoy");
    fs::create_dir_all(decoy.join("dir")).unwrap();
    fs::write(decoy.join("file"), "untouched").unwrap();
    decoy
}

#[track_caller]
fn untouched(t: &Test) {
    let decoy = t.path("decoy");
    let mut names: Vec<_> = fs::read_dir(&decoy)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["dir", "file"]);
    assert_eq!(fs::read_dir(decoy.join("dir")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(decoy.join("file")).unwrap(), "untouched");
}

/// The target stays inside the root or is refused; the decoy is as it was and nothing is mounted on it.
#[track_caller]
fn stays_inside(t: &Test, c: Container<'_>) {
    let c = c.lasting();
    let output = c.try_create();
    if output.code == Some(0) {
        c.start().ok();
        c.delete_force().ok();
    } else {
        clear(&output.fails());
    }
    untouched(t);
    t.assert_nothing_left();
}

fn a_mount_whose_target_is_an_absolute_symlink_out(t: &Test) {
    let outside = decoy(t);
    let c = t.container().mount("/link/new", "tmpfs", "tmpfs", &[]);
    symlink(&outside, c.path("/link")).unwrap();
    stays_inside(t, c);
}

fn a_mount_whose_target_is_a_relative_symlink_out(t: &Test) {
    let _outside = decoy(t);
    for target in ["/link", "/link/new"] {
        let c = t.container().mount(target, "tmpfs", "tmpfs", &[]);
        symlink(
            "../../../../../../../../../../tmp/../".to_owned()
                + &t.path("decoy").display().to_string(),
            c.path("/link"),
        )
        .unwrap();
        stays_inside(t, c);
    }
}

fn a_mount_whose_target_climbs_out(t: &Test) {
    let outside = decoy(t);
    for target in
        ["/../../decoy", "../../decoy", "/../../../../../../../../..", "/tmp/../../../decoy/new"]
    {
        let c = t.container().mount(target, "tmpfs", "tmpfs", &[]);
        stays_inside(t, c);
    }
    assert!(fs::metadata(outside.join("new")).is_err());
}

fn a_mount_whose_target_is_a_dangling_symlink(t: &Test) {
    let outside = decoy(t);
    let c = t.container().mount("/link", "tmpfs", "tmpfs", &[]);
    symlink(outside.join("missing"), c.path("/link")).unwrap();
    stays_inside(t, c);
}

fn a_file_mount_whose_target_is_a_symlink_out(t: &Test) {
    let outside = decoy(t);
    let source = t.path("source");
    fs::write(&source, "volume").unwrap();
    for name in ["file", "missing"] {
        let c = t.container().mount("/link", "bind", source.to_str().unwrap(), &["bind"]);
        symlink(outside.join(name), c.path("/link")).unwrap();
        stays_inside(t, c);
    }
}

fn a_symlink_loop_as_a_target(t: &Test) {
    let c = t.container().mount("/a", "tmpfs", "tmpfs", &[]);
    symlink("b", c.path("/a")).unwrap();
    symlink("a", c.path("/b")).unwrap();
    refused(&c).names("/a");
}
