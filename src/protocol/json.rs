//! Reads JSON without losing anything: numbers stay as they are written, members keep their order,
//! repeated names stay apart, and every value knows its own bytes.
//!
//! General JSON libraries merge repeated names and turn numbers into floating point, so that two
//! amounts that differ can look the same. Here, what is not certainly the same differs.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memchr2;

/// How deep a document may be nested.
pub const DEPTH_MAX: usize = 128;

/// How many values a document may have, so that a small body cannot become a large tree.
pub const VALUES_MAX: usize = 65_536;

/// A value and the bytes that it was read from. Shows neither.
#[derive(Clone)]
pub struct Node<'a> {
    /// Its bytes in the document.
    pub raw: &'a [u8],
    /// What it is.
    pub value: Value<'a>,
}

/// A JSON value.
#[derive(Clone)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string.
    String(Text<'a>),
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object's members in their order, repeated names and all.
    Object(Vec<(Text<'a>, Node<'a>)>),
}

/// A string's decoded content: UTF-8, in which a lone surrogate has the three bytes that its code
/// point would have, so that no two strings are decoded alike unless they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a>(Cow<'a, [u8]>);

/// Why bytes are not a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// They are not JSON.
    #[error("it is not JSON")]
    Invalid,
    /// They go beyond [`DEPTH_MAX`] or [`VALUES_MAX`].
    #[error("its JSON is nested too deeply or has too many values")]
    TooMuch,
}

/// An RFC 6901 pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

/// What a pointer leads to.
#[derive(Debug, Clone)]
pub enum Found<'n, 'a> {
    /// Nothing is there.
    Nothing,
    /// This.
    One(&'n Node<'a>),
    /// A name on the way is repeated, so that nobody can say which is meant.
    Many,
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(…)")
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

impl Value<'_> {
    /// What it is, in a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl Text<'_> {
    /// The content.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The content, unless it has a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl std::str::FromStr for Pointer {
    type Err = NotAPointer;

