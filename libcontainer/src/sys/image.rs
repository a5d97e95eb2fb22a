//! This program's own pages.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::entry::Arguments;

/// At most so many read-only segments are given back. A static program has four of them: its headers, the text, the
/// text that is put last (libcontainer/text-order.ld), constants.
const SEGMENTS: usize = 4;

/// Waits until a byte can be read from `fifo`; false if it cannot be read at all.
///
/// With `lean`, gives the pages of this program's read-only segments back first: a waiting init shares them with every
/// other process of the runtime, yet they count as its resident memory, and most of them it will never touch again. What
/// comes after happens in one function that calls nothing, for every page touched brings its neighbours along.
pub fn wait_for_byte(fifo: BorrowedFd<'_>, lean: bool) -> bool {
    let mut ranges = [(0, 0); SEGMENTS];
    if lean {
        text_ranges(&mut ranges);
    }
    wait(fifo.as_raw_fd(), &ranges)
}

// The page it lies on is the last of the text, with none before it in reach of one fault (libcontainer/text-order.ld).
#[inline(never)]
#[unsafe(link_section = ".wait")]
fn wait(fifo: libc::c_int, ranges: &[(usize, usize); SEGMENTS]) -> bool {
    let advice = usize::try_from(libc::MADV_DONTNEED).unwrap_or(4);
    let mut i = 0;
    while let Some((start, length)) = ranges.get(i) {
        i += 1;
        if *length > 0 {
            call(libc::SYS_madvise, *start, *length, advice);
        }
    }
    let mut byte = 0_u8;
    loop {
        let place = &raw mut byte as usize;
        match call(libc::SYS_read, fifo.unsigned_abs() as usize, place, 1) {
            1 => return true,
            // Open for writing here as well, so there is no end of file; a signal without a handler only interrupts.
            0 | INTERRUPTED => {}
            _ => return false,
        }
    }
}

/// EINTR as the kernel returns it.
const INTERRUPTED: isize = -4;

/// A system call without the C library, whose code lies elsewhere.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    let result: i64;
    // SAFETY: the callers pass a range of this program's read-only pages, or a byte to read into.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    isize::try_from(result).unwrap_or(-1)
}

/// The same through the C library, at the price of a few more pages.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    // SAFETY: the callers pass a range of this program's read-only pages, or a byte to read into.
    let result = unsafe { libc::syscall(number, a, b, c) };
    if result == -1 && Errno::last() == Errno::EINTR {
        return INTERRUPTED;
    }
    isize::try_from(result).unwrap_or(-1)
}

/// Collects the whole pages of the read-only segments; a neighbour's data may begin on the last one.
fn text_ranges(ranges: &mut [(usize, usize); SEGMENTS]) {
    let Some((base, headers)) = program_headers() else { return };
    let read_only = segments(headers).filter(|header| header.p_flags & libc::PF_W == 0);
    for (range, segment) in ranges.iter_mut().zip(read_only) {
        let start = base.wrapping_add(segment.p_vaddr);
        let from = start.next_multiple_of(PAGE);
        let to = (start + segment.p_memsz) / PAGE * PAGE;
        if to > from {
            *range = (number(from), number(to - from));
        }
    }
}

const PAGE: u64 = 4096;

/// Where this program is loaded, relative to the addresses in its file, and its program headers.
fn program_headers() -> Option<(u64, &'static [libc::Elf64_Phdr])> {
    unsafe extern "C" {
        // The linker's name for the start of the ELF header, which is mapped with the first segment.
        static __ehdr_start: libc::Elf64_Ehdr;
    }
    let start = &raw const __ehdr_start;
    // SAFETY: the header is mapped as long as the program.
    let header = unsafe { &*start };
    let table = (start as usize).wrapping_add(number(header.e_phoff));
    let table = table as *const libc::Elf64_Phdr;
    // SAFETY: the program headers lie where the ELF header says, in the same segment.
    let headers = unsafe { std::slice::from_raw_parts(table, usize::from(header.e_phnum)) };
    let first = segments(headers).find(|header| header.p_offset == 0)?;
    Some(((start as u64).wrapping_sub(first.p_vaddr), headers))
}

fn segments(headers: &[libc::Elf64_Phdr]) -> impl Iterator<Item = &libc::Elf64_Phdr> {
    headers.iter().filter(|header| header.p_type == libc::PT_LOAD)
}

/// Addresses are as wide as pointers on every architecture this is built for.
fn number(address: u64) -> usize {
    usize::try_from(address).unwrap_or(0)
}

