//! Protocol buffers, as far as CRIU's RPC needs them (protobuf.dev "Encoding"): numbers, bytes and messages in messages.

/// A message being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

const VARINT: u64 = 0;
const LENGTH: u64 = 2;

impl Message {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    /// Adds a number: an enumeration, a boolean or an unsigned integer.
    pub fn uint(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    /// Adds a signed integer, which takes ten bytes if it is negative.
    pub fn int(&mut self, field: u32, value: i32) {
        self.uint(field, i64::from(value).cast_unsigned());
    }

    /// Adds a string.
    pub fn text(&mut self, field: u32, text: &[u8]) {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(u64::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text);
    }

    /// Adds a message.
    pub fn message(&mut self, field: u32, message: &Self) {
        self.text(field, message.bytes());
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number, or eight bytes.
    Number(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 for what is none.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The signed number.
    pub(super) fn signed(self) -> i32 {
        i32::try_from(self.number().cast_signed()).unwrap_or(0)
    }

    /// The bytes; none for a number.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The fields of a message that was received, in order.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Those of `message`.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            1 => Value::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Number(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some((field, value))
    }
}

/// `None` in the place of a field: the rest is damaged.
impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_encoding_guide() {
        let mut inner = Message::default();
        inner.uint(1, 150);
        assert_eq!(inner.bytes(), [0x08, 0x96, 0x01]);
        let mut message = Message::default();
        message.text(2, b"testing");
        assert_eq!(message.bytes(), b"\x12\x07testing");
        message.message(3, &inner);
        assert!(message.bytes().ends_with(&[0x1a, 0x03, 0x08, 0x96, 0x01]));
        let mut negative = Message::default();
        negative.int(1, -2);
        assert_eq!(negative.bytes().len(), 11);
        let fields: Vec<_> = Fields::of(negative.bytes()).flatten().collect();
        assert_eq!(fields[0].1.signed(), -2);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::default();
        message.uint(1, u64::MAX);
        message.text(68, b"");
        message.uint(500, 0);
        let fields: Vec<_> = Fields::of(message.bytes()).map(Option::unwrap).collect();
        let expected =
            [(1, Value::Number(u64::MAX)), (68, Value::Bytes(b"")), (500, Value::Number(0))];
        assert_eq!(fields, expected);
    }

    #[test]
    fn damage_ends_the_reading() {
        for damaged in [
            &b"\x08"[..],
            b"\x12\x05ab",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
            b"\x09\x01",
        ] {
            assert_eq!(Fields::of(damaged).collect::<Vec<_>>(), [None], "{damaged:?}");
        }
        // Whatever comes, it ends.
        for seed in 0_u32..2000 {
            let bytes: Vec<u8> = (0..seed % 40)
                .map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i) & 0xff) as u8)
                .collect();
            assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }
}
