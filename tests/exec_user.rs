//! `exec --user`: numbers are read strictly. crun once took `-u 1` for root (CVE-2026-30892).

use crate::harness::runner::cases;
use crate::harness::{Container, Test};

cases![
    a_uid_alone_is_accepted,
    a_uid_and_a_gid_are_accepted,
    the_largest_uid_is_accepted,
    uid_zero_is_root,
    nothing_but_decimal_numbers_is_accepted,
    a_plus_sign_is_refused_or_harmless,
    a_number_that_does_not_fit_is_refused,
    a_missing_part_is_refused_or_harmless,
];

fn running(t: &Test) -> Container<'_> {
    let c = t.container().lasting();
    c.run_detached();
    c
}

#[track_caller]
fn ids(c: &Container<'_>, user: &str) -> String {
    c.exec_with(&["--user", user], &["sh", "-c", "echo $(id -u):$(id -g)"])
        .run()
        .ok()
        .text()
        .to_owned()
}

fn a_uid_alone_is_accepted(t: &Test) {
    let c = running(t);
    assert_eq!(ids(&c, "1"), "1:0");
    assert_eq!(ids(&c, "1000"), "1000:0");
    assert_eq!(ids(&c, "65534"), "65534:0");
}

fn a_uid_and_a_gid_are_accepted(t: &Test) {
    let c = running(t);
    assert_eq!(ids(&c, "1000:1001"), "1000:1001");
    assert_eq!(ids(&c, "0:5"), "0:5");
    assert_eq!(ids(&c, "5:0"), "5:0");
}

fn the_largest_uid_is_accepted(t: &Test) {
    let c = running(t);
    assert_eq!(ids(&c, "4294967294:4294967294"), "4294967294:4294967294");
}

fn uid_zero_is_root(t: &Test) {
    let c = running(t);
    assert_eq!(ids(&c, "0"), "0:0");
    assert_eq!(ids(&c, "0:0"), "0:0");
}

/// Every one of these is refused.
#[track_caller]
fn refused(c: &Container<'_>, user: &str) {
    let flag = format!("--user={user}");
    let output = c.exec_with(&[&flag], &["sh", "-c", "echo $(id -u):$(id -g)"]).run();
    output.exec_fails().no_stdout();
}

fn nothing_but_decimal_numbers_is_accepted(t: &Test) {
    let c = running(t);
    for user in [
        "0x1", " 1", "1 ", "1a", "a", "root", "-1", "1.0", "1e3", "1,2", "1:1:1", "1:-1", "1:x",
        "1:+5", "\u{661}",
    ] {
        refused(&c, user);
    }
}

fn a_plus_sign_is_refused_or_harmless(t: &Test) {
    let c = running(t);
    let output = c.exec_with(&["--user", "+1"], &["sh", "-c", "echo $(id -u):$(id -g)"]).run();
    if output.code == Some(0) {
        assert_eq!(output.text(), "1:0");
    } else {
        output.exec_fails();
    }
}

fn a_number_that_does_not_fit_is_refused(t: &Test) {
    let c = running(t);
    for user in [
        "4294967295",
        "4294967296",
        "4294967297",
        "18446744073709551616",
        "1:4294967296",
        "99999999999999999999999",
    ] {
        refused(&c, user);
    }
}

fn a_missing_part_is_refused_or_harmless(t: &Test) {
    let c = running(t);
    for user in ["1:", ":1", ":"] {
        let flag = format!("--user={user}");
        let output = c.exec_with(&[&flag], &["sh", "-c", "echo $(id -u):$(id -g)"]).run();
        if output.code == Some(0) {
            assert_eq!((user, output.text()), ("1:", "1:0"));
        } else {
            output.exec_fails();
        }
    }
}
