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
