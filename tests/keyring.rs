//! The session keyring of a container.

use crate::harness::runner::cases;
use crate::harness::{Kind, Test};

cases![
    a_container_has_a_session_keyring_of_its_own,
    no_new_keyring_keeps_that_of_the_caller,
    exec_is_in_the_keyring_of_the_container,
    exec_makes_no_keyring_where_the_container_has_none,
];

/// keyctl(2): KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING, making none.
const SESSION: [&str; 5] = ["probe", "syscall", "250", "0", "0xfffffffffffffffd"];

fn need_keyrings(t: &Test) {
    t.need(cfg!(target_arch = "x86_64"), "the number of keyctl is that of x86_64");
    t.need(std::fs::metadata("/proc/keys").is_ok(), "this kernel has no keyrings");
}

fn serial(output: &crate::harness::Output) -> i64 {
    let text = output.text().strip_prefix("ok ").unwrap_or_else(|| panic!("{output}"));
    text.parse().unwrap()
}

fn a_container_has_a_session_keyring_of_its_own(t: &Test) {
    need_keyrings(t);
    let run = || serial(&t.container().with_probe().args(&SESSION).run().ok());
    let (first, second) = (run(), run());
    assert_ne!(first, second, "two containers share a session keyring");
}

fn no_new_keyring_keeps_that_of_the_caller(t: &Test) {
    need_keyrings(t);
    let c = t.container().with_probe().args(&SESSION);
    let run = || serial(&c.bundle_call("run", &["--no-new-keyring"]).run().ok());
    assert_eq!(run(), run(), "the session keyring is not the caller's");
}

fn exec_is_in_the_keyring_of_the_container(t: &Test) {
    need_keyrings(t);
    t.need(t.kind() != Kind::Crun, "crun's exec stays in the caller's");
    let c = t.container().with_probe().lasting();
    c.run_detached();
    let (first, second) = (serial(&c.exec(&SESSION).ok()), serial(&c.exec(&SESSION).ok()));
    assert_eq!(first, second, "each exec has a session keyring of its own");
}

fn exec_makes_no_keyring_where_the_container_has_none(t: &Test) {
    need_keyrings(t);
    t.need(t.kind() == Kind::Skep, "runc's exec makes one");
    let c = t.container().with_probe().lasting();
    let pid = c.dir.join("pid").display().to_string();
    c.bundle_call("run", &["--detach", "--no-new-keyring", "--pid-file", &pid]).run().ok();
    let callers = t.container().with_probe().args(&SESSION);
    let callers = serial(&callers.bundle_call("run", &["--no-new-keyring"]).run().ok());
    assert_eq!(serial(&c.exec(&SESSION).ok()), callers);
}
