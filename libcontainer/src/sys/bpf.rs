//! bpf(2), as far as the device program of a cgroup needs it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{check, int};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// `BPF_OBJ_NAME_LEN`, the final NUL included.
pub const NAME_LENGTH: usize = 16;

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, operation, source and size bits.
    pub code: u8,
    registers: u8,
    /// Jump distance in instructions, or byte offset of a load.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction; `destination` and `source` are register numbers, 0 to 10.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        let registers = if cfg!(target_endian = "little") {
            destination | source << 4
        } else {
            destination << 4 | source
        };
        Self { code, registers, offset, immediate }
    }

    /// Number of the destination register.
    pub const fn destination(self) -> u8 {
        if cfg!(target_endian = "little") { self.registers & 15 } else { self.registers >> 4 }
    }

    /// Number of the source register.
    pub const fn source(self) -> u8 {
        if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 15 }
    }
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LENGTH],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    before: [u64; 8],
    name: [u8; NAME_LENGTH],
}

fn address<T>(data: *const T) -> u64 {
    data.expose_provenance() as u64
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
/// `attr` must be the structure `command` takes, and the addresses and lengths in it must describe live memory.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long, Errno> {
    loop {
        // SAFETY: attr is as large as we say; the rest is the caller's promise.
        let ret = unsafe {
            libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>())
        };
        match check(ret) {
            // EAGAIN: the verifier was interrupted by a signal.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            result => return result,
        }
    }
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`; the verifier writes its reasons to `log` unless that is
/// empty, which makes loading slower.
///
/// # Errors
/// EPERM without `CAP_BPF` and `CAP_NET_ADMIN`; EACCES or EINVAL if the verifier refuses; ENOSYS.
pub fn load_device_program(
    program: &[Instruction],
    name: &[u8],
    log: &mut [u8],
) -> Result<OwnedFd, Errno> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: length(program.len()),
        insns: address(program.as_ptr()),
        license: address(c"Apache-2.0".as_ptr()),
        expected_attach_type: BPF_CGROUP_DEVICE,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = length(log.len());
        attr.log_buf = address(log.as_mut_ptr());
    }
    for (to, from) in attr.prog_name.iter_mut().take(NAME_LENGTH - 1).zip(name) {
        *to = *from;
    }
    // SAFETY: program, the license, and log outlive the call and have the given lengths.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us; it is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) })
}

/// Attaches a device program to the cgroup, beside the others or in the place of `replaced`, at one blow.
///
/// # Errors
/// ENOENT if `replaced` is not attached; EPERM; EINVAL.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    if let Some(old) = replaced {
        attr.attach_flags |= BPF_F_REPLACE;
        attr.replace_bpf_fd = number(old);
    }
    // SAFETY: the structure holds no addresses.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches a device program from the cgroup.
///
/// # Errors
/// ENOENT if it is not attached.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: the structure holds no addresses.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr) }.map(drop)
}

/// The ids of the device programs attached to the cgroup itself, at most 64.
///
/// # Errors
/// Those of bpf(2).
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = vec![0_u32; 64];
    let mut attr = QueryAttr {
        target_fd: number(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: address(ids.as_mut_ptr()),
        prog_cnt: length(ids.len()),
        ..QueryAttr::default()
    };
    // SAFETY: ids outlives the call and has room for prog_cnt numbers.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// Opens the program with this id.
///
/// # Errors
/// ENOENT if there is none any more; EPERM without `CAP_SYS_ADMIN`.
pub fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = IdAttr { id, ..IdAttr::default() };
    // SAFETY: the structure holds no addresses.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us; it is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(int(fd)) })
}

/// The name a program was loaded under, filled up with NULs.
///
/// # Errors
/// Those of bpf(2).
pub fn program_name(program: BorrowedFd<'_>) -> Result<[u8; NAME_LENGTH], Errno> {
    let mut info = ProgInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: number(program),
        info_len: length(size_of::<ProgInfo>()),
        info: address(&raw mut info),
    };
    // SAFETY: info outlives the call and is info_len bytes long.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.name)
}
