//! Credential helpers: `docker-credential-NAME get`, the registry on standard input, JSON on standard output.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::credentials::Credential;
use crate::error::{Error, Kind, Result};

/// How long a helper may take: it may have to ask a person.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// More output than this is no credential.
const LIMIT: u64 = 64 * 1024;

/// Asks the helper `name` for the credentials of `server`. `None` when it knows none.
///
/// # Errors
/// [`Kind::Auth`] when the helper cannot be run, fails, takes longer than `timeout` or answers what is no answer.
pub(super) fn get(name: &str, server: &str, timeout: Duration) -> Result<Option<Credential>> {
    let failed = |why: String| {
        Error::new(Kind::Auth, format!("credential helper docker-credential-{name}: {why}"))
    };
    // A name comes from a file and becomes part of a program's name.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        return Err(Error::new(
            Kind::Auth,
            format!("{shown:?} is not the name of a credential helper"),
        ));
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(format!("cannot be run: {e}")))?;
    let output = talk(&mut child, server, timeout);
    // Dead or not, it is ours to bury.
    if output.is_err() {
        let _gone = child.kill();
    }
    let status = child.wait().map_err(|e| failed(format!("cannot be waited for: {e}")))?;
    let output = output.map_err(failed)?;
    if !status.success() {
        // All helpers say it in these words, on standard output.
        if output.to_ascii_lowercase().contains("credentials not found") {
            return Ok(None);
        }
        let said: String = output.trim().chars().take(200).filter(|c| !c.is_control()).collect();
        return Err(failed(format!("failed with {status}: {said}")));
    }
    parse(&output).map_err(|e| failed(format!("its answer is no credential: {e}")))
}

fn talk(child: &mut Child, server: &str, timeout: Duration) -> Result<String, String> {
    let deadline = Instant::now() + timeout;
    let mut stdin = child.stdin.take().ok_or("it has no standard input")?;
    let stdout = child.stdout.take().ok_or("it has no standard output")?;
    let (sender, receiver) = mpsc::channel();
    // Ends when the helper's standard output does: at its end, or when it is killed.
    std::thread::spawn(move || {
        let mut output = String::new();
        let read = stdout.take(LIMIT + 1).read_to_string(&mut output).map(|_| output);
        let _nobody_waits = sender.send(read);
    });
    // Smaller than a pipe, so it does not block. A helper that does not read it is no error yet.
    let _closed = stdin.write_all(server.as_bytes());
    drop(stdin);
    let output = receiver
        .recv_timeout(timeout)
        .map_err(|_late| format!("no answer within {} s", timeout.as_secs_f32()))?
        .map_err(|e| format!("its answer cannot be read: {e}"))?;
    if output.len() as u64 > LIMIT {
        return Err(format!("its answer is longer than {LIMIT} bytes"));
    }
    // It said all; now it has to end, too.
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() >= deadline {
            return Err(format!("it did not end within {} s", timeout.as_secs_f32()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(output)
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

fn parse(output: &str) -> Result<Option<Credential>, String> {
    // The error of serde_json may quote the secret.
    let answer: Answer = serde_json::from_str(output)
        .map_err(|e| format!("JSON is wrong at column {}", e.column()))?;
    Ok(match answer.username.as_str() {
        _ if answer.secret.is_empty() => None,
        "<token>" => Some(Credential::Identity { user: String::new(), token: answer.secret }),
        _ => Some(Credential::Basic { user: answer.username, password: answer.secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["", "../x", "a/b", "x;y", ".", "a b", "$(x)", "\u{e4}"] {
            let error = get(name, "x", TIMEOUT).unwrap_err();
            assert_eq!(error.kind(), Kind::Auth);
            assert!(error.to_string().contains("not the name"), "{error}");
        }
        let error = get("there-is-none-of-this-name", "x", TIMEOUT).unwrap_err();
        assert!(error.to_string().contains("cannot be run"), "{error}");
    }

    #[test]
    fn answers() {
        let user = parse(r#"{"ServerURL":"x","Username":"AWS","Secret":"s"}"#).unwrap().unwrap();
        assert!(matches!(user, Credential::Basic { user, .. } if user == "AWS"));
        let token =
            parse(r#"{"ServerURL":"x","Username":"<token>","Secret":"s"}"#).unwrap().unwrap();
        assert!(matches!(token, Credential::Identity { .. }));
        assert!(parse(r#"{"Username":"","Secret":""}"#).unwrap().is_none());
        let error = parse(r#"{"Username":"u","Secret":"hush"#).unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }
}
