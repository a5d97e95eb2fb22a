//! One container: a bundle that is still being written, then the commands on its id.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use std::time::Instant;

use super::host::Layout;
use super::output::Output;
use super::reaper::{self, End};
use super::runtime::{Call, Kind, Running};
use super::{Test, wait};

/// A container of a test. Its id and its cgroup are unlike those of any other test.
pub struct Container<'t> {
    pub test: &'t Test,
    pub id: String,
    pub dir: PathBuf,
    pub config: Value,
    written: Cell<bool>,
    made: Instant,
}

/// What `runc spec` prints, without the terminal, with a writable root and its own cgroup.
fn default_config(id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "blackbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

impl<'t> Container<'t> {
    /// Makes the bundle directory with its rootfs.
    pub fn new(test: &'t Test, id: String) -> Self {
        let dir = test.dir.join(&id);
        fs::create_dir_all(&dir).unwrap();
        let config = default_config(&id);
        let container =
            Self { test, id, dir, config, written: Cell::new(false), made: Instant::now() };
        super::rootfs::build(test.store, &container.rootfs());
        container
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path inside the root file system, as the host sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.rootfs().join(inside.trim_start_matches('/'))
    }

    /// Reads a file the container has written into its root.
    #[track_caller]
    pub fn read(&self, inside: &str) -> String {
        let path = self.path(inside);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    // --- config.json ---

    /// Sets the program.
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Sets the program to a shell script.
    pub fn sh(self, script: &str) -> Self {
        self.args(&["sh", "-c", script])
    }

    /// A program that lasts until it is killed.
    pub fn lasting(self) -> Self {
        self.args(&["sleep", "1000"])
    }

    /// Sets the value at a JSON pointer, making the objects on the way.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.config;
        for key in pointer.trim_start_matches('/').split('/') {
            at = match at {
                Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
                other => {
                    if !other.is_object() {
                        *other = json!({});
                    }
                    other.as_object_mut().unwrap().entry(key).or_insert(Value::Null)
                }
            };
        }
        *at = value;
        self
    }

    /// Removes the member at a JSON pointer.
    pub fn unset(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(key).unwrap();
        self
    }

    /// Appends to the array at a JSON pointer, making it if need be.
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        if self.config.pointer(pointer).is_none() {
            self = self.set(pointer, json!([]));
        }
        self.config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value);
        self
    }

    /// Appends a mount.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    /// Removes the mount at a destination.
    pub fn without_mount(mut self, destination: &str) -> Self {
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != destination);
        self
    }

    /// Removes a namespace.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let namespaces = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Asks for a new user namespace with these host ids as its 0 to 65535.
    pub fn user_namespace(self, host_id: u32) -> Self {
        let map = json!([{"containerID": 0, "hostID": host_id, "size": 65536}]);
        self.push("/linux/namespaces", json!({"type": "user"}))
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .without_mount("/sys")
            .without_mount("/dev/mqueue")
    }

    /// Gives all five sets these capabilities.
    pub fn capabilities(self, names: &[&str]) -> Self {
        self.set(
            "/process/capabilities",
            json!({"bounding": names, "effective": names, "permitted": names,
                   "inheritable": names, "ambient": names}),
        )
    }

    /// Adds capabilities to the bounding, effective and permitted sets.
    pub fn with_capabilities(mut self, names: &[&str]) -> Self {
        for set in ["bounding", "effective", "permitted"] {
            for name in names {
                self = self.push(&format!("/process/capabilities/{set}"), json!(name));
            }
        }
        self
    }

    /// Appends a hook that is a host shell script.
    pub fn hook(self, phase: &str, script: &str) -> Self {
        // crun fails where a hook has ended before the state is written to it, so there one reads it first.
        let script = match self.test.kind() {
            Kind::Crun => &format!("state=$(cat)\nexec <<END\n$state\nEND\n{script}"),
            _ => script,
        };
        self.push(
            &format!("/hooks/{phase}"),
            json!({"path": "/bin/sh", "args": ["sh", "-c", script]}),
        )
    }

    /// Writes a file into the root file system.
    pub fn file(self, inside: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Puts the probe program at `/bin/probe`, or skips the test where there is no C compiler.
    pub fn with_probe(self) -> Self {
        fs::hard_link(super::probe::path(self.test), self.path("/bin/probe")).unwrap();
        self
    }

    /// Writes config.json; done by `run` and `create` unless it has been done.
    pub fn write(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        self.written.set(true);
    }

    /// Writes these bytes as config.json instead.
    pub fn write_raw(&self, bytes: impl AsRef<[u8]>) {
        fs::write(self.dir.join("config.json"), bytes).unwrap();
        self.written.set(true);
    }

    // --- commands ---

    /// A call with the bundle directory as its option and the id as its operand.
    pub fn bundle_call(&self, command: &str, flags: &[&str]) -> Call<'t> {
        if !self.written.get() {
            self.write();
        }
        let bundle = self.dir.display().to_string();
        let mut args = vec![command, "--bundle", &bundle];
        args.extend(flags);
        args.push(&self.id);
        self.test.call(&args)
    }

    /// `COMMAND FLAGS… ID`.
    pub fn call(&self, command: &str, flags: &[&str]) -> Call<'t> {
        let mut args = vec![command];
        args.extend(flags);
        args.push(&self.id);
        self.test.call(&args)
    }

    /// `run`, in the foreground.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.bundle_call("run", &[]).run()
    }

    /// `run` in the foreground, without waiting for it.
    #[track_caller]
    pub fn spawn(&self) -> Running {
        self.bundle_call("run", &[]).spawn()
    }

    /// `run --detach`, which must succeed.
    #[track_caller]
    pub fn run_detached(&self) -> Output {
        self.bundle_call("run", &["--detach", "--pid-file", &self.pid_file()]).run().ok()
    }

    /// `create`, whatever comes of it.
    #[track_caller]
    pub fn try_create(&self) -> Output {
        self.bundle_call("create", &["--pid-file", &self.pid_file()]).run()
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self) -> Output {
        self.try_create().ok()
    }

    #[track_caller]
    pub fn start(&self) -> Output {
        self.call("start", &[]).run()
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.test.call(&["kill", &self.id, signal]).run()
    }

    #[track_caller]
    pub fn delete(&self) -> Output {
        self.call("delete", &[]).run()
    }

    #[track_caller]
    pub fn delete_force(&self) -> Output {
        self.call("delete", &["--force"]).run()
    }

    /// `exec` in the foreground, in the container's environment.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_with(&[], args).run()
    }

    /// `exec` with flags.
    pub fn exec_with(&self, flags: &[&str], args: &[&str]) -> Call<'t> {
        let mut all = vec!["exec"];
        all.extend(flags);
        all.push(&self.id);
        all.extend(args);
        self.test.call(&all)
    }

    /// The `state` document.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call("state", &[]).run().ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    // --- its cgroup ---

    /// A file of the container's cgroup: of this controller on v1, by another name on v2.
    pub fn cgroup_file(&self, v1: (&str, &str), v2: &str) -> PathBuf {
        match self.test.host.layout {
            Layout::V1 => self.test.host.v1(v1.0, &self.id, v1.1),
            Layout::V2 => self.test.host.v2(&self.id, v2),
        }
    }

    /// Asserts what a file of the cgroup says: (controller, file, text) on v1, (file, text) on v2.
    #[track_caller]
    pub fn expect_limit(&self, v1: (&str, &str, &str), v2: (&str, &str)) {
        let path = self.cgroup_file((v1.0, v1.1), v2.0);
        let expected = if self.test.host.layout == Layout::V1 { v1.2 } else { v2.1 };
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text.trim(), expected, "{}", path.display());
    }

    // --- the processes ---

    fn pid_file(&self) -> String {
        self.dir.join("pid").display().to_string()
    }

    /// The pid of init, from the pid file that `create` and `run_detached` write.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.pid_file()).unwrap().parse().unwrap()
    }

    /// Waits until init has ended and reaps it: the tests are its subreaper, as a shim would be. The answer is -1
    /// when the runtime has reaped it before it returned.
    #[track_caller]
    pub fn wait_exit(&self) -> i32 {
        let pid = self.pid();
        wait::for_exit(pid);
        match reaper::status_of(pid, self.made) {
            End::Code(code) => code,
            End::Signal(signal) => 128 + signal,
            End::Unknown => -1,
        }
    }

    /// Waits until `state` says so.
    #[track_caller]
    pub fn wait_status(&self, status: &str) {
        wait::until(&format!("{} is {status}", self.id), || {
            (self.status() == status).then_some(())
        });
    }

    /// Waits for a file inside the root file system and returns its text.
    #[track_caller]
    pub fn wait_file(&self, inside: &str) -> String {
        wait::for_file(&self.path(inside))
    }
}
