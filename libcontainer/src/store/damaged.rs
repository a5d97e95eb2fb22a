//! What can still be read of a damaged record.

use nix::unistd::Pid;

use crate::process::Init;

/// The init that a record names which is no document any more: cut short, say. Whether there still is such a process, its
/// start time decides.
pub fn find_init(bytes: &[u8]) -> Option<Init> {
    let text = String::from_utf8_lossy(bytes);
    let number = |name: &str| -> Option<u64> {
        // Both stand before the first text that the container's owner chooses but for its id, which has no quotes.
        let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest.get(..end)?.parse().ok()
    };
    let pid = i32::try_from(number("init_process_pid")?).ok().filter(|pid| *pid > 0)?;
    let start_time = number("init_process_start")?;
    Some(Init { pid: Pid::from_raw(pid), start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_found_in_what_is_left() {
        let whole = br#"{"version":1,"id":"a","init_process_pid":42,"init_process_start": 977,"bundle":"/b"#;
        let init = Init { pid: Pid::from_raw(42), start_time: 977 };
        assert_eq!(find_init(whole), Some(init));
        // A number that may go on is none.
        let end = whole.iter().position(|byte| *byte == b'7').unwrap() + 2;
        assert_eq!(find_init(&whole[..end]), None);
        for bad in [
            &b""[..],
            b"\"init_process_pid\":",
            b"\"init_process_pid\":0,\"init_process_start\":1,",
            b"\xff",
        ] {
            assert_eq!(find_init(bad), None);
        }
        let negative = br#""init_process_pid":-1,"init_process_start":5,"#;
        assert_eq!(find_init(negative), None);
    }
}
