//! process.scheduler, ioPriority and execCPUAffinity; linux.memoryPolicy and personality.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, Value, json};
use crate::rootless;

cases![
    nice_and_batch_are_set,
    idle_is_set,
    realtime_policies_are_set,
    deadline_is_set,
    a_hook_that_could_not_be_forked_is_refused,
    reset_on_fork_is_set,
    a_created_container_has_its_scheduler,
    realtime_works_in_a_user_namespace,
    nice_works_without_root,
    realtime_without_privilege_is_reported,
    exec_has_the_scheduler_of_the_container,
    a_process_file_has_a_scheduler_of_its_own,
    deadline_with_a_cpuset_is_explained,
    a_policy_no_kernel_has_is_explained,
    bad_schedulers_are_refused,
    the_io_priority_is_set,
    exec_has_the_io_priority_of_the_container,
    a_realtime_io_priority_works_in_a_user_namespace,
    bad_io_priorities_are_refused,
    exec_runs_on_the_final_cpus,
    exec_runs_on_the_initial_cpus_where_no_others_are_said,
    the_runtime_gets_its_own_cpus_back,
    the_affinity_of_exec_is_not_that_of_init,
    a_process_file_has_an_affinity_of_its_own,
    exec_on_cpus_that_do_not_exist_is_reported,
    bad_lists_of_cpus_are_refused,
    memory_policies_are_set,
    exec_has_the_memory_policy_of_the_container,
    a_memory_policy_on_nodes_that_do_not_exist_is_reported,
    bad_memory_policies_are_refused,
    personality_is_set,
    exec_has_the_personality_of_the_container,
    personality_is_set_before_the_filter,
    a_bad_personality_is_refused,
];

/// Nice value, realtime priority and policy: fields 19, 40 and 41 of proc_pid_stat(5).
/// Only the fair policies set the nice value: the others leave that of the caller.
const SHOW: &str = "cut -d' ' -f19,40,41 /proc/self/stat";

fn scheduler(c: Container<'_>, value: Value) -> Container<'_> {
    c.set("/process/scheduler", value)
}

/// Lets realtime processes run in the cgroup, where this kernel has that limit (cgroup v1 only).
fn realtime(c: Container<'_>) -> Container<'_> {
    let t = c.test;
    t.need_capability("CAP_SYS_NICE");
    if t.host.layout == Layout::V1 && t.host.has_cgroup_file(("cpu", "cpu.rt_runtime_us"), "none") {
        c.set(
            "/linux/resources/cpu",
            json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 10_000}),
        )
    } else {
        c
    }
}

#[track_caller]
fn refused(c: &Container<'_>, named: &str) {
    let output = c.run().fails();
    if c.test.kind() == Kind::Skep {
        output.names(named);
    }
    c.test.assert_nothing_left();
}

fn nice_and_batch_are_set(t: &Test) {
    for (value, seen) in [
        (json!({"policy": "SCHED_OTHER", "nice": 7}), "7 0 0\n"),
        (json!({"policy": "SCHED_BATCH", "nice": 19, "priority": 0, "flags": []}), "19 0 3\n"),
        (json!({"policy": "SCHED_OTHER"}), "0 0 0\n"),
    ] {
        scheduler(t.container().sh(SHOW), value).run().ok().prints(seen);
    }
    t.need_capability("CAP_SYS_NICE");
    let c = scheduler(t.container().sh(SHOW), json!({"policy": "SCHED_OTHER", "nice": -20}));
    c.run().ok().prints("-20 0 0\n");
}

fn idle_is_set(t: &Test) {
    let c = scheduler(t.container().sh(SHOW), json!({"policy": "SCHED_IDLE"}));
    assert!(c.run().ok().stdout.ends_with(" 0 5\n"));
}

