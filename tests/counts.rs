//! Numbers that do not vary: the system calls, processes and threads that a command takes, and what the binary is.
//!
//! A call more on the path of every container is seen here; the message has all of them by name. Calls that get memory are
//! not counted: they are the allocator's. No descriptor is inherited but the standard streams, as others change what there
//! is to close. What the host has a say in is a term of a formula: the hierarchies that a container joins, and the
//! capabilities that this kernel knows. Whoever changes a number says why in the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Test, json, sys, wait};

cases![
    create_takes_so_many_calls,
    start_takes_so_many_calls,
    exec_takes_so_many_calls,
    state_takes_so_many_calls,
    kill_takes_so_many_calls,
    delete_takes_so_many_calls,
    a_created_container_is_one_process_with_one_thread,
    the_binary_is_small_and_needs_no_relocation,
    debug_prints_a_timeline_of_both_sides,
    debug_says_where_the_program_runs_from,
];

/// Largest size of the release binary, in bytes.
const SIZE_LIMIT: usize = 2_000_000;
/// The hierarchies of version 1 that a container joins for what they are, whatever else is in them.
const ALWAYS: [&str; 8] =
    ["memory", "cpu", "pids", "devices", "freezer", "cpuacct", "blkio", "systemd"];
/// Those it joins where they are mounted; but not with cpuset in them, which it joins only if it is asked for.
const MOUNTED: [&str; 6] = ["hugetlb", "misc", "net_cls", "net_prio", "perf_event", "rdma"];
const MEMORY: [&str; 6] = ["brk", "mmap", "munmap", "mremap", "mprotect", "madvise"];
const CLONES: [&str; 4] = ["clone", "clone3", "fork", "vfork"];
const STRACE: [&str; 8] = ["strace", "-I", "2", "-f", "-q", "-e", "signal=none", "-o"];

type Calls = BTreeMap<String, usize>;

/// The system calls of a command by process, its own first. A child's end with the execve of the payload.
struct Trace {
    processes: Vec<(i32, Calls)>,
    clones: usize,
    executed: usize,
}

impl Trace {
    fn parse(text: &str) -> Self {
        let mut trace = Self { processes: Vec::new(), clones: 0, executed: 0 };
        let mut gone: BTreeSet<i32> = BTreeSet::new();
        for line in text.lines() {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
            // "<... poll resumed>" and "+++ exited with 0 +++" are no calls.
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            let pid: i32 = pid.parse().unwrap();
            if gone.contains(&pid) {
                continue;
            }
            let calls = trace.of(pid);
            *calls.entry(name.to_owned()).or_default() += 1;
            let first = trace.processes[0].0;
            trace.clones += usize::from(CLONES.contains(&name));
            if name.starts_with("execve") {
                trace.executed += 1;
                if pid != first {
                    gone.insert(pid);
                }
            }
        }
        trace
    }

    fn of(&mut self, pid: i32) -> &mut Calls {
        let at = self.processes.iter().position(|(known, _)| *known == pid).unwrap_or_else(|| {
            self.processes.push((pid, Calls::new()));
            self.processes.len() - 1
        });
        &mut self.processes[at].1
    }

    /// Asserts the number of calls of each process.
    #[track_caller]
    fn counts(&self, expected: &[usize], executed: usize) {
        let counted = |calls: &Calls| -> usize {
            calls
                .iter()
                .filter(|(name, _)| !MEMORY.contains(&name.as_str()))
                .map(|(_, count)| count)
                .sum()
        };
        let found: Vec<usize> = self.processes.iter().map(|(_, calls)| counted(calls)).collect();
        assert_eq!(found, expected, "calls of each process: {:#?}", self.processes);
        assert_eq!(self.clones, expected.len() - 1, "clones");
        assert_eq!(self.executed, executed, "programs executed");
    }
}

/// A container whose calls depend on the host as little as can be.
fn countable(t: &Test) -> Container<'_> {
    t.need(t.kind() == Kind::Skep, "the numbers are skep's");
    t.need(
        t.runtime.original.to_string_lossy().contains("-linux-musl/release/"),
        "the numbers are those of the static release build with musl",
    );
    t.need_layout(Layout::V1);
    t.need_program("strace");
    let flags = statvfs(&t.runtime.path).unwrap().flags();
    t.need(
        !flags.contains(FsFlags::ST_RDONLY),
        "a binary on a read-only mount is not protected anew",
    );
    t.container()
        .lasting()
        .set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/keys"]))
        .set("/linux/readonlyPaths", json!(["/proc/bus", "/proc/sys"]))
}

