//! process.terminal: the console socket, the terminal inside, and the runtime in the foreground on one.

use std::fs;

use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags};

use crate::harness::pty::{ConsoleSocket, HostTerminal};
use crate::harness::runner::cases;
use crate::harness::{Container, Kind, Running, Test, Value, json, say, sys};

cases![
    the_master_is_sent_to_the_console_socket,
    the_console_socket_gets_its_message_before_create_returns,
    the_program_runs_on_the_terminal,
    the_receiver_of_a_console_socket_gets_a_terminal_as_the_kernel_makes_it,
    in_the_foreground_newlines_are_translated_once,
    the_terminal_has_the_size_of_the_config,
    the_terminal_belongs_to_the_user,
    dev_console_is_the_terminal,
    the_terminal_is_the_controlling_one,
    control_c_reaches_the_program,
    create_without_a_console_socket_is_refused,
    a_console_socket_without_a_terminal_is_refused,
    a_missing_console_socket_makes_create_fail,
    a_console_socket_that_is_a_file_makes_create_fail,
    a_relative_console_socket_is_found_from_the_bundle,
    run_detached_with_a_terminal,
    exec_with_a_terminal,
    exec_with_a_terminal_has_its_size,
    exec_with_a_terminal_as_a_user,
    exec_detached_with_a_terminal_needs_a_socket,
    run_in_the_foreground_on_a_terminal,
    run_puts_the_terminal_into_raw_mode_and_back,
    run_passes_the_first_size_on,
    run_passes_size_changes_on,
    run_returns_the_exit_status_on_a_terminal,
    run_with_a_terminal_but_none_outside,
    exec_in_the_foreground_on_a_terminal,
    an_inherited_terminal_cannot_be_typed_into,
    the_terminal_hangs_up_at_the_end,
    a_terminal_in_a_user_namespace,
    large_output_is_not_lost,
];

fn on_terminal<'t>(c: Container<'t>) -> Container<'t> {
    c.set("/process/terminal", json!(true))
}

/// Creates with a console socket and returns the terminal.
fn create(c: &Container<'_>) -> crate::harness::pty::Terminal {
    let socket = ConsoleSocket::listen(c.test.path(&format!("{}.sock", c.id)));
    let pid = c.dir.join("pid").display().to_string();
    c.bundle_call("create", &["--console-socket", socket.arg(), "--pid-file", &pid])
        .run()
        .ok()
        .no_stdout();
    socket.receive()
}

fn the_master_is_sent_to_the_console_socket(t: &Test) {
    let c = on_terminal(t.container()).lasting();
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let create = c.bundle_call("create", &["--console-socket", socket.arg()]).spawn();
    let (_terminal, name) = socket.receive_named();
    assert!(name.starts_with('/'), "the name is {name:?}");
    create.wait().ok();
    assert!(socket.is_untouched(), "a second connection");
}

fn the_console_socket_gets_its_message_before_create_returns(t: &Test) {
    let c = on_terminal(t.container()).lasting();
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    c.bundle_call("create", &["--console-socket", socket.arg()]).run().ok();
    assert!(!socket.is_untouched());
    socket.receive();
}

fn the_program_runs_on_the_terminal(t: &Test) {
    let c = on_terminal(t.container())
        .sh("tty; test -t 0 && test -t 1 && test -t 2 && echo three; read x; echo got $x");
    let mut terminal = create(&c);
    c.start().ok();
    terminal.expect("/dev/pts/0");
    terminal.expect("three");
    terminal.send("typed\n");
    terminal.expect("got typed");
    assert_eq!(c.wait_exit(), 0);
}

fn the_receiver_of_a_console_socket_gets_a_terminal_as_the_kernel_makes_it(t: &Test) {
    // Docker's and Podman's clients put their own terminal into raw mode: they count on the translation of newlines.
    let c = on_terminal(t.container()).sh("echo one; echo two; read x");
    let mut terminal = create(&c);
    assert!(terminal.attributes().output_flags.contains(OutputFlags::OPOST | OutputFlags::ONLCR));
    c.start().ok();
    terminal.expect("two\n");
    assert!(terminal.raw.contains("one\r\ntwo\r\n"), "{:?}", terminal.raw);
}