fn realtime_policies_are_set(t: &Test) {
    for (policy, seen) in [("SCHED_FIFO", " 1 1\n"), ("SCHED_RR", " 1 2\n")] {
        let c = realtime(t.container()).sh(SHOW);
        let output = scheduler(c, json!({"policy": policy, "priority": 1})).run().ok();
        assert!(output.stdout.ends_with(seen), "{policy}: {output}");
    }
}

/// A deadline of little, so that it is admitted on a busy host, in which a process still comes to its end on a slow one.
fn deadline() -> Value {
    json!({"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"], "nice": 19,
           "runtime": 2_000_000, "deadline": 5_000_000, "period": 10_000_000})
}

fn a_hook_that_could_not_be_forked_is_refused(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc's hook fails with EAGAIN");
    let mut schedule = deadline();
    schedule["flags"] = json!([]);
    let c = t.container().hook("startContainer", "true").set("/process/scheduler", schedule);
    c.run().fails().names("process.scheduler.flags").names("SCHED_FLAG_RESET_ON_FORK");
    t.assert_nothing_left();
    let c = realtime(t.container()).hook("startContainer", "true");
    scheduler(c, deadline()).run().ok();
}

fn deadline_is_set(t: &Test) {
    // A deadline is for all CPUs of the system, so there must be no cpuset of its own.
    let c = scheduler(realtime(t.container()).lasting(), deadline());
    c.run_detached();
    let stat = fs::read_to_string(format!("/proc/{}/stat", c.pid())).unwrap();
    assert_eq!(stat.split(' ').nth(40), Some("6"), "{stat}");
    t.need_program("chrt");
    // Not by std's own `output`, which the reaper of these tests would race with.
    let pid = c.pid().to_string();
    let shown = crate::harness::reaper::output(Command::new("chrt").args(["-p", &pid])).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("SCHED_DEADLINE|SCHED_RESET_ON_FORK"), "{shown}");
    assert!(shown.contains("2000000/5000000/10000000"), "{shown}");
}

