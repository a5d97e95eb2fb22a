//! How the command line is parsed. The rules are Go's flag package's, which runc's callers rely on.

use std::fs;

use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Test, json, say};

cases![
    every_command_has_help,
    the_program_has_help,
    help_names_every_command,
    checkpoint_has_help,
    an_unknown_command_fails,
    no_command_prints_help,
    an_unknown_flag_fails,
    an_unknown_global_flag_fails,
    a_missing_operand_is_reported,
    a_surplus_operand_is_reported,
    a_flag_without_its_argument_is_reported,
    long_flags_may_have_one_dash,
    global_flags_may_have_one_dash,
    a_flag_may_carry_its_value_after_an_equals_sign,
    the_last_of_repeated_global_flags_wins,
    the_last_of_repeated_command_flags_wins,
    repeated_switches_are_accepted,
    a_switch_may_be_given_a_boolean,
    flags_may_follow_the_id,
    two_dashes_end_the_flags,
    exec_leaves_flags_after_the_id_to_the_program,
    kill_takes_the_all_flag_before_the_id,
    short_flags_are_known,
    the_bundle_flag_takes_an_equals_sign_in_its_short_form,
    the_bundle_flag_takes_its_value_in_the_same_word,
    kill_leaves_what_follows_the_id_to_be_the_signal,
    repeated_lists_append,
    short_switches_can_be_bundled,
    the_no_subreaper_flag_is_accepted_with_one_dash,
    the_rootless_flag_is_accepted,
    the_criu_flag_of_old_shims_is_accepted,
    conmon_rs_repeats_its_global_flags,
    a_root_of_slash_is_refused,
    a_root_is_made_when_it_is_missing,
    a_relative_root_is_relative_to_the_caller,
    an_invalid_boolean_is_refused,
    an_invalid_number_is_refused,
    a_cap_flag_is_not_split_at_commas,
    config_names_another_file,
    config_names_another_file_for_create,
    config_names_the_file_of_spec,
    cgroup_manager_cgroupfs_is_the_default,
    cgroup_manager_disabled_makes_no_cgroup,
    an_unknown_cgroup_manager_is_refused,
    the_systemd_driver_without_systemd_fails,
    the_program_for_images_is_found_whatever_the_operands,
];

const COMMANDS: [&str; 15] = [
    "create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume",
    "update", "events", "spec", "features",
];

fn every_command_has_help(t: &Test) {
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let output = t.bare_call(&[command, flag]).run().ok().no_stderr();
            assert!(output.stdout.contains(command), "{output}");
        }
    }
}

fn the_program_has_help(t: &Test) {
    for flag in ["--help", "-help", "-h"] {
        let output = t.bare_call(&[flag]).run().ok().no_stderr();
        assert!(output.stdout.contains("--root"), "{output}");
    }
}

fn help_names_every_command(t: &Test) {
    let help = t.bare_call(&["--help"]).run().ok().stdout;
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is not in: {help}");
    }
}

fn checkpoint_has_help(t: &Test) {
    // Podman's test for the feature.
    for command in ["checkpoint", "restore"] {
        t.bare_call(&[command, "--help"]).run().ok();
    }
}

fn an_unknown_command_fails(t: &Test) {
    t.call(&["no-such-command"]).run().not_ok().no_stdout_but_help();
    t.call(&["--root", "/tmp", "creat"]).run().not_ok().no_stdout_but_help();
    if t.kind() == Kind::Skep {
        t.call(&["no-such-command"]).run().fails().names("no-such-command");
    }
}

fn no_command_prints_help(t: &Test) {
    let output = t.bare_call(&[]).run();
    assert!(format!("{}{}", output.stdout, output.stderr).contains("create"), "{output}");
}

fn an_unknown_flag_fails(t: &Test) {
    let c = t.container().lasting();
    c.bundle_call("create", &["--no-such-flag"]).run().fails().names("no-such-flag");
    c.call("delete", &["--no-such-flag"]).run().fails().names("no-such-flag");
    c.call("state", &["-x"]).run().fails();
    t.assert_nothing_left();
}

fn an_unknown_global_flag_fails(t: &Test) {
    t.call(&["--no-such-flag", "list"]).run().fails().names("no-such-flag");
}

