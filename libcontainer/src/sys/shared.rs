//! Memory that a process has in common with those it clones.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;

/// Numbers that are the same ones on both sides of a clone (mmap(2) with `MAP_SHARED`).
#[derive(Debug)]
pub struct Shared<const N: usize>(NonNull<[AtomicU64; N]>);

impl<const N: usize> Shared<N> {
    /// Maps them, all 0.
    ///
    /// # Errors
    /// Those of mmap(2): `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<[AtomicU64; N]>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(base.cast()).map(Self).ok_or(Errno::ENOMEM)
    }

    /// The numbers.
    pub fn numbers(&self) -> &[AtomicU64; N] {
        // SAFETY: the mapping is page-aligned, as large as the array, lives as long as `self`, and any bits are numbers.
        unsafe { self.0.as_ref() }
    }
}

impl<const N: usize> Drop for Shared<N> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<[AtomicU64; N]>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn starts_at_zero_and_keeps_what_is_written() {
        let shared = Shared::<3>::new().unwrap();
        assert!(shared.numbers().iter().all(|number| number.load(Relaxed) == 0));
        shared.numbers()[2].store(7, Relaxed);
        assert_eq!(shared.numbers()[2].load(Relaxed), 7);
    }
}
