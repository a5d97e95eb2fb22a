//! This program's own pages.

use super::check;

/// Gives back the pages of this program's read-only segments; the ones still needed come back from the page cache.
///
/// A waiting init shares them with every other process of the runtime, yet they count as its resident memory, and most
/// of them it will never touch again.
pub fn release_text_pages() {
    // SAFETY: getauxval only reads the vector the kernel gave.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as *const libc::Elf64_Phdr;
    // SAFETY: as above.
    let count = unsafe { libc::getauxval(libc::AT_PHNUM) };
    if headers.is_null() {
        return;
    }
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the kernel says that there are so many program headers there; they are mapped as long as the program.
    let headers = unsafe { std::slice::from_raw_parts(headers, count) };
    let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) else { return };
    let base =
        (std::ptr::from_ref(headers.first().unwrap_or(own)) as u64).wrapping_sub(own.p_vaddr);
    for segment in headers {
        if segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0 {
            release(base.wrapping_add(segment.p_vaddr), segment.p_memsz);
        }
    }
}

/// Whole pages only: a neighbour's data may begin on the last one.
fn release(start: u64, length: u64) {
    const PAGE: u64 = 4096;
    let first = start.next_multiple_of(PAGE);
    let end = (start + length) / PAGE * PAGE;
    if end > first {
        // SAFETY: the range is a read-only file mapping of this program: the kernel reads it again from the file.
        let _advice = check(unsafe {
            libc::syscall(libc::SYS_madvise, first, end - first, libc::MADV_DONTNEED)
        });
    }
}