fn reset_on_fork_is_set(t: &Test) {
    let value = json!({"policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    // The shell has the policy; what it forks has it no more.
    let c = realtime(t.container())
        .sh("cut -d' ' -f41 /proc/$$/stat; cut -d' ' -f41 /proc/self/stat; true");
    scheduler(c, value).run().ok().prints("2\n0\n");
}

fn a_created_container_has_its_scheduler(t: &Test) {
    let c = scheduler(t.container().lasting(), json!({"policy": "SCHED_BATCH", "nice": 3}));
    c.create();
    let stat = fs::read_to_string(format!("/proc/{}/stat", c.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!((fields[16], fields[38]), ("3", "3"), "{stat}");
    c.start().ok();
    c.exec(&["cut", "-d ", "-f19", "/proc/1/stat"]).ok().prints("3\n");
}

fn realtime_works_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = realtime(t.container().user_namespace(100_000)).lasting();
    let c = scheduler(c, json!({"policy": "SCHED_FIFO", "priority": 2}));
    c.run_detached();
    c.exec(&["cut", "-d ", "-f40,41", "/proc/self/stat"]).ok().prints("2 1\n");
    c.exec(&["cut", "-d ", "-f40,41", "/proc/1/stat"]).ok().prints("2 1\n");
}

fn nice_works_without_root(t: &Test) {
    let c = scheduler(rootless::bundle(t).sh(SHOW), json!({"policy": "SCHED_OTHER", "nice": 19}));
    c.write();
    let output = rootless::as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    output.ok().prints("19 0 0\n");
}

fn realtime_without_privilege_is_reported(t: &Test) {
    let c = scheduler(rootless::bundle(t), json!({"policy": "SCHED_FIFO", "priority": 5}));
    c.write();
    let output = rootless::as_user(t, &["run", "--bundle", c.dir.to_str().unwrap(), &c.id]);
    let output = output.fails();
    if t.kind() == Kind::Skep {
        output.names("process.scheduler").names("CAP_SYS_NICE");
    }
    t.assert_nothing_left();
}

fn exec_has_the_scheduler_of_the_container(t: &Test) {
    let c = scheduler(t.container().lasting(), json!({"policy": "SCHED_BATCH", "nice": 19}));
    c.run_detached();
    c.exec(&["sh", "-c", SHOW]).ok().prints("19 0 3\n");
    let document = process_file(t, &json!({"args": ["sh", "-c", SHOW], "cwd": "/"}));
    c.call("exec", &["--process", &document]).run().ok().prints("19 0 3\n");
}

fn process_file(t: &Test, process: &Value) -> String {
    let mut process = process.clone();
    process["env"] = json!(["PATH=/bin"]);
    let path = t.path("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.display().to_string()
}

fn a_process_file_has_a_scheduler_of_its_own(t: &Test) {
    let c = scheduler(t.container().lasting(), json!({"policy": "SCHED_BATCH", "nice": 19}));
    c.run_detached();
    let own = json!({"policy": "SCHED_IDLE"});
    let document =
        process_file(t, &json!({"args": ["sh", "-c", SHOW], "cwd": "/", "scheduler": own}));
    // SCHED_IDLE leaves the nice value alone, which is that of whoever runs this.
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let nice = stat.rsplit(')').next().unwrap().split(' ').nth(17).unwrap();
    c.call("exec", &["--process", &document]).run().ok().prints(&format!("{nice} 0 5\n"));
}

fn deadline_with_a_cpuset_is_explained(t: &Test) {
    t.need_controller("cpuset");
    t.need(cpus().len() > 1, "one CPU");
    let c = realtime(t.container());
    let c = scheduler(c, deadline()).set("/linux/resources/cpu/cpus", json!(cpus()[0]));
    let output = c.run();
    t.need(output.code != Some(0), "this kernel admits deadlines in a cpuset");
    if t.kind() == Kind::Skep {
        output.fails().names("process scheduler can't be used together with AllowedCPUs");
    }
    t.assert_nothing_left();
}

fn a_policy_no_kernel_has_is_explained(t: &Test) {
    refused(&scheduler(t.container(), json!({"policy": "SCHED_ISO"})), "SCHED_ISO");
}

fn bad_schedulers_are_refused(t: &Test) {
    for (value, field) in [
        (json!({}), "process.scheduler.policy"),
        (json!({"policy": "SCHED_NONSENSE"}), "process.scheduler.policy"),
        (json!({"policy": 1}), "process.scheduler.policy"),
        (json!({"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice"),
        (json!({"policy": "SCHED_BATCH", "nice": -21}), "process.scheduler.nice"),
        (json!({"policy": "SCHED_OTHER", "nice": 2_147_483_648_u64}), "process.scheduler.nice"),
        (json!({"policy": "SCHED_OTHER", "nice": 1.5}), "process.scheduler.nice"),
        (json!({"policy": "SCHED_OTHER", "priority": 5}), "process.scheduler.priority"),
        (json!({"policy": "SCHED_FIFO", "priority": 0}), "process.scheduler.priority"),
        (json!({"policy": "SCHED_RR", "priority": 100}), "process.scheduler.priority"),
        (json!({"policy": "SCHED_OTHER", "runtime": 1}), "process.scheduler.runtime"),
        (json!({"policy": "SCHED_DEADLINE"}), "process.scheduler.runtime"),
        (json!({"policy": "SCHED_DEADLINE", "runtime": -1}), "process.scheduler.runtime"),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 5000, "deadline": 4000}),
            "process.scheduler",
        ),
        (json!({"policy": "SCHED_IDLE", "flags": ["RESET_ON_FORK"]}), "process.scheduler.flags[0]"),
        (json!({"policy": "SCHED_IDLE", "flags": "x"}), "process.scheduler.flags"),
    ] {
        refused(&scheduler(t.container(), value), field);
    }
}

/// Prints what ioprio_get(2) says of the process itself.
fn show_io<'t>(c: Container<'t>) -> Container<'t> {
    let number = libc_ioprio_get();
    c.with_probe().args(&["probe", "syscall", &number, "1", "0"])
}

fn libc_ioprio_get() -> String {
    nix::libc::SYS_ioprio_get.to_string()
}

fn the_io_priority_is_set(t: &Test) {
    for (class, priority, seen) in [
        ("IOPRIO_CLASS_BE", 4, 2 << 13 | 4),
        ("IOPRIO_CLASS_BE", 0, 2 << 13),
        ("IOPRIO_CLASS_IDLE", 0, 3 << 13),
    ] {
        let c = show_io(t.container())
            .set("/process/ioPriority", json!({"class": class, "priority": priority}));
        c.run().ok().prints(&format!("ok {seen}\n"));
    }
    t.need_capability("CAP_SYS_NICE");
    let c = show_io(t.container())
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 7}));
    c.run().ok().prints(&format!("ok {}\n", 1 << 13 | 7));
}