/// The directories of the v1 hierarchies that any of these controllers is in.
fn of<'t>(t: &'t Test, names: &[&str]) -> BTreeSet<&'t PathBuf> {
    names.iter().filter_map(|name| t.host.hierarchies.get(*name)).collect()
}

/// The v1 hierarchies that each container joins here.
fn hierarchies(t: &Test) -> usize {
    let mounted = &of(t, &MOUNTED) - &of(t, &["cpuset"]);
    (&of(t, &ALWAYS) | &mounted).len()
}

/// The v1 hierarchies that the runtime looks at, whether it joins them or not.
fn looked_at(t: &Test) -> usize {
    of(t, &[&ALWAYS[..], &MOUNTED, &["cpuset"]].concat()).len()
}

/// One if there is a hierarchy of version 2 beside those, in which a container has a cgroup too.
fn unified(t: &Test) -> usize {
    usize::from(t.host.hierarchies.contains_key(""))
}

/// The capabilities this kernel knows.
fn capabilities() -> usize {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    last.trim().parse::<usize>().unwrap() + 1
}

fn traced(t: &Test, call: Call<'_>) -> Trace {
    let log = t.path("trace");
    let words = [&STRACE[..], &[log.to_str().unwrap()]].concat();
    call.by(&words).with(sys::inherit_streams_alone).run().ok();
    Trace::parse(&fs::read_to_string(log).unwrap())
}

fn create_takes_so_many_calls(t: &Test) {
    let c = countable(t);
    let (log, pid_file) = (t.path("trace"), t.path("pid"));
    let words = [&STRACE[..], &[log.to_str().unwrap()]].concat();
    let flags = ["--pid-file", pid_file.to_str().unwrap()];
    // strace stays for as long as the container's init does.
    let call = c.bundle_call("create", &flags).by(&words);
    let running = call.with(sys::inherit_streams_alone).spawn();
    wait::until("create ends", || {
        let text = fs::read_to_string(&log).ok()?;
        let own = text.split_whitespace().next()?;
        text.lines()
            .any(|line| line.starts_with(own) && line.contains("+++ exited with 0"))
            .then_some(())
    });
    let pid = fs::read_to_string(&pid_file).unwrap();
    wait::until("init waits for start", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.starts_with(" S").then_some(())
    });
    running.signal(Signal::SIGTERM);
    running.wait();
    let trace = Trace::parse(&fs::read_to_string(&log).unwrap());
    let (joined, beside, known) = (hierarchies(t), unified(t), capabilities());
    let own = 111 + looked_at(t) + 2 * joined + 6 * beside + spread(t);
    trace.counts(&[own, 242 + joined + known], 1);
}

/// On version 1, where parent and child work at the same time: four calls that give the child another CPU, if there is one
/// and they are few.
fn spread(t: &Test) -> usize {
    if t.host.layout != Layout::V1 {
        return 0;
    }
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let cpus = (0..nix::sched::CpuSet::count()).filter(|cpu| mask.is_set(*cpu).unwrap()).count();
    if (2..=8).contains(&cpus) { 4 } else { 2 }
}

fn start_takes_so_many_calls(t: &Test) {
    let c = countable(t);
    c.create();
    traced(t, c.call("start", &[])).counts(&[36], 1);
}

fn exec_takes_so_many_calls(t: &Test) {
    let c = countable(t);
    c.run_detached();
    let trace = traced(t, c.exec_with(&[], &["true"]));
    let (joined, beside, known) = (hierarchies(t), unified(t), capabilities());
    trace.counts(&[69 + joined + 2 * beside, 106 + joined + known], 2);
}

fn state_takes_so_many_calls(t: &Test) {
    let c = countable(t);
    c.run_detached();
    traced(t, c.call("state", &[])).counts(&[26], 1);
}

fn kill_takes_so_many_calls(t: &Test) {
    let c = countable(t);
    c.run_detached();
    traced(t, t.call(&["kill", &c.id, "KILL"])).counts(&[26], 1);
}

fn delete_takes_so_many_calls(t: &Test) {
    let c = countable(t);
    c.run_detached();
    c.kill("KILL").ok();
    c.wait_exit();
    traced(t, c.call("delete", &[])).counts(&[23 + hierarchies(t) + unified(t)], 1);
}

