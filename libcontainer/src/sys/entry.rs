//! The arguments as the kernel gave them to `main`.

use std::ffi::{CStr, OsStr, c_char};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Where [`Arguments::new`] found them.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static VECTOR: AtomicPtr<*const c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Writes `name` over the arguments, so that /proc/PID/cmdline tells nobody inside the container the paths of the host.
///
/// For a clone that waits to become the program: nothing in it reads the arguments of the runtime any more.
pub fn forget_arguments(name: &CStr) {
    let count = COUNT.load(Ordering::Relaxed);
    let vector = VECTOR.load(Ordering::Relaxed);
    if count == 0 || vector.is_null() {
        return;
    }
    // SAFETY: the vector has count pointers.
    let arguments = unsafe { std::slice::from_raw_parts(vector, count) };
    let (Some(first), Some(last)) = (arguments.first(), arguments.last()) else { return };
    // SAFETY: the kernel terminates each argument with NUL.
    let end = unsafe { CStr::from_ptr(*last) }.count_bytes();
    // The kernel has laid them out one after the other.
    let length = (*last as usize).wrapping_sub(*first as usize).saturating_add(end);
    // SAFETY: so many bytes are this process's own stack, and in a clone nobody borrows them any more.
    let all = unsafe { std::slice::from_raw_parts_mut(first.cast_mut().cast::<u8>(), length) };
    all.fill(0);
    all.iter_mut().zip(name.to_bytes()).for_each(|(place, byte)| *place = *byte);
}

/// `argc` and `argv` of `main`.
///
/// The binary has no Rust start-up (it costs half of `start`'s time), so `std::env::args` is empty there.
#[derive(Debug, Clone, Copy)]
pub struct Arguments {
    count: usize,
    vector: *const *const c_char,
}

impl Arguments {
    /// Takes what `main` was given.
    ///
    /// # Safety
    /// `vector` is NULL-terminated, has `count` strings and lives as long as the process.
    pub unsafe fn new(count: i32, vector: *const *const c_char) -> Self {
        let arguments = Self { count: usize::try_from(count).unwrap_or(0), vector };
        COUNT.store(arguments.count, Ordering::Relaxed);
        VECTOR.store(vector.cast_mut(), Ordering::Relaxed);
        arguments
    }

    /// The arguments, program name included.
    pub fn iter(self) -> impl Iterator<Item = &'static OsStr> + Clone {
        (0..self.count).map(move |i| {
            // SAFETY: i is below the count.
            let place = unsafe { self.vector.add(i) };
            // SAFETY: the kernel filled the vector.
            let pointer = unsafe { *place };
            // SAFETY: the kernel terminates each argument with NUL.
            let text = unsafe { CStr::from_ptr(pointer) };
            OsStr::from_bytes(text.to_bytes())
        })
    }

    /// Where the first byte of the first argument and the one after the last argument's NUL are: the kernel has laid them
    /// out one after the other. None without arguments.
    pub fn extent(self) -> Option<(u64, u64)> {
        let all = self.iter();
        let (first, last) = (all.clone().next()?, all.last()?);
        let end = last.as_bytes().as_ptr() as u64 + last.len() as u64 + 1;
        Some((first.as_bytes().as_ptr() as u64, end))
    }

    /// The vector itself, for an execve(2) of the same program.
    pub fn vector(self) -> *const *const c_char {
        self.vector
    }
}

/// The name this program was called by: the last component of its first argument, if it is a plain word.
pub fn called() -> Option<&'static str> {
    let count = i32::try_from(COUNT.load(Ordering::Relaxed)).unwrap_or(0);
    let vector = VECTOR.load(Ordering::Relaxed);
    if count == 0 || vector.is_null() {
        return None;
    }
    // SAFETY: main gave it.
    let arguments = unsafe { Arguments::new(count, vector) };
    let name = arguments.iter().next()?.to_str()?.rsplit('/').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    Some(name).filter(|name| (1..64).contains(&name.len()) && name.bytes().all(plain))
}

/// The name the kernel executed this image by (`AT_EXECFN`, getauxval(3)); empty if it does not say.
pub fn executed_as() -> &'static [u8] {
    // SAFETY: no memory is passed.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const c_char;
    if name.is_null() {
        return b"";
    }
    // SAFETY: the kernel put the name on the stack of the new image, with its NUL, for as long as the image lives.
    unsafe { CStr::from_ptr(name) }.to_bytes()
}

/// The descriptor `number`, which this image was started with.
///
/// # Panics
/// For -1, in debug builds.
pub fn inherited(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers look at a descriptor that is open and that nobody else knows of yet.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes the descriptor `number`, which this image was started with and which is for nobody else.
pub fn take_inherited(number: RawFd) -> OwnedFd {
    // SAFETY: as the caller says, nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Makes the function `$run`, which takes [`Arguments`] and returns the exit status, the program's `main`.
#[macro_export]
macro_rules! main {
    ($run:ident) => {
        #[allow(unsafe_code, reason = "main is called by the C library, with its own types")]
        #[unsafe(no_mangle)]
        extern "C" fn main(count: i32, vector: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: these are main's own arguments.
            $run(unsafe { $crate::sys::entry::Arguments::new(count, vector) })
        }
    };
}
