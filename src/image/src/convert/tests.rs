//! `config.json` of whole image configurations. What umoci makes of the same is in integration/images.

use std::os::fd::AsFd;

use serde_json::json;

use super::user::tests::Root;
use super::*;
use crate::Kind;

fn root() -> Root {
    let root = Root::new(&[
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:,,,:/home/app:/bin/sh\n"),
        ("etc/group", b"root:x:0:\nwheel:x:10:app\napp:x:1001:\n"),
    ]);
    std::fs::create_dir_all(root.path.join("var/lib/data")).unwrap();
    root
}

fn convert_with(config: &Value, request: &Request) -> Result<Conversion> {
    convert(config.to_string().as_bytes(), root().fd.as_fd(), request)
}

fn image(config: &Value) -> Value {
    json!({ "architecture": "amd64", "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": [] } })
}

#[allow(clippy::needless_pass_by_value, reason = "most are made for the call")]
fn field(config: Value, request: &Request, pointer: &str) -> Value {
    let made = convert_with(&image(&config), request).unwrap_or_else(|e| panic!("{e}"));
    made.spec.pointer(pointer).cloned().unwrap_or(Value::Null)
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn entrypoint_and_cmd_are_joined_as_docker_joins_them() {
    let both = json!({ "Entrypoint": ["/entry", "-e"], "Cmd": ["cmd"] });
    let plain = Request::default();
    let args = |args: &[&str]| Request { args: Some(strings(args)), ..Request::default() };
    let entry = |entry: &[&str]| Request { entrypoint: Some(strings(entry)), ..Request::default() };
    let with_both = Request { entrypoint: Some(strings(&["/new"])), ..args(&["a"]) };
    for (config, request, wanted) in [
        (both.clone(), &plain, json!(["/entry", "-e", "cmd"])),
        (json!({ "Cmd": ["cmd", ""] }), &plain, json!(["cmd", ""])),
        (json!({ "Entrypoint": ["/entry"], "Cmd": null }), &plain, json!(["/entry"])),
        (both.clone(), &args(&["a", "b"]), json!(["/entry", "-e", "a", "b"])),
        (both.clone(), &args(&[]), json!(["/entry", "-e"])),
        (json!({}), &args(&["sh"]), json!(["sh"])),
        (both.clone(), &entry(&["/new"]), json!(["/new"])),
        (both.clone(), &with_both, json!(["/new", "a"])),
        (both.clone(), &Request { args: Some(strings(&["a"])), ..entry(&[]) }, json!(["a"])),
    ] {
        assert_eq!(field(config.clone(), request, "/process/args"), wanted, "{config} {request:?}");
    }
    for (config, request) in
        [(json!({}), &plain), (both, &entry(&[])), (json!({ "Cmd": [] }), &args(&[]))]
    {
        let error = convert_with(&image(&config), request).unwrap_err();
        assert!(error.to_string().contains("neither Entrypoint nor Cmd"), "{error}");
    }
}

#[test]
fn variables_are_the_images_then_the_callers_then_what_is_missing() {
    let request = Request { env: strings(&["B=over", "NEW=1", "EMPTY="]), ..Request::default() };
    let config = json!({ "Cmd": ["x"], "Env": ["A=1", "B=2", "A=3", "C=x=y"], "User": "app" });
    assert_eq!(
        field(config, &request, "/process/env"),
        json!([
            "A=3",
            "B=over",
            "C=x=y",
            "NEW=1",
            "EMPTY=",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/home/app"
        ])
    );
    let tty = Request { terminal: true, ..Request::default() };
    let config = json!({ "Cmd": ["x"], "Env": ["PATH=/p", "HOME=/h"], "User": "77" });
    assert_eq!(field(config, &tty, "/process/env"), json!(["PATH=/p", "HOME=/h", "TERM=xterm"]));
    for bad in ["PATH", "", "=x"] {
        let error =
            convert_with(&image(&json!({ "Cmd": ["x"], "Env": [bad] })), &Request::default())
                .unwrap_err();
        assert_eq!(error.kind(), Kind::Verification);
        assert!(error.to_string().contains("config.Env[0]"), "{error}");
        let request = Request { env: strings(&[bad]), ..Request::default() };
        assert_eq!(
            convert_with(&image(&json!({ "Cmd": ["x"] })), &request).unwrap_err().kind(),
            Kind::Usage
        );
    }
}

#[test]
fn the_directory_is_absolute_and_nobody_made_it() {
    let request = Request { workdir: Some("else".into()), ..Request::default() };
    for (dir, request, wanted) in [
        ("", &Request::default(), "/"),
        ("/srv", &Request::default(), "/srv"),
        ("srv/x", &Request::default(), "/srv/x"),
        ("/../../etc", &Request::default(), "/../../etc"),
        ("/srv", &request, "/else"),
    ] {
        assert_eq!(
            field(json!({ "Cmd": ["x"], "WorkingDir": dir }), request, "/process/cwd"),
            wanted,
            "{dir}"
        );
    }
}

#[test]
fn users_come_from_the_image_or_the_caller() {
    let config = |user: &str| json!({ "Cmd": ["x"], "User": user });
    let plain = Request::default();
    assert_eq!(
        field(config("app"), &plain, "/process/user"),
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [1001, 10] })
    );
    assert_eq!(
        field(config(""), &plain, "/process/user"),
        json!({ "uid": 0, "gid": 0, "additionalGids": [0] })
    );
    let request = Request { user: Some("5:6".into()), ..Request::default() };
    assert_eq!(
        field(config("app"), &request, "/process/user"),
        json!({ "uid": 5, "gid": 6, "additionalGids": [6] })
    );
    assert_eq!(convert_with(&image(&config("nosuch")), &plain).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn without_root_the_ids_are_those_there_are() {
    let request = Request { mapping: Some(Mapping::single(1000, 1000)), ..Request::default() };
    let config = |user: &str| json!({ "Cmd": ["x"], "User": user });
    let made = convert_with(&image(&config("0:0")), &request).unwrap().spec;
    assert_eq!(made["process"]["user"], json!({ "uid": 0, "gid": 0 }));
    assert_eq!(
        made["linux"]["uidMappings"],
        json!([{ "containerID": 0, "hostID": 1000, "size": 1 }])
    );
    assert!(made["linux"]["namespaces"].as_array().unwrap().contains(&json!({ "type": "user" })));
    assert!(made["linux"].get("resources").is_none());
    let terminals =
        made["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == "/dev/pts").unwrap();
    assert!(!terminals["options"].as_array().unwrap().contains(&json!("gid=5")));
    let error = convert_with(&image(&config("app")), &request).unwrap_err();
    assert!(error.to_string().contains("the user 1000"), "{error}");
    // runc sets no groups for an ordinary user, whatever the ids he has.
    let mut helped = Mapping::single(1000, 1000);
    for map in [&mut helped.uids, &mut helped.gids] {
        map.push(IdMap { container: 1, host: 100_000, size: 65535 });
    }
    let request = Request { mapping: Some(helped), ..Request::default() };
    let made = convert_with(&image(&config("")), &request).unwrap().spec;
    assert_eq!(made["process"]["user"], json!({ "uid": 0, "gid": 0 }));
    let made = convert_with(&image(&config("app")), &request).unwrap().spec;
    assert_eq!(made["process"]["user"]["additionalGids"], json!([1001, 10]));
    let all = Mapping {
        uids: vec![IdMap { container: 0, host: 100_000, size: 65536 }],
        gids: vec![IdMap { container: 0, host: 100_000, size: 1002 }],
        rootless: false,
    };
    let request = Request { mapping: Some(all), ..Request::default() };
    let made = convert_with(&image(&config("app")), &request).unwrap();
    assert_eq!(
        made.spec["process"]["user"],
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [1001, 10] })
    );
}

