//! Lists of CPUs and memory nodes (cpuset(7) "List format"): `0-3,7` → the bit mask system calls take.

use std::fmt;

/// The largest number a list may name; runc has the same, and no kernel as many CPUs.
const LARGEST: u32 = 64 * 1024;

/// A set of CPUs or nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(Vec<u64>);

impl Mask {
    /// Reads a list; blanks around its parts and empty parts are passed over, as runc does.
    ///
    /// # Errors
    /// What is wrong with it, for the end of a sentence.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut mask = Self(Vec::new());
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("the range {part:?} ends before it begins"));
            }
            (first..=last).for_each(|number| mask.add(number));
        }
        if mask.0.is_empty() { Err("it names nothing".to_owned()) } else { Ok(mask) }
    }

    fn add(&mut self, number: u32) {
        let word = usize::try_from(number / u64::BITS).unwrap_or(0);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (number % u64::BITS);
        }
    }

    /// The mask, 64 bits to a word, the lowest first.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// How many it names.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

impl fmt::LowerHex for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for word in self.0.iter().rev() {
            text.push_str(&format!("{word:016x}"));
        }
        f.pad_integral(true, "0x", text.trim_start_matches('0'))
    }
}

fn number(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is not a number"));
    }
    match text.parse() {
        Ok(number) if number <= LARGEST => Ok(number),
        _ => Err(format!("values larger than {LARGEST} are not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        for (list, words) in [
            ("0", vec![1]),
            ("0-3,7", vec![0x8f]),
            (" 1 , 2,, 5-5 ", vec![0x26]),
            ("63-64", vec![1 << 63, 1]),
            ("130", vec![0, 0, 4]),
            ("0-63", vec![u64::MAX]),
        ] {
            assert_eq!(Mask::parse(list).unwrap().words(), words, "{list}");
        }
        assert_eq!(Mask::parse("0-7,100").unwrap().count(), 9);
        assert_eq!(format!("{:#x}", Mask::parse("0-1").unwrap()), "0x3");
        assert_eq!(format!("{:x}", Mask::parse("64").unwrap()), "10000000000000000");
        assert_eq!(Mask::parse("65536").unwrap().words().len(), 1025);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in
            ["", ",", "a", "-1", "1-", "3-1", "+1", "0x1", "1 2", "0-9876543210", "65537", "1-2-3"]
        {
            assert!(Mask::parse(list).is_err(), "{list}");
        }
    }
}
