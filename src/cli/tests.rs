use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libcontainer::cgroup::Driver;

use super::command::{COMMANDS, GLOBALS};
use super::flag::Kind;
use super::globals::{Caller, choose_root, is_initial};
use super::*;

/// A command line as a shell would split it, `skep` not included.
fn words(line: &str) -> Vec<&OsStr> {
    ["skep"].into_iter().chain(line.split_ascii_whitespace()).map(OsStr::new).collect()
}

fn args<'a>(argv: &[&'a OsStr]) -> (Name, Args<'a>) {
    match parse(argv).request {
        Ok(Request::Run(name, args)) => (name, args),
        other => panic!("{argv:?}: {other:?}"),
    }
}

fn failure(line: &str) -> String {
    match parse(&words(line)).request {
        Err(error) => error.to_string(),
        Ok(request) => panic!("{line:?} was taken: {request:?}"),
    }
}

#[test]
fn every_way_to_write_a_flag_gives_the_same_value() {
    for line in [
        "create --bundle /b x",
        "create --bundle=/b x",
        "create -bundle /b x",
        "create -bundle=/b x",
        "create -b /b x",
        "create -b=/b x",
        "create -b/b x",
        "create --b /b x",
        "create x --bundle /b",
        "create x -b/b",
        "create --bundle /other --bundle /b x",
        "create -b /other x -bundle=/b",
    ] {
        let argv = words(line);
        let (name, args) = args(&argv);
        assert_eq!(name, Name::Create, "{line}");
        assert_eq!(args.path(&flag::BUNDLE), Some(Path::new("/b")), "{line}");
        assert_eq!(args.operands(), [OsStr::new("x")], "{line}");
    }
}

#[test]
fn booleans_take_no_word_and_the_last_one_wins() {
    for (line, want) in [
        ("run x", false),
        ("run -d x", true),
        ("run --detach x", true),
        ("run -detach x", true),
        ("run --detach --detach x", true),
        ("run --detach=true x", true),
        ("run --detach=1 x", true),
        ("run --detach=F x", false),
        ("run -d=false x", false),
        ("run --detach --detach=false x", false),
        ("run --detach=false -d x", true),
        ("run x -d", true),
    ] {
        let argv = words(line);
        assert_eq!(args(&argv).1.flag(&flag::DETACH), want, "{line}");
    }
}

#[test]
fn short_flags_are_bundled_as_in_getopt() {
    let argv = words("exec -dtu1000:10 -eA=B,C -e=D=E -cCAP_KILL x -d");
    let (_, args) = args(&argv);
    assert!(args.flag(&flag::DETACH) && args.flag(&flag::TTY));
    assert_eq!(args.value(&flag::USER), Some(OsStr::new("1000:10")));
    assert_eq!(args.values(&flag::ENV).collect::<Vec<_>>(), ["A=B,C", "D=E"]);
    assert_eq!(args.values(&flag::CAP).collect::<Vec<_>>(), ["CAP_KILL"]);
    assert_eq!(args.operands(), ["x", "-d"]);

    // The value of the last letter may be the next word.
    let argv = words("exec -tp /p.json x");
    assert_eq!(self::args(&argv).1.path(&flag::PROCESS), Some(Path::new("/p.json")));
}

#[test]
fn lists_keep_order_and_commas() {
    let argv = words("exec --cap A,B -c C --cap=D --env X= x id");
    let (_, args) = args(&argv);
    assert_eq!(args.values(&flag::CAP).collect::<Vec<_>>(), ["A,B", "C", "D"]);
    assert_eq!(args.values(&flag::ENV).collect::<Vec<_>>(), ["X="]);
}

#[test]
fn exec_kill_and_ps_leave_what_follows_the_id_alone() {
    for (line, want) in [
        ("exec x ls -l --help", vec!["x", "ls", "-l", "--help"]),
        ("exec -t x -- ls", vec!["x", "--", "ls"]),
        ("exec -- -x ls", vec!["-x", "ls"]),
        ("kill x -1", vec!["x", "-1"]),
        ("kill --all x 9", vec!["x", "9"]),
        ("ps x -o pid,args", vec!["x", "-o", "pid,args"]),
    ] {
        assert_eq!(args(&words(line)).1.operands(), want, "{line}");
    }
}