#[test]
fn labels_and_properties_become_annotations() {
    let config = json!({
        "architecture": "arm64", "variant": "v8", "os": "linux", "os.version": "1", "os.features": ["a", "b"],
        "author": "someone", "created": "2015-10-31T22:22:56.015925234Z",
        "config": { "Cmd": ["x"], "StopSignal": "SIGQUIT", "ExposedPorts": { "80/tcp": {}, "443": {}, "53/udp": {} },
            "Labels": { "a.b": "c", "org.opencontainers.image.author": "the label", "": "x",
                "run.oci.hooks.stdout": "/etc/cron.d/x", "org.systemd.property.ExecStartPre": "x" } }
    });
    let made = convert_with(&config, &Request::default()).unwrap();
    assert_eq!(
        made.spec["annotations"],
        json!({
            "org.opencontainers.image.os": "linux", "org.opencontainers.image.architecture": "arm64",
            "org.opencontainers.image.variant": "v8", "org.opencontainers.image.os.version": "1",
            "org.opencontainers.image.os.features": "a,b", "org.opencontainers.image.author": "the label",
            "org.opencontainers.image.created": "2015-10-31T22:22:56.015925234Z",
            "org.opencontainers.image.stopSignal": "SIGQUIT",
            "org.opencontainers.image.exposedPorts": "443,53/udp,80/tcp", "a.b": "c",
        })
    );
    assert_eq!(made.warnings.len(), 3, "{:?}", made.warnings);
    let author: Vec<_> =
        made.origins.iter().filter(|o| o.field.ends_with("image.author")).collect();
    assert_eq!(author.len(), 1);
    assert_eq!(author[0].from, "image: config.Labels");
    let request = Request {
        allow_annotations: true,
        annotations: vec![("a.b".into(), "mine".into())],
        ..Request::default()
    };
    let made = convert_with(&config, &request).unwrap();
    assert_eq!(made.spec["annotations"]["run.oci.hooks.stdout"], "/etc/cron.d/x");
    assert_eq!(made.spec["annotations"]["a.b"], "mine");
}