fn a_missing_operand_is_reported(t: &Test) {
    for command in ["create", "start", "run", "state", "pause", "resume", "delete"] {
        // runc: argv[0], then the command in quotes.
        let program = if t.kind() == Kind::Skep { t.runtime.path.to_str().unwrap() } else { "" };
        let words = format!("{program}: \"{command}\" requires exactly 1 argument(s)");
        t.call(&[command]).run().fails().names(words.trim_start_matches(": "));
    }
    t.call(&["kill"]).run().fails().names("\"kill\" requires a minimum of 1 argument");
    t.call(&["ps"]).run().fails().names("\"ps\" requires a minimum of 1 argument");
    t.call(&["update"]).run().fails().names("\"update\" requires exactly 1 argument(s)");
    t.call(&["events"]).run().fails().names("\"events\" requires exactly 1 argument(s)");
    t.call(&["exec"]).run().fails().names("\"exec\" requires a minimum of 1 argument");
}

fn a_surplus_operand_is_reported(t: &Test) {
    t.call(&["start", "a", "b"]).run().fails().names("\"start\" requires exactly 1 argument(s)");
    t.call(&["delete", "--force", "a", "b"]).run().fails().names("requires exactly 1 argument(s)");
    t.call(&["kill", "a", "KILL", "c"])
        .run()
        .fails()
        .names("\"kill\" requires a maximum of 2 argument");
    t.call(&["list", "a"]).run().fails().names("\"list\" requires exactly 0 argument(s)");
    t.call(&["spec", "a"]).run().fails().names("\"spec\" requires exactly 0 argument(s)");
}

fn a_flag_without_its_argument_is_reported(t: &Test) {
    t.call(&["create", "--bundle"]).run().fails().says(&say::FLAG_NEEDS_ARGUMENT);
    t.call(&["run", "--pid-file"]).run().fails().says(&say::FLAG_NEEDS_ARGUMENT);
    t.bare_call(&["--root"]).run().fails().says(&say::FLAG_NEEDS_ARGUMENT);
    // Podman asks so whether containers can be restored into a pod.
    let output = t.bare_call(&["restore", "--lsm-mount-context"]).run();
    if t.kind() == Kind::Skep {
        output.fails().says(&say::FLAG_NEEDS_ARGUMENT);
    }
}

/// `create` with these flags makes a container that then runs.
fn creates(c: &Container<'_>, flags: &[&str]) {
    c.write();
    let mut args = vec!["create"];
    args.extend(flags);
    c.test.call(&args).run().ok();
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}

fn long_flags_may_have_one_dash(t: &Test) {
    let c = t.container().lasting();
    let pid_file = t.path("pid");
    creates(
        &c,
        &[
            "-bundle",
            c.dir.to_str().unwrap(),
            "-pid-file",
            pid_file.to_str().unwrap(),
            "-no-new-keyring",
            &c.id,
        ],
    );
    assert!(fs::metadata(pid_file).is_ok());
}

fn global_flags_may_have_one_dash(t: &Test) {
    let root = t.root.to_str().unwrap();
    let output = t
        .bare_call(&["-root", root, "-log-format=json", "-debug=false", "list", "-format", "json"])
        .run()
        .ok();
    assert!(matches!(output.text(), "null" | "[]"), "{output}");
}

fn a_flag_may_carry_its_value_after_an_equals_sign(t: &Test) {
    let c = t.container().lasting();
    let bundle = format!("--bundle={}", c.dir.display());
    let pid_file = format!("-pid-file={}", t.path("pid").display());
    creates(&c, &[&bundle, &pid_file, &c.id]);
}

fn the_last_of_repeated_global_flags_wins(t: &Test) {
    let c = t.container().lasting();
    c.create();
    let root = t.root.to_str().unwrap();
    let output = t
        .bare_call(&[
            "--root",
            "/no/such",
            "--log-format=json",
            "--root",
            root,
            "--log-format=text",
            "state",
            &c.id,
        ])
        .run()
        .ok();
    assert_eq!(output.json()["id"], json!(c.id));
}

fn the_last_of_repeated_command_flags_wins(t: &Test) {
    let c = t.container().lasting();
    let last = t.path("last");
    creates(
        &c,
        &[
            "--bundle",
            "/no/such",
            "--pid-file",
            "/no/such/pid",
            "--bundle",
            c.dir.to_str().unwrap(),
            "--pid-file",
            last.to_str().unwrap(),
            &c.id,
        ],
    );
    assert!(fs::metadata(last).is_ok());
}

