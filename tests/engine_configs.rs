//! The real config.json of the engines, run: with a root of ours and what only their hosts have taken out.

use std::fs;
use std::path::Path;

use crate::exec::mask;
use crate::harness::host::Layout;
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, Value, json};

/// One test for each file.
macro_rules! configs {
    ($($name:ident: $file:literal,)*) => {
        cases![$($name),*];

        $(fn $name(t: &Test) {
            runs_as_configured(t, include_str!(concat!("../libcontainer/tests/data/configs/", $file)));
        })*
    };
}

configs! {
    containerd_default: "containerd-ctr-default.json",
    containerd_limited: "containerd-ctr-limited.json",
    containerd_16_default: "containerd16-default.json",
    containerd_16_limited: "containerd16-limited.json",
    containerd_16_privileged: "containerd16-privileged.json",
    crun_spec: "crun-spec.json",
    docker_default: "docker-default.json",
    docker_host_namespaces: "docker-host-ns.json",
    docker_limited: "docker-limited.json",
    docker_privileged: "docker-privileged.json",
    docker_20_default: "docker20-default.json",
    docker_20_hardened: "docker20-hardened.json",
    docker_20_host_namespaces: "docker20-host-ns.json",
    docker_20_limited: "docker20-limited.json",
    docker_20_privileged: "docker20-privileged.json",
    podman_default: "podman-default.json",
    podman_limited: "podman-limited.json",
    podman_privileged: "podman-privileged.json",
    podman_user_namespace: "podman-userns.json",
    podman_4_default: "podman4-default.json",
    podman_4_hardened: "podman4-hardened.json",
    podman_4_host_namespaces: "podman4-host-ns.json",
    podman_4_limited: "podman4-limited.json",
    podman_4_privileged: "podman4-privileged.json",
    podman_4_systemd: "podman4-systemd.json",
    podman_4_user_namespace: "podman4-userns.json",
    runc_spec: "runc-spec.json",
}

/// The capabilities by their numbers, from linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn bits(set: &Value) -> u64 {
    let number = |name: &Value| {
        let name = name.as_str().unwrap().trim_start_matches("CAP_");
        CAPABILITIES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("{name}?"))
    };
    set.as_array()
        .into_iter()
        .flatten()
        .map(|name| 1 << number(name))
        .fold(0, |all, bit: u64| all | bit)
}

/// Takes out what the engine's host had and this one has not, and puts in a root and a program of ours.
fn adapt(c: &Container<'_>, config: &mut Value) {
    let host = c.test.host;
    config["root"]["path"] = json!(c.rootfs());
    config["linux"]["cgroupsPath"] = json!(format!("/{}", c.id));
    if c.test.kind() == Kind::Crun {
        config["ociVersion"] = json!("1.0.2"); // crun 1.8 takes no later one
    }
    let top = config.as_object_mut().unwrap();
    top.remove("hooks");
    let process = config["process"].as_object_mut().unwrap();
    process.insert("terminal".to_owned(), json!(false));
    for label in ["apparmorProfile", "selinuxLabel"] {
        process.remove(label);
    }
    process.insert(
        "args".to_owned(),
        json!(["/bin/sh", "-c", "cat /proc/self/status; echo host $(hostname); echo dir $(pwd); touch /x && echo writable"]),
    );
    config["linux"].as_object_mut().unwrap().remove("mountLabel");
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        namespace.as_object_mut().unwrap().remove("path");
    }
    if !host.has_capability("CAP_SYS_RESOURCE") {
        without_sys_resource(config);
    }
    adapt_resources(c, config);
    adapt_mounts(c, config);
}

/// Limits cannot be raised, and the capability cannot be given, by one who has it not.
fn without_sys_resource(config: &mut Value) {
    let process = config["process"].as_object_mut().unwrap();
    process.remove("rlimits");
    process.remove("oomScoreAdj");
    if let Some(Value::Object(sets)) = process.get_mut("capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.retain(|name| name != "CAP_SYS_RESOURCE");
        }
    }
}

fn adapt_resources(c: &Container<'_>, config: &mut Value) {
    let Some(Value::Object(resources)) = config["linux"].get_mut("resources") else { return };
    resources.remove("hugepageLimits");
    resources.remove("network");
    if c.test.host.layout == Layout::V1 {
        resources.remove("unified");
    }
    // The devices of the engine's host, and a weight this kernel may not know.
    resources.remove("blockIO");
    if let Some(Value::Object(memory)) = resources.get_mut("memory") {
        for gone in ["kernel", "kernelTCP"] {
            memory.remove(gone);
        }
        if c.test.host.layout == Layout::V1 && memory.get("disableOOMKiller") == Some(&json!(true))
        {
            memory.remove("disableOOMKiller");
        }
    }
}

