//! The allocator of the `skep` binary: a bump pointer with free lists.
//!
//! A runtime lives for a millisecond and every page it touches is paid for: musl's allocator doubles the cost of
//! parsing a `config.json`. Blocks are cut from one growing area and never given back to the kernel. A request is rounded
//! up to its size class and a freed block waits in the list of the same class: a class never holds more blocks than were
//! alive at once, so the loops of `events` and a foreground `run` stay bounded.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const AREA: usize = 256 * 1024;
const SMALLEST: usize = 16;
/// Four classes between two powers of two, so at most a fifth of a block is unused; the last ends at 2^40 bytes.
const CLASSES: usize = 4 + 34 * 4;

struct State {
    next: usize,
    end: usize,
    free: [*mut u8; CLASSES],
}

/// The allocator, for programs with a single thread; install it with `#[global_allocator]`.
///
/// A locked instruction for every block would cost as much as all else about it.
pub struct Bump {
    /// The thread that came first.
    owner: AtomicUsize,
    state: UnsafeCell<State>,
}

impl std::fmt::Debug for Bump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bump")
    }
}

// SAFETY: `state` is only touched by the one thread that `state_of_owner` lets through.
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
            owner: AtomicUsize::new(0),
            state: UnsafeCell::new(State { next: 0, end: 0, free: [null_mut(); CLASSES] }),
        }
    }

    /// The state, for the thread that has asked for it first; the end of the program for any other.
    #[allow(clippy::mut_from_ref, reason = "one thread has it, for the length of one call")]
    fn state_of_owner(&self) -> &mut State {
        let own = thread();
        let owner = self.owner.load(Relaxed);
        if owner != own
            && (owner != 0 || self.owner.compare_exchange(0, own, Relaxed, Relaxed).is_err())
        {
            std::process::abort();
        }
        // SAFETY: only this thread gets here, and nothing it calls with the reference comes back to the allocator.
        unsafe { &mut *self.state.get() }
    }
}

/// What tells the threads of a process apart: the address of one's own thread-local storage, which a forked copy keeps.
fn thread() -> usize {
    thread_local!(static OWN: u8 = const { 0 });
    OWN.with(|own| std::ptr::from_ref(own) as usize)
}

/// The class of blocks of `size` bytes, and how long these are: 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, …
fn class(size: usize) -> (usize, usize) {
    if size <= 64 {
        let steps = size.max(1).div_ceil(SMALLEST);
        return (steps - 1, steps * SMALLEST);
    }
    let last = size - 1;
    let power = last.ilog2() as usize;
    let quarter = last >> (power - 2) & 3;
    (4 + (power - 6) * 4 + quarter, (quarter + 5) << (power - 2))
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

// SAFETY: a block comes from fresh memory or from the free list of its class, whose blocks all have the class's size and
// an alignment of 16; none is handed out twice.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (class, size) = class(layout.size());
        let state = self.state_of_owner();
        match state.free.get_mut(class) {
            // Blocks of a greater alignment are rare and never reused.
            Some(head) if !head.is_null() && layout.align() <= SMALLEST => {
                let block = *head;
                // SAFETY: a freed block begins with the pointer to the next one.
                *head = unsafe { block.cast::<*mut u8>().read() };
                block
            }
            _ => state.carve(size, layout.align().max(SMALLEST)),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() > SMALLEST {
            return;
        }
        let (class, size) = class(layout.size());
        let state = self.state_of_owner();
        if block as usize + size == state.next {
            state.next = block as usize;
        } else if let Some(head) = state.free.get_mut(class) {
            // SAFETY: the block is ours again and at least 16 bytes long.
            unsafe { block.cast::<*mut u8>().write(*head) };
            *head = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (_, old) = class(layout.size());
        let (_, new) = class(new_size);
        if new == old {
            return block;
        }
        if layout.align() <= SMALLEST {
            let state = self.state_of_owner();
            if block as usize + old == state.next && block as usize + new <= state.end {
                state.next = block as usize + new;
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

#[cfg(test)]
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    clippy::cast_possible_truncation,
    reason = "the tests play the caller of an allocator, with marks of one byte"
)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_block_holds_what_was_asked_for_and_little_more() {
        let (mut before, mut length) = class(0);
        assert_eq!((before, length), (0, 16));
        for size in 1..70_000 {
            let (class, block) = class(size);
            assert!(block >= size && block % SMALLEST == 0, "{size}: {block}");
            assert!(block < size + SMALLEST || (block - size) * 4 < size, "{size}: {block}");
            assert!(class == before && block == length || class == before + 1 && block > length);
            (before, length) = (class, block);
        }
        assert!(class(1 << 40).0 < CLASSES);
        assert!(class(isize::MAX.unsigned_abs()).0 >= CLASSES);
    }

    /// What a loop does: something old goes, something like it comes, while something else stays.
    #[test]
    fn alternating_blocks_are_used_again() {
        for size in [1, 17, 33, 65, 100, 1000, 1025, 5000, 100_000] {
            let bump = Bump::new();
            let layout = Layout::from_size_align(size, 8).unwrap();
            let mut places = HashSet::new();
            // SAFETY: the size is not zero.
            let mut kept = unsafe { bump.alloc(layout) };
            for _ in 0..2000 {
                // SAFETY: the size is not zero, and `kept` came from here with this layout.
                let fresh = unsafe { bump.alloc(layout) };
                // SAFETY: as above.
                unsafe { bump.dealloc(kept, layout) };
                places.insert(fresh as usize);
                kept = fresh;
            }
            assert!(places.len() <= 2, "{size} bytes were cut {} times", places.len());
        }
    }

    #[test]
    fn shrunk_and_grown_blocks_are_used_again() {
        let bump = Bump::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let mut places = HashSet::new();
        for round in 0..2000_u32 {
            // SAFETY: every size is not zero, and each block goes back with the size it last had.
            unsafe {
                let large = bump.alloc(layout(1000));
                let other = bump.alloc(layout(48));
                large.write_bytes(round as u8, 1000);
                let small = bump.realloc(large, layout(1000), 600);
                let last = bump.alloc(layout(48));
                let grown = bump.realloc(small, layout(600), 3000);
                assert_eq!((grown.read(), grown.add(599).read()), (round as u8, round as u8));
                places.extend([large, other, small, last, grown].map(|block| block as usize));
                bump.dealloc(other, layout(48));
                bump.dealloc(grown, layout(3000));
                bump.dealloc(last, layout(48));
            }
        }
        assert!(places.len() <= 12, "{} places", places.len());
    }

    #[test]
    fn the_last_block_grows_and_shrinks_where_it_is() {
        let bump = Bump::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the sizes are not zero, and the block goes on with the size it last had.
        unsafe {
            let block = bump.alloc(layout(100));
            assert_eq!(bump.realloc(block, layout(100), 50_000), block);
            assert_eq!(bump.realloc(block, layout(50_000), 200), block);
            assert_eq!(bump.alloc(layout(16)) as usize, block as usize + 224);
        }
    }

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
