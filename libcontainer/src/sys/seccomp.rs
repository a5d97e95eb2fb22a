//! seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// One instruction of a filter: `struct sock_filter` of `<linux/filter.h>`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, mode and operation.
    pub code: u16,
    /// Instructions skipped when a condition holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_LOG`: log every action but SECCOMP_RET_ALLOW.
pub const LOG: u32 = 1 << 1;

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: leave the mitigation of speculative store bypass off.
pub const SPEC_ALLOW: u32 = 1 << 2;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: return a descriptor for SECCOMP_RET_USER_NOTIF.
pub const NEW_LISTENER: u32 = 1 << 3;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: once the agent has a call, only SIGKILL interrupts it (Linux 5.19).
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Loads `program` for the calling thread and all it will start; returns the listener where `flags` ask for one.
///
/// Allocates nothing: a freshly cloned child may call it. The caller has set no_new_privs or has CAP_SYS_ADMIN in
/// its user namespace.
///
/// # Errors
/// The errno of seccomp(2): `EACCES` without either of the two, `EINVAL` for a bad program or flag, `EBUSY` when
/// a filter with a listener is already there, `E2BIG` for a program beyond 65535 instructions.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let len = u16::try_from(program.len()).or(Err(Errno::E2BIG))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points at `len` instructions of the kernel's layout, which it only reads.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    let result = Errno::result(result)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = RawFd::try_from(result).or(Err(Errno::EBADF))?;
    // SAFETY: with NEW_LISTENER the result is a new descriptor that nobody else knows of.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Says whether the kernel knows the action `SECCOMP_RET_*` (`SECCOMP_GET_ACTION_AVAIL`).
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads the one word `action` points at.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    result == 0
}

/// Says whether the kernel knows `flags`. Loads nothing.
pub fn flags_supported(flags: u32) -> bool {
    // Flags are checked before the program is read, so a null program says EFAULT for flags that are known
    // and EINVAL for others. WAIT_KILLABLE_RECV alone is EINVAL: it needs a listener.
    let flags = if flags & WAIT_KILLABLE_RECV != 0 { flags | NEW_LISTENER } else { flags };
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is refused before anything is done.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing) };
    Errno::result(result) == Err(Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_laid_out_as_the_kernel_has_it() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(std::mem::offset_of!(Instruction, jt), 2);
        assert_eq!(std::mem::offset_of!(Instruction, k), 4);
    }

    #[test]
    fn this_kernel_knows_the_old_actions_and_not_an_invented_one() {
        assert!(action_available(libc::SECCOMP_RET_ALLOW));
        assert!(action_available(libc::SECCOMP_RET_KILL_PROCESS));
        assert!(!action_available(0x1234_0000));
    }

    #[test]
    fn this_kernel_knows_the_old_flags_and_not_an_invented_one() {
        assert!(flags_supported(4));
        assert!(!flags_supported(1 << 30));
    }

    #[test]
    fn a_program_that_is_too_long_is_refused_before_the_kernel_sees_it() {
        let program = vec![Instruction { code: 6, jt: 0, jf: 0, k: 0 }; 1 << 16];
        assert_eq!(load(&program, 0).unwrap_err(), Errno::E2BIG);
        assert_eq!(load(&[], 0).unwrap_err(), Errno::EINVAL);
    }
}
