//! When, where and on which memory the kernel runs a process: sched_setattr(2) and its kin.

use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// What sched_setattr(2) sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds of SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds of SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds of SCHED_DEADLINE.
    pub period: u64,
}

/// `struct sched_attr` of Linux 5.3, which has the utilisation clamps.
#[repr(C)]
struct Raw {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    least: u32,
    most: u32,
}

/// Sets policy and parameters of `pid` (0 is this process).
///
/// # Errors
/// Those of sched_setattr(2).
pub fn set_attributes(pid: Pid, attributes: &Attributes) -> Result<(), Errno> {
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = *attributes;
    // The specification has flags for the clamps and no values.
    let (least, most) = (0, 0);
    let size = u32::try_from(size_of::<Raw>()).unwrap_or(56);
    let raw = Raw { size, policy, flags, nice, priority, runtime, deadline, period, least, most };
    // SAFETY: the kernel reads size bytes of raw, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid.as_raw(), &raw const raw, 0) })
        .map(drop)
}

/// Sets the I/O priority of `pid` (0 is this process).
///
/// # Errors
/// EPERM for the realtime class without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(pid: Pid, priority: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let priority = libc::c_int::from(priority);
    // SAFETY: no memory is passed.
    check(unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid.as_raw(), priority)
    })
    .map(drop)
}

/// Lets this process run on the CPUs of `mask` only.
///
/// # Errors
/// EINVAL if none of them is there or in the cpuset.
pub fn set_affinity(mask: &[u64]) -> Result<(), Errno> {
    set_affinity_of(Pid::from_raw(0), mask)
}

/// Lets the process `pid` run on the CPUs of `mask` only; it is moved at once if it is on another.
///
/// # Errors
/// EINVAL if none of them is there or in the cpuset; EPERM for a process of others.
pub fn set_affinity_of(pid: Pid, mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: the kernel reads the given number of bytes from the slice.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, pid.as_raw(), size_of_val(mask), mask.as_ptr())
    })
    .map(drop)
}

/// The number of the CPU that this process is running on.
///
/// # Errors
/// Those of getcpu(2).
pub fn current_cpu() -> Result<u32, Errno> {
    let (mut cpu, node, cache) = (0_u32, ptr::null_mut::<u32>(), ptr::null_mut::<u8>());
    // SAFETY: the kernel writes one number; it takes null for the others.
    check(unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, node, cache) })?;
    Ok(cpu)
}

/// The CPUs this process may run on.
///
/// # Errors
/// EINVAL on a host with more than 8192 of them.
pub fn affinity() -> Result<[u64; 128], Errno> {
    let mut mask = [0; 128];
    // SAFETY: the kernel writes at most the given number of bytes.
    check(unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr())
    })?;
    Ok(mask)
}

/// Sets the NUMA memory policy of this process: mode with its flags, and nodes, 64 to a word.
///
/// # Errors
/// EINVAL for nodes that are not there or not in the cpuset; ENOSYS without CONFIG_NUMA.
pub fn set_memory_policy(mode: libc::c_int, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one off the number of bits.
    let bits = if nodes.is_empty() { 0 } else { size_of_val(nodes) * 8 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads as many bits of the slice as it has.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Sets the execution domain of this process.
///
/// # Errors
/// Those of personality(2).
pub fn set_personality(domain: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_attributes_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<Raw>(), 56);
        assert_eq!(std::mem::offset_of!(Raw, runtime), 24);
    }

    #[test]
    fn the_affinity_of_this_process_can_be_set_again() {
        let mask = affinity().unwrap();
        assert_ne!(mask, [0; 128]);
        set_affinity(&mask).unwrap();
        assert_eq!(affinity().unwrap(), mask);
    }
}
