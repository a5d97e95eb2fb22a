//! checkpoint and restore with a shell script in the place of CRIU, which fails, lies, hangs or ends at the wrong time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Kind, Test, json, wait};

cases![
    without_criu_nothing_happens,
    a_criu_that_is_too_old_is_refused,
    a_criu_that_ends_half_way_leaves_nothing,
    a_criu_that_talks_nonsense_leaves_nothing,
    a_criu_that_says_nothing_is_not_waited_for,
    a_criu_that_lies_is_told,
    the_errors_of_criu_are_told,
    images_of_a_container_that_was_ended_stay,
    a_container_that_somebody_else_deletes_is_a_success,
    a_work_path_that_cannot_be_made_leaves_nothing,
    what_cannot_be_restored_is_not_ended,
    what_is_lost_is_told,
    a_relative_criu_is_not_the_bundles,
    the_options_of_the_host_are_those_of_the_first_file,
    options_of_the_command_line_reach_criu,
];

/// Answers the question for the version.
pub(crate) const VERSION_4_2: &str =
    r"head -c 1 <&3 >/dev/null; printf '\010\012\020\001\122\004\010\004\020\002' >&3";
/// Takes the next request, if there is one.
pub(crate) const TAKE: &str = r#"[ -n "$(head -c 1 <&3)" ] || exit 9"#;
/// "It is saved."
const DUMPED: &str = r"printf '\010\001\020\001' >&3";
/// "It could not be saved."
pub(crate) const NOT_DUMPED: &str = r"printf '\010\001\020\000' >&3";

/// A script, as a program.
pub(crate) fn script(path: &Path, text: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Calls with a script in the place of CRIU.
fn with_script(t: &Test, text: &str) -> String {
    t.need(t.kind() == Kind::Skep, "for skep's --criu");
    script(&t.path("fake-criu"), text)
}

/// `checkpoint FLAGS… ID` with this CRIU and the images in the test's directory.
fn checkpoint<'t>(c: &Container<'t>, criu: &str, flags: &[&str]) -> Call<'t> {
    let images = c.test.path("images").display().to_string();
    let mut all = vec!["--image-path", &images];
    all.extend(flags);
    c.call("checkpoint", &all).global(&["--criu", criu])
}

fn running(t: &Test) -> Container<'_> {
    let c = t.container().lasting();
    c.run_detached();
    c
}

/// Ends the container and waits until it has.
fn killing(c: &Container<'_>) -> String {
    let pid = c.pid();
    format!(
        "kill -9 {pid}; until ! [ -d /proc/{pid} ] || grep -q 'State:.Z' /proc/{pid}/status; do :; done"
    )
}

/// Neither a checkpoint nor a restore with this CRIU does anything but say `words`.
#[track_caller]
fn fails_with(t: &Test, criu: &str, words: &str) {
    let c = running(t);
    let images = t.path("images");
    checkpoint(&c, criu, &[]).run().fails().names(words).one_line();
    assert_eq!(c.status(), "running");
    assert!(images.metadata().is_err(), "the images' directory is left");
    c.delete_force().ok();
    restore_fails_with(t, criu, words);
}

#[track_caller]
fn restore_fails_with(t: &Test, criu: &str, words: &str) {
    let images = t.path("images");
    fs::create_dir(&images).unwrap();
    let twin = t.container().lasting();
    let flags = ["--image-path", images.to_str().unwrap()];
    let output = twin.bundle_call("restore", &flags).global(&["--criu", criu]).run();
    output.fails().names(words).one_line();
    t.assert_nothing_left();
    fs::remove_dir(images).unwrap();
}

fn without_criu_nothing_happens(t: &Test) {
    t.need(t.kind() == Kind::Skep, "for skep's words");
    fails_with(t, "no-such-criu", "install CRIU");
    fails_with(t, "/no/such/criu", "/no/such/criu");
}

fn a_criu_that_is_too_old_is_refused(t: &Test) {
    let old = VERSION_4_2.replace(r"\010\004\020\002", r"\010\003\020\012");
    fails_with(t, &with_script(t, &old), "CRIU 3.10.0 is too old");
}

fn a_criu_that_ends_half_way_leaves_nothing(t: &Test) {
    fails_with(t, &with_script(t, "exit 1"), "ended without an answer");
    let later = format!("{VERSION_4_2}\n{TAKE}; echo last words >&2; exit 1");
    fails_with(t, &with_script(t, &later), "last words");
}