/// What prctl(2) takes with `PR_SET_MM_MAP`, for which libc has a name but no type.
#[repr(C)]
#[derive(Default)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Makes `file` the file this process runs from, what /proc/PID/exe and /proc/PID/map_files lead to, in place of the one
/// that was executed.
///
/// `file` has to be that very inode, reached through another mount: its pages take the place of the ones that are mapped,
/// and are the same pages. Only for a static program at a fixed address, on which no thread but this one runs.
///
/// # Errors
/// `ENOEXEC` for a program of another kind; those of mmap(2), mremap(2) and of prctl(2) with `PR_SET_MM_MAP`: `EPERM`
/// without CAP_CHECKPOINT_RESTORE and CAP_SYS_ADMIN, `EINVAL` where the kernel is built without CONFIG_CHECKPOINT_RESTORE,
/// `EBUSY` if something of the old file is still mapped. The program goes on as before then.
pub fn run_from(file: BorrowedFd<'_>, arguments: Arguments) -> Result<(), Errno> {
    let (0, headers) = program_headers().ok_or(Errno::ENOEXEC)? else { return Err(Errno::ENOEXEC) };
    let moving = [libc::PT_INTERP, libc::PT_DYNAMIC];
    if headers.iter().any(|header| moving.contains(&header.p_type)) {
        return Err(Errno::ENOEXEC);
    }
    let mut map = memory_map(arguments).ok_or(Errno::ENOEXEC)?;
    (map.start_code, map.start_data) = (u64::MAX, 0);
    for segment in segments(headers) {
        remap(file, segment)?;
        // As the kernel's loader counts them (binfmt_elf.c).
        let end = segment.p_vaddr + segment.p_filesz;
        if segment.p_flags & libc::PF_X != 0 {
            map.start_code = map.start_code.min(segment.p_vaddr);
            map.end_code = map.end_code.max(end);
        }
        map.start_data = map.start_data.max(segment.p_vaddr);
        map.end_data = map.end_data.max(end);
    }
    map.exe_fd = file.as_raw_fd().cast_unsigned();
    // SAFETY: the kernel reads as many bytes as the type has; what it writes down is where things are.
    let result = unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0)
    };
    Errno::result(result).map(drop)
}

/// Where the stack, the arguments and the heap are, as the kernel has laid them out (execve(2), proc_pid_stat(5)).
fn memory_map(arguments: Arguments) -> Option<MemoryMap> {
    let (arg_start, arg_end) = arguments.extent()?;
    // The name of the program comes right after the environment.
    let env_end = super::entry::executed_as().as_ptr() as u64;
    // SAFETY: with 0 it only tells where the heap ends; nothing of this program uses it.
    let heap = unsafe { libc::syscall(libc::SYS_brk, 0) };
    let heap = u64::try_from(heap).ok()?;
    Some(MemoryMap {
        start_brk: heap,
        brk: heap,
        // The count of the arguments is the first word on the stack, their vector comes next.
        start_stack: (arguments.vector() as u64).checked_sub(8)?,
        arg_start,
        arg_end,
        env_start: arg_end,
        env_end: if env_end > arg_end { env_end } else { arg_end },
        ..MemoryMap::default()
    })
}

/// Maps the pages of one segment anew: from `file`, or, what the program may have written to, as memory of no file.
fn remap(file: BorrowedFd<'_>, segment: &libc::Elf64_Phdr) -> Result<(), Errno> {
    let before = segment.p_vaddr % PAGE;
    let place = number(segment.p_vaddr - before) as *mut libc::c_void;
    let length = number((before + segment.p_filesz).next_multiple_of(PAGE));
    if segment.p_flags & libc::PF_W == 0 {
        let executable = if segment.p_flags & libc::PF_X == 0 { 0 } else { libc::PROT_EXEC };
        let offset = segment.p_offset.checked_sub(before).and_then(|at| i64::try_from(at).ok());
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let (protection, offset) = (libc::PROT_READ | executable, offset.ok_or(Errno::ENOEXEC)?);
        // SAFETY: the same bytes of the same file are mapped there, with the same protection.
        return mapped(unsafe {
            libc::mmap(place, length, protection, flags, file.as_raw_fd(), offset)
        })
        .map(drop);
    }
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses a free place.
    let copy =
        mapped(unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) })?;
    // SAFETY: both are mapped for `length` bytes, nothing else runs, and nothing borrows the copy.
    unsafe { std::ptr::copy_nonoverlapping(place.cast::<u8>(), copy.cast::<u8>(), length) };
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the copy takes the place of what it is a copy of, at once; between the two calls nothing was written.
    mapped(unsafe { libc::mremap(copy, length, length, how, place) }).map(drop)
}

fn mapped(place: *mut libc::c_void) -> Result<*mut libc::c_void, Errno> {
    if place == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_only_segment_is_given_back() {
        let mut ranges = [(0, 0); SEGMENTS];
        text_ranges(&mut ranges);
        let (base, headers) = program_headers().unwrap();
        let read_only = || segments(headers).filter(|header| header.p_flags & libc::PF_W == 0);
        assert!(read_only().count() <= SEGMENTS);
        for header in read_only().filter(|header| header.p_memsz >= 2 * PAGE) {
            let middle = number(base + header.p_vaddr + header.p_memsz / 2);
            let given_back =
                |range: &(usize, usize)| (range.0..range.0 + range.1).contains(&middle);
            assert!(ranges.iter().any(given_back), "{header:?} {ranges:?}");
        }
    }
}
