//! The state on disk: of the version before, of the version after, and on a disk that is full.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Output, Test, Value, json, reaper, wait};
use crate::mounts::HostMount;

cases![
    the_record_of_an_earlier_version_is_read,
    the_record_of_a_later_version_is_refused_and_can_be_deleted,
    the_cgroup_of_a_record_of_a_later_layout_is_that_of_the_config,
    a_record_that_cannot_be_read_still_leads_to_its_own_cgroup,
    unknown_fields_of_a_record_are_ignored,
    a_full_disk_stops_no_running_container,
    no_space_at_any_step_of_create,
    the_state_is_for_its_owner_alone,
];

fn record(c: &Container<'_>) -> PathBuf {
    c.test.need(c.test.kind() == Kind::Skep, "the state file is skep's");
    c.test.root.join(&c.id).join("state.json")
}

fn change(c: &Container<'_>, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = record(c);
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(state.as_object_mut().unwrap());
    fs::write(&path, state.to_string()).unwrap();
}

fn works(c: &Container<'_>) {
    assert_eq!(c.status(), "running");
    c.exec(&["true"]).ok();
    c.call("pause", &[]).run().ok();
    c.call("resume", &[]).run().ok();
    c.kill("KILL").ok();
    c.wait_exit();
    c.delete().ok();
    c.test.assert_nothing_left();
}

fn the_record_of_an_earlier_version_is_read(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    change(&c, |state| {
        // What came later has a default.
        for field in ["made", "keyring", "creating", "hooks", "annotations"] {
            state.remove(field);
        }
    });
    works(&c);
}

fn unknown_fields_of_a_record_are_ignored(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    change(&c, |state| {
        state.insert("ofALaterVersion".to_owned(), json!({"a": [1, null]}));
    });
    works(&c);
}

fn the_record_of_a_later_version_is_refused_and_can_be_deleted(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    change(&c, |state| {
        state.insert("version".to_owned(), json!(2));
    });
    for command in ["state", "pause", "kill"] {
        c.call(command, &[]).run().fails().one_line().names("newer").names(&c.id);
    }
    c.delete_force().ok();
    assert!(!wait::is_alive(c.pid()));
    t.assert_nothing_left();
}

fn the_cgroup_of_a_record_of_a_later_layout_is_that_of_the_config(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    change(&c, |state| {
        state.insert("version".to_owned(), json!(2));
        state.insert("cgroup".to_owned(), json!({"kind": "x"}));
    });
    c.delete_force().ok();
    assert!(!wait::is_alive(c.pid()));
    t.assert_nothing_left();
}

/// Only the record knows where a cgroup of systemd's is: the place that its path has without systemd is somebody else's.
fn a_record_that_cannot_be_read_still_leads_to_its_own_cgroup(t: &Test) {
    let other = format!("/{}-other", t.id);
    let path = format!("/{}-own", t.id);
    for cut in [false, true] {
        let c = t.container().without_namespace("pid").lasting();
        let c = c.set("/linux/cgroupsPath", json!(path));
        c.run_detached();
        c.exec_with(&["--detach"], &["sleep", "1000"]).run().ok();
        let state = record(&c);
        let text = fs::read_to_string(&state).unwrap();
        match cut {
            false => fs::write(&state, text.replacen("\"version\":1", "\"version\":2", 1)),
            true => fs::write(&state, &text[..text.find("\"bundle\"").unwrap()]),
        }
        .unwrap();
        let config = t.root.join(&c.id).join("config.json");
        let changed = fs::read_to_string(&config).unwrap().replace(&path, &other);
        fs::write(&config, changed).unwrap();
        let stranger = Stranger::new(t, &other);
        c.delete_force().ok();
        assert!(!wait::is_alive(c.pid()));
        assert!(wait::is_alive(stranger.pid), "a process of somebody else's was killed");
        drop(stranger);
        t.assert_nothing_left();
    }
}

/// A process in a cgroup of somebody else's.
struct Stranger {
    pid: i32,
    directories: Vec<PathBuf>,
}

