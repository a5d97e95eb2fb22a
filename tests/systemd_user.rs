//! The systemd driver and an ordinary user's own systemd: from below it, and from a login session, which lies beside it.

use std::fs;
use std::process::Command;

use nix::unistd::{Uid, User};

use crate::harness::runner::cases;
use crate::harness::{Output, Test, json, reaper, wait};
use crate::rootless::{self, USER};
use crate::systemd::need_systemd;

cases![a_scope_below_the_users_systemd, a_scope_from_a_login_session,];

fn directory() -> String {
    format!("/run/user/{USER}")
}

fn need_users_systemd(t: &Test) {
    need_systemd(t);
    let private = format!("{}/systemd/private", directory());
    t.need(fs::metadata(private).is_ok(), "the user has no systemd of his own");
    t.need_program("systemd-run");
}

/// What calls a program as the user, in no service of his.
fn beside() -> Vec<String> {
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    ["setpriv", &user, &group, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        .map(str::to_owned)
        .to_vec()
}

fn below() -> Vec<String> {
    let name = User::from_uid(Uid::from_raw(USER)).unwrap().unwrap().name;
    let machine = format!("--machine={name}@.host");
    ["systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", &machine, "--"]
        .map(str::to_owned)
        .to_vec()
}

fn a_scope_below_the_users_systemd(t: &Test) {
    need_users_systemd(t);
    a_scope(t, &below());
}

fn a_scope_from_a_login_session(t: &Test) {
    need_users_systemd(t);
    a_scope(t, &beside());
}

fn a_scope(t: &Test, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let call = |args: &[&str]| -> Output {
        let call = t.call(args).global(&["--systemd-cgroup"]);
        call.env("XDG_RUNTIME_DIR", &directory()).by(&words).run()
    };
    let c = rootless::bundle(t)
        .lasting()
        .set("/linux/resources", json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}))
        .set("/linux/cgroupsPath", json!(format!("user.slice:bb:{}", t.id)));
    c.write();
    rootless::own(t, &c);
    let bundle = c.dir.display().to_string();
    call(&["create", "--bundle", &bundle, &c.id]).ok();
    let slice = format!("user.slice/user-{USER}.slice/user@{USER}.service/user.slice");
    let scope = format!("/sys/fs/cgroup/{slice}/bb-{}.scope", t.id);
    let file = |name: &str| {
        let path = format!("{scope}/{name}");
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .trim()
            .to_owned()
    };
    assert_eq!((file("memory.max").as_str(), file("pids.max").as_str()), ("67108864", "20"));
    call(&["start", &c.id]).ok();
    let below = fs::metadata(format!("{scope}/container")).is_ok();
    let procs = if below { "container/cgroup.procs" } else { "cgroup.procs" };
    assert_eq!(file(procs), c.state()["pid"].to_string());
    let output = call(&["exec", &c.id, "cat", "/proc/self/cgroup"]).ok();
    assert!(output.stdout.contains(&format!("bb-{}.scope", t.id)), "{output}");
    call(&["update", "--pids-limit", "30", &c.id]).ok();
    assert_eq!((file("pids.max"), tasks_max(t)), ("30".to_owned(), "30".to_owned()));
    call(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    call(&["resume", &c.id]).ok();
    call(&["delete", "--force", &c.id]).ok();
    wait::until("the scope is gone", || fs::metadata(&scope).is_err().then_some(()));
    t.assert_nothing_left();
}

fn tasks_max(t: &Test) -> String {
    let words = beside();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("XDG_RUNTIME_DIR", directory()).arg("systemctl");
    command.args(["--user", "show", "--value", "-p", "TasksMax", &format!("bb-{}.scope", t.id)]);
    String::from_utf8_lossy(&reaper::output(&mut command).unwrap().stdout).trim().to_owned()
}
