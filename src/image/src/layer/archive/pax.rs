//! The records of a pax header (pax(1), "pax Extended Header").

use std::collections::BTreeMap;

use super::Time;
use crate::error::{Error, Result};

/// What the records of one entry say, as far as it is used. An empty value takes a record back.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records of all three versions.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) version: (Option<u64>, Option<u64>),
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) offset: Option<u64>,
    pub(super) places: Option<Vec<(u64, u64)>>,
}

impl Pax {
    /// Reads all records.
    ///
    /// # Errors
    /// Says which record is wrong. [`Kind::NoSpace`](crate::Kind::NoSpace) for more than `max_xattrs` extended attributes.
    pub(super) fn parse(mut data: &[u8], max_places: usize, max_xattrs: usize) -> Result<Self> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or_else(|| {
                Error::verification("a record of the pax header is not what its length says")
            })?;
            data = rest;
            pax.set(key, value, max_places).map_err(|what| {
                Error::verification(format!("the pax record {}: {what}", key.escape_ascii()))
            })?;
            if pax.xattrs.len() > max_xattrs {
                return Err(Error::no_space(format!(
                    "more than {max_xattrs} extended attributes: that is the limit"
                ))
                .hint("--max-xattrs allows more"));
            }
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8], max_places: usize) -> Result<(), String> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = unsigned(value)?,
            b"uid" => self.uid = signed(value)?,
            b"gid" => self.gid = signed(value)?,
            b"mtime" => self.mtime = time(value)?,
            b"atime" => self.atime = time(value)?,
            b"GNU.sparse.major" => self.sparse.version.0 = unsigned(value)?,
            b"GNU.sparse.minor" => self.sparse.version.1 = unsigned(value)?,
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = unsigned(value)?;
            }
            b"GNU.sparse.offset" => self.sparse.offset = unsigned(value)?,
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or("has no offset before it")?;
                let length = unsigned(value)?.ok_or("is empty")?;
                push(self.sparse.places.get_or_insert_default(), (offset, length), max_places)?;
            }
            b"GNU.sparse.map" => self.sparse.places = Some(map(value, max_places)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let name = percent_decode(name).ok_or("is no URL-encoded name")?;
                    let value = base64(value).ok_or("is not base64")?;
                    // bsdtar writes both forms; SCHILY's is exact.
                    self.xattrs.entry(name).or_insert(value);
                }
            }
        }
        Ok(())
    }
}

/// `"length key=value\n"`: key, value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(unsigned(data.get(..blank)?).ok()??).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    let key = body.get(..equals).filter(|key| !key.is_empty() && !key.contains(&0))?;
    Some((key, body.get(equals + 1..)?, rest))
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if value.contains(&0) {
        return Err("has a NUL in it".into());
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn digits(value: &[u8]) -> Option<i64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_i64, |number, &digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn signed(value: &[u8]) -> Result<Option<i64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let (sign, number) = value.strip_prefix(b"-").map_or((1, value), |number| (-1, number));
    let number = digits(number).ok_or_else(|| not_a_number(value))?;
    Ok(Some(sign * number))
}

fn unsigned(value: &[u8]) -> Result<Option<u64>, String> {
    let number = signed(value)?;
    number.map(u64::try_from).transpose().map_err(|_negative| not_a_number(value))
}

fn not_a_number(value: &[u8]) -> String {
    let shown = value.get(..value.len().min(40)).unwrap_or_default();
    format!("{} is no number of 63 bits that can stand there", shown.escape_ascii())
}

/// Seconds, with a fraction of any length, of which nine digits count.
fn time(value: &[u8]) -> Result<Option<Time>, String> {
    let point = value.iter().position(|&byte| byte == b'.').unwrap_or(value.len());
    let (whole, fraction) = value.split_at(point);
    let Some(seconds) = signed(whole)? else { return Ok(None) };
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(not_a_number(value));
    }
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = padded.fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    // -1.5 is half a second after -2.
    if whole.starts_with(b"-") && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).ok_or_else(|| not_a_number(value))?;
        return Ok(Some(Time { seconds, nanoseconds: 1_000_000_000 - nanoseconds }));
    }
    Ok(Some(Time { seconds, nanoseconds }))
}

fn push(places: &mut Vec<(u64, u64)>, place: (u64, u64), max: usize) -> Result<(), String> {
    if places.len() >= max {
        return Err(format!("the sparse file has more than {max} pieces"));
    }
    places.push(place);
    Ok(())
}

/// `"offset,length,offset,length"`.
fn map(value: &[u8], max: usize) -> Result<Vec<(u64, u64)>, String> {
    let mut places = Vec::new();
    let mut numbers = value.split(|&byte| byte == b',');
    while let Some(offset) = numbers.next() {
        if offset.is_empty() && places.is_empty() {
            break;
        }
        let length = numbers.next().ok_or("has an odd count of numbers")?;
        let place = (unsigned(offset)?.ok_or("is empty")?, unsigned(length)?.ok_or("is empty")?);
        push(&mut places, place, max)?;
    }
    Ok(places)
}

fn percent_decode(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let hex = [*bytes.next()?, *bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// RFC 4648 section 4; libarchive leaves the padding out.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for &byte in text.trim_ascii_end() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_nanoseconds_on_both_sides_of_the_epoch() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time(b"1700000000.123456789").unwrap(), at(1_700_000_000, 123_456_789));
        assert_eq!(time(b"1.5").unwrap(), at(1, 500_000_000));
        assert_eq!(time(b"1.1234567899").unwrap(), at(1, 123_456_789));
        assert_eq!(time(b"-1.5").unwrap(), at(-2, 500_000_000));
        assert_eq!(time(b"-0.25").unwrap(), at(-1, 750_000_000));
        assert_eq!(time(b"").unwrap(), None);
        assert!(time(b"1e9").is_err());
        assert!(time(b"1.5x").is_err());
    }

    #[test]
    fn records_are_exactly_as_long_as_they_say() {
        let pax = Pax::parse(b"12 path=a=b\n27 SCHILY.xattr.user.x=\x00\x0a1\n", 1, 9).unwrap();
        assert_eq!(pax.path.as_deref(), Some(b"a=b".as_slice()));
        assert_eq!(pax.xattrs, BTreeMap::from([(b"user.x".to_vec(), b"\x00\x0a1".to_vec())]));
        for bad in [
            b"11 path=a=b\n".as_slice(),
            b"13 path=a=b\n",
            b"path=a\n",
            b"0 a=b\n",
            b"-6 a=b\n",
            b"5 a=\n\n",
            b"7 abcd\n",
            b"99999999999999999999 a=b\n",
            b"10 path=a\0\n",
            b"12 size=-77\n",
        ] {
            assert!(Pax::parse(bad, 1, 9).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn libarchive_writes_names_and_values_its_own_way() {
        let pax = Pax::parse(b"36 LIBARCHIVE.xattr.user.a%20b=AQID\n", 1, 9).unwrap();
        assert_eq!(pax.xattrs, BTreeMap::from([(b"user.a b".to_vec(), vec![1, 2, 3])]));
    }
}