/// Bind sources below the engine's own directories become files and directories of ours; targets are made, since the
/// root of a user namespace may not make them in a root directory of somebody else's.
fn adapt_mounts(c: &Container<'_>, config: &mut Value) {
    let system = ["/proc", "/sys", "/dev"];
    for (number, mount) in config["mounts"].as_array_mut().unwrap().iter_mut().enumerate() {
        let destination = mount["destination"].as_str().unwrap().to_owned();
        let is_bind = mount["options"].as_array().is_some_and(|options| {
            options.iter().any(|option| option == "bind" || option == "rbind")
        });
        let source = mount["source"].as_str().unwrap_or_default().to_owned();
        let is_file = is_bind
            && Path::new(&destination).file_name().is_some_and(|name| {
                [
                    "resolv.conf",
                    "hostname",
                    "hosts",
                    "passwd",
                    "group",
                    ".containerenv",
                    "podman-init",
                    "docker-init",
                ]
                .iter()
                .any(|known| name == *known)
            });
        if is_bind
            && source.starts_with('/')
            && !system.iter().any(|dir| source == *dir || source.starts_with(&format!("{dir}/")))
        {
            let ours = c.dir.join(format!("source{number}"));
            if is_file {
                fs::write(&ours, "").unwrap();
            } else {
                fs::create_dir(&ours).unwrap();
            }
            mount["source"] = json!(ours);
        }
        let target = c.path(&destination);
        if is_file {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, "").unwrap();
        } else if !destination.starts_with("/dev/") && !destination.starts_with("/sys/") {
            fs::create_dir_all(target).unwrap();
        }
    }
}

#[track_caller]
fn runs_as_configured(t: &Test, text: &str) {
    t.need(cfg!(target_arch = "x86_64"), "the configurations are of x86_64 hosts");
    let mut config: Value = serde_json::from_str(text).unwrap();
    if config["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .any(|namespace| namespace["type"] == "user")
    {
        t.need_user_namespaces();
    }
    // Podman mounts it where version 1 is, for a systemd that has to find its own hierarchy.
    let of_version_1 = |mount: &Value| mount["source"] == json!("/sys/fs/cgroup/systemd");
    t.need(
        Path::new("/sys/fs/cgroup/systemd").exists()
            || !config["mounts"].as_array().unwrap().iter().any(of_version_1),
        "the configuration is of a host with cgroup version 1",
    );
    let c = t.container();
    adapt(&c, &mut config);
    let directory = config["process"]["cwd"].as_str().unwrap().to_owned();
    fs::create_dir_all(c.path(&directory)).unwrap();
    c.write_raw(config.to_string());
    let output = c.run();
    let readonly = config["root"]["readonly"] == json!(true);
    assert!(matches!(output.code, Some(0 | 1)) && output.stdout.contains("\nhost "), "{output}");
    assert!(output.stdout.contains(&format!("\ndir {directory}\n")), "{output}");
    if let Some(hostname) = config["hostname"].as_str().filter(|name| !name.is_empty()) {
        assert!(output.stdout.contains(&format!("\nhost {hostname}\n")), "{output}");
    }
    let is_root = config["process"]["user"]["uid"] == json!(0);
    let has_user_namespace = config["linux"].get("uidMappings").is_some();
    if is_root && !has_user_namespace {
        assert_eq!(output.stdout.ends_with("writable\n"), !readonly, "{output}");
    }
    let capabilities = &config["process"]["capabilities"];
    assert_eq!(mask(&output.stdout, "CapBnd"), bits(&capabilities["bounding"]), "{output}");
    if is_root {
        assert_eq!(mask(&output.stdout, "CapEff"), bits(&capabilities["effective"]), "{output}");
    }
    assert_eq!(mask(&output.stdout, "CapInh"), bits(&capabilities["inheritable"]), "{output}");
    let line =
        |name: &str, value: bool, on: &str| format!("{name}:\t{}\n", if value { on } else { "0" });
    let nnp = config["process"]["noNewPrivileges"] == json!(true);
    assert!(output.stdout.contains(&line("NoNewPrivs", nnp, "1")), "{output}");
    let seccomp = config["linux"].get("seccomp").is_some_and(Value::is_object);
    assert!(output.stdout.contains(&line("Seccomp", seccomp, "2")), "{output}");
    limits(&c, &config);
    t.assert_nothing_left();
}

/// Creates it again and compares the limits with the files of its cgroup.
#[track_caller]
fn limits(c: &Container<'_>, config: &Value) {
    let host = c.test.host;
    c.try_create().ok();
    let resources = &config["linux"]["resources"];
    let read = |v1: (&str, &str), v2: &str| {
        fs::read_to_string(c.cgroup_file(v1, v2)).map(|text| text.trim().to_owned())
    };
    let has = |name: &str| host.controllers.iter().any(|known| known == name);
    if let Some(limit) =
        resources["memory"]["limit"].as_i64().filter(|limit| *limit > 0 && has("memory"))
    {
        assert_eq!(
            read(("memory", "memory.limit_in_bytes"), "memory.max").unwrap(),
            limit.to_string()
        );
    }
    if let Some(limit) =
        resources["pids"]["limit"].as_i64().filter(|limit| *limit > 0 && has("pids"))
    {
        assert_eq!(read(("pids", "pids.max"), "pids.max").unwrap(), limit.to_string());
    }
    let has_v1_cpu = has("cpu") && host.layout == Layout::V1;
    if let Some(shares) =
        resources["cpu"]["shares"].as_u64().filter(|shares| *shares > 1 && has_v1_cpu)
    {
        assert_eq!(read(("cpu", "cpu.shares"), "").unwrap(), shares.to_string());
    }
    if let Some(quota) = resources["cpu"]["quota"].as_i64().filter(|quota| *quota > 0 && has_v1_cpu)
    {
        assert_eq!(read(("cpu", "cpu.cfs_quota_us"), "").unwrap(), quota.to_string());
    }
    c.delete().ok();
}
