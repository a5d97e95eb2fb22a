//! The compiled form of a profile, and its bytes in the state directory.

use super::arch::Arch;
use super::simulator::{Call, run};
use crate::error::{Error, Result};
use crate::sys::seccomp::{Instruction, NEW_LISTENER};

/// A profile, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program, for [`crate::sys::seccomp::load`].
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`, `NEW_LISTENER` included where the profile has SCMP_ACT_NOTIFY.
    pub flags: u32,
    /// Loading returns a listener that goes to `listenerPath`.
    pub notify: bool,
    /// What of the profile was left out.
    pub warnings: Vec<String>,
}

/// What saved filters begin with; the digit is the version of the format.
const MAGIC: [u8; 8] = *b"seccomp1";

/// Magic, flags, number of instructions.
const HEADER: usize = MAGIC.len() + 4 + 4;

/// `struct sock_filter`.
const INSTRUCTION: usize = size_of::<Instruction>();

impl Filter {
    /// Says whether the filter lets this host's system call `number` pass, with arguments that are all zero.
    pub fn allows(&self, number: libc::c_long) -> bool {
        let Ok(nr) = u32::try_from(number) else { return false };
        let call = Call { nr, arch: Arch::native().token, args: [0; 6] };
        let action = run(&self.program, &call, cfg!(target_endian = "big"));
        action.is_ok_and(|action| action == libc::SECCOMP_RET_ALLOW)
    }

    /// Returns the bytes `exec` reads back instead of compiling the profile again: a header of 16 bytes, then the
    /// program as the kernel has it, everything in the byte order of this host. Warnings are not kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.program.len() * INSTRUCTION);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        // A program has at most 4096 instructions; a larger one would not be read back.
        let len = u32::try_from(self.program.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&len.to_ne_bytes());
        for Instruction { code, jt, jf, k } in &self.program {
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&[*jt, *jf]);
            bytes.extend_from_slice(&k.to_ne_bytes());
        }
        bytes
    }

    /// Reads what [`Filter::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::Kind::Internal) where the bytes are something else, or cut short. The program itself
    /// is for the kernel to check.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let not_a_filter = || Error::internal("saved seccomp filter is not one of this version");
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(not_a_filter)?;
        let (flags, rest) = rest.split_first_chunk().ok_or_else(not_a_filter)?;
        let (len, rest) = rest.split_first_chunk().ok_or_else(not_a_filter)?;
        let flags = u32::from_ne_bytes(*flags);
        let (instructions, left_over) = rest.as_chunks::<INSTRUCTION>();
        let len = usize::try_from(u32::from_ne_bytes(*len)).ok();
        if Some(instructions.len()) != len || !left_over.is_empty() || instructions.is_empty() {
            return Err(not_a_filter());
        }
        let program = instructions.iter().map(|[c0, c1, jt, jf, k @ ..]| Instruction {
            code: u16::from_ne_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes(*k),
        });
        let notify = flags & NEW_LISTENER != 0;
        Ok(Self { program: program.collect(), flags, notify, warnings: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        let program = vec![
            Instruction { code: 0x20, jt: 0, jf: 0, k: 4 },
            Instruction { code: 0x15, jt: 1, jf: 200, k: 0xc000_003e },
            Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
        ];
        Filter { program, flags: NEW_LISTENER | 4, notify: true, warnings: Vec::new() }
    }

    #[test]
    fn a_filter_comes_back_as_it_was_saved() {
        let bytes = filter().to_bytes();
        assert_eq!(bytes.len(), 16 + 3 * 8);
        assert_eq!(Filter::from_bytes(&bytes).unwrap(), filter());
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = filter().to_bytes();
        for len in 0..bytes.len() {
            assert!(Filter::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0; 8]);
        assert!(Filter::from_bytes(&longer).is_err());
        let mut other_version = bytes;
        other_version[7] = b'2';
        assert!(Filter::from_bytes(&other_version).is_err());
        assert!(
            Filter::from_bytes(&Filter { program: Vec::new(), ..filter() }.to_bytes()).is_err()
        );
    }
}
