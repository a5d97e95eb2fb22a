//! An ordinary user and cgroup version 2: what was delegated to him, and what was not. On a version 1 host in a mount
//! namespace where `/sys/fs/cgroup` is the version 2 hierarchy, which has no controllers then.

use std::fs;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json, test};
use crate::rootless::{self, USER};

cases![
    a_delegated_cgroup_is_used,
    limits_are_enforced_in_a_delegated_cgroup,
    a_cgroup_that_is_not_delegated_is_done_without,
    a_cgroup_that_is_not_delegated_is_told,
    the_users_own_cgroup_is_shown_read_only,
];

/// A cgroup in which the user is, perhaps his.
struct Slice<'t> {
    t: &'t Test,
    name: String,
    delegated: bool,
}

impl<'t> Slice<'t> {
    fn new(t: &'t Test, delegated: bool) -> Self {
        t.need(t.kind() == Kind::Skep, "runc and crun want controllers");
        t.need(t.host.hierarchies.contains_key(""), "this host has no cgroup version 2 at all");
        t.need_program("unshare");
        Self { t, name: format!("{}z", t.id), delegated }
    }

    fn container(&self) -> Container<'t> {
        rootless::bundle(self.t).mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "rw"],
        )
    }

    /// `run` by the user, in a cgroup below the slice.
    fn run(&self, c: &Container<'_>) -> Output {
        self.run_with(c, &[])
    }

    fn run_with(&self, c: &Container<'_>, flags: &[&str]) -> Output {
        c.write();
        rootless::own(self.t, c);
        let mount = match self.t.host.layout {
            Layout::V2 => "",
            Layout::V1 => "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; ",
        };
        // systemd hands over these (Delegate= of systemd.resource-control(5)).
        let own = match self.delegated {
            false => String::new(),
            true => format!(
                "chown {USER} $D $D/cgroup.procs $D/cgroup.subtree_control $D/leaf $D/leaf/cgroup.procs; "
            ),
        };
        let user = format!("--reuid={USER} --regid={USER} --clear-groups --bounding-set=-all");
        let script = format!(
            "set -e; {mount}D=/sys/fs/cgroup/{}; for c in $(cat /sys/fs/cgroup/cgroup.controllers); \
             do echo +$c > /sys/fs/cgroup/cgroup.subtree_control || true; done; mkdir $D $D/leaf; {own}\
             echo $$ > $D/leaf/cgroup.procs; exec setpriv {user} \"$@\"",
            self.name
        );
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let bundle = c.dir.display().to_string();
        let call = self.t.call(&["run", "--bundle", &bundle, &c.id]).global(flags);
        call.by(&words).run()
    }
}

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        if let Some(root) = self.t.host.hierarchies.get("") {
            test::remove_cgroup(&root.join(&self.name));
        }
    }
}

/// The cgroup's path as the host has it.
const WHERE: &str = "sed -n 's/^0:://p' /proc/self/cgroup";

fn a_delegated_cgroup_is_used(t: &Test) {
    let slice = Slice::new(t, true);
    let c = slice.container().sh(WHERE);
    let path = format!("/{}/{}\n", slice.name, c.id);
    slice.run(&c).ok().prints(&path);
    let root = &t.host.hierarchies[""];
    assert!(fs::metadata(root.join(&slice.name).join(&c.id)).is_err(), "the cgroup is still there");
}

fn limits_are_enforced_in_a_delegated_cgroup(t: &Test) {
    t.need_layout(Layout::V2);
    for controller in ["memory", "pids"] {
        t.need_controller(controller);
    }
    let slice = Slice::new(t, true);
    let limits = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 20}});
    let c = slice
        .container()
        .set("/linux/resources", limits)
        .push("/linux/namespaces", json!({"type": "cgroup"}))
        .sh("cd /sys/fs/cgroup; cat memory.max pids.max; \
             i=0; while [ $i -lt 40 ]; do sleep 5 2>/dev/null & i=$((i+1)); done 2>/dev/null; cat pids.events");
    let output = slice.run(&c);
    assert!(output.stdout.starts_with("67108864\n20\n"), "{output}");
}

fn a_cgroup_that_is_not_delegated_is_done_without(t: &Test) {
    let slice = Slice::new(t, false);
    let c = slice.container().sh(WHERE);
    slice.run(&c).ok().prints(&format!("/{}/leaf\n", slice.name));
}

fn a_cgroup_that_is_not_delegated_is_told(t: &Test) {
    let slice = Slice::new(t, false);
    let c =
        slice.container().set("/linux/resources", json!({"unified": {"cgroup.max.depth": "3"}}));
    slice.run(&c).fails().one_line().names("needs a delegated cgroup").names("Delegate=yes");
}

fn the_users_own_cgroup_is_shown_read_only(t: &Test) {
    // Not the container's own: what is in it is not its business (CVE-2023-25809).
    let slice = Slice::new(t, true);
    let c = slice
        .container()
        .sh("mkdir /sys/fs/cgroup/x || echo refused; ls /sys/fs/cgroup | grep -c '^cgroup.procs$'");
    // Without a cgroup of its own, by wish.
    let words = ["--cgroup-manager", "disabled"];
    slice.run_with(&c, &words).ok().prints("refused\n1\n");
}