fn in_the_foreground_newlines_are_translated_once(t: &Test) {
    // The terminal inside translates none, that of the host goes on doing so: a file of the output has no returns.
    let mut host = HostTerminal::open(24, 80);
    let c = on_terminal(t.container()).sh("stty -a | grep -o -- '-*onlcr'; read x");
    let run = foreground(&c, &host);
    host.terminal.expect("-onlcr\n");
    assert!(host.terminal.raw.contains("-onlcr\r\n"), "{:?}", host.terminal.raw);
    assert!(!host.terminal.raw.contains("\r\r"), "{:?}", host.terminal.raw);
    host.terminal.send("\r");
    run.wait().ok();
}

fn the_terminal_has_the_size_of_the_config(t: &Test) {
    let c = on_terminal(t.container())
        .set("/process/consoleSize", json!({"height": 31, "width": 77}))
        .sh("stty size; read x");
    let mut terminal = create(&c);
    assert_eq!(terminal.size(), (31, 77));
    c.start().ok();
    terminal.expect("31 77\n");
}

fn the_terminal_belongs_to_the_user(t: &Test) {
    let c = on_terminal(t.container())
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .sh("stat -c '%u %g %a' $(tty); echo x > $(tty); read x");
    let mut terminal = create(&c);
    c.start().ok();
    terminal.expect("1000 5 620\n");
}

fn dev_console_is_the_terminal(t: &Test) {
    let c = on_terminal(t.container())
        .sh("stat -c '%F %t:%T' /dev/console; stat -c '%t:%T' /dev/pts/0; echo hello > /dev/console; read x");
    let mut terminal = create(&c);
    c.start().ok();
    let text = terminal.expect("hello\n");
    let lines: Vec<&str> = text.lines().collect();
    let number =
        lines[0].strip_prefix("character special file ").unwrap_or_else(|| panic!("{text:?}"));
    assert_eq!(number, lines[1]);
}

fn the_terminal_is_the_controlling_one(t: &Test) {
    let c = on_terminal(t.container())
        .sh("echo through > /dev/tty; ps -o pid,tty | grep -c 136,0; read x");
    let mut terminal = create(&c);
    c.start().ok();
    terminal.expect("through\n");
}

fn control_c_reaches_the_program(t: &Test) {
    let c = on_terminal(t.container())
        .sh("trap 'echo interrupted; exit 9' INT; echo up; while :; do sleep 0.05; done");
    let mut terminal = create(&c);
    c.start().ok();
    terminal.expect("up\n");
    terminal.send("\x03");
    terminal.expect("interrupted\n");
    assert_eq!(c.wait_exit(), 9);
}

fn create_without_a_console_socket_is_refused(t: &Test) {
    on_terminal(t.container()).try_create().fails().says(&say::NEEDS_CONSOLE_SOCKET);
    t.assert_nothing_left();
    on_terminal(t.container())
        .bundle_call("run", &["--detach"])
        .run()
        .fails()
        .says(&say::NEEDS_CONSOLE_SOCKET);
    t.assert_nothing_left();
}

fn a_console_socket_without_a_terminal_is_refused(t: &Test) {
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    t.container()
        .bundle_call("create", &["--console-socket", socket.arg()])
        .run()
        .fails()
        .says(&say::NEEDLESS_CONSOLE_SOCKET);
    assert!(socket.is_untouched());
    t.assert_nothing_left();
}

fn a_missing_console_socket_makes_create_fail(t: &Test) {
    let path = t.path("nobody.sock");
    on_terminal(t.container())
        .bundle_call("create", &["--console-socket", path.to_str().unwrap()])
        .run()
        .fails()
        .names("nobody.sock");
    t.assert_nothing_left();
}

fn a_console_socket_that_is_a_file_makes_create_fail(t: &Test) {
    let path = t.path("file");
    fs::write(&path, "").unwrap();
    on_terminal(t.container())
        .bundle_call("create", &["--console-socket", path.to_str().unwrap()])
        .run()
        .fails();
    t.assert_nothing_left();
    // Nobody accepts any more.
    let socket = ConsoleSocket::listen(t.path("closed.sock"));
    let path = socket.path.clone();
    drop(socket);
    on_terminal(t.container())
        .bundle_call("create", &["--console-socket", path.to_str().unwrap()])
        .run()
        .fails();
    t.assert_nothing_left();
}