#[test]
fn as_many_labels_as_a_configuration_holds_take_no_time() {
    let labels = |prefix: &str| -> Map<String, Value> {
        (0..90_000).map(|n| (format!("{prefix}{n}"), "".into())).collect()
    };
    let begun = std::time::Instant::now();
    let mut many = labels("l");
    many.insert("org.opencontainers.image.architecture".into(), "mine".into());
    let made = convert_with(&image(&json!({ "Cmd": ["x"], "Labels": many })), &Request::default())
        .unwrap();
    let explained = |key: &str| {
        let field = format!("annotations {key}");
        made.origins.iter().filter(|o| o.field == field).map(|o| &*o.from).collect::<Vec<_>>()
    };
    for key in ["l0", "l89999", "org.opencontainers.image.architecture"] {
        assert_eq!(explained(key), ["image: config.Labels"], "{key}");
    }
    assert_eq!(made.spec["annotations"].as_object().unwrap().len(), 90_002);
    let config = image(&json!({ "Cmd": ["x"], "Labels": labels("run.oci.") }));
    let made = convert_with(&config, &Request::default()).unwrap();
    assert_eq!(made.warnings.len(), 101);
    assert!(made.warnings[100].contains("89900 more"), "{}", made.warnings[100]);
    // Each of them held against each would be minutes.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[test]
fn every_field_is_explained() {
    let config =
        image(&json!({ "Cmd": ["x"], "User": "app", "Env": ["A=b"], "Labels": { "l": "m" } }));
    let base = json!({ "ociVersion": "1.1.0", "domainname": "d", "hooks": {}, "annotations": { "mine": "1" },
        "process": { "oomScoreAdj": 5 }, "linux": { "sysctl": { "net.ipv4.ip_forward": "1" } } });
    let asked = Request { base: base.as_object().cloned(), ..Request::default() };
    for (request, wanted) in [
        (
            &Request { hostname: Some("h".into()), ..Request::default() },
            &[
                ("ociVersion", "default"),
                ("root.path", "bundle"),
                ("linux.resources", "default"),
                ("hostname", "--hostname"),
                ("annotations l", "image: config.Labels"),
            ][..],
        ),
        (
            &asked,
            &[
                ("domainname", "--config-from"),
                ("hooks", "--config-from"),
                ("annotations mine", "--config-from"),
                ("annotations l", "image: config.Labels"),
                ("process.oomScoreAdj", "--config-from"),
                ("linux.sysctl", "--config-from"),
            ][..],
        ),
    ] {
        let made = convert_with(&config, request).unwrap();
        for (field, from) in wanted {
            let said: Vec<_> = made.origins.iter().filter(|o| o.field == *field).collect();
            assert_eq!(said.len(), 1, "{field}: {:?}", made.origins);
            assert_eq!(said[0].from, *from, "{field}");
        }
        for (name, value) in made.spec.as_object().unwrap() {
            let said = |field: &str| made.origins.iter().any(|o| o.field.starts_with(field));
            assert!(said(name), "{name}");
            for below in value.as_object().into_iter().flat_map(Map::keys) {
                assert!(
                    said(&format!("{name}.{below}"))
                        || said(&format!("{name} {below}"))
                        || name == "hooks",
                    "{name} {below}"
                );
            }
        }
    }
}

#[test]
fn volumes_are_tmpfs_that_start_with_what_is_there() {
    let config = json!({ "Cmd": ["x"], "Volumes": { "/var/lib/data": {}, "/var/lib/data/": {}, "new": {}, "/proc": {},
        "/../sys/x": {}, "/": {}, "/dev/shm": {}, "/taken": {} } });
    let request = Request {
        mounts: vec![mounts::parse("src=/a,dst=/taken/", std::path::Path::new("/")).unwrap()],
        ..Request::default()
    };
    let made = convert_with(&image(&config.clone()), &request).unwrap();
    let mounts = made.spec["mounts"].as_array().unwrap();
    let at = |place: &str| mounts.iter().find(|mount| mount["destination"] == place);
    let data = at("/var/lib/data").unwrap();
    assert_eq!(data["type"], "tmpfs");
    let options = data["options"].as_array().unwrap();
    assert!(
        options.contains(&json!("tmpcopyup")) && options.contains(&json!("mode=0755")),
        "{options:?}"
    );
    assert!(!options.contains(&json!("noexec")));
    assert!(at("/new").is_some() && at("/taken").is_none() && at("/taken/").is_some());
    assert_eq!(mounts.len(), 7 + 3, "{mounts:?}");
    assert_eq!(made.warnings.len(), 4, "{:?}", made.warnings);
    let request = Request { volumes: Volumes::Ignore, ..Request::default() };
    assert_eq!(field(config, &request, "/mounts").as_array().unwrap().len(), 7);
    let many: serde_json::Map<String, Value> =
        (0..300).map(|n| (format!("/v{n}"), json!({}))).collect();
    let error =
        convert_with(&image(&json!({ "Cmd": ["x"], "Volumes": many })), &Request::default())
            .unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[test]
fn flags_change_what_no_image_speaks_of() {
    let cmd = json!({ "Cmd": ["x"] });
    let plain = convert_with(&image(&cmd.clone()), &Request::default()).unwrap().spec;
    assert_eq!(plain["root"], json!({ "path": "rootfs", "readonly": false }));
    assert_eq!(plain["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(plain["process"]["noNewPrivileges"], false);
    assert!(
        plain["linux"]["namespaces"].as_array().unwrap().contains(&json!({ "type": "network" }))
    );
    assert_eq!(plain["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
    let request = Request {
        network: Network::Host,
        hostname: Some("h".into()),
        read_only: true,
        terminal: true,
        capabilities: Capabilities::Minimal,
        seccomp: Seccomp::Unconfined,
        unified: true,
        ..Request::default()
    };
    let made = convert_with(&image(&cmd), &request).unwrap().spec;
    assert_eq!(made["root"]["readonly"], true);
    assert_eq!(made["hostname"], "h");
    assert_eq!(made["process"]["terminal"], true);
    assert_eq!(made["process"]["noNewPrivileges"], true);
    assert!(made["linux"].get("seccomp").is_none());
    let kinds: Vec<&str> = made["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup"]);
}

#[test]
fn a_document_to_start_from_keeps_what_the_image_does_not_say() {
    let base = json!({ "ociVersion": "1.0.0", "process": { "args": ["base"], "env": ["A=1"], "cwd": "/base",
        "user": { "uid": 9, "gid": 9 }, "rlimits": [{}] }, "mounts": [], "linux": { "maskedPaths": ["/x"] }, "hooks": {} });
    let request = Request { base: base.as_object().cloned(), ..Request::default() };
    let made = convert_with(&image(&json!({ "Env": ["B=2"] })), &request).unwrap().spec;
    assert_eq!(made["ociVersion"], "1.0.0");
    assert_eq!(made["process"]["args"], json!(["base"]));
    assert_eq!(made["process"]["cwd"], "/base");
    assert_eq!(made["process"]["user"], json!({ "uid": 9, "gid": 9 }));
    assert_eq!(made["process"]["rlimits"], json!([{}]));
    assert_eq!(made["process"]["env"][0], "A=1");
    assert_eq!(made["process"]["env"][1], "B=2");
    assert_eq!(made["linux"], json!({ "maskedPaths": ["/x"] }));
    assert!(made.get("hooks").is_some());
    let made =
        convert_with(&image(&json!({ "Cmd": ["x"], "User": "app", "WorkingDir": "/w" })), &request)
            .unwrap()
            .spec;
    assert_eq!(made["process"]["args"], json!(["x"]));
    assert_eq!(made["process"]["cwd"], "/w");
    assert_eq!(made["process"]["user"]["uid"], 1000);
    let bad = json!({ "process": [] });
    let request = Request { base: bad.as_object().cloned(), ..Request::default() };
    assert_eq!(
        convert_with(&image(&json!({ "Cmd": ["x"] })), &request).unwrap_err().kind(),
        Kind::Usage
    );
}

#[test]
fn an_image_of_another_system_is_refused() {
    let config = json!({ "os": "windows", "config": { "Cmd": ["x"] } });
    assert_eq!(convert_with(&config, &Request::default()).unwrap_err().kind(), Kind::Unsupported);
}