    fn from_str(text: &str) -> Result<Self, NotAPointer> {
        if text.is_empty() {
            return Ok(Self(vec![]));
        }
        let tokens = text.strip_prefix('/').ok_or(NotAPointer)?.split('/');
        let unescape = |token: &str| {
            let mut escapes = token.split('~').skip(1);
            if !escapes.all(|after| after.starts_with(['0', '1'])) {
                return Err(NotAPointer);
            }
            // In this order, so that `~01` is `~1` and not a slash.
            Ok(token.replace("~1", "/").replace("~0", "~"))
        };
        Ok(Self(tokens.map(unescape).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

/// The text is not an RFC 6901 pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON pointer: expected nothing or /a/b, with ~0 for ~ and ~1 for /")]
pub struct NotAPointer;

impl Pointer {
    /// Its steps, unescaped.
    pub fn tokens(&self) -> &[String] {
        &self.0
    }

    /// Follows it.
    pub fn find<'n, 'a>(&self, root: &'n Node<'a>) -> Found<'n, 'a> {
        let mut node = root;
        for token in &self.0 {
            let mut matches: Box<dyn Iterator<Item = &Node<'a>>> = match &node.value {
                Value::Object(members) => Box::new(
                    members
                        .iter()
                        .filter(|(name, _)| name.as_bytes() == token.as_bytes())
                        .map(|(_, value)| value),
                ),
                Value::Array(items) => {
                    Box::new(index(token).and_then(|index| items.get(index)).into_iter())
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    return Found::Nothing;
                }
            };
            let Some(first) = matches.next() else { return Found::Nothing };
            if matches.next().is_some() {
                return Found::Many;
            }
            node = first;
        }
        Found::One(node)
    }
}

fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    if plain { token.parse().ok() } else { None }
}

impl Node<'_> {
    /// Where its bytes are in the document that it was read from.
    pub fn range_in(&self, document: &[u8]) -> Range<usize> {
        let start = self.raw.as_ptr().addr() - document.as_ptr().addr();
        start..start + self.raw.len()
    }

    /// Whether any object in it has a name twice.
    pub fn repeats_a_name(&self) -> bool {
        match &self.value {
            Value::Object(members) => {
                let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
                names.sort_unstable();
                names.windows(2).any(|pair| pair[0] == pair[1])
                    || members.iter().any(|(_, value)| value.repeats_a_name())
            }
            Value::Array(items) => items.iter().any(Self::repeats_a_name),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
}

/// Reads a document: strictly RFC 8259, UTF-8 without a byte order mark.
///
/// # Errors
/// [`NotJson`].
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, NotJson> {
    let text = std::str::from_utf8(bytes).map_err(|_| NotJson::Invalid)?;
    let mut reader = Reader { text, at: 0, values: 0 };
    let node = reader.node(0)?;
    if reader.at == text.len() { Ok(node) } else { Err(NotJson::Invalid) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    /// A value, with the white space on both its sides.
    fn node(&mut self, depth: usize) -> Result<Node<'a>, NotJson> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(NotJson::TooMuch);
        }
        self.skip_space();
        let start = self.at;
        let value = match self.peek().ok_or(NotJson::Invalid)? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Value::String(self.string()?),
            b't' => self.word("true", Value::Bool(true))?,
            b'f' => self.word("false", Value::Bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            _ => Value::Number(self.number()?),
        };
        let raw = &self.text.as_bytes()[start..self.at];
        self.skip_space();
        Ok(Node { raw, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, NotJson> {
        self.at += 1;
        self.skip_space();
        let mut members = vec![];
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            members.push((name, self.node(depth + 1)?));
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, NotJson> {
        self.at += 1;
        self.skip_space();
        let mut items = vec![];
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.node(depth + 1)?);
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, NotJson> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(NotJson::Invalid);
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotJson::Invalid) }
    }

    fn string(&mut self) -> Result<Text<'a>, NotJson> {
        self.expect(b'"')?;
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let length = memchr2(b'"', b'\\', rest).ok_or(NotJson::Invalid)?;
        let plain = &rest[..length];
        // All of them, whatever was found: that is done many at a time.
        if plain.iter().fold(false, |found, &byte| found | (byte < 0x20)) {
            return Err(NotJson::Invalid);
        }
        self.at += length;
        if rest[length] == b'\\' {
            return self.escaped(start);
        }
        self.at += 1;
        Ok(Text(Cow::Borrowed(plain)))
    }

    /// The rest of a string that has escapes.
    fn escaped(&mut self, start: usize) -> Result<Text<'a>, NotJson> {
        let mut content = self.text.as_bytes()[start..self.at].to_vec();
        loop {
            let byte = self.next().ok_or(NotJson::Invalid)?;
            match byte {
                b'"' => return Ok(Text(Cow::Owned(content))),
                b'\\' => self.escape(&mut content)?,
                0..0x20 => return Err(NotJson::Invalid),
                _ => content.push(byte),
            }
        }
    }

    fn escape(&mut self, content: &mut Vec<u8>) -> Result<(), NotJson> {
        let byte = match self.next().ok_or(NotJson::Invalid)? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let point = self.code_point()?;
                push_point(content, point);
                return Ok(());
            }
            _ => return Err(NotJson::Invalid),
        };
        content.push(byte);
        Ok(())
    }

    /// What `\u` begins: a code point, of two escapes if they are a pair.
    fn code_point(&mut self) -> Result<u32, NotJson> {
        let unit = self.hex()?;
        let after = self.at;
        let high = (0xd800..0xdc00).contains(&unit);
        if high && self.take(b'\\') && self.take(b'u') {
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                return Ok(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            }
        }
        self.at = after;
        Ok(unit)
    }

    fn hex(&mut self) -> Result<u32, NotJson> {
        (0..4).try_fold(0, |value, _| {
            let digit = self.next().and_then(|byte| char::from(byte).to_digit(16));
            Ok(value * 16 + digit.ok_or(NotJson::Invalid)?)
        })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(NotJson::Invalid) }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