fn exec_has_the_io_priority_of_the_container(t: &Test) {
    let c = t
        .container()
        .with_probe()
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}))
        .lasting();
    c.run_detached();
    let show = ["probe", "syscall", &libc_ioprio_get(), "1", "0"];
    c.exec(&show).ok().prints(&format!("ok {}\n", 2 << 13 | 6));
    let own = json!({"class": "IOPRIO_CLASS_IDLE"});
    let document = process_file(t, &json!({"args": show, "cwd": "/", "ioPriority": own}));
    c.call("exec", &["--process", &document]).run().ok().prints(&format!("ok {}\n", 3 << 13));
}

fn a_realtime_io_priority_works_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    t.need_capability("CAP_SYS_NICE");
    let c = show_io(t.container().user_namespace(100_000))
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 1}));
    c.run().ok().prints(&format!("ok {}\n", 1 << 13 | 1));
}

fn bad_io_priorities_are_refused(t: &Test) {
    for (value, field) in [
        (json!({}), "process.ioPriority.class"),
        (json!({"class": "IOPRIO_CLASS_NONE"}), "process.ioPriority.class"),
        (json!({"class": "BE", "priority": 1}), "process.ioPriority.class"),
        (json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), "process.ioPriority.priority"),
        (json!({"class": "IOPRIO_CLASS_BE", "priority": -1}), "process.ioPriority.priority"),
        (json!({"class": "IOPRIO_CLASS_BE", "priority": "1"}), "process.ioPriority.priority"),
    ] {
        refused(&t.container().set("/process/ioPriority", value), field);
    }
}

/// The CPUs the tests may use, as strings.
fn cpus() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
        cpus.extend((first..=last).map(|cpu| cpu.to_string()));
    }
    cpus
}

const CPUS: [&str; 3] = ["sed", "-n", "s/Cpus_allowed_list:\t//p"];

fn show_cpus() -> Vec<&'static str> {
    let mut words = CPUS.to_vec();
    words.push("/proc/self/status");
    words
}

fn with_affinity<'t>(t: &'t Test, value: Value) -> Container<'t> {
    t.need(cpus().len() > 1, "one CPU");
    t.container().set("/process/execCPUAffinity", value).lasting()
}

fn exec_runs_on_the_final_cpus(t: &Test) {
    let all = cpus();
    for (last, seen) in [
        (all[1].clone(), all[1].clone()),
        (format!("{},{}", all[0], all[1]), format!("{}-{}", all[0], all[1])),
        (format!(" {} ,,", all[0]), all[0].clone()),
    ] {
        let c = with_affinity(t, json!({"initial": all[0], "final": last}));
        c.run_detached();
        c.exec(&show_cpus()).ok().prints(&format!("{seen}\n"));
    }
    let c = with_affinity(t, json!({"initial": format!("{}-{}", all[0], all[1])}));
    c.run_detached();
    let output = c.exec_with(&[], &["true"]).global(&["--debug"]).run().ok();
    if (all[0].as_str(), all[1].as_str()) == ("0", "1") && t.kind() == Kind::Skep {
        output.names("nsexec: affinity: 0x3");
    }
}