fn repeated_switches_are_accepted(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    t.call(&["delete", "--force", "--force", &c.id]).run().ok();
}

fn a_switch_may_be_given_a_boolean(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    t.call(&["delete", "--force=false", &c.id]).run().fails().says(&say::DELETE_RUNNING);
    t.call(&["--debug=false", "delete", "-force=true", &c.id]).run().ok();
}

fn flags_may_follow_the_id(t: &Test) {
    let c = t.container().lasting();
    let bundle = c.dir.to_str().unwrap();
    creates(&c, &[&c.id, "--bundle", bundle]);
    t.call(&["run", &c.id, "--detach", "--bundle", bundle]).run().ok();
    t.call(&["delete", &c.id, "--force"]).run().ok();
    t.assert_nothing_left();
}

fn two_dashes_end_the_flags(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    assert_eq!(t.call(&["state", "--", &c.id]).run().ok().json()["id"], json!(c.id));
    t.call(&["exec", "--", &c.id, "echo", "--detach"]).run().ok().prints("--detach\n");
}

fn exec_leaves_flags_after_the_id_to_the_program(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.exec(&["echo", "-n", "--user", "-d", "--help"]).ok().prints("--user -d --help");
    c.exec(&["sh", "-c", "echo $0 $1", "-t", "--env"]).ok().prints("-t --env\n");
}

fn kill_takes_the_all_flag_before_the_id(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    t.call(&["kill", "-a", &c.id, "9"]).run().ok();
    assert_eq!(c.wait_exit(), 128 + libc::SIGKILL);
}

fn short_flags_are_known(t: &Test) {
    let c = t.container().lasting();
    c.write();
    let bundle = c.dir.to_str().unwrap();
    t.call(&["run", "-d", "-b", bundle, &c.id]).run().ok();
    t.call(&["exec", "-e", "A=b", "-u", "1000:1000", &c.id, "sh", "-c", "echo $A $(id -u)"])
        .run()
        .ok()
        .prints("b 1000\n");
    t.call(&["list", "-q"]).run().ok().prints(&format!("{}\n", c.id));
    t.call(&["list", "-f", "json"]).run().ok();
    t.call(&["ps", "-f", "json", &c.id]).run().ok();
    t.call(&["delete", "-f", &c.id]).run().ok();
}

fn the_bundle_flag_takes_an_equals_sign_in_its_short_form(t: &Test) {
    let c = t.container().sh("echo hello");
    c.write();
    t.call(&["run", &format!("-b={}", c.dir.display()), &c.id]).run().ok().prints("hello\n");
}

fn the_bundle_flag_takes_its_value_in_the_same_word(t: &Test) {
    t.need(t.kind() != Kind::Runc, "getopt's form; runc has no such");
    let c = t.container().sh("echo hello");
    c.write();
    t.call(&["run", &format!("-b{}", c.dir.display()), &c.id]).run().ok().prints("hello\n");
}

fn kill_leaves_what_follows_the_id_to_be_the_signal(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let output = t.call(&["kill", &c.id, "--all"]).run().fails();
    if t.kind() == Kind::Skep {
        output.names("--all");
    }
    assert_eq!(c.status(), "running");
}

fn repeated_lists_append(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let flags = ["-e", "A=a,b", "--env", "C=d", "--env=E=f"];
    let output = c.exec_with(&flags, &["sh", "-c", "echo $A $C $E"]).run();
    output.ok().prints("a,b d f\n");
}

fn short_switches_can_be_bundled(t: &Test) {
    // crun's callers may write them so; runc has no such form.
    let c = t.container().lasting();
    c.run_detached();
    let console = crate::harness::pty::ConsoleSocket::listen(t.path("tty"));
    t.call(&["exec", "-dt", "--console-socket", console.arg(), &c.id, "true"]).run().ok();
    console.receive();
}

fn the_no_subreaper_flag_is_accepted_with_one_dash(t: &Test) {
    let c = t.container().sh("echo hello");
    c.bundle_call("run", &["-no-subreaper"]).run().ok().prints("hello\n");
}

fn the_rootless_flag_is_accepted(t: &Test) {
    for value in ["true", "false", "auto"] {
        t.call(&[&format!("--rootless={value}"), "list"]).run().ok();
    }
}

