//! regex(3), as the C library has it.

use std::ffi::CStr;
use std::mem::MaybeUninit;

/// A compiled extended regular expression.
pub struct Regex(libc::regex_t);

impl Regex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// What the C library has against it.
    pub fn new(pattern: &CStr) -> Result<Self, String> {
        let mut regex = MaybeUninit::zeroed();
        // SAFETY: regex has room for what regcomp(3) fills, and the pattern ends with a NUL.
        let error = unsafe {
            libc::regcomp(
                regex.as_mut_ptr(),
                pattern.as_ptr(),
                libc::REG_EXTENDED | libc::REG_NOSUB,
            )
        };
        if error == 0 {
            // SAFETY: it has been filled.
            return Ok(Self(unsafe { regex.assume_init() }));
        }
        Err(words(error, regex.as_ptr()))
    }

    /// Whether a part of `text` matches.
    ///
    /// # Errors
    /// What kept the C library from finding out, such as the lack of memory.
    pub fn matches(&self, text: &CStr) -> Result<bool, String> {
        // SAFETY: it is compiled, text ends with a NUL, and no matches are to be stored.
        let found =
            unsafe { libc::regexec(&raw const self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) };
        match found {
            0 => Ok(true),
            libc::REG_NOMATCH => Ok(false),
            error => Err(words(error, &raw const self.0)),
        }
    }
}

fn words(error: libc::c_int, regex: *const libc::regex_t) -> String {
    let mut text = [0_u8; 128];
    // SAFETY: regerror(3) writes so many bytes at most, the last of them NUL; it may be told no regex.
    unsafe { libc::regerror(error, regex, text.as_mut_ptr().cast(), text.len()) };
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

impl std::fmt::Debug for Regex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Regex").finish_non_exhaustive()
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: it is compiled, and nobody uses it after this.
        unsafe { libc::regfree(&raw mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_text_is_enough() {
        let matches =
            |pattern: &CStr, text: &CStr| Regex::new(pattern).unwrap().matches(text).unwrap();
        assert!(matches(c"test-*", c"my-test"));
        assert!(matches(c"^web-[0-9]+$", c"web-12"));
        assert!(!matches(c"^web-[0-9]+$", c"web-12b"));
        assert!(matches(c"^(a|b{2})$", c"bb"));
        assert!(!matches(c"a\\.b", c"axb"));
        for pattern in [c"(", c"[", c"a{2,1}", c"[[:none:]]"] {
            assert!(Regex::new(pattern).is_err_and(|why| !why.is_empty()), "{pattern:?}");
        }
    }
}
