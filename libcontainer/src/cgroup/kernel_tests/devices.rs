//! The device controller at work.

use std::os::fd::AsFd;
use std::process::Command;

use nix::errno::Errno;

use super::super::{device, device_program, devices};
use super::{Unit, host};
use crate::spec::DeviceRule;
use crate::sys::bpf;

/// A node of the kernel's log (1:11), which no container is given.
struct Node(String);

impl Node {
    fn kmsg() -> Self {
        // Not in /tmp, which may be mounted without devices.
        let path = format!("/dev/skep-kmsg-{}", std::process::id());
        let made = Command::new("mknod").args([&path, "c", "1", "11"]).status().unwrap();
        assert!(made.success());
        Self(path)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn devices_outside_the_list_are_denied_and_an_update_opens_them() {
    let Some(host) = host() else { return };
    let made = Node::kmsg();
    let node = &made.0;
    let mut unit = Unit::new(&host, r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let open = format!("true < {node} && echo opened");
    let (text, _) = unit.run(&open);
    assert!(text.to_lowercase().contains("not permitted"), "{text}");
    let (text, _) = unit.run("cat /dev/null && true > /dev/zero && echo opened");
    assert_eq!(text, "opened\n");
    unit.update(r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#)
        .unwrap();
    let (text, _) = unit.run(&open);
    assert_eq!(text, "opened\n");
    let (text, _) = unit.run(&format!("true > {node} || echo denied"));
    assert!(text.contains("denied\n"), "{text}");
    // Everything, and back.
    unit.update(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).unwrap();
    let (text, _) = unit.run(&format!("true <> {node} && echo opened"));
    assert_eq!(text, "opened\n");
    unit.update(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
    let (text, _) = unit.run(&open);
    assert!(text.to_lowercase().contains("not permitted"), "{text}");
    if host.is_v2() {
        let directory = devices::open_directory(&unit.cgroup.v2().unwrap()).unwrap();
        assert_eq!(
            bpf::device_programs(directory.as_fd()).unwrap().len(),
            1,
            "replaced, not added"
        );
    }
}

/// On hybrid hosts too: the kernel runs device programs in any version 2 hierarchy.
#[test]
fn the_kernel_takes_the_device_program_and_obeys_it() {
    let Some(host) = host() else { return };
    let Some(mount) = host.v2_mount() else {
        eprintln!("skipped: no version 2 hierarchy");
        return;
    };
    let mut unit = Unit::new(&host, r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    let directory = devices::open_directory(&format!("{mount}{}", unit.cgroup.path())).unwrap();
    let rules: Vec<DeviceRule<'_>> = serde_json::from_str(
        r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"access":"rw"},
            {"allow":false,"type":"c","major":1,"minor":5,"access":"w"},
            {"allow":false,"type":"c","major":1,"minor":3}]"#,
    )
    .unwrap();
    let rules = device::Rules::new(&rules, false).unwrap();
    let program = device_program::program(&rules);
    let loaded = match bpf::load_device_program(&program, device_program::NAME, &mut []) {
        Ok(loaded) => loaded,
        Err(Errno::EPERM | Errno::ENOSYS) => {
            eprintln!("skipped: bpf(2) is not to be had here");
            return;
        }
        Err(errno) => panic!("{errno}: {program:?}"),
    };
    assert!(bpf::program_name(loaded.as_fd()).unwrap().starts_with(device_program::NAME));
    let script = "true < /dev/zero && echo zero-read; true > /dev/zero || echo zero-write-denied; \
                  true < /dev/null || echo null-denied; true > /dev/full && echo full-write";
    bpf::attach_device_program(directory.as_fd(), loaded.as_fd(), None).unwrap();
    let (text, _) = unit.run(script);
    for word in ["zero-read", "zero-write-denied", "null-denied", "full-write"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let all = device::Rules { default_allow: true, list: Vec::new() };
    let open = bpf::load_device_program(&device_program::program(&all), b"other", &mut []).unwrap();
    bpf::attach_device_program(directory.as_fd(), open.as_fd(), Some(loaded.as_fd())).unwrap();
    assert_eq!(bpf::device_programs(directory.as_fd()).unwrap().len(), 1);
    let (text, _) = unit.run("true < /dev/null && true > /dev/zero && echo open");
    assert_eq!(text, "open\n");
    bpf::detach_device_program(directory.as_fd(), open.as_fd()).unwrap();
    assert_eq!(bpf::device_programs(directory.as_fd()).unwrap(), [] as [u32; 0]);
}

#[test]
fn the_verifier_takes_every_shape_of_program() {
    if host().is_none() {
        return;
    }
    let mut seed = 7_u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for round in 0..60 {
        let mut rules = device::Rules { default_allow: below(3) == 0, list: Vec::new() };
        for _ in 0..below(40) {
            rules.list.push(device::Rule {
                allow: below(2) == 0,
                kind: if below(3) == 0 { device::Kind::Block } else { device::Kind::Char },
                major: [None, Some(1), Some(5), Some(8), Some(136), Some(u32::MAX)]
                    [below(6) as usize],
                minor: [None, Some(0), Some(1), Some(3)][below(4) as usize],
                access: if below(2) == 0 { device::ALL } else { below(7) as u8 + 1 },
            });
        }
        let program = device_program::program(&rules);
        match bpf::load_device_program(&program, device_program::NAME, &mut []) {
            Ok(_) => {}
            Err(Errno::EPERM | Errno::ENOSYS) if round == 0 => {
                eprintln!("skipped: bpf(2) is not to be had here");
                return;
            }
            Err(errno) => panic!("{errno}: {rules:?}"),
        }
    }
}