fn the_criu_flag_of_old_shims_is_accepted(t: &Test) {
    t.call(&["--criu", "/usr/sbin/criu", "list"]).run().ok();
}

fn conmon_rs_repeats_its_global_flags(t: &Test) {
    let c = t.container().lasting();
    c.write();
    let root = format!("--root={}", t.root.display());
    let bundle = c.dir.to_str().unwrap();
    t.bare_call(&[
        &root,
        &root,
        "create",
        "--bundle",
        bundle,
        "--pid-file",
        t.path("p").to_str().unwrap(),
        &c.id,
    ])
    .run()
    .ok();
    t.bare_call(&[&root, &root, "start", &c.id]).run().ok();
    t.bare_call(&[
        &root,
        &root,
        "exec",
        "-d",
        "--pid-file",
        t.path("e").to_str().unwrap(),
        &c.id,
        "true",
    ])
    .run()
    .ok();
}

fn a_root_of_slash_is_refused(t: &Test) {
    t.bare_call(&["--root", "/", "list"]).run().fails().names("--root");
}

fn a_root_is_made_when_it_is_missing(t: &Test) {
    use std::os::unix::fs::PermissionsExt;
    let c = t.container().lasting();
    c.write();
    let root = t.path("deep/new/root");
    let root = root.to_str().unwrap();
    t.bare_call(&["--root", root, "create", "--bundle", c.dir.to_str().unwrap(), &c.id]).run().ok();
    let mode = fs::metadata(root).unwrap().permissions().mode();
    assert_eq!(mode & 0o077 & !0o011, 0, "others may look into the root: {mode:o}");
    t.bare_call(&["--root", root, "delete", &c.id]).run().ok();
}

fn a_relative_root_is_relative_to_the_caller(t: &Test) {
    let c = t.container().lasting();
    c.write();
    t.bare_call(&["--root", "root", "create", "--bundle", c.dir.to_str().unwrap(), &c.id])
        .cwd(&t.dir)
        .run()
        .ok();
    assert_eq!(c.status(), "created");
}

fn an_invalid_boolean_is_refused(t: &Test) {
    t.call(&["delete", "--force=maybe", "x"]).run().fails().names("maybe");
}

fn an_invalid_number_is_refused(t: &Test) {
    let c = t.container();
    c.bundle_call("create", &["--preserve-fds", "many"]).run().fails().names("many");
    c.bundle_call("create", &["--preserve-fds=-1"]).run().fails();
    t.assert_nothing_left();
}

fn a_cap_flag_is_not_split_at_commas(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let call =
        ["exec", "--cap", "CAP_KILL,CAP_CHOWN", &c.id, "grep", "CapEff", "/proc/self/status"];
    let output = t.call(&call).run();
    // One value that is no capability: an error, or a warning and neither of the two granted.
    if output.code == Some(0) {
        let mask = u64::from_str_radix(output.text().rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(mask & 1, 0, "CAP_CHOWN was granted: {output}");
    }
}

fn config_names_another_file(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has no --config");
    let c = t.container().sh("echo other file");
    let other = t.path("other.json");
    fs::write(&other, c.config.to_string()).unwrap();
    t.call(&[
        "run",
        "--config",
        other.to_str().unwrap(),
        "--bundle",
        c.dir.to_str().unwrap(),
        &c.id,
    ])
    .run()
    .ok()
    .prints("other file\n");
    t.call(&["run", "-f", other.to_str().unwrap(), "-b", c.dir.to_str().unwrap(), &c.id])
        .run()
        .ok();
}

fn config_names_another_file_for_create(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has no --config");
    // What is named counts, whatever lies in the bundle; relative, it is the caller's, not the bundle's.
    let c = t.container().args(&["/no/such"]);
    c.write();
    let mut other = c.config.clone();
    other["process"]["args"] = json!(["sh", "-c", "echo other file; exit 3"]);
    fs::write(t.path("other.json"), other.to_string()).unwrap();
    fs::write(c.dir.join("other.json"), "not this one").unwrap();
    let pid = c.dir.join("pid").display().to_string();
    for name in [t.path("other.json").display().to_string(), "other.json".to_owned()] {
        for flag in ["--config", "-f"] {
            if t.kind() == Kind::Crun && name == "other.json" {
                continue;
            }
            let create = c.bundle_call("create", &["--pid-file", &pid, flag, &name]);
            let output = create.cwd(&t.path("")).run().ok();
            c.start().ok();
            assert_eq!(c.wait_exit(), 3);
            assert_eq!(fs::read_to_string(&output.stdout_path).unwrap(), "other file\n");
            c.delete().ok();
        }
    }
    let missing = c.bundle_call("create", &["--config", "/no/such.json"]).run();
    missing.not_ok();
    t.assert_nothing_left();
}

fn config_names_the_file_of_spec(t: &Test) {
    t.need(t.kind() == Kind::Skep, "runc has no --config, and crun's spec only since 1.29");
    let dir = t.path("spec");
    fs::create_dir(&dir).unwrap();
    let call = |args: &[&str]| t.bare_call(args).cwd(&dir).run();
    call(&["spec"]).ok();
    call(&["spec", "--config", "other.json"]).ok();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("config.json"), read("other.json"));
    let path = t.path("third.json");
    call(&["spec", "-f", path.to_str().unwrap(), "-b", "/no/such"]).ok();
    assert_eq!(fs::read_to_string(path).unwrap(), read("config.json"));
    call(&["spec", "-f", "other.json"]).fails().names("File other.json exists. Remove it first");
    call(&["spec", "-f", "no/such/dir.json"]).fails().names("no/such/dir.json");
}

