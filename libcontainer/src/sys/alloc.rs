//! The allocator of the `skep` binary: a bump pointer with free lists.
//!
//! A runtime lives for a millisecond and every page it touches is paid for: musl's allocator doubles the cost of
//! parsing a `config.json`. Blocks are cut from one growing area and never given back to the kernel; freed ones wait
//! in a list per power of two, so the loops of `events` and a foreground `run` stay bounded.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

const AREA: usize = 256 * 1024;
const SMALLEST: usize = 16;
const CLASSES: usize = 48;

struct State {
    next: usize,
    end: usize,
    free: [*mut u8; CLASSES],
}

/// The allocator; install it with `#[global_allocator]`.
pub struct Bump {
    busy: AtomicBool,
    state: UnsafeCell<State>,
}

impl std::fmt::Debug for Bump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bump")
    }
}

// SAFETY: `state` is only touched between `lock` and `unlock`.
unsafe impl Sync for Bump {}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

impl Bump {
    /// An allocator without memory; the first block maps some.
    pub const fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            state: UnsafeCell::new(State { next: 0, end: 0, free: [null_mut(); CLASSES] }),
        }
    }

    fn lock(&self) {
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
    }

    fn unlock(&self) {
        self.busy.store(false, Ordering::Release);
    }
}

fn class(layout: &Layout) -> usize {
    let size = layout.size().max(layout.align()).max(SMALLEST);
    size.next_power_of_two().trailing_zeros() as usize
}

fn map(length: usize) -> *mut u8 {
    // SAFETY: an anonymous private mapping at no particular place touches no memory of ours.
    let area = unsafe {
        libc::mmap(
            null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if area == libc::MAP_FAILED { null_mut() } else { area.cast() }
}

impl State {
    fn carve(&mut self, size: usize, align: usize) -> *mut u8 {
        let start = (self.next + align - 1) & !(align - 1);
        if start + size <= self.end && self.next != 0 {
            self.next = start + size;
            return start as *mut u8;
        }
        let length = AREA.max(size + align);
        let area = map(length);
        if area.is_null() {
            return area;
        }
        self.next = area as usize;
        self.end = self.next + length;
        let start = (self.next + align - 1) & !(align - 1);
        self.next = start + size;
        start as *mut u8
    }
}

// SAFETY: a block comes from fresh memory or from the free list of its class, whose blocks all have at least the
// class's size and the alignment that was asked for when they were cut; none is handed out twice.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(&layout);
        self.lock();
        // SAFETY: the lock is held.
        let state = unsafe { &mut *self.state.get() };
        let block = match state.free.get_mut(class) {
            // Blocks over a page's alignment are rare and never reused.
            Some(head) if !head.is_null() && layout.align() <= SMALLEST => {
                let block = *head;
                // SAFETY: a freed block begins with the pointer to the next one.
                *head = unsafe { block.cast::<*mut u8>().read() };
                block
            }
            // Fresh memory is cut to the size asked for, rounded to 16, not to the class: fewer pages touched.
            _ => state.carve(
                layout.size().max(1).next_multiple_of(SMALLEST),
                layout.align().max(SMALLEST),
            ),
        };
        self.unlock();
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() > SMALLEST {
            return;
        }
        self.lock();
        // SAFETY: the lock is held.
        let state = unsafe { &mut *self.state.get() };
        let size = layout.size().max(1).next_multiple_of(SMALLEST);
        if block as usize + size == state.next {
            state.next = block as usize;
        } else if let Some(head) = state.free.get_mut(floor_class(size)) {
            // SAFETY: the block is ours again and at least 16 bytes long.
            unsafe { block.cast::<*mut u8>().write(*head) };
            *head = block;
        }
        self.unlock();
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let old = layout.size().max(1).next_multiple_of(SMALLEST);
        let new = new_size.max(1).next_multiple_of(SMALLEST);
        if new <= old && layout.align() <= SMALLEST && new * 2 > old {
            return block;
        }
        if layout.align() <= SMALLEST {
            self.lock();
            // SAFETY: the lock is held.
            let state = unsafe { &mut *self.state.get() };
            let grows = block as usize + old == state.next && block as usize + new <= state.end;
            if grows {
                state.next = block as usize + new;
            }
            self.unlock();
            if grows {
                return block;
            }
        }
        // SAFETY: the alignment is unchanged and the size is what the caller asked for.
        let target = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: target has a size that is not zero, as the caller of realloc promises.
        let fresh = unsafe { self.alloc(target) };
        if !fresh.is_null() {
            // SAFETY: both blocks are at least this long and do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(block, fresh, layout.size().min(new_size)) };
            // SAFETY: the old block came from this allocator with this layout.
            unsafe { self.dealloc(block, layout) };
        }
        fresh
    }
}

/// The class whose requests a block of `size` bytes surely satisfies.
fn floor_class(size: usize) -> usize {
    size.ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_blocks_come_back_and_nothing_overlaps() {
        let bump = Bump::new();
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut seed: u32 = 7;
        for round in 0..20_000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = (seed >> 16) as usize % 900 + 1;
            if seed & 0x40 == 0 || live.is_empty() {
                let layout = Layout::from_size_align(size, 8).unwrap();
                // SAFETY: the size is not zero.
                let block = unsafe { bump.alloc(layout) };
                let mark = (round % 251) as u8;
                // SAFETY: the block is size bytes long.
                unsafe { block.write_bytes(mark, size) };
                live.push((block, layout, mark));
            } else {
                let (block, layout, mark) = live.swap_remove(seed as usize % live.len());
                for i in 0..layout.size() {
                    // SAFETY: i is inside the block.
                    let place = unsafe { block.add(i) };
                    // SAFETY: it was written when the block was made.
                    assert_eq!(unsafe { place.read() }, mark);
                }
                // SAFETY: the block came from this allocator with this layout.
                unsafe { bump.dealloc(block, layout) };
            }
        }
    }
}
