//! Version 1 hierarchies of which nothing is asked: entered where that can be, and else neither entered nor shown. In a mount
//! namespace that has net_cls too.

use std::fs;
use std::sync::{Mutex, PoisonError};

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, json, probe, wait};

cases![
    a_controller_that_is_mounted_is_entered_without_being_asked,
    a_hierarchy_that_cannot_be_entered_is_not_shown_without_a_namespace,
    a_hierarchy_that_cannot_be_entered_is_not_shown_in_a_namespace,
    a_cgroup_that_is_there_and_cannot_be_entered_is_not_shown,
    a_cgroup_of_somebody_elses_is_left_alone,
    a_cgroup_of_somebody_elses_is_left_alone_by_a_killed_create,
];

/// The hierarchy is the kernel's, and has to be gone after each test.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Mounts net_cls beside the hierarchies there are. The kernel keeps one that is not mounted any more while there are cgroups
/// in it, dying ones too: so it stays mounted until they are gone. What the harness has mounted in a hierarchy comes along.
const WITH_NET_CLS: &str = r#"
mkdir "$PLACE" && mount -t tmpfs none "$PLACE"
for entry in /sys/fs/cgroup/*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$PLACE"; fi
    if [ -L "$entry" ] || [ ! -d "$entry" ]; then continue; fi
    mkdir "$PLACE/${entry##*/}" && mount --rbind "$entry" "$PLACE/${entry##*/}"
done
mkdir "$PLACE/net_cls"
mount -t cgroup -o net_cls none "$PLACE/net_cls" || { echo unavailable; exit; }
mount --move "$PLACE" /sys/fs/cgroup
net_cls=/sys/fs/cgroup/net_cls
own=$net_cls/$ID
skep() { "$RUNTIME" --root "$ROOT" "$@"; }
leave() {
    if [ -d "$ROOT/$ID" ]; then skep delete --force "$ID" || true; fi
    if [ -n "${other-}" ]; then kill "$other" && wait "$other" || true; fi
    mount -o remount,bind,rw "$net_cls"
    if [ -d "$own/below" ]; then rmdir "$own/below"; fi
    if [ -d "$own" ]; then rmdir "$own"; fi
    tries=0
    until grep -q "^net_cls	[0-9]*	1	" /proc/cgroups || [ $tries = 500 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    umount "$net_cls"
}
trap leave EXIT
"#;

/// Runs `script` with net_cls: what it says.
fn with_net_cls(c: &Container<'_>, t: &Test, script: &str) -> Output {
    t.need_layout(Layout::V1);
    t.need_program("unshare");
    t.need(!t.host.controllers.iter().any(|name| name == "net_cls"), "it is mounted anyway");
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Else somebody may have it mounted where it is not seen from here.
    let is_free = hierarchy() == "0";
    let text = format!("RUNTIME=$0\n{WITH_NET_CLS}\n{script}");
    let output = c
        .bundle_call("run", &["--detach"])
        .by(&["unshare", "--mount", "--propagation", "private", "sh", "-euc", &text])
        .env("PLACE", &t.path("cgroup").display().to_string())
        .env("ROOT", &t.root.display().to_string())
        .env("ID", &c.id)
        .run();
    wait::until("net_cls' hierarchy is gone", || (!is_free || hierarchy() == "0").then_some(()));
    t.need(
        !output.stdout.contains("unavailable"),
        "version 2 uses net_cls, or the kernel has none",
    );
    output.ok()
}

/// The number of net_cls' hierarchy, 0 if it has none.
fn hierarchy() -> String {
    let text = fs::read_to_string("/proc/cgroups").unwrap();
    let line = text.lines().find(|line| line.starts_with("net_cls\t"));
    line.and_then(|line| line.split('\t').nth(1)).unwrap_or("0").to_owned()
}

fn a_controller_that_is_mounted_is_entered_without_being_asked(t: &Test) {
    let c = shown(t, false);
    let script = r#"
"$RUNTIME" "$@"
skep exec "$ID" sh -c 'cat /proc/self/cgroup; ls /sys/fs/cgroup'
[ -d "$own" ] && echo made
skep delete --force "$ID"
[ -d "$own" ] || echo removed
"#;
    let output = with_net_cls(&c, t, script);
    let member = output.stdout.lines().find(|line| line.contains(":net_cls:"));
    let member = member.unwrap_or_else(|| panic!("{}", output.stdout));
    assert!(member.ends_with(&format!(":/{}", c.id)), "{member}");
    assert!(output.stdout.contains("\nnet_cls\n"), "{}", output.stdout);
    assert!(output.stdout.ends_with("made\nremoved\n"), "{}", output.stdout);
    t.assert_nothing_left();
}

/// A container that sees its cgroups.
fn shown(t: &Test, namespace: bool) -> Container<'_> {
    let c = t.container().lasting().without_namespace("cgroup");
    let c = if namespace { c.push("/linux/namespaces", json!({"type": "cgroup"})) } else { c };
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
}

/// What a container without net_cls has to say.
const LOOK: &str = r#"
"$RUNTIME" "$@"
skep exec "$ID" sh -c 'ls /sys/fs/cgroup; grep -c /sys/fs/cgroup/net_cls /proc/self/mountinfo; cat /proc/self/cgroup'
"#;

#[track_caller]
fn is_without_net_cls(output: &Output) {
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.contains(&"memory") && lines.contains(&"devices"), "{output}");
    assert!(!lines.contains(&"net_cls") && lines.contains(&"0"), "{output}");
    assert!(lines.iter().any(|line| line.ends_with(":net_cls:/")), "{output}");
}

