//! Is a payload that passes through unread fit for whoever receives it?
//!
//! JSON's grammar allows what many parsers refuse: half a surrogate pair, numbers beyond a double, nesting without
//! end (RFC 8259 sections 6, 8.2, 9). One member must not break another's parser through us.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Objects and arrays within each other.
const MAX_DEPTH: usize = 32;

/// Reads through a JSON text, keeping nothing.
///
/// # Errors
/// The first thing that is not as above.
pub(super) fn check(text: &str) -> serde_json::Result<()> {
    Value { depth_left: MAX_DEPTH }.deserialize(&mut serde_json::Deserializer::from_str(text))
}

#[derive(Clone, Copy)]
struct Value {
    depth_left: usize,
}

impl Value {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1);
        let deeper = || E::custom(format_args!("nested deeper than {MAX_DEPTH}"));
        Ok(Self { depth_left: depth_left.ok_or_else(deeper)? })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while map.next_entry_seed(inner, inner)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_parser_takes_passes() {
        let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
        for good in [
            r#"{"a":[null,true,-1,1.5e300,"\ud83d\ude00 é \u0000"]}"#,
            "123456789012345678901234567890",
            &deep,
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_many_parsers_refuse_is_refused() {
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        let endless = "[".repeat(100_000);
        for bad in [r#""\ud800""#, r#"{"\udc00":1}"#, "[1e999]", &deep, &endless, r#"{"a":"#] {
            assert!(check(bad).is_err(), "{bad:.40}");
        }
    }
}