fn cgroup_manager_cgroupfs_is_the_default(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has no --cgroup-manager");
    let c = t.container().lasting();
    c.bundle_call("create", &[]).global(&["--cgroup-manager", "cgroupfs"]).run().ok();
    assert!(!t.cgroups().is_empty());
}

fn cgroup_manager_disabled_makes_no_cgroup(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has no --cgroup-manager");
    let c = t.container().lasting().unset("/linux/resources");
    c.bundle_call("create", &[]).global(&["--cgroup-manager=disabled"]).run().ok();
    assert_eq!(t.cgroups(), Vec::<std::path::PathBuf>::new());
    assert_eq!(c.status(), "created");
    c.call("start", &[]).global(&["--cgroup-manager=disabled"]).run().ok();
    c.exec_with(&[], &["true"]).global(&["--cgroup-manager=disabled"]).run().ok();
    assert_eq!(t.cgroups(), Vec::<std::path::PathBuf>::new());
    c.call("delete", &["--force"]).global(&["--cgroup-manager=disabled"]).run().ok();
    t.assert_nothing_left();
}

fn an_unknown_cgroup_manager_is_refused(t: &Test) {
    t.need(t.kind() != Kind::Runc, "runc has no --cgroup-manager");
    let c = t.container();
    c.bundle_call("run", &[])
        .global(&["--cgroup-manager", "nonsense"])
        .run()
        .fails()
        .names("nonsense");
    t.assert_nothing_left();
}

fn the_systemd_driver_without_systemd_fails(t: &Test) {
    t.need(fs::metadata("/run/systemd/system").is_err(), "systemd runs here");
    let c = t.container().set("/linux/cgroupsPath", json!(format!("system.slice:bb:{}", t.id)));
    c.bundle_call("run", &[]).global(&["--systemd-cgroup"]).run().fails().names("systemd");
    t.assert_nothing_left();
}

/// One that is also the name of a command has the runtime run from a mount of its own, before it looks beside its file.
fn the_program_for_images_is_found_whatever_the_operands(t: &Test) {
    use std::os::unix::fs::PermissionsExt as _;
    t.need(t.kind() == Kind::Skep, "the others know no images");
    let directory = t.path("bin");
    fs::create_dir(&directory).unwrap();
    fs::copy(&t.runtime.path, directory.join("skep")).unwrap();
    std::os::unix::fs::symlink("bin/skep", t.path("link")).unwrap();
    let program = directory.join("skep-image");
    fs::write(&program, "#!/bin/sh\necho \"$0 $*\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["./bin/skep", "./link"] {
        for operand in ["alpine", "run", "exec", "create"] {
            let mut command = std::process::Command::new(name);
            command.args(["inspect", operand]).current_dir(&t.dir).env_clear();
            let output = crate::harness::reaper::output(&mut command).unwrap();
            let expected = format!("{} inspect {operand}\n", program.display());
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text, expected, "{name} {operand}: {output:?}");
        }
    }
}
