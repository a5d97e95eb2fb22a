//! This program's own pages.

use std::os::fd::{AsRawFd, BorrowedFd};

/// At most so many read-only segments are given back; a program has three.
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

#[inline(never)]
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
    if result == -1 && nix::errno::Errno::last() == nix::errno::Errno::EINTR {
        return INTERRUPTED;
    }
    isize::try_from(result).unwrap_or(-1)
}

/// Collects the whole pages of the read-only segments; a neighbour's data may begin on the last one.
fn text_ranges(ranges: &mut [(usize, usize); SEGMENTS]) {
    const PAGE: u64 = 4096;
    unsafe extern "C" {
        // The linker's name for the start of the ELF header, which is mapped with the first segment.
        static __ehdr_start: libc::Elf64_Ehdr;
    }
    let start = &raw const __ehdr_start;
    // SAFETY: the header is mapped as long as the program.
    let header = unsafe { &*start };
    let table = (start as usize).wrapping_add(usize::try_from(header.e_phoff).unwrap_or(0));
    let table = table as *const libc::Elf64_Phdr;
    // SAFETY: the program headers lie where the ELF header says, in the same segment.
    let headers = unsafe { std::slice::from_raw_parts(table, usize::from(header.e_phnum)) };
    let loaded = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD;
    let Some(first) = headers.iter().filter(loaded).find(|header| header.p_offset == 0) else {
        return;
    };
    let base = (start as u64).wrapping_sub(first.p_vaddr);
    let read_only = headers.iter().filter(loaded).filter(|header| header.p_flags & libc::PF_W == 0);
    for (range, segment) in ranges.iter_mut().zip(read_only) {
        let start = base.wrapping_add(segment.p_vaddr);
        let from = start.next_multiple_of(PAGE);
        let to = (start + segment.p_memsz) / PAGE * PAGE;
        if to > from {
            *range = (usize::try_from(from).unwrap_or(0), usize::try_from(to - from).unwrap_or(0));
        }
    }
}