fn a_created_container_is_one_process_with_one_thread(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc's has five");
    let c = t.container();
    c.create();
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    assert!(status.contains("\nThreads:\t1\n"), "{status}");
    assert_eq!(c.call("ps", &["--format", "json"]).run().ok().json(), json!([c.pid()]));
}

fn the_binary_is_small_and_needs_no_relocation(t: &Test) {
    t.need(t.kind() == Kind::Skep, "skep's own");
    let file = fs::read(&t.runtime.path).unwrap();
    let number = |at: usize, length: usize| -> usize {
        let bytes = &file[at..at + length];
        bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    assert_eq!(&file[..5], b"\x7fELF\x02", "a 64-bit ELF file");
    // Program headers: PT_DYNAMIC is 2, PT_INTERP is 3. Section headers: SHT_RELA is 4, SHT_REL 9, SHT_RELR 19.
    let segments: Vec<usize> =
        (0..number(56, 2)).map(|i| number(number(32, 8) + i * number(54, 2), 4)).collect();
    t.need(!segments.contains(&3), "a development build, for the host's own C library");
    assert!(!segments.contains(&2), "a dynamic segment: {segments:?}");
    for index in 0..number(60, 2) {
        let kind = number(number(40, 8) + index * number(58, 2) + 4, 4);
        assert!(![4, 9, 19].contains(&kind), "section {index} has relocations");
    }
    // ET_EXEC: the text is where the linker has put it.
    assert_eq!(number(16, 2), 2, "not at fixed addresses");
    assert!(file.len() <= SIZE_LIMIT, "{} bytes, more than {SIZE_LIMIT}", file.len());
}

fn debug_says_where_the_program_runs_from(t: &Test) {
    t.need(t.kind() == Kind::Skep, "skep's own");
    let c = t.container();
    let told = c.bundle_call("run", &[]).global(&["--debug"]).run().ok();
    told.names("runs from where nobody can write to it").names("using /proc/self/exe clone");
    assert!(!c.bundle_call("run", &[]).run().ok().stderr.contains("runs from"));
}

fn debug_prints_a_timeline_of_both_sides(t: &Test) {
    t.need(t.kind() == Kind::Skep, "skep's own");
    let c = t.container().lasting();
    let told = |call: Call<'_>| {
        let output = call.global(&["--debug"]).run().ok();
        let lines: Vec<(bool, String, u64)> = output.stderr.lines().filter_map(step).collect();
        for inside in [false, true] {
            let times: Vec<u64> =
                lines.iter().filter(|line| line.0 == inside).map(|line| line.2).collect();
            assert!(times.is_sorted(), "{output}");
        }
        lines
    };
    let all = |lines: &[(bool, String, u64)]| -> Vec<String> {
        lines.iter().map(|(_, text, _)| text.clone()).collect()
    };
    let pid_file = t.path("pid");
    let flags = ["--pid-file", pid_file.to_str().unwrap()];
    let create = told(c.bundle_call("create", &flags));
    let inside: Vec<u64> = create.iter().filter(|line| line.0).map(|line| line.2).collect();
    assert_eq!(inside.len(), 12, "{create:?}");
    // One clock: the child's last stage is before the parent hears that it is ready.
    let (_, last, ready) = create.last().unwrap();
    assert!(
        last.starts_with("init is ready") && inside.iter().all(|time| time <= ready),
        "{create:?}"
    );
    assert_eq!(
        all(&told(c.call("start", &[]))),
        ["found the container created", "the program runs"]
    );
    let exec = told(c.exec_with(&[], &["true"]));
    assert_eq!(exec.iter().filter(|line| line.0).count(), 6, "{exec:?}");
    assert!(exec.last().unwrap().1.starts_with("the program runs"), "{exec:?}");
}

/// Of `time=… level=debug msg="inside: has made the mounts (512 us)"`: inside, the words, the microseconds.
pub fn step(line: &str) -> Option<(bool, String, u64)> {
    let (_, message) = line.split_once("msg=\"")?;
    let (text, time) = message.strip_suffix(" us)\"")?.rsplit_once(" (")?;
    let inside = text.strip_prefix("inside: ");
    Some((inside.is_some(), inside.unwrap_or(text).to_owned(), time.parse().ok()?))
}
