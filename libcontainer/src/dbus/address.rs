//! Where a bus is (D-Bus specification, "Server Addresses").

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A bus daemon, behind which the peer is.
    Bus(Socket),
    /// The peer itself, without a bus.
    Direct(PathBuf),
}

/// How a unix socket is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Socket {
    Path(PathBuf),
    /// Without the leading NUL.
    Abstract(Vec<u8>),
}

impl Address {
    /// The first unix socket in a list of addresses such as `unix:path=/run/user/1000/bus;tcp:host=x`.
    pub(crate) fn parse(list: &str) -> Option<Self> {
        list.split(';')
            .find_map(|address| {
                let keys = address.strip_prefix("unix:")?;
                keys.split(',').find_map(|pair| {
                    let (key, value) = pair.split_once('=')?;
                    let value = unescape(value)?;
                    match key {
                        "path" if value.first() == Some(&b'/') => {
                            Some(Socket::Path(PathBuf::from(OsString::from_vec(value))))
                        }
                        "abstract" if !value.is_empty() => Some(Socket::Abstract(value)),
                        _ => None,
                    }
                })
            })
            .map(Self::Bus)
    }

    /// What to call it in an error.
    pub(crate) fn name(&self) -> PathBuf {
        match self {
            Self::Direct(path) | Self::Bus(Socket::Path(path)) => path.clone(),
            Self::Bus(Socket::Abstract(name)) => {
                PathBuf::from(format!("@{}", String::from_utf8_lossy(name)))
            }
        }
    }
}

/// Undoes `%xx`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
    }
    (!out.contains(&0)).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unix_socket_counts() {
        let path = |path: &str| Some(Address::Bus(Socket::Path(PathBuf::from(path))));
        for (text, address) in [
            ("unix:path=/run/user/1000/bus", path("/run/user/1000/bus")),
            ("unix:path=/a%20b,guid=00ff", path("/a b")),
            ("unix:guid=00ff,path=/a", path("/a")),
            ("tcp:host=x,port=1;unix:path=/a", path("/a")),
            (
                "unix:abstract=/tmp/dbus-x",
                Some(Address::Bus(Socket::Abstract(b"/tmp/dbus-x".to_vec()))),
            ),
            ("", None),
            ("autolaunch:", None),
            ("unix:path=relative", None),
            ("unix:path=/a%0", None),
            ("unix:path=/a%00b", None),
            ("unix:path=/a%zz", None),
            ("unix:dir=/tmp", None),
        ] {
            assert_eq!(Address::parse(text), address, "{text}");
        }
    }
}
