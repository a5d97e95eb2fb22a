//! Against peers that answer, lie, hang and hang up: real sockets, with a thread at the other end.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::super::message::Value;
use super::super::message::encode_for_tests;
use super::*;

const OK: &[u8] = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n";

/// A listener whose one connection `serve` has, and where it is.
struct Fake {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(name: &str, serve: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let path = std::env::temp_dir().join(format!("dbus-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let thread = Some(std::thread::spawn(move || serve(listener.accept().unwrap().0)));
        Self { path, thread }
    }

    fn open(&self, milliseconds: u64) -> Result<Connection, Failure> {
        let own = nix::unistd::geteuid().as_raw();
        let peer = Peer { address: Address::Direct(self.path.clone()), owners: vec![own] };
        Connection::open(&peer, Instant::now() + Duration::from_millis(milliseconds))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads until `end` has been seen, or the end.
fn read_to(stream: &mut UnixStream, end: &[u8]) {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(end) && stream.read(&mut byte).is_ok_and(|length| length == 1) {
        all.push(byte[0]);
    }
}

fn let_in(stream: &mut UnixStream) {
    read_to(stream, b"BEGIN\r\n");
    // Like systemd, which would not see what came together with it.
    stream.set_nonblocking(true).unwrap();
    assert!(stream.read(&mut [0]).is_err());
    stream.set_nonblocking(false).unwrap();
    stream.write_all(OK).unwrap();
}

fn start() -> Call<'static> {
    Call { destination: "d", path: "/p", interface: "i.j", member: "Start", body: Body::default() }
}

fn job(result: &str) -> Vec<u8> {
    let body = Body::default().value(&Value::Uint32(1)).text("/job/1").text("x.scope").text(result);
    encode_for_tests(SIGNAL, 0, &[(2, "i.j"), (3, "JobRemoved")], &body)
}

fn reply() -> Vec<u8> {
    encode_for_tests(METHOD_RETURN, 1, &[], &Body::default().text("/job/1"))
}

fn result_of(connection: &mut Connection) -> Result<String, Failure> {
    let reply = connection.call(&start())?;
    assert_eq!(reply.arguments(), ["/job/1"]);
    connection.wait_for("i.j", "JobRemoved", &reply, |arguments| match arguments {
        [_, path, _, result] if path == "/job/1" => Some(result.clone()),
        _ => None,
    })
}

#[test]
fn a_call_gets_its_reply_and_its_signal_in_whatever_order_and_pieces() {
    let pieces: [Vec<Vec<u8>>; 3] = [
        vec![[reply(), job("done")].concat()],
        vec![[job("done"), reply()].concat()],
        [b"ERROR\r\n".to_vec(), reply(), job("done")]
            .concat()
            .chunks(3)
            .map(<[u8]>::to_vec)
            .collect(),
    ];
    for (round, pieces) in pieces.into_iter().enumerate() {
        let fake = Fake::new(&format!("good{round}"), move |mut stream| {
            let_in(&mut stream);
            for piece in pieces {
                stream.write_all(&piece).unwrap();
            }
            read_to(&mut stream, b"never");
        });
        let mut connection = fake.open(10_000).unwrap();
        assert_eq!(result_of(&mut connection).unwrap(), "done");
    }
}

/// On a bus anybody may send signals to anybody: large ones are not kept while the reply is waited for.
#[test]
fn signals_of_any_size_take_no_more_than_a_little_room() {
    let large = job(&"x".repeat(MAX_KEPT_SIZE));
    let fake = Fake::new("large", move |mut stream| {
        let_in(&mut stream);
        stream.write_all(&[large, reply(), job("done")].concat()).unwrap();
        read_to(&mut stream, b"never");
    });
    let mut connection = fake.open(10_000).unwrap();
    assert_eq!(result_of(&mut connection).unwrap(), "done");
}

#[test]
fn a_peer_that_says_nothing_costs_no_more_than_the_deadline() {
    type Stage = fn(&mut UnixStream);
    let talks: Stage = |stream| {
        let_in(stream);
        let noise = job("noise").repeat(100);
        while stream.write_all(&noise).is_ok() {}
    };
    let stages: [Stage; 5] = [
        |_| {},
        |stream| {
            read_to(stream, b"BEGIN\r\n");
            stream.write_all(b"DATA\r\n").unwrap();
        },
        let_in,
        |stream| {
            let_in(stream);
            stream.write_all(&reply()).unwrap();
            stream.write_all(&job("done")[..20]).unwrap();
        },
        talks,
    ];
    for (round, stage) in stages.into_iter().enumerate() {
        let fake = Fake::new(&format!("hang{round}"), move |mut stream| {
            stage(&mut stream);
            read_to(&mut stream, b"never");
        });
        let begun = Instant::now();
        let failure = fake.open(200).and_then(|mut connection| {
            let reply = connection.call(&start())?;
            connection.wait_for("i.j", "JobRemoved", &reply, |_| None::<()>)
        });
        assert!(matches!(failure, Err(Failure::Timeout)), "{round}: {failure:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{round}");
    }
}

#[test]
fn a_full_queue_of_connections_is_waited_for_no_longer() {
    let path = std::env::temp_dir().join(format!("dbus-full-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let own = nix::unistd::geteuid().as_raw();
    let peer = Peer { address: Address::Direct(path.clone()), owners: vec![own] };
    // std's queue; the first that does not fit says so.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _in_the_queue = UnixStream::connect(&path).unwrap();
    let deadline = Instant::now() + Duration::from_millis(200);
    let failure = Connection::open(&peer, deadline);
    assert!(matches!(failure, Err(Failure::Timeout)), "{failure:?}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn errors_refusals_and_nonsense_are_told_apart() {
    let error =
        encode_for_tests(ERROR, 1, &[(4, "org.x.Bad")], &Body::default().text("no such unit"));
    let fake = Fake::new("error", move |mut stream| {
        let_in(&mut stream);
        stream.write_all(&error).unwrap();
        read_to(&mut stream, b"never");
    });
    let failure = fake.open(10_000).and_then(|mut connection| connection.call(&start()));
    assert!(
        matches!(&failure, Err(Failure::Error(name, text)) if name == "org.x.Bad" && text == "no such unit"),
        "{failure:?}"
    );
    let fake = Fake::new("reject", |mut stream| {
        read_to(&mut stream, b"BEGIN\r\n");
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        read_to(&mut stream, b"never");
    });
    let failure = fake.open(10_000).map(drop);
    assert!(
        matches!(&failure, Err(Failure::Rejected(line)) if line.starts_with("REJECTED")),
        "{failure:?}"
    );
    for (round, words) in
        [&b"HTTP/1.1 400\r\n"[..], b"\xff\xfe\r\n", &[b'x'; 40_000]].into_iter().enumerate()
    {
        let fake = Fake::new(&format!("http{round}"), move |mut stream| {
            let _hung_up_on = stream.write_all(words);
            read_to(&mut stream, b"never");
        });
        let failure = fake.open(10_000).map(drop);
        assert!(matches!(failure, Err(Failure::Rejected(_) | Failure::Nonsense)), "{failure:?}");
    }
    let fake = Fake::new("binary", |mut stream| {
        let_in(&mut stream);
        stream
            .write_all(&[b'l', 2, 0, 1, 255, 255, 255, 255, 1, 0, 0, 0, 255, 255, 255, 127])
            .unwrap();
        read_to(&mut stream, b"never");
    });
    let failure = fake.open(10_000).and_then(|mut connection| connection.call(&start()));
    assert!(matches!(failure, Err(Failure::Nonsense)), "{failure:?}");
    let fake = Fake::new("gone", |mut stream| {
        let_in(&mut stream);
    });
    let failure = fake.open(10_000).and_then(|mut connection| connection.call(&start()));
    assert!(matches!(failure, Err(Failure::Lost(_))), "{failure:?}");
}

#[test]
fn who_listens_has_to_be_the_right_user() {
    let fake = Fake::new("owner", |mut stream| read_to(&mut stream, b"never"));
    let own = nix::unistd::geteuid().as_raw();
    let peer = Peer { address: Address::Direct(fake.path.clone()), owners: vec![own + 1] };
    let failure = Connection::open(&peer, Instant::now() + Duration::from_secs(10));
    assert!(matches!(failure, Err(Failure::Stranger(uid)) if uid == own), "{failure:?}");
}
