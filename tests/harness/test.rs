//! The surroundings of one test: its directory, its runtime root, and the proof that nothing is left.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::{Host, Layout};
use super::runtime::{Call, Kind, Runtime};
use super::{Container, reaper, wait};

/// Thrown by a test that cannot run here.
pub struct Skip(pub String);

/// What a test function gets.
pub struct Test {
    pub name: &'static str,
    /// Begins every container id, cgroup and path of this test, and of no other.
    pub id: String,
    pub dir: PathBuf,
    pub root: PathBuf,
    pub store: &'static Path,
    pub runtime: &'static Runtime,
    pub host: &'static Host,
    calls: Cell<u32>,
    containers: Cell<u8>,
}

impl Test {
    pub fn new(
        name: &'static str,
        id: String,
        store: &'static Path,
        runtime: &'static Runtime,
        host: &'static Host,
    ) -> Self {
        let dir = store.join(&id);
        let root = dir.join("root");
        for path in [&dir, &root, &dir.join("io")] {
            fs::create_dir_all(path).unwrap();
        }
        Self {
            name,
            id,
            dir,
            root,
            store,
            runtime,
            host,
            calls: Cell::new(0),
            containers: Cell::new(0),
        }
    }

    // --- what tests use ---

    /// A new container with its bundle.
    pub fn container(&self) -> Container<'_> {
        let letter = char::from(b'a' + self.containers.get());
        let container = Container::new(self, format!("{}{letter}", self.id));
        self.containers.set(self.containers.get() + 1);
        container
    }

    /// A call of the runtime with this test's `--root`.
    pub fn call(&self, args: &[&str]) -> Call<'_> {
        Call::new(self.runtime, self.next_io(), Some(&self.root), args).cwd(&self.dir)
    }

    /// A call without `--root`.
    pub fn bare_call(&self, args: &[&str]) -> Call<'_> {
        Call::new(self.runtime, self.next_io(), None, args).cwd(&self.dir)
    }

    fn next_io(&self) -> PathBuf {
        let call = self.calls.get();
        self.calls.set(call + 1);
        self.dir.join(format!("io/{call}"))
    }

    /// A path in the directory of the test.
    /// Whether a path of the host's is not another test's, which may run meanwhile and has mounts of its own.
    pub fn is_no_others(&self, path: &str) -> bool {
        let path = Path::new(path);
        path.starts_with(&self.dir) || self.dir.parent().is_none_or(|all| !path.starts_with(all))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn kind(&self) -> Kind {
        self.runtime.kind
    }

    /// Skips the test, saying why.
    pub fn skip(&self, reason: impl Into<String>) -> ! {
        std::panic::resume_unwind(Box::new(Skip(reason.into())))
    }

    /// Skips the test unless the condition holds.
    pub fn need(&self, condition: bool, reason: &str) {
        if !condition {
            self.skip(reason);
        }
    }

    pub fn need_capability(&self, name: &str) {
        self.need(self.host.has_capability(name), &format!("the tests run without {name}"));
    }

    pub fn need_user_namespaces(&self) {
        self.need(self.host.user_namespaces, "user namespaces are switched off");
    }

    pub fn need_controller(&self, name: &str) {
        self.need(
            self.host.controllers.iter().any(|known| known == name),
            &format!("no {name} cgroup controller here"),
        );
    }

    /// Skips the test unless this kernel has such a limit.
    pub fn need_limit(&self, v1: (&str, &str), v2: &str) {
        let name = if self.host.layout == Layout::V1 { v1.1 } else { v2 };
        self.need(self.host.has_cgroup_file(v1, v2), &format!("no {name} on this host"));
    }

    pub fn need_layout(&self, layout: Layout) {
        self.need(self.host.layout == layout, &format!("this host has not cgroup {layout:?}"));
    }

    pub fn need_program(&self, name: &str) {
        self.need(Host::has_program(name), &format!("no {name} on this host"));
    }

    // --- what is left ---

    /// Everything of this test that is still there, once processes had a moment to die.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        wait::until_within(wait::stretched(Duration::from_secs(2)), || {
            found = self.leftovers_now();
            found.is_empty().then_some(())
        });
        found
    }

    /// Asserts in the middle of a test that a failed operation left nothing.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let found = self.leftovers();
        assert!(found.is_empty(), "left behind: {}", found.join("; "));
    }

    fn leftovers_now(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                found.push(format!("state {}", entry.path().display()));
            }
        }
        for cgroup in self.cgroups() {
            found.push(format!("cgroup {}", cgroup.display()));
        }
        let dir = self.dir.display().to_string();
        for point in mount_points() {
            if point == dir || point.starts_with(&format!("{dir}/")) {
                found.push(format!("mount {point}"));
            }
        }
        for pid in self.processes() {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found.push(format!("process {pid} ({})", words.replace('\0', " ").trim()));
        }
        found
    }

    /// The cgroups whose name begins with this test's id.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in self.host.cgroup_roots() {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                if self.owns(&entry.file_name().to_string_lossy()) {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Whether a text begins with an id of this test (`…-1a` is not an id of test `…-1x`).
    fn owns(&self, name: &str) -> bool {
        name.strip_prefix(&self.id)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn mentions(&self, text: &str) -> bool {
        text.match_indices(&self.id).any(|(at, _)| self.owns(&text[at..]))
    }

    /// The living processes in this test's cgroups, or with its id on their command line.
    fn processes(&self) -> Vec<i32> {
        let own = std::process::id() as i32;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if pid == own || !wait::is_alive(pid) {
                continue;
            }
            let read = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                self.mentions(&String::from_utf8_lossy(&bytes))
            };
            if read("cgroup") || read("cmdline") {
                found.push(pid);
            }
        }
        found
    }

    /// Deletes every container, then says what survived that; sweeps it away, too.
    pub fn finish(&self) -> Vec<String> {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                self.call(&["delete", "--force", &name]).run();
            }
        }
        let found = self.leftovers();
        if !found.is_empty() {
            self.sweep();
        }
        if std::env::var_os("SKEP_TEST_KEEP").is_none() {
            let _best_effort = fs::remove_dir_all(&self.dir);
        }
        found
    }

    fn sweep(&self) {
        for cgroup in self.cgroups() {
            let _v1_only = fs::write(cgroup.join("freezer.state"), "THAWED");
            let _v2_only = fs::write(cgroup.join("cgroup.freeze"), "0");
        }
        for pid in self.processes() {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            wait::until_within(Duration::from_secs(5), || (!wait::is_alive(pid)).then_some(()));
        }
        for point in mount_points().into_iter().rev() {
            if point.starts_with(&self.dir.display().to_string()) {
                let _best_effort = reaper::output(Command::new("umount").args(["-l", &point]));
            }
        }
        for cgroup in self.cgroups() {
            remove_cgroup(&cgroup);
        }
    }
}

/// Removes a cgroup and those below it, when their processes have ended.
pub fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    wait::until_within(Duration::from_secs(2), || fs::remove_dir(dir).ok());
}

/// The mount points of the host as `t` should find them, but for those below /run, where systemd has some come and go.
pub fn host_mounts(t: &Test) -> Vec<String> {
    let mut points = mount_points();
    points.retain(|point| !point.starts_with("/run/") && t.is_no_others(point));
    points
}

/// The mount points this process sees, in order.
pub fn mount_points() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .collect()
}
