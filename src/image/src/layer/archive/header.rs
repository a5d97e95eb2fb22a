//! The 512 bytes before each entry: POSIX ustar, GNU, star and version 7.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// Offset and length of the pieces of a sparse file.
pub(super) type Places = Vec<(u64, u64)>;

/// A block that is a header; the checksum has been looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

/// Whose extensions a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Posix,
    Star,
    Gnu,
}

impl<'a> Header<'a> {
    /// # Errors
    /// Says what is wrong: the checksum.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self, String> {
        let header = Self(block);
        let said = header.number(148, 8, "checksum")?;
        // The checksum field counts as blanks. Some old writers summed signed characters.
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (position, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&position) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if said == unsigned || said == signed {
            return Ok(header);
        }
        Err(format!("the checksum of the tar header is {said}, and must be {unsigned}"))
    }

    fn field(self, start: usize, length: usize) -> &'a [u8] {
        self.0.get(start..start + length).unwrap_or_default()
    }

    /// A text, up to the first NUL.
    fn text(self, start: usize, length: usize) -> &'a [u8] {
        until_nul(self.field(start, length))
    }

    pub(super) fn dialect(self) -> Dialect {
        match self.field(257, 8) {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if self.field(508, 4) == b"tar\0" => {
                Dialect::Star
            }
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Posix,
            _ => Dialect::V7,
        }
    }

    pub(super) fn type_flag(self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    pub(super) fn name(self) -> Vec<u8> {
        let prefix = match self.dialect() {
            Dialect::Posix => self.text(345, 155),
            Dialect::Star => self.text(345, 131),
            Dialect::Gnu | Dialect::V7 => b"",
        };
        let name = self.text(0, 100);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(self) -> &'a [u8] {
        self.text(157, 100)
    }

    pub(super) fn mode(self) -> Result<u32, String> {
        let mode = self.number(100, 8, "mode")?;
        // What is above the permission bits is the type, which has a field of its own.
        Ok(u32::try_from(mode & 0o7777).unwrap_or_default())
    }

    pub(super) fn uid(self) -> Result<i64, String> {
        self.number(108, 8, "uid")
    }

    pub(super) fn gid(self) -> Result<i64, String> {
        self.number(116, 8, "gid")
    }

    pub(super) fn size(self) -> Result<u64, String> {
        let size = self.number(124, 12, "size")?;
        u64::try_from(size).map_err(|_negative| format!("the size {size} is negative"))
    }

    pub(super) fn mtime(self) -> Result<i64, String> {
        self.number(136, 12, "mtime")
    }

    pub(super) fn device(self) -> Result<(u32, u32), String> {
        if self.dialect() == Dialect::V7 {
            return Err("a version 7 header has no device numbers".into());
        }
        // More bits than the kernel's dev_t has are cut off by it, and not by makedev(3): 4096:0 would be made as 0:0.
        let part = |start, name, most| {
            let number = self.number(start, 8, name)?;
            let number = u32::try_from(number).ok().filter(|&number| number <= most);
            number.ok_or_else(|| format!("the {name} is none of Linux: they are from 0 to {most}"))
        };
        let major = part(329, "device major number", 0xfff)?;
        Ok((major, part(337, "device minor number", 0xf_ffff)?))
    }

    /// The four places of an old GNU sparse file, whether more follow, and its real size.
    pub(super) fn sparse(self) -> Result<(Places, bool, u64), String> {
        if self.dialect() != Dialect::Gnu {
            return Err("a sparse file of a header that is not GNU's".into());
        }
        let places = self.places(386, 4)?;
        let real = self.unsigned(483, "real size")?;
        Ok((places, self.field(482, 1) != [0], real))
    }

    /// `count` pairs of offset and length, up to the first that is empty.
    fn places(self, start: usize, count: usize) -> Result<Places, String> {
        let mut places = Vec::new();
        for at in (0..count).map(|index| start + index * 24) {
            if self.field(at, 1) == [0] {
                break;
            }
            places.push((self.unsigned(at, "offset")?, self.unsigned(at + 12, "length")?));
        }
        Ok(places)
    }

    fn unsigned(self, start: usize, name: &str) -> Result<u64, String> {
        let number = self.number(start, 12, name)?;
        u64::try_from(number).map_err(|_negative| format!("the {name} {number} is negative"))
    }

    /// A number in octal digits, or in GNU's base 256.
    fn number(self, start: usize, length: usize, name: &str) -> Result<i64, String> {
        number(self.field(start, length))
            .ok_or_else(|| format!("the {name} of the tar header is no number of 63 bits"))
    }
}

/// A block that continues the places of an old GNU sparse file, and whether another follows.
pub(super) fn more_places(block: &[u8; BLOCK]) -> Result<(Places, bool), String> {
    let header = Header(block);
    Ok((header.places(0, 21)?, header.field(504, 1) != [0]))
}

/// Up to the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement, the marker being its highest bit but one: 0x80 begins a positive number, 0xff a negative.
        let mut value = if first & 0x40 != 0 { -1_i128 } else { 0 };
        value = (value << 6) | i128::from(first & 0x3f);
        for &byte in rest {
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\0\x07"), Some(7));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(i64::MAX));
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\x02\0"), None, "it would wrap to 512");
        assert_eq!(number(b"12x\0"), None);
        assert_eq!(number(b"-12\0"), None);
        assert_eq!(number(b"8\0"), None);
    }
}