fn a_criu_that_talks_nonsense_leaves_nothing(t: &Test) {
    fails_with(t, &with_script(t, r"printf '\377\377' >&3; head -c 1 <&3"), "CRIU");
    // An answer to something nobody has asked.
    let script = format!(r"{VERSION_4_2}; {TAKE}; printf '\010\007\020\001' >&3");
    fails_with(t, &with_script(t, &script), "criu failed");
}

fn a_criu_that_says_nothing_is_not_waited_for(t: &Test) {
    let c = running(t);
    let pid = t.path("hangs");
    let here = format!("echo $$ > {}", pid.display());
    let hang = "exec sleep 1000";
    let gone = || {
        let pid = wait::for_file(&pid).trim().to_owned();
        assert!(fs::metadata(format!("/proc/{pid}")).is_err(), "the hanging CRIU is left");
    };
    checkpoint(&c, &with_script(t, &format!("{here}; {hang}")), &[])
        .run()
        .fails()
        .names("has not answered VERSION");
    gone();
    let later = with_script(t, &format!("{here}; {VERSION_4_2}; {hang}"));
    let output = checkpoint(&c, &later, &["--pre-dump"]).run();
    output.fails().names("has not answered FEATURE_CHECK");
    gone();
    // Nor when there is nothing to be asked.
    let flags = ["--image-path", "/no/such/directory"];
    c.call("checkpoint", &flags).global(&["--criu", &later]).run().fails().names("/no/such");
    gone();
    assert_eq!(c.status(), "running");
}

fn a_criu_that_lies_is_told(t: &Test) {
    // "It is saved", but it runs on: whatever is among the images stays, in case it is true.
    let c = running(t);
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; {DUMPED}"));
    checkpoint(&c, &criu, &[]).run().fails().names("runs on").one_line();
    assert_eq!(c.status(), "running");
    assert!(t.path("images/descriptors.json").metadata().is_ok());
    c.delete_force().ok();
    fs::remove_dir_all(t.path("images")).unwrap();
    // "It is restored", but there is nothing.
    let restored = DUMPED.replace(r"\010\001", r"\010\002");
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; {restored}"));
    restore_fails_with(t, &criu, "does not say what");
}

fn the_errors_of_criu_are_told(t: &Test) {
    let script = format!(
        r"{VERSION_4_2}; {TAKE}
        printf '\010\001\020\000\070\026\112\010bad\033luck' >&3"
    );
    fails_with(t, &with_script(t, &script), "bad?luck");
}

fn images_of_a_container_that_was_ended_stay(t: &Test) {
    t.need(t.kind() == Kind::Skep, "for skep's --criu");
    let image = t.path("images/inventory.img");
    let save = |c: &Container<'_>| format!("echo image > {}; {}", image.display(), killing(c));
    // It has said that all is well, and then it falls.
    let c = running(t);
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; {}; {DUMPED}; exit 3", save(&c)));
    let log = t.path("log");
    checkpoint(&c, &criu, &[]).global(&["--log", log.to_str().unwrap()]).run().ok();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("level=warning") && log.contains("exit status 3"), "{log}");
    assert!(image.metadata().is_ok(), "the images of a container that is dead are gone");
    t.assert_nothing_left();
    fs::remove_dir_all(t.path("images")).unwrap();
    // It falls before it can say so.
    let c = running(t);
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; {}; exit 3", save(&c)));
    checkpoint(&c, &criu, &[]).run().fails().names("ended without an answer");
    assert!(image.metadata().is_ok(), "the images of a container that is dead are gone");
    c.delete().ok();
}

fn a_container_that_somebody_else_deletes_is_a_success(t: &Test) {
    t.need_program("flock");
    t.need(t.kind() == Kind::Skep, "for skep's --criu");
    let c = running(t);
    let state = t.path("root").join(&c.id);
    assert!(state.metadata().is_ok(), "{}", state.display());
    let state = state.display();
    // Somebody waits for the lock, and removes the container as soon as it is let go.
    let other = format!("flock {state} rm -rf {state} </dev/null >/dev/null 2>&1 3>&- &");
    let waits = "until grep -q -e '-> FLOCK' /proc/locks; do :; done";
    let killing = killing(&c);
    let criu =
        with_script(t, &format!("{VERSION_4_2}; {TAKE}; {other}\n{waits}; {killing}; {DUMPED}"));
    checkpoint(&c, &criu, &[]).run().ok().no_stderr();
    assert!(t.path("images/descriptors.json").metadata().is_ok());
    t.assert_nothing_left();
}

