//! A program that somebody else has compiled (`run.oci.seccomp_bpf_data`).

use super::{Filter, MAX_INSTRUCTIONS, flags};
use crate::error::{Error, Result};
use crate::spec::Seccomp;
use crate::sys::seccomp::{Instruction, SPEC_ALLOW};

/// `struct sock_filter`.
const INSTRUCTION: usize = size_of::<Instruction>();

/// The filter of the program `data`, an array of `struct sock_filter` in base64; flags and listener are those of `profile`,
/// whose rules are ignored. Whether the program is one the kernel says when it is loaded.
///
/// # Errors
/// [`crate::Kind::Config`] for what is not base64 or no program.
pub fn raw(data: &str, profile: Option<&Seccomp<'_>>) -> Result<Filter> {
    let bytes = decode(data).ok_or_else(|| Error::config("it is not base64"))?;
    let (instructions, rest) = bytes.as_chunks::<INSTRUCTION>();
    if instructions.is_empty() || !rest.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::config(format!(
            "{} bytes are no program of 1 to {MAX_INSTRUCTIONS} instructions of {INSTRUCTION} bytes",
            bytes.len()
        )));
    }
    let program: Vec<Instruction> = instructions
        .iter()
        .map(|[c0, c1, jt, jf, k @ ..]| Instruction {
            code: u16::from_ne_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes(*k),
        })
        .collect();
    let returns_notify = |instruction: &Instruction| {
        u32::from(instruction.code) == libc::BPF_RET
            && instruction.k & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_USER_NOTIF
    };
    let listener = profile.and_then(|profile| profile.listener_path.as_deref());
    let notify =
        listener.is_some_and(|path| !path.is_empty()) && program.iter().any(returns_notify);
    let flags = match profile {
        Some(profile) => flags(profile, notify)?,
        None => SPEC_ALLOW,
    };
    Ok(Filter { program, flags, notify, warnings: Vec::new() })
}

/// RFC 4648 section 4; blanks are skipped, padding may be left out.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    let mut text = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for byte in text.by_ref() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    text.all(|byte| byte == b'=').then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8", b"fo"),
            ("Zm9v\nYmFy", b"foobar"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["Zg=x", "Z-8=", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_program_is_taken_as_it_is() {
        // ret ALLOW
        let allow = raw("BgAAAAAA/38=", None).unwrap();
        let ret = Instruction { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
        assert_eq!(allow.program, [ret]);
        assert!(!allow.notify && allow.flags == SPEC_ALLOW);
        // ret USER_NOTIF
        let profile = Seccomp { listener_path: Some("/s".into()), ..Seccomp::default() };
        assert!(raw("BgAAAAAAwH8=", Some(&profile)).unwrap().notify);
        assert!(!raw("BgAAAAAAwH8=", None).unwrap().notify);
        for bad in ["", "BgAAAAAA", "%"] {
            assert!(raw(bad, None).is_err(), "{bad}");
        }
    }
}