fn exec_runs_on_the_initial_cpus_where_no_others_are_said(t: &Test) {
    let c = with_affinity(t, json!({"initial": cpus()[1]}));
    c.run_detached();
    c.exec(&show_cpus()).ok().prints(&format!("{}\n", cpus()[1]));
}

fn the_runtime_gets_its_own_cpus_back(t: &Test) {
    let c = with_affinity(t, json!({"initial": cpus()[1]}));
    c.run_detached();
    // In the foreground the runtime is still there: it is the parent of the process as the host sees it.
    let running = c.exec_with(&["--pid-file", "pid"], &["sleep", "1000"]).spawn();
    let pid = crate::harness::wait::for_file(&t.path("pid"));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    let status = fs::read_to_string(format!("/proc/{parent}/status")).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let list = |text: &str| {
        text.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
    };
    assert_eq!(list(&status), list(&own));
    c.kill("KILL").ok();
    running.wait().code(137);
}

fn the_affinity_of_exec_is_not_that_of_init(t: &Test) {
    let c = with_affinity(t, json!({"initial": cpus()[0], "final": cpus()[0]}));
    c.run_detached();
    let mut words = CPUS.to_vec();
    words.push("/proc/1/status");
    let all = cpus();
    let seen = c.exec(&words).ok().text().trim_end().to_owned();
    assert!(seen.ends_with(all.last().unwrap()) && seen != all[0], "{seen}");
}

fn a_process_file_has_an_affinity_of_its_own(t: &Test) {
    let c = with_affinity(t, json!({"initial": cpus()[0], "final": cpus()[0]}));
    c.run_detached();
    let document = process_file(
        t,
        &json!({"args": show_cpus(), "cwd": "/", "execCPUAffinity": {"final": cpus()[1]}}),
    );
    c.call("exec", &["--process", &document]).run().ok().prints(&format!("{}\n", cpus()[1]));
    let document = process_file(t, &json!({"args": show_cpus(), "cwd": "/"}));
    c.call("exec", &["--process", &document]).run().ok().prints(&format!("{}\n", cpus()[0]));
}

fn exec_on_cpus_that_do_not_exist_is_reported(t: &Test) {
    for (value, field) in [
        (json!({"initial": "8000"}), "process.execCPUAffinity.initial"),
        (json!({"final": "8000"}), "process.execCPUAffinity.final"),
    ] {
        let c = with_affinity(t, value);
        c.run_detached();
        let output = c.exec(&["true"]).exec_fails();
        if t.kind() == Kind::Skep {
            output.names(field);
        }
    }
}

fn bad_lists_of_cpus_are_refused(t: &Test) {
    for list in ["a", "1-", "-1", "3-1", "0x1", "99999999999", "0-9999999999"] {
        for name in ["initial", "final"] {
            let c = t.container().set("/process/execCPUAffinity", json!({name: list}));
            refused(&c, &format!("process.execCPUAffinity.{name}"));
        }
    }
}

const NUMA: &str = "head -n 1 /proc/self/numa_maps | cut -d' ' -f2";

fn need_numa(t: &Test) {
    t.need(Path::new("/proc/self/numa_maps").exists(), "this kernel has no NUMA");
}

/// Major and minor version of the running kernel.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse());
    (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap())
}