fn a_work_path_that_cannot_be_made_leaves_nothing(t: &Test) {
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; {NOT_DUMPED}"));
    let c = running(t);
    checkpoint(&c, &criu, &["--work-path", "/no/such/directory"]).run().fails().names("/no/such");
    assert!(t.path("images").metadata().is_err(), "the images' directory is left");
    // Nor is one that was made for nothing.
    let work = t.path("work");
    checkpoint(&c, &criu, &["--work-path", work.to_str().unwrap()]).run().fails();
    assert!(t.path("images").metadata().is_err(), "the images' directory is left");
    assert!(work.metadata().is_err(), "the work directory is left");
    assert_eq!(c.status(), "running");
}

fn what_cannot_be_restored_is_not_ended(t: &Test) {
    let asked = t.path("asked");
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; : > {}; {DUMPED}", asked.display()));
    let holder = running(t);
    let joined = format!("/proc/{}/ns/cgroup", holder.pid());
    let namespaces = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}, {"type": "cgroup", "path": joined}]);
    let c = t.container().set("/linux/namespaces", namespaces).lasting();
    c.run_detached();
    let field = "linux.namespaces[5]";
    checkpoint(&c, &criu, &[]).run().fails().names(field).one_line();
    assert!(asked.metadata().is_err() && t.path("images").metadata().is_err());
    assert_eq!(c.status(), "running");
    // It may have other uses, and nothing is lost.
    let log = t.path("log");
    let call = checkpoint(&c, &criu, &["--leave-running"]);
    call.global(&["--log", log.to_str().unwrap()]).run().ok();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("level=warning") && log.contains(field), "{log}");
    assert!(asked.metadata().is_ok());
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    holder.delete_force().ok();
    fs::remove_dir_all(t.path("images")).unwrap();
    fs::create_dir(t.path("images")).unwrap();
    fs::remove_file(&asked).unwrap();
    let images = t.path("images").display().to_string();
    c.bundle_call("restore", &["--image-path", &images]).global(&["--criu", &criu]).run().fails();
    assert!(asked.metadata().is_err());
    t.assert_nothing_left();
}

fn what_is_lost_is_told(t: &Test) {
    let criu = with_script(t, &format!("{VERSION_4_2}; {TAKE}; {DUMPED}"));
    let data = t.path("data").display().to_string();
    fs::create_dir(&data).unwrap();
    let c = t
        .container()
        .mount("/shared", "bind", &data, &["rbind", "rshared"])
        .mount("/slave", "bind", &data, &["rbind", "rslave"])
        .mount("/own", "tmpfs", "tmpfs", &["shared"])
        .lasting();
    c.run_detached();
    let log = t.path("log");
    let call = checkpoint(&c, &criu, &["--leave-running"]);
    call.global(&["--log", log.to_str().unwrap()]).run().ok();
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("level=warning") && text.contains("\\\"/shared\\\" (config.json: mounts[")
    );
    c.delete_force().ok();
    fs::remove_file(&log).unwrap();
    let images = t.path("images").display().to_string();
    let call = c.bundle_call("restore", &["--image-path", &images]);
    call.global(&["--criu", &criu, "--log", log.to_str().unwrap()]).run().fails();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=warning") && text.contains("/shared"), "{text}");
    t.assert_nothing_left();
}

fn a_relative_criu_is_not_the_bundles(t: &Test) {
    t.need(t.kind() == Kind::Skep, "for skep's --criu");
    let c = t.container().lasting();
    fs::create_dir_all(t.path("here/bin")).unwrap();
    fs::create_dir(c.dir.join("bin")).unwrap();
    script(&t.path("here/bin/criu"), "echo of the caller >&2; exit 1");
    let evil = t.path("evil");
    script(&c.dir.join("bin/criu"), &format!(": > {}; exit 1", evil.display()));
    fs::create_dir(t.path("images")).unwrap();
    let images = t.path("images").display().to_string();
    let call = c.bundle_call("restore", &["--image-path", &images]);
    let output = call.cwd(&t.path("here")).global(&["--criu", "bin/criu"]).run();
    assert!(evil.metadata().is_err(), "a program of the bundle was executed");
    output.fails().names("ended without an answer").names("of the caller");
}

/// Keeps the whole request in a file of the test's, and says that nothing could be done.
fn keeping(t: &Test) -> (String, std::path::PathBuf) {
    let request = t.path("request");
    let take = format!("dd bs=200000 count=1 <&3 2>/dev/null >{}", request.display());
    (with_script(t, &format!("{VERSION_4_2}; {take}; {NOT_DUMPED}")), request)
}