#[test]
fn two_dashes_end_the_flags() {
    for (line, want) in [
        ("start -- -x", vec!["-x"]),
        ("delete -f -- --force", vec!["--force"]),
        ("delete x", vec!["x"]),
        ("state -", vec!["-"]),
    ] {
        assert_eq!(args(&words(line)).1.operands(), want, "{line}");
    }
    let argv = words("exec --cwd -- x");
    assert_eq!(args(&argv).1.value(&flag::CWD), Some(OsStr::new("--")));
}

#[test]
fn a_value_may_look_like_a_flag_or_be_empty() {
    let argv = words("update --memory -1 --cpu-quota=-1 x");
    let (_, args) = args(&argv);
    assert_eq!(args.bytes(&flag::MEMORY).ok(), Some(Some(-1)));
    assert_eq!(args.int(&flag::CPU_QUOTA).ok(), Some(Some(-1)));
    assert_eq!(args.uint(&flag::CPU_PERIOD).ok(), Some(None));

    let argv = words("update --cpuset-cpus= x");
    assert_eq!(self::args(&argv).1.value(&flag::CPUSET_CPUS), None);
}

#[test]
fn values_are_bytes() {
    let raw = OsStr::from_bytes(b"--bundle=/\xff");
    let argv = [OsStr::new("skep"), OsStr::new("create"), raw, OsStr::new("x")];
    let (_, args) = args(&argv);
    assert_eq!(args.value(&flag::BUNDLE), Some(OsStr::from_bytes(b"/\xff")));
    assert_eq!(
        args.text(&flag::BUNDLE).map_err(|e| e.to_string()),
        Err("invalid value \"/\u{fffd}\" for flag -bundle: not UTF-8".to_owned())
    );
    let argv = [OsStr::new("skep"), OsStr::new("start"), OsStr::from_bytes(b"\xff")];
    assert_eq!(
        self::args(&argv).1.id().map_err(|e| e.to_string()),
        Err("invalid container ID format".to_owned())
    );
    assert_eq!(
        self::args(&[OsStr::new("skep"), OsStr::new("start"), OsStr::new("")])
            .1
            .id()
            .map_err(|e| e.to_string()),
        Err("container id cannot be empty".to_owned())
    );
}

#[test]
fn mistakes_are_named_in_runcs_words() {
    for (line, want) in [
        ("run --bogus x", "flag provided but not defined: -bogus"),
        ("run -xyz x", "flag provided but not defined: -xyz"),
        ("run -dx c", "flag provided but not defined: -dx"),
        ("run --dt x", "flag provided but not defined: -dt"),
        ("--bogus list", "flag provided but not defined: -bogus"),
        ("list --root /x", "flag provided but not defined: -root"),
        ("run ---x", "bad flag syntax: ---x"),
        ("run --=x", "bad flag syntax: --=x"),
        ("run --detach=foo x", "invalid boolean value \"foo\" for -detach: parse error"),
        ("restore --lsm-mount-context", "flag needs an argument: -lsm-mount-context"),
        ("create x -b", "flag needs an argument: -b"),
        ("exec -tp", "flag needs an argument: -p"),
        ("--log", "flag needs an argument: -log"),
        ("start", "skep: \"start\" requires exactly 1 argument(s)"),
        ("start a b", "skep: \"start\" requires exactly 1 argument(s)"),
        ("list a", "skep: \"list\" requires exactly 0 argument(s)"),
        ("exec", "skep: \"exec\" requires a minimum of 1 argument(s)"),
        ("ps", "skep: \"ps\" requires a minimum of 1 argument(s)"),
        ("kill", "skep: \"kill\" requires a minimum of 1 argument(s)"),
        ("kill a b c", "skep: \"kill\" requires a maximum of 2 argument(s)"),
        ("bogus -h", "No help topic for 'bogus'; there is no such command; skep --help lists them"),
        ("init", "No help topic for 'init'; there is no such command; skep --help lists them"),
    ] {
        assert_eq!(failure(line), want, "{line}");
    }
    let argv = words("update --pids-limit many --cpu-period -5 --memory 1x x");
    let (_, args) = args(&argv);
    for (got, want) in [
        (
            args.int(&flag::PIDS_LIMIT).map(drop),
            "invalid value \"many\" for flag -pids-limit: not a decimal number",
        ),
        (
            args.uint(&flag::CPU_PERIOD).map(drop),
            "invalid value \"-5\" for flag -cpu-period: not a decimal number",
        ),
        (
            args.bytes(&flag::MEMORY).map(drop),
            "invalid value \"1x\" for flag -memory: not a size such as 512, 64m or 1.5g",
        ),
    ] {
        assert_eq!(got.map_err(|e| e.to_string()), Err(want.to_owned()));
    }
}

