//! Against a directory laid out like resctrl: hardware that has the real one is rare.

use serde_json::json;

use super::*;
use crate::spec::IntelRdt;

/// A tree, gone with the test. A mkdir in it makes no files, so what needs them makes them first.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-resctrl-{}-{name}", std::process::id()));
        let tree = Self(path);
        for directory in ["info/L3", "info/MB", "mon_groups", "mon_data"] {
            fs::create_dir_all(tree.0.join(directory)).unwrap();
        }
        for (file, text) in [
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/last_cmd_status", "ok\n"),
        ] {
            tree.file(file, text);
        }
        tree.group(".", "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n");
        tree
    }

    fn root(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn file(&self, name: &str, text: &str) {
        fs::create_dir_all(self.0.join(name).parent().unwrap()).unwrap();
        fs::write(self.0.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        fs::metadata(self.0.join(name)).is_ok()
    }

    /// A class or monitoring group as the kernel makes it.
    fn group(&self, name: &str, schemata: &str) {
        self.file(&format!("{name}/tasks"), "");
        self.file(&format!("{name}/schemata"), schemata);
        fs::create_dir_all(self.0.join(name).join("mon_groups")).unwrap();
    }

    /// rmdir of a class works with the kernel's files in it; here they have to go before.
    fn empty(&self, name: &str) {
        for file in ["tasks", "schemata"] {
            let _absent = fs::remove_file(self.0.join(name).join(file));
        }
        let _absent = fs::remove_dir(self.0.join(name).join("mon_groups"));
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

fn plan(json: &str) -> Result<ResctrlPlan> {
    let rdt: IntelRdt<'_> = serde_json::from_str(json).unwrap();
    ResctrlPlan::build(&rdt, "box")
}

fn create(tree: &Tree, json: &str) -> Result<Group> {
    Group::create(&plan(json)?, tree.root())
}

fn message(result: Result<Group>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_class_of_its_own_is_made_and_removed() {
    let tree = Tree::new("own");
    let group = create(&tree, "{}").unwrap();
    assert!(tree.has("box"));
    let group = Group::from_record(group.record().clone()).unwrap();
    group.remove().unwrap();
    assert!(!tree.has("box"));
    // Somebody has been there before.
    group.remove().unwrap();
}

#[test]
fn schemata_are_written_in_order_and_in_one_piece() {
    let tree = Tree::new("schemata");
    tree.group("box", "");
    let group = create(
        &tree,
        r#"{"schemata":["L2:0=f"],"memBwSchema":"MB:0=20;1=70","l3CacheSchema":"L3:0=7f0;1=1f"}"#,
    )
    .unwrap();
    assert_eq!(tree.read("box/schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=f\n");
    assert_eq!(group.tasks().unwrap().len(), 1);
    group.update(&Schemata::new(Some("L3:0=1"), None, &[]).unwrap()).unwrap();
    assert!(tree.read("box/schemata").starts_with("L3:0=1\n"));
    fs::remove_dir_all(tree.0.join("info/MB")).unwrap();
    let bandwidth = Schemata::new(None, Some("MB:0=10"), &[]).unwrap();
    let error = group.update(&bandwidth).unwrap_err().to_string();
    assert!(error.contains("memory bandwidth schema is not enabled"), "{error}");
}

#[test]
fn a_class_of_others_is_used_as_it_is() {
    let tree = Tree::new("theirs");
    tree.group("gold", "    L3:0=0007f0;1=01f\n    MB:0= 20;1= 70\n");
    for json in [
        r#"{"closID":"gold"}"#,
        r#"{"closID":"gold","schemata":["L3:1=1f;0=7f0"]}"#,
        r#"{"closID":"gold","memBwSchema":"MB:1=70"}"#,
    ] {
        let before = tree.read("gold/schemata");
        let mut group = create(&tree, json).unwrap();
        assert_eq!(tree.read("gold/schemata"), before, "{json}");
        group.remove().unwrap();
        group.undo();
        assert!(tree.has("gold"), "{json}");
    }
    for json in [
        r#"{"closID":"gold","l3CacheSchema":"L3:0=7ff;1=1f"}"#,
        r#"{"closID":"gold","memBwSchema":"MB:2=70"}"#,
        r#"{"closID":"gold","schemata":["L2:0=1"]}"#,
    ] {
        let error = message(create(&tree, json));
        assert!(error.contains("exists with other schemata"), "{error}");
        assert!(error.contains("linux.intelRdt.closID"), "{error}");
    }
    let error = message(create(&tree, r#"{"closID":"silver"}"#));
    assert!(error.contains(r#"class of service "silver" does not exist"#), "{error}");
}

#[test]
fn a_class_that_is_named_and_missing_is_made_and_stays() {
    let tree = Tree::new("named");
    let json = r#"{"closID":"gold","l3CacheSchema":"L3:0=f"}"#;
    // Nobody makes the schemata file here, so it comes to nothing, and nothing is left.
    let error = message(create(&tree, json));
    assert!(error.contains("write \"L3:0=f\\n\" to"), "{error}");
    assert!(!tree.has("gold"));
    let mut group =
        Group { record: Record::planned(&plan(json).unwrap(), tree.root()), made: vec![] };
    group.make(&group.record.class.clone(), FIELD).unwrap();
    group.remove().unwrap();
    assert!(tree.has("gold"));
    group.undo();
    assert!(!tree.has("gold"));
}

#[test]
fn what_was_there_before_is_not_taken_back() {
    let tree = Tree::new("before");
    // No schemata file, so that writing them fails; the directory is what an earlier container has left.
    tree.file("box/tasks", "");
    let error = message(create(&tree, r#"{"l3CacheSchema":"L3:0=f"}"#));
    assert!(error.contains("write \"L3:0=f\\n\" to"), "{error}");
    assert!(tree.has("box/tasks"));
    // Nor by a launch that fails later, with a monitoring group there and one that is made.
    tree.empty("box");
    for (name, stays) in [("gold", true), ("silver", false)] {
        tree.group(name, "L3:0=f\n");
        if stays {
            tree.file(&format!("{name}/mon_groups/box/tasks"), "");
        }
        let json = format!(r#"{{"closID":"{name}","enableMonitoring":true}}"#);
        let mut group = create(&tree, &json).unwrap();
        tree.empty(&format!("{name}/mon_groups/box"));
        group.undo();
        assert_eq!(tree.has(&format!("{name}/mon_groups/box")), stays, "{name}");
        assert!(tree.has(name), "{name}");
    }
    tree.file("box/tasks", "");
    let mut group = create(&tree, "{}").unwrap();
    tree.empty("box");
    group.undo();
    assert!(tree.has("box"));
}

/// The kernel would remove the class of who has joined it meanwhile, and lift his limits.
#[test]
fn a_class_that_others_have_joined_is_not_taken_back() {
    let tree = Tree::new("joined");
    for (json, class, tasks, others) in [
        (r#"{"closID":"gold","enableMonitoring":true}"#, "gold", "77\n", true),
        (r#"{"closID":"gold","enableMonitoring":true}"#, "gold", "", false),
        (r#"{"enableMonitoring":true}"#, "box", "77\n", false),
    ] {
        let record = Record::planned(&plan(json).unwrap(), tree.root());
        let group = Group { record, made: vec![] };
        tree.file(&format!("{class}/tasks"), tasks);
        tree.file(&format!("{class}/mon_groups/box/tasks"), "77\n");
        assert_eq!(group.is_others(&group.record.class), others, "{json}");
        assert!(!group.is_others(group.record.monitor.as_ref().unwrap()));
    }
}

#[test]
fn the_root_is_a_class_too() {
    let tree = Tree::new("root");
    let group = create(&tree, r#"{"closID":"/","l3CacheSchema":"L3:0=7ff"}"#).unwrap();
    assert_eq!(group.record().class, tree.root());
    group.remove().unwrap();
    assert!(tree.has("schemata"));
}

#[test]
fn monitoring_has_a_group_of_the_containers_name() {
    let tree = Tree::new("monitor");
    tree.group("gold", "L3:0=f\n");
    let json = r#"{"closID":"gold","enableMonitoring":true}"#;
    let group = create(&tree, json).unwrap();
    tree.file("gold/mon_groups/box/tasks", "");
    assert_eq!(group.tasks().unwrap().len(), 2);
    // One that is left of an earlier container is taken over; one in use is not.
    create(&tree, json).unwrap();
    tree.file("gold/mon_groups/box/tasks", "17\n");
    let error = message(create(&tree, json));
    assert!(error.contains("linux.intelRdt.enableMonitoring"), "{error}");
    assert!(tree.has("gold/mon_groups/box"));
    tree.empty("gold/mon_groups/box");
    group.remove().unwrap();
    assert!(!tree.has("gold/mon_groups/box") && tree.has("gold"));
    // Without room for it nothing is left.
    tree.group("plain", "");
    tree.empty("plain");
    assert!(create(&tree, r#"{"closID":"plain","enableMonitoring":true}"#).is_err());
    assert!(tree.has("plain") && !tree.has("plain/mon_groups"));
}

#[test]
fn a_refusal_is_told_in_the_kernels_words() {
    let tree = Tree::new("words");
    tree.file("info/last_cmd_status", "Mask out of range\n");
    let error = message(create(&tree, r#"{"closID":"gold","l3CacheSchema":"L3:0=ffffff"}"#));
    assert!(error.contains("Mask out of range"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (json, field) in [
        (r#"{"closID":".."}"#, "linux.intelRdt.closID"),
        (r#"{"closID":"a/b"}"#, "linux.intelRdt.closID"),
        (r#"{"closID":"/a"}"#, "linux.intelRdt.closID"),
        (r#"{"closID":"info"}"#, "linux.intelRdt.closID"),
        (r#"{"closID":"mon_groups"}"#, "linux.intelRdt.closID"),
        (r#"{"closID":"a\u0000"}"#, "linux.intelRdt.closID"),
        (r#"{"memBwSchema":"L3:0=f"}"#, "linux.intelRdt.memBwSchema"),
        (r#"{"memBwSchema":"MB:0=1\nL3:0=f"}"#, "linux.intelRdt.memBwSchema"),
        (r#"{"schemata":["L3:0=f","L2:0=1\nMB:0=5"]}"#, "linux.intelRdt.schemata[1]"),
    ] {
        let error = plan(json).unwrap_err().to_string();
        assert!(error.contains(&format!("(config.json: {field})")), "{json}: {error}");
    }
    // The properties of before 1.3 say nothing.
    let old = plan(r#"{"closID":"","enableCMT":true,"enableMBM":true}"#).unwrap();
    assert!(old.own && !old.monitoring && old.schemata.is_empty());
    let two = plan(r#"{"l3CacheSchema":"L3CODE:0=f\nL3DATA:0=f"}"#).unwrap();
    assert_eq!(two.schemata.text(), "L3CODE:0=f\nL3DATA:0=f\n");
    assert!(two.schemata.names("L3"));
}

#[test]
fn a_damaged_record_removes_nothing() {
    let tree = Tree::new("damaged");
    let root = tree.root().to_owned();
    for (class, own, monitor) in [
        ("/etc".to_owned(), true, None),
        (root.clone(), true, None),
        (format!("{root}/../x"), true, None),
        (format!("{root}/a"), false, Some("/etc".to_owned())),
    ] {
        let record = Record { root: root.clone(), class, own, monitor };
        assert!(Group::from_record(record.clone()).is_err(), "{record:?}");
    }
    assert!(Group::from_record(Record::default()).is_err());
}

#[test]
fn the_mount_is_found_by_its_type() {
    let line = "40 25 0:35 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
    assert_eq!(find_mount(line).as_deref(), Some("/sys/fs/resctrl"));
    assert_eq!(find_mount("40 25 0:35 / /x rw - tmpfs resctrl rw\n"), None);
}

#[test]
fn statistics_have_runcs_names() {
    let tree = Tree::new("stats");
    tree.group("gold", "    L3:0=f;1=f\n    MB:0=20;1=70\n");
    for domain in ["00", "01"] {
        for (file, text) in
            [("llc_occupancy", "1000\n"), ("mbm_total_bytes", "5\n"), ("mbm_local_bytes", "3\n")]
        {
            tree.file(&format!("gold/mon_data/mon_L3_{domain}/{file}"), text);
        }
    }
    tree.file("gold/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n");
    let group = create(&tree, r#"{"closID":"gold"}"#).unwrap();
    let both = json!({"mbm_total_bytes": 5, "mbm_local_bytes": 3});
    assert_eq!(
        json!(group.stats()),
        json!({
            "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=7ff;1=7ff",
            "l3_cache_schema": "L3:0=f;1=f",
            "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0=20;1=70",
            "schemata": ["L3:0=f;1=f", "MB:0=20;1=70"],
            "mbm_stats": [both, both],
            "cmt_stats": [{"llc_occupancy": 1000}],
        })
    );
}
