//! JSON that passes through: looked at once, and copied or read into values nowhere but where a value is needed.
//!
//! JSON's grammar allows what many parsers refuse: half a surrogate pair, numbers beyond a double, nesting without
//! end (RFC 8259 sections 6, 8.2, 9). One member must not break another's parser through us, so that is refused, too.

use std::borrow::Cow;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{Deserialize, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Objects and arrays within each other.
const MAX_DEPTH: u32 = 32;

/// The fields of an object, in their order: names, and values as they are written.
#[derive(Debug)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// Looks through a whole JSON text.
    ///
    /// # Errors
    /// It is no object, or not JSON, or what is said above.
    pub(super) fn of(text: &'a str) -> Result<Self, String> {
        let mut scanner = Scanner { text, at: 0 };
        let mut fields = Vec::with_capacity(8);
        scanner.space();
        scanner.object(1, |key, value| fields.push((key, value)))?;
        scanner.space();
        match scanner.peek() {
            None => Ok(Self(fields.into_iter().map(|(key, value)| (name(key), value)).collect())),
            Some(_) => Err("more than one object".into()),
        }
    }

    /// Reads it into a type.
    ///
    /// # Errors
    /// A field is missing, is there twice, or has another type.
    pub(super) fn read<T: Deserialize<'a>>(&self) -> serde_json::Result<T> {
        let fields = self.0.iter().map(|(name, value)| (&**name, Value(value)));
        T::deserialize(MapDeserializer::new(fields))
    }
}

/// What stands between the quotation marks of a name, without its escapes.
fn name(quoted: &str) -> Cow<'_, str> {
    let plain = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    match plain.contains('\\') {
        true => serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(plain), Cow::Owned),
        false => Cow::Borrowed(plain),
    }
}

/// A value that was looked at already. Where a type asks for a `RawValue`, it is not looked at again.
#[derive(Clone, Copy)]
struct Value<'a>(&'a str);

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        serde_json::Deserializer::from_str(self.0).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0 == "null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        serde_json::Deserializer::from_str(self.0).deserialize_enum(name, variants, visitor)
    }

    /// `RawValue` is the only such type here. It takes a map of its own name and the text, as serde_json gives it.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let text = BorrowedStrDeserializer::new(self.0);
        visitor.visit_map(MapDeserializer::new(std::iter::once((name, text))))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The grammar of RFC 8259, one function for each rule.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes this byte, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(format!("expected `{}`", char::from(byte))) }
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: u32) -> Result<(), String> {
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => Err(format!("nested deeper than {MAX_DEPTH}")),
            Some(b'{') => self.object(depth + 1, |_, _| {}),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
                self.at += word.ok_or("expected value")?.len();
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: u32, mut each: impl FnMut(&'a str, &'a str)) -> Result<(), String> {
        self.expect(b'{')?;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let start = self.at;
            self.string()?;
            let key = self.since(start);
            self.space();
            self.expect(b':')?;
            self.space();
            let start = self.at;
            self.value(depth)?;
            each(key, self.since(start));
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
            self.space();
        }
    }

    fn array(&mut self, depth: u32) -> Result<(), String> {
        self.expect(b'[')?;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
            self.space();
        }
    }

    fn string(&mut self) -> Result<(), String> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let len = memchr::memchr2(b'"', b'\\', rest).ok_or("a string without end")?;
            // Without a branch in it: the compiler looks at many bytes at a time.
            if rest[..len].iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ' {
                return Err("a control character in a string".into());
            }
            self.at += len;
            if self.take(b'"') {
                return Ok(());
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        const HALF: &str = "half a surrogate pair";
        if let Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') =
            self.text.as_bytes().get(self.at + 1)
        {
            self.at += 2;
            return Ok(());
        }
        // Two units make one character beyond U+FFFF (section 7).
        match self.unit()? {
            0xD800..0xDC00 if matches!(self.unit(), Ok(0xDC00..0xE000)) => Ok(()),
            0xD800..0xE000 => Err(HALF.into()),
            _ => Ok(()),
        }
    }

    /// `\uXXXX`: a UTF-16 code unit.
    fn unit(&mut self) -> Result<u16, String> {
        let digits =
            self.text.as_bytes().get(self.at..self.at + 6).and_then(|unit| unit.strip_prefix(b"\\u"));
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()).ok_or("no such escape")?;
        self.at += 6;
        u16::from_str_radix(digits, 16).map_err(|error| error.to_string())
    }

    fn number(&mut self) -> Result<(), String> {
        /// Any number of so many characters fits into a double, if it has no exponent.
        const SHORT: usize = 300;
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        let has_exponent = self.take(b'e') || self.take(b'E');
        if has_exponent {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let number = self.since(start);
        let fits = !has_exponent && number.len() < SHORT;
        if fits || number.parse::<f64>().is_ok_and(f64::is_finite) {
            return Ok(());
        }
        Err("number out of range".into())
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err("expected a digit".into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn check(value: &str) -> Result<(), String> {
        Object::of(&format!(r#"{{"data":{value}}}"#)).map(drop)
    }

    #[test]
    fn what_every_parser_takes_passes() {
        let deep = format!("{}{}", "[".repeat(31), "]".repeat(31));
        for good in [
            r#"{"a":[null,true,-1,1.5e300,"\ud83d\ude00 é \u0000"]}"#,
            "123456789012345678901234567890",
            &deep,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_many_parsers_refuse_is_refused() {
        let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
        let endless = "[".repeat(100_000);
        let long = "9".repeat(400);
        for bad in
            [r#""\ud800""#, r#""\ud800\n""#, r#"{"\udc00":1}"#, "[1e999]", &long, &deep, &endless, r#"{"a":"#]
        {
            assert!(check(bad).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn names_lose_their_escapes_and_raw_values_keep_theirs() {
        #[derive(Debug, serde::Deserialize)]
        struct Some<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
            #[serde(borrow)]
            none: Option<&'a RawValue>,
            count: Option<u32>,
        }
        let object =
            Object::of(r#" { "d\u0061ta" : [ "\n", 1.50 ] ,"none": null,"count":7 , "more":{"x":"\\"} } "#);
        let read: Some<'_> = object.unwrap().read().unwrap();
        assert_eq!(
            (read.data.get(), read.none.is_none(), read.count),
            (r#"[ "\n", 1.50 ]"#, true, Option::Some(7))
        );
        for (bad, why) in [
            (r#"{"data":1,"data":2}"#, "duplicate field"),
            ("{}", "missing field"),
            (r#"{"data":1,"count":"x"}"#, "invalid type"),
        ] {
            let error = Object::of(bad).unwrap().read::<Some<'_>>().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    proptest! {
        /// Noise of the characters that matter, and JSON that was made to be it: serde_json's word is the same.
        #[test]
        fn the_grammar_is_that_of_serde_json(
            noise in r#"[\[\]{}:,"\\/ \t\n0-9eE+.u\x01é-]{0,12}"#,
            text in any::<String>(),
            number in any::<f64>(),
            cut in 0_usize..40,
        ) {
            let made = serde_json::json!({"a": [text, number, null, true, {"b": {}}]}).to_string();
            let cut = (0..=cut.min(made.len())).rev().find(|at| made.is_char_boundary(*at)).unwrap_or(0);
            for value in [noise.clone(), format!("[{noise}]"), format!("\"{noise}\""), made.clone(), made[..cut].into()] {
                let text = format!(r#"{{"data":{value}}}"#);
                let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
                prop_assert_eq!(Object::of(&text).is_ok(), theirs.is_ok(), "{}: {:?}", text, theirs.err());
            }
        }
    }
}
