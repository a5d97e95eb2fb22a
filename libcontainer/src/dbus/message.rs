//! The wire format (D-Bus specification, "Message Protocol"), in the byte order of this machine.

/// The longest message that is read, in bytes; systemd's answers have a few hundred.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// The part of a message before the array of header fields, and that array's length.
pub(super) const FIXED: usize = 16;

pub(super) const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

const ENDIAN: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    /// The signature of its elements, and those.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
}

impl Value {
    /// An array of strings.
    #[cfg(test)]
    pub(crate) fn texts(texts: &[&str]) -> Self {
        Self::Array("s".into(), texts.iter().map(|text| Self::Text((*text).into())).collect())
    }

    /// Its type.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int16(_) => "n".into(),
            Self::Uint16(_) => "q".into(),
            Self::Int32(_) => "i".into(),
            Self::Uint32(_) => "u".into(),
            Self::Int64(_) => "x".into(),
            Self::Uint64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                format!("({fields})")
            }
        }
    }
}

/// On what multiple the values of a type begin.
fn alignment(signature: &str) -> usize {
    match signature.bytes().next() {
        Some(b'n' | b'q') => 2,
        Some(b'i' | b'u' | b'b' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// The arguments of a call, as they are being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    signature: String,
    bytes: Vec<u8>,
}

impl Body {
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        self.put_text(text);
        self
    }

    pub(crate) fn boolean(mut self, value: bool) -> Self {
        self.signature.push('b');
        self.put_u32(value.into());
        self
    }

    /// One value of any type, not as a variant.
    pub(crate) fn value(mut self, value: &Value) -> Self {
        self.signature.push_str(&value.signature());
        self.put(value);
        self
    }

    /// `a(sv)`.
    pub(crate) fn properties(mut self, list: &[(String, Value)]) -> Self {
        self.signature.push_str("a(sv)");
        self.put_array(8, |body| {
            for (name, value) in list {
                body.align(8);
                body.put_text(name);
                body.put_variant(value);
            }
        });
        self
    }

    /// An empty array of `element`.
    pub(crate) fn nothing(mut self, element: &str) -> Self {
        self.signature.push('a');
        self.signature.push_str(element);
        self.put_array(alignment(element), |_| {});
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put_u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    /// What would end a string early is left out: who puts in a NUL has been told before.
    fn put_text(&mut self, text: &str) {
        let text = text.split('\0').next().unwrap_or_default();
        self.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn put_signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(signature.as_bytes());
        self.bytes.push(0);
    }

    fn put_variant(&mut self, value: &Value) {
        self.put_signature(&value.signature());
        self.put(value);
    }

    /// The length of an array does not count the padding before its first element.
    fn put_array(&mut self, element: usize, fill: impl FnOnce(&mut Self)) {
        self.put_u32(0);
        let at = self.bytes.len() - 4;
        self.align(element);
        let start = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn put(&mut self, value: &Value) {
        self.align(alignment(&value.signature()));
        match value {
            Value::Byte(value) => self.bytes.push(*value),
            Value::Bool(value) => self.put_u32((*value).into()),
            Value::Int16(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Uint16(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Int32(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Uint32(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Int64(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Uint64(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Double(value) => self.bytes.extend_from_slice(&value.to_ne_bytes()),
            Value::Text(text) => self.put_text(text),
            Value::Array(element, items) => self.put_array(alignment(element), |body| {
                items.iter().for_each(|item| body.put(item));
            }),
            Value::Struct(fields) => fields.iter().for_each(|field| self.put(field)),
        }
    }
}

/// What a message is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A method call, ready to be sent.
pub(super) fn encode_call(serial: u32, header: &Header<'_>, body: &Body) -> Vec<u8> {
    let mut out = Body::default();
    out.bytes.extend_from_slice(&[ENDIAN, METHOD_CALL, 0, 1]);
    out.put_u32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
    out.put_u32(serial);
    out.put_array(8, |out| {
        let mut field = |code: u8, kind: &str, text: &str| {
            out.align(8);
            out.bytes.push(code);
            out.put_signature(kind);
            if kind == "g" { out.put_signature(text) } else { out.put_text(text) }
        };
        field(PATH, "o", header.path);
        field(INTERFACE, "s", header.interface);
        field(MEMBER, "s", header.member);
        if let Some(destination) = header.destination {
            field(DESTINATION, "s", destination);
        }
        if !body.signature.is_empty() {
            field(SIGNATURE, "g", &body.signature);
        }
    });
    out.align(8);
    out.bytes.extend_from_slice(&body.bytes);
    out.bytes
}

/// A message that was received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(super) kind: u8,
    pub(super) reply_serial: u32,
    pub(super) member: String,
    pub(super) interface: String,
    pub(super) error_name: String,
    pub(super) sender: String,
    signature: String,
    body: Vec<u8>,
}

impl Message {
    /// The arguments, if all of them are strings, object paths or 32-bit numbers (as decimals), which those of systemd are.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let mut list = Vec::new();
        for kind in self.signature.bytes() {
            let argument = match kind {
                b's' | b'o' => reader.text(),
                b'u' => reader.u32().map(|number| number.to_string()),
                _ => None,
            };
            let Some(argument) = argument else { break };
            list.push(argument);
        }
        list
    }

    /// How long its arguments are, in bytes.
    pub(super) fn size(&self) -> usize {
        self.body.len()
    }

    /// How long the message is that begins with `start`, once there are [`FIXED`] bytes of it; `None` if it is none.
    pub(super) fn length(start: &[u8]) -> Option<usize> {
        if start.first() != Some(&ENDIAN) || start.get(3) != Some(&1) {
            return None;
        }
        let body = Reader { bytes: start, at: 4 }.u32()?;
        let fields = Reader { bytes: start, at: 12 }.u32()?;
        let fields = usize::try_from(fields).ok()?.checked_next_multiple_of(8)?;
        let length = FIXED.checked_add(fields)?.checked_add(usize::try_from(body).ok()?)?;
        (length <= MAX_MESSAGE).then_some(length)
    }

    /// Reads a whole message; `None` if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if Self::length(bytes)? != bytes.len() {
            return None;
        }
        let mut message = Self { kind: *bytes.get(1)?, ..Self::default() };
        let end = FIXED + usize::try_from(Reader { bytes, at: 12 }.u32()?).ok()?;
        let mut reader = Reader { bytes: bytes.get(..end)?, at: FIXED };
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match kind.as_str() {
                "s" | "o" => {
                    let text = reader.text()?;
                    match code {
                        MEMBER => message.member = text,
                        INTERFACE => message.interface = text,
                        ERROR_NAME => message.error_name = text,
                        SENDER => message.sender = text,
                        _ => {}
                    }
                }
                "g" => {
                    let text = reader.signature()?;
                    if code == SIGNATURE {
                        message.signature = text;
                    }
                }
                "u" => {
                    let number = reader.u32()?;
                    if code == REPLY_SERIAL {
                        message.reply_serial = number;
                    }
                }
                // No field of the specification has another type.
                _ => return None,
            }
        }
        message.body = bytes.get(end.next_multiple_of(8)..)?.to_vec();
        Some(message)
    }
}

/// Reads what others wrote: everything is checked, nothing is believed.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        let at = self.at.checked_next_multiple_of(to)?;
        self.take(at - self.at).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
pub(super) fn encode_for_tests(
    kind: u8,
    reply_serial: u32,
    names: &[(u8, &str)],
    body: &Body,
) -> Vec<u8> {
    let mut out = Body::default();
    out.bytes.extend_from_slice(&[ENDIAN, kind, 0, 1]);
    out.put_u32(u32::try_from(body.bytes.len()).unwrap());
    out.put_u32(7);
    out.put_array(8, |out| {
        if reply_serial != 0 {
            out.align(8);
            out.bytes.push(REPLY_SERIAL);
            out.put_signature("u");
            out.put_u32(reply_serial);
        }
        for (code, text) in names {
            out.align(8);
            out.bytes.push(*code);
            out.put_signature("s");
            out.put_text(text);
        }
        out.align(8);
        out.bytes.push(SIGNATURE);
        out.put_signature("g");
        out.put_signature(&body.signature);
    });
    out.align(8);
    out.bytes.extend_from_slice(&body.bytes);
    out.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_is_what_the_specification_says() {
        let header = Header { destination: Some("d.e"), path: "/p", interface: "i.j", member: "M" };
        let body = Body::default().text("hi").boolean(true);
        let bytes = encode_call(3, &header, &body);
        let expected = [
            &b"l\x01\x00\x01\x0c\x00\x00\x00\x03\x00\x00\x00\x4e\x00\x00\x00"[..],
            b"\x01\x01o\x00\x02\x00\x00\x00/p\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00i.j\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x01\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00",
            b"\x08\x01g\x00\x02sb\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x02\x00\x00\x00hi\x00\x00\x01\x00\x00\x00",
        ]
        .concat();
        // The fields end before their padding.
        let mut expected = expected;
        let fields = bytes[12];
        expected[12] = fields;
        assert_eq!(bytes[..16], expected[..16]);
        assert_eq!(bytes.len(), Message::length(&bytes).unwrap());
        let decoded = Message::decode(&bytes).unwrap();
        assert_eq!((decoded.member.as_str(), decoded.interface.as_str()), ("M", "i.j"));
        assert!(bytes.ends_with(b"\x02\x00\x00\x00hi\x00\x00\x01\x00\x00\x00"), "{bytes:?}");
        assert_eq!(&bytes[16..32], &expected[16..32]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn values_are_aligned_and_arrays_counted_without_padding() {
        let value = |value: Value| Body::default().value(&value).bytes;
        assert_eq!(value(Value::Array("t".into(), vec![Value::Uint64(1)])), {
            let mut bytes = vec![8, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend_from_slice(&1_u64.to_ne_bytes());
            bytes
        });
        let empty = Body::default().nothing("(sv)");
        assert_eq!(empty.bytes, [0; 8]);
        let properties = vec![("N".to_owned(), Value::Uint64(2))];
        let body = Body::default().text("u").properties(&properties);
        assert_eq!(body.signature, "sa(sv)");
        assert_eq!(
            body.bytes,
            b"\x01\0\0\0u\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0N\0\x01t\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"[..]
                .iter()
                .copied()
                .enumerate()
                .map(|(at, byte)| if at == 8 { 24 } else { byte })
                .collect::<Vec<u8>>()
        );
        let pair = Value::Struct(vec![Value::Text("a".into()), Value::Text("b".into())]);
        assert_eq!(Value::Array(pair.signature(), vec![pair]).signature(), "a(ss)");
    }

    #[test]
    fn a_reply_gives_its_arguments() {
        let body =
            Body::default().value(&Value::Uint32(5)).text("/job/5").text("x.scope").text("done");
        let bytes = encode_for_tests(SIGNAL, 0, &[(MEMBER, "JobRemoved"), (SENDER, ":1.2")], &body);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.arguments(), ["5", "/job/5", "x.scope", "done"]);
        assert_eq!((message.kind, message.sender.as_str()), (SIGNAL, ":1.2"));
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_is_more_than_refused() {
        let body = Body::default().text("/job/5").value(&Value::texts(&["a", "b"]));
        let names = [(ERROR_NAME, "org.x.Error.Y"), (MEMBER, "M"), (SENDER, ":1.9")];
        let bytes = encode_for_tests(ERROR, 4, &names, &body);
        assert_eq!(Message::decode(&bytes).unwrap().arguments(), ["/job/5"]);
        for end in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..end]), None, "{end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let _no_panic = Message::decode(&bad).map(|message| message.arguments());
            }
        }
    }

    #[test]
    fn a_length_beyond_reason_is_no_message() {
        let mut start = vec![ENDIAN, METHOD_RETURN, 0, 1];
        for (body, fields) in [(u32::MAX, 8), (8, u32::MAX), (u32::MAX, u32::MAX), (1 << 20, 0)] {
            start.truncate(4);
            start.extend_from_slice(&u32::to_ne_bytes(body));
            start.extend_from_slice(&[1, 0, 0, 0]);
            start.extend_from_slice(&u32::to_ne_bytes(fields));
            assert_eq!(Message::length(&start), None);
        }
    }
}