fn a_relative_console_socket_is_found_from_the_bundle(t: &Test) {
    let c = on_terminal(t.container()).lasting();
    let socket = ConsoleSocket::listen(c.dir.join("tty.sock"));
    c.bundle_call("create", &["--console-socket", "tty.sock"]).cwd(&c.dir).run().ok();
    socket.receive();
}

fn run_detached_with_a_terminal(t: &Test) {
    let c = on_terminal(t.container()).sh("echo hello; read x");
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    c.bundle_call("run", &["--detach", "--console-socket", socket.arg()]).run().ok();
    socket.receive().expect("hello\n");
}

fn exec_with_a_terminal(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let flags = ["--tty", "--detach", "--console-socket", socket.arg(), "--pid-file", "exec.pid"];
    c.exec_with(&flags, &["sh", "-c", "tty; read x; echo got $x"]).run().ok().no_stdout();
    let mut terminal = socket.receive();
    terminal.expect("/dev/pts/0\n");
    terminal.send("it\n");
    terminal.expect("got it\n");
}

/// Writes a process file for exec.
fn process_file(t: &Test, process: &Value) -> String {
    fs::write(t.path("process.json"), process.to_string()).unwrap();
    t.path("process.json").display().to_string()
}

fn exec_with_a_terminal_has_its_size(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let file = process_file(
        t,
        &json!({"terminal": true, "consoleSize": {"height": 19, "width": 83}, "cwd": "/",
        "args": ["sh", "-c", "until stty size; do sleep 0.05; done; read x"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}),
    );
    t.call(&["exec", "--process", &file, "--detach", "--console-socket", socket.arg(), &c.id])
        .run()
        .ok();
    let mut terminal = socket.receive();
    assert_eq!(terminal.size(), (19, 83));
    terminal.expect("19 83\n");
}

fn exec_with_a_terminal_as_a_user(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    let socket = ConsoleSocket::listen(t.path("tty.sock"));
    let flags = ["--tty", "--detach", "--user", "1000:1000", "--console-socket", socket.arg()];
    c.exec_with(&flags, &["sh", "-c", "stat -c %u $(tty); echo x > /dev/tty; read x"]).run().ok();
    socket.receive().expect("1000\nx\n");
}

fn exec_detached_with_a_terminal_needs_a_socket(t: &Test) {
    let c = t.container().lasting();
    c.run_detached();
    c.exec_with(&["--tty", "--detach"], &["true"])
        .run()
        .exec_fails()
        .says(&say::NEEDS_CONSOLE_SOCKET);
}

/// `run` with a terminal of the host's as its three streams and its controlling terminal.
fn foreground(c: &Container<'_>, host: &HostTerminal) -> Running {
    c.bundle_call("run", &["--pid-file", c.dir.join("pid").to_str().unwrap()])
        .stdin_fd(host.slave())
        .streams(host.slave(), host.slave())
        .with(sys::control_stdin_terminal)
        .spawn()
}

fn run_in_the_foreground_on_a_terminal(t: &Test) {
    let mut host = HostTerminal::open(24, 80);
    let c = on_terminal(t.container()).sh("tty; read x; echo got $x; exit 4");
    let run = foreground(&c, &host);
    host.terminal.expect("/dev/pts/0");
    host.terminal.send("typed\r");
    host.terminal.expect("got typed");
    run.wait().code(4);
    t.assert_nothing_left();
}

fn run_puts_the_terminal_into_raw_mode_and_back(t: &Test) {
    let mut host = HostTerminal::open(24, 80);
    let before = host.terminal.attributes();
    assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    let c = on_terminal(t.container()).sh("echo up; read x");
    let run = foreground(&c, &host);
    host.terminal.expect("up");
    let during = host.terminal.attributes();
    assert!(
        !during.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG),
        "not raw"
    );
    assert!(!during.input_flags.contains(InputFlags::ICRNL), "not raw");
    host.terminal.send("x\r");
    run.wait().ok();
    let after = host.terminal.attributes();
    assert_eq!(after.local_flags, before.local_flags);
    assert_eq!(after.input_flags, before.input_flags);
    assert_eq!(after.output_flags, before.output_flags);
}

