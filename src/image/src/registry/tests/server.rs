//! A registry of lies: an HTTP server whose answers a test writes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// A parameter of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Vec<String> {
        parameters(self.target.split_once('?').map_or("", |(_, query)| query), name)
    }

    /// A field of a form, decoded.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        parameters(std::str::from_utf8(&self.body).unwrap(), name).pop()
    }
}

fn parameters(text: &str, name: &str) -> Vec<String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// `Content-Length`, where it is not the body's.
    pub(super) length: Option<usize>,
    /// The connection stays open after the body, for as long as the client waits.
    pub(super) hang: bool,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    pub(super) fn hang(mut self) -> Self {
        self.hang = true;
        self
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; it ends with its value.
pub(super) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (log, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log_there, over_there) = (Arc::clone(&log), Arc::clone(&over));
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if over_there.load(Ordering::SeqCst) {
                    break;
                }
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log_there));
                std::thread::spawn(move || serve(connection.unwrap(), &*handler, &log));
            }
        });
        Self { address, log, over, thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The same server by another name: `http://localhost:PORT` is another host.
    pub(super) fn other_name(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// What was asked so far.
    pub(super) fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Whether anybody has ever told it credentials.
    pub(super) fn knows_secrets(&self) -> bool {
        self.log().iter().any(|asked| asked.header("authorization").is_some())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(mut connection: TcpStream, handler: &Handler, log: &Mutex<Vec<Asked>>) {
    let mut first = [0u8; 1];
    // A TLS handshake: this is no TLS server.
    if !matches!(connection.peek(&mut first), Ok(1)) || first == [0x16] {
        return;
    }
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let Some(asked) = read(&mut reader) else { return };
    log.lock().unwrap().push(asked.clone());
    let answer = handler(&asked);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let own_length = answer
        .headers
        .iter()
        .any(|(name, _)| name == "content-length" || name == "transfer-encoding");
    if !own_length && answer.status != 204 {
        head.push_str(&format!(
            "content-length: {}\r\n",
            answer.length.unwrap_or(answer.body.len())
        ));
    }
    head.push_str("\r\n");
    let sent = connection.write_all(head.as_bytes());
    if sent.is_err() || (asked.method != "HEAD" && connection.write_all(&answer.body).is_err()) {
        return;
    }
    if answer.hang {
        // Until the client gives up.
        let _gone = connection.read(&mut first);
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body =
        vec![0; headers.get("content-length").map_or(0, |text: &String| text.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}