fn memory_policies_are_set(t: &Test) {
    need_numa(t);
    for (value, seen) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": ""}), "local"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "bind=static:0",
        ),
        (
            json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "prefer=relative:0",
        ),
    ] {
        let c = t.container().set("/linux/memoryPolicy", value.clone()).sh(NUMA);
        assert_eq!(c.run().ok().text().trim_end(), seen, "{value}");
    }
    for (mode, since, seen) in [
        ("MPOL_PREFERRED_MANY", (5, 15), "prefer (many):0"),
        ("MPOL_WEIGHTED_INTERLEAVE", (6, 9), "weighted interleave:0"),
    ] {
        let c = t.container().set("/linux/memoryPolicy", json!({"mode": mode, "nodes": "0"}));
        let c = c.sh("head -n 1 /proc/self/numa_maps | cut -d' ' -f2-");
        if kernel() < since {
            refused(&c, "linux.memoryPolicy");
        } else if t.kind() == Kind::Skep {
            let output = c.run().ok();
            assert!(output.stdout.starts_with(seen), "{mode}: {output}");
        }
    }
    let balancing = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]});
    t.container().set("/linux/memoryPolicy", balancing).run().ok();
}

fn exec_has_the_memory_policy_of_the_container(t: &Test) {
    need_numa(t);
    let policy = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    let c = t.container().set("/linux/memoryPolicy", policy).lasting();
    c.run_detached();
    c.exec(&["sh", "-c", NUMA]).ok().prints("interleave:0\n");
}

fn a_memory_policy_on_nodes_that_do_not_exist_is_reported(t: &Test) {
    need_numa(t);
    let c = t.container().set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "1000"}));
    refused(&c, "linux.memoryPolicy");
}

fn bad_memory_policies_are_refused(t: &Test) {
    for (value, field) in [
        (json!({}), "invalid memory policy mode"),
        (json!({"nodes": "0-7"}), "invalid memory policy mode"),
        (json!({"mode": "INTERLEAVE", "nodes": "0"}), "invalid memory policy mode"),
        (json!({"mode": "MPOL_BIND"}), "at least one node"),
        (json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"}), "mode requires 0 nodes but got 8"),
        (json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"}), "invalid memory policy node"),
        (
            json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["x"]}),
            "invalid memory policy flag",
        ),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
            "linux.memoryPolicy.flags",
        ),
        (
            json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_NUMA_BALANCING"]}),
            "linux.memoryPolicy.flags",
        ),
        (json!({"mode": 2}), "linux.memoryPolicy.mode"),
        (json!({"mode": "MPOL_BIND", "nodes": 0}), "linux.memoryPolicy.nodes"),
    ] {
        refused(&t.container().set("/linux/memoryPolicy", value), field);
    }
}

/// What uname -m says under each domain.
const MACHINES: [(&str, &str); 2] = [("LINUX32", "i686\n"), ("LINUX", "x86_64\n")];

fn need_x86_64(t: &Test) {
    t.need(cfg!(target_arch = "x86_64"), "another machine has other names");
}

fn personality_is_set(t: &Test) {
    need_x86_64(t);
    for (domain, machine) in MACHINES {
        let c = t.container().set("/linux/personality", json!({"domain": domain, "flags": []}));
        c.args(&["uname", "-m"]).run().ok().prints(machine);
    }
}

fn exec_has_the_personality_of_the_container(t: &Test) {
    need_x86_64(t);
    let c = t.container().set("/linux/personality", json!({"domain": "LINUX32"})).lasting();
    c.run_detached();
    c.exec(&["uname", "-m"]).ok().prints("i686\n");
}

fn personality_is_set_before_the_filter(t: &Test) {
    need_x86_64(t);
    let c = t
        .container()
        .set("/linux/personality", json!({"domain": "LINUX32"}))
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["personality", "set_mempolicy", "sched_setattr"], "action": "SCMP_ACT_ERRNO"}]}),
        )
        .lasting();
    c.run_detached();
    c.exec(&["uname", "-m"]).ok().prints("i686\n");
}

fn a_bad_personality_is_refused(t: &Test) {
    for (value, field) in [
        (json!({}), "linux.personality.domain"),
        (json!({"domain": "LINUX64"}), "linux.personality.domain"),
        (json!({"domain": 8}), "linux.personality.domain"),
        (json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}), "linux.personality.flags"),
    ] {
        refused(&t.container().set("/linux/personality", value), field);
    }
}