fn run_passes_the_first_size_on(t: &Test) {
    let mut host = HostTerminal::open(37, 93);
    // runc sets it while the program runs already. That there is none yet is no failure to busybox's stty.
    let look = match t.kind() {
        Kind::Skep => "stty size",
        _ => "until stty size 2> /dev/null | grep .; do sleep 0.05; done",
    };
    let c = on_terminal(t.container()).sh(&format!("{look}; read x"));
    let run = foreground(&c, &host);
    host.terminal.expect("37 93");
    host.terminal.send("\r");
    run.wait().ok();
}

fn run_passes_size_changes_on(t: &Test) {
    let mut host = HostTerminal::open(24, 80);
    let c = on_terminal(t.container())
        .sh("trap 'stty size' WINCH; echo up; while [ ! -e /stop ]; do sleep 0.05; done");
    let run = foreground(&c, &host);
    host.terminal.expect("up");
    host.terminal.resize(41, 121);
    host.terminal.expect("41 121");
    host.terminal.resize(42, 122);
    host.terminal.expect("42 122");
    fs::write(c.path("/stop"), "").unwrap();
    run.wait().ok();
}

fn run_returns_the_exit_status_on_a_terminal(t: &Test) {
    for (script, code) in [("exit 0", 0), ("exit 42", 42)] {
        let mut host = HostTerminal::open(24, 80);
        let c = on_terminal(t.container()).sh(script);
        let run = foreground(&c, &host);
        run.wait().code(code);
        drop(std::mem::replace(&mut host.slave, fs::File::open("/dev/null").unwrap().into()));
        host.terminal.read_to_end();
    }
}

fn run_with_a_terminal_but_none_outside(t: &Test) {
    // The container has its terminal, the caller has pipes: runc copies.
    let c = on_terminal(t.container()).sh("tty; echo hello");
    let output = c.run();
    if output.code == Some(0) {
        assert!(
            output.stdout.contains("/dev/pts/0") && output.stdout.contains("hello"),
            "{output}"
        );
    } else {
        output.fails();
    }
    t.assert_nothing_left();
}

fn exec_in_the_foreground_on_a_terminal(t: &Test) {
    let mut host = HostTerminal::open(28, 88);
    let c = t.container().lasting();
    c.run_detached();
    let exec = c
        .exec_with(
            &["--tty"],
            &["sh", "-c", "tty; read x; until stty size; do sleep 0.05; done; exit 6"],
        )
        .stdin_fd(host.slave())
        .streams(host.slave(), host.slave())
        .with(sys::control_stdin_terminal)
        .spawn();
    host.terminal.expect("/dev/pts/0");
    host.terminal.send("\r");
    host.terminal.expect("28 88");
    exec.wait().code(6);
    assert!(host.terminal.attributes().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
}

fn an_inherited_terminal_cannot_be_typed_into(t: &Test) {
    // terminal: false with a terminal as standard input; TIOCSTI must fail, or the container types commands for its
    // caller. A session of its own is what prevents it.
    let host = HostTerminal::open(24, 80);
    let c = t.container().with_probe().args(&["probe", "tiocsti"]);
    let file = t.path("out");
    let out = || fs::File::options().create(true).append(true).open(&file).unwrap().into();
    c.bundle_call("run", &["--detach", "--pid-file", c.dir.join("pid").to_str().unwrap()])
        .stdin_fd(host.slave())
        .streams(out(), out())
        .with(sys::control_stdin_terminal)
        .run()
        .ok();
    c.wait_exit();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("errno "), "{text}");
}

fn the_terminal_hangs_up_at_the_end(t: &Test) {
    let c = on_terminal(t.container()).sh("echo last words");
    let mut terminal = create(&c);
    c.start().ok();
    c.wait_exit();
    c.delete().ok();
    assert!(terminal.read_to_end().contains("last words\n"));
}

fn a_terminal_in_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let c = on_terminal(t.container())
        .user_namespace(200_000)
        .sh("stat -c %u $(tty); stat -c %F /dev/console; read x");
    let mut terminal = create(&c);
    c.start().ok();
    terminal.expect("0\ncharacter special file\n");
}

fn large_output_is_not_lost(t: &Test) {
    let mut host = HostTerminal::open(24, 80);
    let c = on_terminal(t.container())
        .sh("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo the end");
    let run = foreground(&c, &host);
    let text = host.terminal.expect("the end");
    run.wait().ok();
    assert_eq!(text.matches("line ").count(), 3000);
}
