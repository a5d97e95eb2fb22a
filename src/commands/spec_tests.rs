use libcontainer::spec::Spec;

use super::*;

const RUNC: &str = include_str!("../../libcontainer/tests/data/configs/runc-spec.json");
const RUNC_ROOTLESS: &str =
    include_str!("../../libcontainer/tests/data/configs/runc-spec-rootless.json");

fn as_version(text: &str) -> String {
    text.replacen("\"1.2.1\"", &format!("\"{}\"", spec::OCI_VERSION), 1)
}

#[test]
fn the_template_is_runcs_but_for_the_version() {
    assert_eq!(template(None, true), as_version(RUNC));
    let root = Owner { uid: 0, gid: 0 };
    assert_eq!(template(Some(root), true), as_version(RUNC_ROOTLESS));
}

#[test]
fn only_the_unified_hierarchy_has_a_cgroup_namespace() {
    let owner = Owner { uid: 1000, gid: 100 };
    for (owner, unified, want) in [
        (None, true, "pid network ipc uts mount cgroup"),
        (None, false, "pid network ipc uts mount"),
        (Some(owner), true, "pid ipc uts mount cgroup user"),
        (Some(owner), false, "pid ipc uts mount user"),
    ] {
        let text = template(owner, unified);
        let spec: Spec<'_> = serde_json::from_str(&text).expect("valid JSON");
        let linux = spec.linux.expect("a linux section");
        let kinds: Vec<_> = linux.namespaces.iter().map(|namespace| &*namespace.kind).collect();
        assert_eq!(kinds.join(" "), want);
    }
}

#[test]
fn the_template_is_a_configuration_we_read() {
    let text = template(Some(Owner { uid: 1000, gid: 100 }), true);
    let spec: Spec<'_> = serde_json::from_str(&text).expect("valid JSON");
    let linux = spec.linux.expect("a linux section");
    assert_eq!(
        linux.uid_mappings.iter().map(|m| (m.container_id, m.host_id, m.size)).collect::<Vec<_>>(),
        [(0, 1000, 1)]
    );
    assert_eq!(
        linux.gid_mappings.iter().map(|m| (m.container_id, m.host_id, m.size)).collect::<Vec<_>>(),
        [(0, 100, 1)]
    );
    assert!(linux.resources.is_none());
    assert!(!text.contains("gid="));
}

#[test]
fn what_crun_writes_differs_in_known_places() {
    use serde_json::{Value, json};

    let text = template(None, true);
    let mut ours: Value = serde_json::from_str(&text).expect("valid JSON");
    let theirs = include_str!("../../libcontainer/tests/data/configs/crun-spec.json");
    let mut theirs: Value = serde_json::from_str(theirs).expect("valid JSON");
    for (pointer, value) in [
        ("/ociVersion", json!("1.0.0")),
        ("/hostname", json!("crun")),
        ("/process/capabilities/inheritable", json!([])),
        // crun gives the ambient set too, runc no longer.
        ("/process/capabilities/ambient", ours["process"]["capabilities"]["bounding"].clone()),
    ] {
        assert_eq!(theirs.pointer(pointer), Some(&value), "{pointer}");
        let (section, field) = pointer.rsplit_once('/').expect("a pointer");
        ours.pointer_mut(section).expect("a section")[field] = value;
    }
    // The order of namespaces has no meaning.
    for config in [&mut ours, &mut theirs] {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.sort_by_key(|namespace| namespace["type"].to_string());
    }
    assert_eq!(ours, theirs);
}