impl Stranger {
    fn new(t: &Test, path: &str) -> Self {
        let mut sleep = std::process::Command::new("sleep");
        let pid = reaper::spawn(sleep.arg("1000")).unwrap().pid;
        let roots = t.host.hierarchies.values();
        let directories: Vec<_> = roots.map(|root| root.join(&path[1..])).collect();
        for directory in &directories {
            fs::create_dir(directory).unwrap();
            for name in ["cpuset.cpus", "cpuset.mems"] {
                let above = directory.parent().unwrap().join(name);
                if t.host.layout == Layout::V1 && directory.join(name).exists() {
                    fs::write(directory.join(name), fs::read(above).unwrap()).unwrap();
                }
            }
            fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        Self { pid, directories }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _killed_by_mistake = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        let _ended =
            wait::until_within(wait::patience(), || (!wait::is_alive(self.pid)).then_some(()));
        for directory in &self.directories {
            wait::until("the cgroup is empty", || {
                (fs::remove_dir(directory).is_ok() || !directory.exists()).then_some(())
            });
        }
    }
}

/// A root of its own on a file system with a limit.
struct Small(HostMount);

impl Small {
    fn new(t: &Test, name: &str, options: &str) -> Self {
        t.need(t.kind() == Kind::Skep, "how much is written where is skep's");
        Self(HostMount::sized(t, t.path(name).to_str().unwrap(), options))
    }

    fn call(&self, t: &Test, args: &[&str]) -> Output {
        t.bare_call(&[&["--root", &self.0.0], args].concat()).run()
    }

    fn create(&self, c: &Container<'_>) -> Output {
        c.write();
        self.call(c.test, &["create", "--bundle", c.dir.to_str().unwrap(), &c.id])
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0.0).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn a_full_disk_stops_no_running_container(t: &Test) {
    t.need_controller("pids");
    let small = Small::new(t, "small", "size=256k");
    let c = t.container().lasting();
    small.create(&c).ok();
    let filler = PathBuf::from(&small.0.0).join("filler");
    // Until not a byte is left.
    fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    let id = c.id.as_str();
    assert_eq!(small.call(t, &["state", id]).ok().json()["status"], json!("created"));
    small.call(t, &["start", id]).ok();
    small.call(t, &["exec", id, "true"]).ok();
    small.call(t, &["pause", id]).ok();
    small.call(t, &["resume", id]).ok();
    let update = small.call(t, &["update", "--pids-limit", "100", id]);
    if update.code != Some(0) {
        update.fails().names("no space left on device");
    }
    assert_eq!(small.call(t, &["state", id]).ok().json()["status"], json!("running"));
    small.call(t, &["kill", id, "KILL"]).ok();
    small.call(t, &["delete", "--force", id]).ok();
    assert_eq!(small.entries(), ["filler"]);
    drop(small);
    t.assert_nothing_left();
}

fn no_space_at_any_step_of_create(t: &Test) {
    let mut made = 0;
    for (number, options) in ["nr_inodes", "size"].iter().enumerate() {
        for least in 2..14 {
            let value = if *options == "size" { least * 4096 } else { least };
            let options = format!("{options}={value}");
            let small = Small::new(t, &format!("small-{number}-{least}"), &options);
            let c = t.container().lasting();
            let output = small.create(&c);
            if output.code == Some(0) {
                made += 1;
                small.call(t, &["start", &c.id]).ok();
                small.call(t, &["delete", "--force", &c.id]).ok();
            } else {
                output.fails().one_line().names("no space left on device");
            }
            assert_eq!(small.entries(), Vec::<String>::new(), "{options}");
            drop(small);
            t.assert_nothing_left();
        }
    }
    assert!((2..22).contains(&made), "{made} of 24 were made");
}

fn the_state_is_for_its_owner_alone(t: &Test) {
    use std::os::unix::fs::PermissionsExt;
    let c = t.container().lasting();
    let dir = record(&c).parent().unwrap().to_owned();
    c.create();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        if !entry.file_type().unwrap().is_symlink() {
            assert_eq!(mode(&entry.path()) & 0o077, 0, "{entry:?}");
        }
    }
}
