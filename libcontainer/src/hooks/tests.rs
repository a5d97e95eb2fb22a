use std::fs::{self, File};
use std::io::{Read, pipe};

use nix::unistd::getpid;

use super::*;
use crate::spec::List;
use crate::sys::spawn::in_fork;

fn shell<'a>(script: &'a str) -> Hook<'a> {
    Hook {
        path: "/bin/sh".into(),
        args: List(vec!["sh".into(), "-c".into(), script.into()]),
        ..Hook::default()
    }
}

fn run(hooks: &[Hook<'_>], state: &[u8]) -> Result<()> {
    run_hooks(Phase::CreateRuntime, hooks, state, &Options::default())
}

fn failure(hook: Hook<'_>, state: &[u8]) -> String {
    let error = run(&[hook], state).unwrap_err();
    assert_eq!(error.kind(), Kind::Hook);
    error.to_string()
}

#[test]
fn a_failure_is_told_in_runcs_words_with_the_output() {
    assert_eq!(
        failure(shell("echo o; echo e >&2; exit 3"), b"{}"),
        "error running createRuntime hook #0: exit status 3, stdout: o, stderr: e (config.json: hooks.createRuntime[0]); the hook is \"/bin/sh\""
    );
    assert_eq!(
        failure(shell("kill -KILL $$"), b"{}"),
        "error running createRuntime hook #0: signal: killed, stdout: , stderr:  (config.json: hooks.createRuntime[0]); the hook is \"/bin/sh\""
    );
    let missing = Hook { path: "/nonexistent".into(), ..Hook::default() };
    assert_eq!(
        failure(missing, b"{}"),
        "error running createRuntime hook #0: fork/exec /nonexistent: no such file or directory \
         (config.json: hooks.createRuntime[0].path); \
         the hook is \"/nonexistent\""
    );
}

#[test]
fn hooks_run_in_order_and_stop_at_the_first_failure_but_for_poststop() {
    for (phase, ran) in [(Phase::CreateRuntime, "a\nb\n"), (Phase::Poststop, "a\nb\nc\n")] {
        let (mut reader, writer) = pipe().unwrap();
        let hooks = [shell("echo a"), shell("echo b; exit 1"), shell("echo c")];
        let options = Options { stdout: Some(writer.as_fd()), ..Options::default() };
        let error = run_hooks(phase, &hooks, b"", &options).unwrap_err().to_string();
        let begins = format!("error running {} hook #1: exit status 1,", phase.name());
        assert!(error.starts_with(&begins), "{error}");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, ran);
    }
}

#[test]
fn the_state_is_on_standard_input_whole_however_large() {
    let state = vec![b'x'; 3 << 20];
    assert_eq!(
        failure(shell("wc -c; exit 1"), &state),
        "error running createRuntime hook #0: exit status 1, stdout: 3145728, stderr:  (config.json: hooks.createRuntime[0]); the hook is \"/bin/sh\""
    );
    // A hook that writes as much as it reads would deadlock a runtime that does one thing at a time.
    run(&[shell("cat")], &state).unwrap();
    // And /dev/stdin can be opened by its name.
    run(&[shell("[ \"$(cat /dev/stdin)\" = '{}' ]")], b"{}").unwrap();
}

#[test]
fn a_hook_need_not_read_its_state() {
    let child = in_fork(|| {
        crate::sys::spawn::signal::set_default(libc::SIGPIPE).unwrap();
        let large = vec![b'x'; 1 << 20];
        i32::from(run(&[shell("exec <&-; true")], &large).is_err())
    });
    assert_eq!(child.wait().unwrap().code(), 0);
}

