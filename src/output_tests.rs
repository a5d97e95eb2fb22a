use super::*;

fn sample<'a>(id: &'a str, bundle: &'a str) -> State<'a> {
    State {
        oci_version: "1.3.0",
        id,
        pid: 42,
        status: "running",
        bundle,
        rootfs: "/b/rootfs",
        created: "2026-09-01T10:00:00.5Z",
        annotations: None,
        owner: "",
        systemd_scope: None,
    }
}

fn text(bytes: Result<Vec<u8>>) -> String {
    String::from_utf8(bytes.expect("a document")).expect("UTF-8")
}

#[test]
fn state_is_indented_ordered_and_without_an_end_of_line() {
    let annotations = Map(vec![("k".into(), "v\"".into()), ("a".into(), "é".into())]);
    let mut state = sample("c1", "/b");
    state.annotations = Some(&annotations);
    let want = r#"{
  "ociVersion": "1.3.0",
  "id": "c1",
  "pid": 42,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-09-01T10:00:00.5Z",
  "annotations": {
    "k": "v\"",
    "a": "é"
  },
  "owner": ""
}"#;
    assert_eq!(text(super::state(&state)), want);
}

#[test]
fn state_leaves_out_what_there_is_not() {
    let empty = Map::default();
    let mut state = sample("c1", "/b");
    for annotations in [None, Some(&empty)] {
        state.annotations = annotations;
        let text = text(super::state(&state));
        assert!(!text.contains("annotations") && !text.contains("systemd-scope"), "{text}");
    }
    state.systemd_scope = Some("skep-c1.scope");
    assert!(
        text(super::state(&state))
            .ends_with("  \"owner\": \"\",\n  \"systemd-scope\": \"skep-c1.scope\"\n}")
    );
}

fn listing(format: Format, quiet: bool, states: &[State<'_>]) -> String {
    let mut listing = Listing::new(format, quiet);
    for state in states {
        listing.add(state).expect("a document");
    }
    text(Ok(listing.finish()))
}

#[test]
fn a_list_is_null_or_one_line_of_json() {
    assert_eq!(listing(Format::Json, false, &[]), "null\n");
    let mut one = sample("c1", "/b");
    one.owner = "root";
    let want = concat!(
        r#"[{"ociVersion":"1.3.0","id":"c1","pid":42,"status":"running","bundle":"/b","#,
        r#""rootfs":"/b/rootfs","created":"2026-09-01T10:00:00.5Z","owner":"root"}]"#,
        "\n"
    );
    assert_eq!(listing(Format::Json, false, &[one]), want);
    let two = [sample("a", ""), sample("b", "")];
    let parsed: serde_json::Value =
        serde_json::from_str(&listing(Format::Json, false, &two)).expect("JSON");
    assert_eq!((&parsed[0]["id"], &parsed[1]["id"]), (&"a".into(), &"b".into()));
    for format in [Format::Json, Format::Table] {
        assert_eq!(listing(format, true, &[]), "");
        assert_eq!(listing(format, true, &two), "a\nb\n");
    }
}

#[test]
fn a_table_has_runcs_columns() {
    // Printed by runc 1.1.5 for no containers.
    let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
    assert_eq!(listing(Format::Table, false, &[]), header);
    let mut wide = sample("a-long-container-id", "/ü");
    wide.owner = "root";
    assert_eq!(
        listing(Format::Table, false, &[wide, sample("b", "/b")]),
        "\
ID                    PID         STATUS      BUNDLE      CREATED                  OWNER
a-long-container-id   42          running     /ü          2026-09-01T10:00:00.5Z   root
b                     42          running     /b          2026-09-01T10:00:00.5Z   \n"
    );
}

#[test]
fn ps_keeps_the_rows_of_the_container() {
    let output = b"UID   PID  PPID CMD\nroot    1     0 init\nroot   17     1 sh 42\n\nroot   42    17 \xff\n";
    let kept = ps_table(output, &[42, 1]).expect("a table");
    assert_eq!(kept, b"UID   PID  PPID CMD\nroot    1     0 init\nroot   42    17 \xff\n");
    let error = |output: &[u8]| ps_table(output, &[1]).map_err(|e| e.to_string());
    assert_eq!(error(b"UID CMD\n"), Err("couldn't find PID field in ps output".to_owned()));
    assert_eq!(error(b""), Err("couldn't find PID field in ps output".to_owned()));
    assert_eq!(error(b"PID\nx\n"), Err("no process id in the ps output \"x\"".to_owned()));
    assert_eq!(ps_json(&[]), "[]\n");
    assert_eq!(ps_json(&[3, 12]), "[3,12]\n");
}

#[test]
fn formats_are_two() {
    let parse = |text: Option<&str>| Format::parse(text.map(OsStr::new));
    assert_eq!(parse(None).ok(), Some(Format::Table));
    assert_eq!(parse(Some("table")).ok(), Some(Format::Table));
    assert_eq!(parse(Some("json")).ok(), Some(Format::Json));
    assert!(parse(Some("xml")).is_err_and(|e| e.to_string().starts_with("invalid format option")));
}