#[test]
fn help_and_version_win_over_what_follows() {
    for (line, want) in [
        ("", None),
        ("--help", None),
        ("-h", None),
        ("--root /x -help --bogus", None),
        ("checkpoint --help", Some("checkpoint")),
        ("checkpoint -h --bogus", Some("checkpoint")),
        ("run x --help", Some("run")),
        ("exec --help", Some("exec")),
        ("--debug restore -help", Some("restore")),
    ] {
        match parse(&words(line)).request {
            Ok(Request::Help(command)) => {
                assert_eq!(command.map(|command| command.word), want, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    for line in ["--version", "-v", "-version", "-V", "--root /x --version list"] {
        assert!(matches!(parse(&words(line)).request, Ok(Request::Version)), "{line}");
    }
}

#[test]
fn the_globals_survive_a_mistake_so_that_the_log_gets_it() {
    let argv = words("--log /l --log-format json --root /r create --bogus x");
    let line = parse(&argv);
    assert!(line.request.is_err());
    assert_eq!(line.globals.value(&flag::LOG), Some(OsStr::new("/l")));
    assert_eq!(line.globals.value(&flag::LOG_FORMAT), Some(OsStr::new("json")));
}

type Check = fn(&Args<'_>) -> bool;

/// What each engine runs, and what it means by it.
const CALLERS: &[(&str, Name, Check)] = &[
    // go-runc, for containerd and Docker
    (
        "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup \
             create --bundle /b --pid-file /b/init.pid --console-socket /s ID",
        Name::Create,
        |a| a.path(&flag::CONSOLE_SOCKET) == Some(Path::new("/s")),
    ),
    (
        "--root=/r --debug --log-format=json --rootless=true create --bundle /b --pid-file /p \
             --pidfd-socket /f --no-pivot --no-new-keyring --preserve-fds 2 ID",
        Name::Create,
        |a| a.int(&flag::PRESERVE_FDS).ok() == Some(Some(2)) && a.flag(&flag::NO_PIVOT),
    ),
    ("--root /r start ID", Name::Start, |a| a.id().ok() == Some("ID")),
    (
        "--root /r exec --process /tmp/runc-process1 --console-socket /s --detach --pid-file /p ID",
        Name::Exec,
        |a| {
            a.flag(&flag::DETACH) && a.path(&flag::PROCESS) == Some(Path::new("/tmp/runc-process1"))
        },
    ),
    ("--root /r kill --all ID 9", Name::Kill, |a| {
        a.flag(&flag::ALL) && a.operand(1) == Some(OsStr::new("9"))
    }),
    ("--root /r delete --force ID", Name::Delete, |a| a.flag(&flag::FORCE)),
    ("--root /r ps --format json ID", Name::Ps, |a| {
        a.value(&flag::FORMAT) == Some(OsStr::new("json"))
    }),
    ("--root /r list --format=json", Name::List, |a| a.operands().is_empty()),
    ("--root /r events --interval=5s ID", Name::Events, |a| {
        a.duration(&flag::INTERVAL).ok().flatten() == Some(std::time::Duration::from_secs(5))
    }),
    ("--root /r update --resources=- ID", Name::Update, |a| {
        a.value(&flag::RESOURCES) == Some(OsStr::new("-"))
    }),
    (
        "--root /r restore --image-path /i --work-path /w --tcp-established --detach --pid-file /p \
             -no-subreaper --no-pivot --bundle /b ID",
        Name::Restore,
        |a| a.flag(&flag::NO_SUBREAPER) && a.flag(&flag::NO_PIVOT),
    ),
    // conmon, for Podman
    (
        "--systemd-cgroup --root=/r --log-format=json --log /l create --bundle /b --pid-file /p ID",
        Name::Create,
        |a| a.path(&flag::PID_FILE) == Some(Path::new("/p")),
    ),
    (
        "exec --pid-file /p --process /f --detach --preserve-fds 1 --no-new-privs ID",
        Name::Exec,
        |a| a.flag(&flag::NO_NEW_PRIVS) && a.operands() == ["ID"],
    ),
    (
        "restore --bundle /b --pid-file /p --detach --image-path /i --work-path /b --tcp-established \
             --tcp-close --file-locks --lsm-profile=apparmor:x --lsm-mount-context=y ID",
        Name::Restore,
        |a| a.flag(&flag::TCP_CLOSE) && a.flag(&flag::FILE_LOCKS),
    ),
    // conmon-rs
    (
        "--log=journald:ID --log-level=info --root=/r --systemd-cgroup --root=/r --systemd-cgroup \
             create --bundle /b --pid-file /p --console-socket=/s ID",
        Name::Create,
        |a| a.path(&flag::BUNDLE) == Some(Path::new("/b")),
    ),
    (
        "--root=/r --systemd-cgroup --root=/r --systemd-cgroup exec -d --console-socket=/s --tty \
             --pid-file=/p ID sh -c -d",
        Name::Exec,
        |a| a.flag(&flag::TTY) && a.operands() == ["ID", "sh", "-c", "-d"],
    ),
    // CRI-O
    (
        "--root /r --systemd-cgroup checkpoint --file-locks --image-path /i --work-path /w --leave-running ID",
        Name::Checkpoint,
        |a| a.flag(&flag::LEAVE_RUNNING),
    ),
    // Podman
    ("checkpoint --leave-running --image-path /i --leave-running ID", Name::Checkpoint, |a| {
        a.flag(&flag::LEAVE_RUNNING)
    }),
    // BuildKit
    ("--log /l --log-format json run --bundle /b --keep ID", Name::Run, |a| {
        a.flag(&flag::KEEP) && !a.flag(&flag::DETACH)
    }),
];

#[test]
fn callers_are_understood() {
    for (line, name, check) in CALLERS {
        let argv = words(line);
        let (got, args) = args(&argv);
        assert_eq!(got, *name, "{line}");
        assert!(check(&args), "{line}: {args:?}");
    }
}

#[test]
fn the_cgroup_manager_and_rootless_are_words() {
    for (line, want) in [
        ("list", Some(Driver::Cgroupfs)),
        ("--systemd-cgroup list", Some(Driver::Systemd)),
        ("--systemd-cgroup=false list", Some(Driver::Cgroupfs)),
        ("--cgroup-manager systemd list", Some(Driver::Systemd)),
        ("--systemd-cgroup --cgroup-manager=disabled list", Some(Driver::Disabled)),
        ("--cgroup-manager=cgroup list", None),
    ] {
        assert_eq!(parse(&words(line)).globals.cgroup_driver().ok(), want, "{line}");
    }
    for (line, want) in [
        ("list", Some(Rootless::Auto)),
        ("--rootless=true list", Some(Rootless::True)),
        ("--rootless 0 list", Some(Rootless::False)),
        ("--rootless auto list", Some(Rootless::Auto)),
        ("--rootless maybe list", None),
    ] {
        assert_eq!(parse(&words(line)).globals.rootless().ok(), want, "{line}");
    }
}

#[test]
fn the_root_directory_is_absolute_and_not_the_whole_system() {
    let root = |line: &str| {
        parse(&words(line))
            .globals
            .root()
            .map(|root| (root.path, root.explicit))
            .map_err(|e| e.to_string())
    };
    assert_eq!(root("--root /r list"), Ok(("/r".into(), true)));
    assert_eq!(root("--root /r --root /s list"), Ok(("/s".into(), true)));
    let here = std::env::current_dir().expect("a current directory");
    assert_eq!(root("--root r list"), Ok((here.join("r"), true)));
    for line in ["--root / list", "--root // list", "--root=/. list"] {
        assert_eq!(
            root(line),
            Err("Option --root argument should not be set to /".to_owned()),
            "{line}"
        );
    }
}

#[test]
fn the_default_root_directory_is_chosen_as_runc_does() {
    let choose = |xdg: Option<&str>, user: Option<&str>, is_root, in_user_namespace| {
        let (xdg, user) = (xdg.map(OsString::from), user.map(OsString::from));
        choose_root(&Caller {
            xdg_runtime_dir: xdg.as_deref(),
            user: user.as_deref(),
            is_root,
            in_user_namespace,
        })
    };
    let (system, own) = (Path::new("/run/skep"), Path::new("/run/user/7/skep"));
    let xdg = Some("/run/user/7");
    assert_eq!(choose(xdg, Some("root"), true, false), system);
    assert_eq!(choose(xdg, Some("me"), true, false), system);
    assert_eq!(choose(xdg, Some("root"), true, true), system);
    assert_eq!(choose(xdg, Some("me"), true, true), own);
    assert_eq!(choose(xdg, None, true, true), own);
    assert_eq!(choose(xdg, Some("me"), false, false), own);
    assert_eq!(choose(None, Some("me"), false, false), system);

    assert!(is_initial(b"         0          0 4294967295\n"));
    assert!(!is_initial(b"         0       1000          1\n"));
    assert!(!is_initial(b"0 0 4294967295\n0 0 1\n"));
}

#[test]
fn no_two_flags_of_a_command_share_a_name() {
    let globals = ("", GLOBALS);
    for (word, flags) in COMMANDS.iter().map(|c| (c.word, c.flags)).chain([globals]) {
        let mut names = vec!["help", "h"];
        let letters: Vec<_> = flags
            .iter()
            .filter_map(|f| f.short)
            .map(|letter| char::from(letter).to_string())
            .collect();
        names.extend(flags.iter().map(|f| f.long).chain(letters.iter().map(String::as_str)));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{word}: {names:?}");
        for flag in flags {
            assert_eq!(flag.kind == Kind::Bool, flag.value.is_empty(), "--{}", flag.long);
            assert!(!flag.help.is_empty() && !flag.help.ends_with('.'), "--{}", flag.long);
        }
    }
}

#[test]
fn help_tells_every_flag_of_every_command() {
    let text = program_help("skep");
    assert!(text.starts_with("NAME:\n   skep - Open Container Initiative runtime\n"));
    for command in COMMANDS {
        assert_eq!(text.contains(&format!("\n   {:12}  ", command.word)), !command.hidden);
        let text = command_help("skep", command);
        let head = format!("NAME:\n   skep {} - {}\n\nUSAGE:\n", command.word, command.about);
        assert!(text.starts_with(&head), "{text}");
        assert!(text.contains("   --help, -h "), "{text}");
        for flag in command.flags {
            let shown = text.contains(&format!("   --{}", flag.long));
            assert_eq!(shown, !flag.hidden, "{} --{}", command.word, flag.long);
        }
        let long = text.lines().filter(|line| line.len() > 100 && !line.contains("&&"));
        assert_eq!(long.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn manual_pages_tell_every_flag_and_escape_hyphens() {
    for command in COMMANDS.iter().filter(|command| !command.hidden) {
        let page = command_page(command);
        assert!(page.starts_with(&format!(".TH SKEP\\-{} 8 ", command.word.to_uppercase())));
        for flag in command.flags.iter().filter(|flag| !flag.hidden) {
            let name = flag.long.replace('-', "\\-");
            assert!(page.contains(&format!(".B \\-\\-{name}")), "{page}");
        }
        assert!(program_page().contains(&format!(".BR skep\\-{} (8)\n", command.word)));
    }
}

#[test]
fn what_is_of_images_is_handed_over() {
    let words = |line: &'static str| line.split(' ').map(OsStr::new).collect::<Vec<_>>();
    for (line, at) in [
        ("skep run --image x id", Some(1)),
        ("skep --root /r --debug create -t --image=x id -- a", Some(4)),
        ("skep run -image x id", Some(1)),
        ("skep --log run pull x", Some(3)),
        ("skep pull x", Some(1)),
        ("skep store gc", Some(1)),
        ("skep run id", None),
        ("skep run id -- --image x", None),
        ("skep run --images x id", None),
        ("skep exec id prog --image x", None),
        ("skep --image run id", None),
        ("skep --root pull start", None),
        ("skep", None),
    ] {
        assert_eq!(super::of_images(&words(line)), at, "{line}");
    }
}