fn cannot_be_entered(t: &Test, namespace: bool) {
    t.need(t.kind() == Kind::Skep, "runc fails, crun shows it");
    let script = format!(r#"mount -o remount,bind,ro "$net_cls"{LOOK}skep delete --force "$ID""#);
    is_without_net_cls(&with_net_cls(&shown(t, namespace), t, &script));
    t.assert_nothing_left();
}

fn a_hierarchy_that_cannot_be_entered_is_not_shown_without_a_namespace(t: &Test) {
    cannot_be_entered(t, false);
}

fn a_hierarchy_that_cannot_be_entered_is_not_shown_in_a_namespace(t: &Test) {
    cannot_be_entered(t, true);
}

fn a_cgroup_that_is_there_and_cannot_be_entered_is_not_shown(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc fails");
    let script = format!(
        r#"mkdir "$own"; mount -o remount,bind,ro "$net_cls"{LOOK}
skep delete --force "$ID"
[ -d "$own" ] && echo stays"#
    );
    let output = with_net_cls(&shown(t, true), t, &script);
    is_without_net_cls(&output);
    assert!(output.stdout.ends_with("stays\n"), "{output}");
    t.assert_nothing_left();
}

fn a_cgroup_of_somebody_elses_is_left_alone(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc joins it");
    let script = format!(
        r#"mkdir "$own"
tail -f /dev/null >/dev/null 2>&1 & other=$!
echo $other >"$own/cgroup.procs"{LOOK}
echo '{{"network":{{"classID":5}}}}' | skep update -r - "$ID" 2>&1 || echo refused
skep exec "$ID" true
[ "$(cat "$own/cgroup.procs")" = $other ] && [ "$(cat "$own/net_cls.classid")" = 0 ] && echo alone
skep delete --force "$ID"
[ "$(cat "$own/cgroup.procs")" = $other ] && echo stays"#
    );
    let output = with_net_cls(&shown(t, true), t, &script);
    is_without_net_cls(&output);
    assert!(output.stdout.contains("linux.resources.network.classID"), "{output}");
    assert!(output.stdout.ends_with("refused\nalone\nstays\n"), "{output}");
    t.assert_nothing_left();
}

fn a_cgroup_of_somebody_elses_is_left_alone_by_a_killed_create(t: &Test) {
    t.need(t.kind() == Kind::Skep, "what this runtime does in which order");
    let probe = probe::path(t);
    let probe = probe.display();
    let first = libc::SYS_mkdirat;
    let script = format!(
        r#"mkdir "$own" "$own/below"
tail -f /dev/null >/dev/null 2>&1 & other=$!
echo $other >"$own/cgroup.procs"
count=0 killed=1
while [ $killed = 1 ]; do
    killed=0
    '{probe}' kill-at $count {first} "$RUNTIME" "$@" 2>&1 || killed=$?
    [ $killed -lt 2 ] && skep delete --force "$ID" 2>&1 || {{ echo "call $count: $killed"; exit; }}
    [ -d "$own/below" ] && [ "$(cat "$own/cgroup.procs")" = $other ] || {{ echo "call $count: gone"; exit; }}
    count=$((count + 1))
done
[ $count -gt 20 ] && echo alone"#
    );
    assert_eq!(with_net_cls(&shown(t, true), t, &script).stdout, "alone\n");
    t.assert_nothing_left();
}
