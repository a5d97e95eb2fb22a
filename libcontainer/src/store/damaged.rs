//! What can still be read of a damaged record.

use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::process::Init;
use crate::{cgroup, resctrl};

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

/// The cgroup in a record that cannot be read as a whole: cut short behind it, or of a later layout; `None` for an object
/// that says nothing of where the cgroup is, such as one with other fields than ours.
pub fn find_cgroup(bytes: &[u8]) -> Option<cgroup::Record> {
    find(bytes, b"\"cgroup\":{").filter(cgroup::Record::says_where)
}

/// The resctrl group in such a record.
pub fn find_resctrl(bytes: &[u8]) -> Option<resctrl::Record> {
    find(bytes, b"\"resctrl\":{")
}

/// The object that begins at the end of `key`. In no text of the record can that be found, for there its quotation marks
/// are escaped, and the one map whose keys others choose, that of the annotations, has only texts.
fn find<T: DeserializeOwned>(bytes: &[u8], key: &[u8]) -> Option<T> {
    let at = bytes.windows(key.len()).position(|window| window == key)?;
    let text = bytes.get(at + key.len() - 1..)?;
    serde_json::Deserializer::from_slice(text).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_in_what_is_left() {
        let text = br#"{"annotations":{"cgroup":"{","a":"\"cgroup\":{\"path\":\"/other\"}"},"cgroup":{"driver":"systemd",
            "layout":"unified","path":"/x.scope","hierarchies":[{"controllers":"","mount":"/m"}]},"bundle":"/b"#;
        let found = |bytes| find_cgroup(bytes).map(|found| serde_json::to_value(found).unwrap());
        assert_eq!(found(text).unwrap()["path"], "/x.scope");
        let end = text.windows(3).position(|three| three == b"}]}").unwrap() + 2;
        assert_eq!(found(&text[..end]), None);
        assert_eq!(found(br#""cgroup":{"kind":"x","place":"/y"}"#), None);
        assert_eq!(found(br#""cgroup":{"path":"/x","hierarchies":[]}"#), None);
        assert_eq!(found(br#""cgroup":{"driver":"disabled"}"#).unwrap()["driver"], "disabled");
        assert_eq!(found(b""), None);
        assert_eq!(found(b"\"cgroup\":{\"driver\":\"nobody's\"}"), None);
        assert!(find_resctrl(text).is_none());
        assert!(find_resctrl(b"...\"resctrl\":{\"root\":\"/r\",\"class\":\"/r/c\"}").is_some());
    }

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
