//! `delete --regex` and `kill --regex`: crun's way to mean several containers.

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test};

cases![
    delete_takes_all_that_match,
    delete_says_what_it_could_not_delete,
    what_a_killed_create_has_left_is_told,
    kill_signals_all_that_match,
    what_is_no_expression_deletes_nothing,
    nobody_meant_is_no_error,
];

fn three(t: &Test) -> [Container<'_>; 3] {
    t.need(t.kind() != Kind::Runc, "runc has no --regex");
    [(); 3].map(|()| {
        let c = t.container().lasting();
        c.run_detached();
        c
    })
}

/// The ids that are left.
fn ids(t: &Test) -> Vec<String> {
    t.call(&["list", "-q"]).run().ok().stdout.lines().map(str::to_owned).collect()
}

fn delete_takes_all_that_match(t: &Test) {
    let [a, b, c] = three(t);
    let pattern = format!("^({}|{})$", a.id, c.id);
    t.call(&["delete", "--force", "--regex", &pattern]).run().ok().no_stdout();
    assert_eq!(ids(t), [b.id.as_str()]);
    // A part of an id is enough, as in crun.
    let part = b.id.get(..b.id.len() - 1).unwrap();
    t.call(&["delete", "-f", "-r", part]).run().ok();
    t.assert_nothing_left();
}

fn delete_says_what_it_could_not_delete(t: &Test) {
    let [a, b, c] = three(t);
    b.kill("KILL").ok();
    b.wait_exit();
    let output = t.call(&["delete", "--regex", "."]).run();
    if t.kind() == Kind::Skep {
        // crun succeeds whatever comes of it.
        output.fails().names(&format!("container {}", a.id)).names("not stopped: running");
    }
    let mut left = [a.id.as_str(), c.id.as_str()];
    left.sort_unstable();
    let mut listed = ids(t);
    if t.kind() == Kind::Crun {
        // In any order.
        listed.sort_unstable();
    }
    assert_eq!(listed, left);
    t.call(&["delete", "--force", "--regex", "."]).run().ok();
    t.assert_nothing_left();
}

fn what_a_killed_create_has_left_is_told(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun succeeds whatever comes of it");
    let [a, b, _c] = three(t);
    let half = t.root.join("half-made");
    std::fs::create_dir(&half).unwrap();
    let plain = t.call(&["delete", "half-made"]).run().fails().one_line();
    let says = "delete --force removes it";
    plain.names(says);
    for command in ["delete", "kill"] {
        let output = t.call(&[command, "--regex", "^half-made$"]).run().fails().one_line();
        output.names("container half-made").names(says);
    }
    // The others are not left alone for it.
    let pattern = format!("^(half-made|{}|{})$", a.id, b.id);
    t.call(&["kill", "--regex", &pattern, "KILL"]).run().fails();
    a.wait_exit();
    b.wait_exit();
    assert!(half.exists());
    t.call(&["delete", "--force", "--regex", "."]).run().ok();
    t.assert_nothing_left();
}

fn kill_signals_all_that_match(t: &Test) {
    let [a, b, c] = three(t);
    t.call(&["kill", "--regex", &format!("^({}|{})$", a.id, b.id), "KILL"]).run().ok();
    a.wait_exit();
    b.wait_exit();
    assert_eq!(c.status(), "running");
    t.call(&["delete", "--force", "--regex", "."]).run().ok();
    t.assert_nothing_left();
}

fn what_is_no_expression_deletes_nothing(t: &Test) {
    t.need(t.kind() == Kind::Skep, "crun 1.8 uses what it could not compile");
    let c = t.container().lasting();
    c.run_detached();
    for pattern in ["(", "[", "*(", "a{2,1}"] {
        let output = t.call(&["delete", "--force", "--regex", pattern]).run().fails().one_line();
        output.names("is not an extended regular expression");
    }
    t.call(&["delete", "--force", "--regex", ""]).run().fails();
    // Without the flag it is an id, and no id is that.
    t.call(&["delete", "--force", ".*"]).run().fails().one_line();
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}

fn nobody_meant_is_no_error(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has no --regex");
    let c = t.container().lasting();
    c.run_detached();
    for command in ["kill", "delete"] {
        t.call(&[command, "--regex", "^nobody$"]).run().ok().no_stdout();
    }
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}