fn holds(request: &[u8], part: &[u8]) -> bool {
    request.windows(part.len()).any(|window| window == part)
}

/// `org.criu.config`, then `/etc/criu/skep.conf`, then runc's.
fn the_options_of_the_host_are_those_of_the_first_file(t: &Test) {
    let (criu, request) = keeping(t);
    t.need_program("unshare");
    t.need(fs::metadata("/etc/criu").is_ok(), "no /etc/criu to put files in");
    let etc = t.path("etc");
    let mount = format!("mount --bind {} /etc/criu && exec \"$0\" \"$@\"", etc.display());
    let by = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount];
    for (annotation, files, expected) in [
        (None, &["skep.conf", "runc.conf"][..], Some("/etc/criu/skep.conf")),
        (None, &["runc.conf"], Some("/etc/criu/runc.conf")),
        (None, &["skep.conf/", "runc.conf"], Some("/etc/criu/runc.conf")),
        (None, &["crun.conf", "default.conf"], None),
        (Some("/of/the/container"), &["skep.conf", "runc.conf"], Some("/of/the/container")),
        (Some(""), &["skep.conf", "runc.conf"], None),
    ] {
        let _of_the_last_round = fs::remove_dir_all(&etc);
        fs::create_dir(&etc).unwrap();
        for file in files {
            match file.strip_suffix('/') {
                Some(directory) => fs::create_dir(etc.join(directory)).unwrap(),
                None => fs::write(etc.join(file), "").unwrap(),
            }
        }
        let mut c = t.container().lasting();
        if let Some(path) = annotation {
            c = c.set("/annotations", json!({"org.criu.config": path}));
        }
        let images = t.path("images").display().to_string();
        let restore = c.bundle_call("restore", &["--image-path", &images]);
        c.run_detached();
        let dump = checkpoint(&c, &criu, &[]);
        dump.by(&by).run().fails();
        let asked = |what: &str| {
            let bytes = fs::read(&request).unwrap();
            for path in ["/etc/criu/skep.conf", "/etc/criu/runc.conf", "/of/the/container"] {
                // Field 51 of criu_opts (rpc.proto): a text with its length.
                let field = [&[0x9a, 0x03, path.len() as u8], path.as_bytes()].concat();
                let there = holds(&bytes, &field);
                assert_eq!(there, expected == Some(path), "{what}: {path} of {files:?}");
                assert!(there || !holds(&bytes, path.as_bytes()), "{what}: {path}");
            }
            fs::remove_file(&request).unwrap();
        };
        asked("checkpoint");
        c.delete_force().ok();
        fs::create_dir_all(&images).unwrap();
        restore.global(&["--criu", &criu]).by(&by).run().fails();
        asked("restore");
        fs::remove_dir_all(&images).unwrap();
    }
}

/// crun's, and those by which Podman asks for labels.
fn options_of_the_command_line_reach_criu(t: &Test) {
    let (criu, request) = keeping(t);
    let images = t.path("images").display().to_string();
    let text = |field: &[u8], value: &str| [field, &[value.len() as u8], value.as_bytes()].concat();
    for (flags, part) in [
        // Their numbers in rpc.proto: 52, 64 (1 to 3), 53 and 63.
        (&["--tcp-close"][..], vec![0xa0, 0x03, 1]),
        (&["--network-lock", "iptables"], vec![0x80, 0x04, 1]),
        (&["--network-lock", "nftables"], vec![0x80, 0x04, 2]),
        (&["--network-lock", "skip"], vec![0x80, 0x04, 3]),
        (&["--lsm-profile", "apparmor:other"], text(&[0xaa, 0x03], "apparmor:other")),
        (&["--lsm-mount-context", "a:b:c:s0"], text(&[0xfa, 0x03], "a:b:c:s0")),
    ] {
        let ask = |flags: &[&str]| {
            let c = t.container().lasting();
            fs::create_dir_all(&images).unwrap();
            let flags = [&["--image-path", images.as_str()], flags].concat();
            c.bundle_call("restore", &flags).global(&["--criu", &criu]).run().fails();
            let bytes = fs::read(&request).unwrap();
            fs::remove_file(&request).unwrap();
            bytes
        };
        assert!(holds(&ask(flags), &part), "{flags:?}");
        assert!(!holds(&ask(&[]), &part), "without {flags:?}");
    }
    // On the way out as well.
    let c = running(t);
    checkpoint(&c, &criu, &["--network-lock", "skip"]).run().fails();
    assert!(holds(&fs::read(&request).unwrap(), &[0x80, 0x04, 3]));
}