fn push_point(content: &mut Vec<u8>, point: u32) {
    match char::from_u32(point) {
        Some(point) => content.extend_from_slice(point.encode_utf8(&mut [0; 4]).as_bytes()),
        // A lone surrogate: the three bytes that it would have. UTF-8 text cannot contain them.
        None => {
            let [_, _, high, low] = point.to_be_bytes();
            content.extend([
                0xe0 | (high >> 4),
                0x80 | ((high & 0x0f) << 2) | (low >> 6),
                0x80 | (low & 0x3f),
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at<'n, 'a>(root: &'n Node<'a>, pointer: &str) -> Found<'n, 'a> {
        pointer.parse::<Pointer>().unwrap().find(root)
    }

    fn text(json: &str) -> Vec<u8> {
        let Ok(Node { value: Value::String(text), .. }) = parse(json.as_bytes()) else {
            panic!("not a string: {json}")
        };
        text.as_bytes().to_vec()
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "NaN",
            "tru",
            "\"",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\u{feff}1",
            "1 2",
            "'a'",
            "{\"a\":1,}",
            "// c\n1",
            "1e+",
            "--1",
            "\"\\u00zz\"",
        ] {
            assert_eq!(parse(text.as_bytes()).err(), Some(NotJson::Invalid), "{text:?}");
        }
        assert_eq!(parse(b"\"\xff\"").err(), Some(NotJson::Invalid));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse(nested(DEPTH_MAX + 2).as_bytes()).err(), Some(NotJson::TooMuch));
        assert_eq!(parse("[".repeat(1_000_000).as_bytes()).err(), Some(NotJson::TooMuch));

        let many = |count: usize| format!("[0{}]", ",0".repeat(count - 1));
        assert!(parse(many(VALUES_MAX - 1).as_bytes()).is_ok());
        assert_eq!(parse(many(VALUES_MAX).as_bytes()).err(), Some(NotJson::TooMuch));
    }

    #[test]
    fn strings_are_decoded_and_lone_surrogates_kept_apart() {
        assert_eq!(text(r#""\u00e9\n\/\"\\""#), "é\n/\"\\".as_bytes());
        assert_eq!(text(r#""\ud83d\ude00""#), "😀".as_bytes());
        assert_ne!(text(r#""\ud800""#), text(r#""\ud801""#));
        assert_ne!(text(r#""\ud800""#), text(r#""\ufffd""#));
        assert_eq!(text(r#""\ud800\u0041""#), b"\xed\xa0\x80A");
        assert_eq!(text(r#""\ud800\ud83d\ude00""#), b"\xed\xa0\x80\xf0\x9f\x98\x80");
    }

    #[test]
    fn every_value_knows_its_own_bytes() {
        let root = parse(br#" { "a" : [ 1.0 , {"b":1e2 } ] } "#).unwrap();

        let Found::One(node) = at(&root, "/a/1") else { panic!("not found") };

        assert_eq!(node.raw, br#"{"b":1e2 }"#);
        assert_eq!(root.raw, br#"{ "a" : [ 1.0 , {"b":1e2 } ] }"#);
    }

    #[test]
    fn pointers_lead_to_one_thing_or_say_so() {
        let root = parse(br#"{"a/b":{"~":[10,11]},"x":1,"x":2,"":{"y":3}}"#).unwrap();

        for (pointer, raw) in [("/a~1b/~0/1", "11"), ("//y", "3"), ("/a~1b/~0", "[10,11]")] {
            let Found::One(node) = at(&root, pointer) else { panic!("{pointer}") };
            assert_eq!(node.raw, raw.as_bytes(), "{pointer}");
        }
        assert!(matches!(at(&root, "/x"), Found::Many));
        for pointer in ["/a~1b/~0/2", "/a~1b/~0/01", "/a~1b/~0/-", "/a~1b/~0/+1", "/nope", "/x~01"]
        {
            assert!(matches!(at(&root, pointer), Found::Nothing), "{pointer}");
        }
        for text in ["a", "/~", "/~2", "/~~0"] {
            assert_eq!(text.parse::<Pointer>(), Err(NotAPointer), "{text}");
        }
        assert!(root.repeats_a_name());
        assert!(!parse(br#"[{"a":1},{"a":1}]"#).unwrap().repeats_a_name());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nothing_that_looks_like_json_makes_it_panic(text in r#"[\[\]{}",:0-9eE.+\\ud8tfn\- ]{0,40}"#) {
            let ours = parse(text.as_bytes());
            // What the other library reads, this one reads too.
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert!(ours.is_ok());
            }
        }

        #[test]
        fn any_string_survives(content: String) {
            let json = serde_json::to_string(&content).unwrap();
            prop_assert_eq!(text(&json), content.as_bytes());
        }
    }
}