#[test]
fn arguments_and_environment_are_exactly_the_hooks() {
    let mut hook =
        shell("[ $0$# = sh0 ] && [ \"$A\" = 1 ] && ! [ -v HOME ] && exec /usr/bin/env >&2; exit 9");
    hook.path = "/bin/bash".into();
    hook.env = List(vec!["A=1".into()]);
    run(&[hook], b"").unwrap();
    // Without args the path is argv[0]; without env there is none, neither the runtime's nor the image's, whose
    // LD_PRELOAD would run in the hook (CVE-2025-23266).
    let (mut reader, writer) = pipe().unwrap();
    let options = Options { stdout: Some(writer.as_fd()), ..Options::default() };
    let bare = Hook { path: "/usr/bin/env".into(), ..Hook::default() };
    run_hooks(Phase::Prestart, &[bare], b"", &options).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_hook_runs_in_the_directory_given() {
    let rootfs = File::open("/usr").unwrap();
    let options = Options { cwd: Some(rootfs.as_fd()), ..Options::default() };
    let hook = shell("[ \"$(pwd -P)\" = /usr ]");
    run_hooks(Phase::CreateContainer, &[hook], b"", &options).unwrap();
}

#[test]
fn a_late_hook_is_killed_with_its_children() {
    let (mut reader, writer) = pipe().unwrap();
    let mut hook = shell("/bin/sleep 1000 & echo started >&2; wait");
    hook.timeout = Some(1);
    let options = Options { stdout: Some(writer.as_fd()), ..Options::default() };
    let begun = Instant::now();
    let error = run_hooks(Phase::StartContainer, &[hook], b"", &options).unwrap_err().to_string();
    assert_eq!(
        error,
        "error running startContainer hook #0: hook ran past specified timeout of 1.0s, stdout: , \
         stderr: started (config.json: hooks.startContainer[0].timeout); the hook is \"/bin/sh\""
    );
    let taken = begun.elapsed();
    assert!((1.0..3.0).contains(&taken.as_secs_f64()), "{taken:?}");
    drop(writer);
    // End of file: the sleep, which held the pipe too, is gone.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_daemon_that_keeps_the_streams_holds_nobody() {
    // It tells its pid through the file, and holds the two captured streams.
    let path = std::env::temp_dir().join(format!("daemon-{}", getpid()));
    let script = format!("/bin/sleep 1000 & echo $! > {}; echo done; exit 4", path.display());
    let begun = Instant::now();
    assert_eq!(
        failure(shell(&script), b""),
        "error running createRuntime hook #0: exit status 4, stdout: done, stderr:  (config.json: hooks.createRuntime[0]); the hook is \"/bin/sh\""
    );
    assert!(begun.elapsed() < Duration::from_secs(30));
    let pid: i32 = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    fs::remove_file(&path).unwrap();
}

#[test]
fn output_is_kept_to_its_last_four_kibibytes() {
    let error =
        failure(shell("i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done; exit 1"), b"");
    let stdout = error.split("stdout: ").nth(1).unwrap().split(", stderr").next().unwrap();
    assert_eq!(stdout.len(), OUTPUT_KEPT - 1);
    assert!(stdout.ends_with("line2998\nline2999"));
}

#[test]
fn what_cannot_be_run_is_refused_beforehand() {
    let refused =
        |hook: Hook<'_>| check(Phase::Poststart, &[shell(""), hook]).unwrap_err().to_string();
    let relative = Hook { path: "bin/x".into(), ..Hook::default() };
    assert_eq!(
        refused(relative),
        "the path \"bin/x\" of a hook is not absolute (config.json: hooks.poststart[1].path)"
    );
    let at_once = Hook { timeout: Some(0), ..shell("") };
    assert_eq!(
        refused(at_once),
        "the timeout of a hook must be greater than zero, not 0 (config.json: hooks.poststart[1].timeout)"
    );
    assert!(refused(Hook { timeout: Some(-1), ..shell("") }).contains("not -1"));
    assert!(
        refused(Hook { env: List(vec!["A=\0".into()]), ..shell("") }).contains("poststart[1].env")
    );
    assert!(
        refused(Hook { args: List(vec!["\0".into()]), ..shell("") }).contains("poststart[1].args")
    );
    check(Phase::Poststart, &[Hook { timeout: Some(i64::MAX), ..shell("") }]).unwrap();
    run(&[Hook { timeout: Some(i64::MAX), ..shell("") }], b"").unwrap();
}

#[test]
fn output_files_are_appended_to() {
    let path = std::env::temp_dir().join(format!("hooks-{}", getpid()));
    for _ in 0..2 {
        let file = open_output(&path).unwrap();
        let options = Options { stderr: Some(file.as_fd()), ..Options::default() };
        run_hooks(Phase::Poststop, &[shell("echo e >&2")], b"", &options).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "e\ne\n");
    fs::remove_file(&path).unwrap();
}
