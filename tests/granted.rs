//! What the runtime cannot grant is told, and what it enters and hands on, it does as the user may or as root may.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::runner::cases;
use crate::harness::{Kind, Test, json, say};

cases![
    a_working_directory_of_roots_is_entered_before_the_ids_change,
    a_working_directory_nobody_may_enter_is_refused,
    a_capability_the_runtime_lacks_is_a_warning,
    hooks_have_the_umask_of_the_runtime,
    the_hint_for_ordinary_users_is_not_for_root,
];

fn a_working_directory_of_roots_is_entered_before_the_ids_change(t: &Test) {
    let c = t
        .container()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[])
        .set("/process/cwd", json!("/root"))
        .args(&["/bin/pwd"]);
    fs::set_permissions(c.path("/root"), fs::Permissions::from_mode(0o700)).unwrap();
    c.run().ok().prints("/root\n");
    // The same for exec.
    let c = c.lasting();
    c.write();
    c.run_detached();
    c.exec_with(&["--cwd", "/root"], &["/bin/pwd"]).run().ok().prints("/root\n");
}

fn a_working_directory_nobody_may_enter_is_refused(t: &Test) {
    let c = t.container().set("/process/cwd", json!("/etc/passwd"));
    let output = c.run().fails().names("/etc/passwd");
    output.says(&say::NOT_A_DIRECTORY);
    t.assert_nothing_left();
}

fn a_capability_the_runtime_lacks_is_a_warning(t: &Test) {
    t.need_program("setpriv");
    t.need(t.kind() == Kind::Skep, "runc and crun fail or say nothing");
    let c = t
        .container()
        .capabilities(&["CAP_KILL", "CAP_SYS_NICE"])
        .sh("grep -E 'CapPrm|CapEff' /proc/self/status | sort -u -k 2 | cut -f 2");
    let words = ["setpriv", "--bounding-set=-sys_nice"];
    let output =
        c.bundle_call("run", &[]).global(&["--log-level", "warning"]).by(&words).run().ok();
    let output = output.prints("0000000000000020\n");
    assert!(
        output.stderr.contains("CAP_SYS_NICE") && !output.stderr.contains("CAP_KILL"),
        "{output}"
    );
    // Callers take anything on standard error for a failure.
    c.bundle_call("run", &[]).by(&words).run().ok().no_stderr();
}

fn hooks_have_the_umask_of_the_runtime(t: &Test) {
    let out = t.path("out");
    let mut c = t.container().mount("/out", "bind", t.dir.to_str().unwrap(), &["bind"]);
    for phase in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        c = c.hook(phase, &format!("echo {phase} $(umask) >> {}", out.display()));
    }
    c = c.hook("startContainer", "echo startContainer $(umask) >> /out/out");
    c.bundle_call("run", &[])
        .with(|command| crate::harness::sys::with_umask(command, 0o027))
        .run()
        .ok();
    let text = fs::read_to_string(&out).unwrap();
    for line in text.lines() {
        let (phase, mask) = line.split_once(' ').unwrap();
        // That of the container is not the runtime's.
        assert!(mask == "0027" || phase == "startContainer" && mask == "0022", "{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");
}

fn the_hint_for_ordinary_users_is_not_for_root(t: &Test) {
    t.need_controller("pids");
    let first = t.container().lasting();
    first.create();
    let path = json!(format!("/{}", first.id));
    for resources in [json!({}), json!({"pids": {"limit": 10}})] {
        let c = t
            .container()
            .set("/linux/cgroupsPath", path.clone())
            .set("/linux/resources", resources);
        let output = c.try_create().fails().says(&say::CGROUP_NOT_EMPTY);
        assert!(!output.stderr.contains("ordinary user"), "{output}");
    }
    first.delete_force().ok();
}
