//! A deserializer that forgives what fastjson forgives.
//!
//! Numbers and booleans may stand in quotes, booleans may be numbers, texts may be numbers, enums may be ordinals, and
//! `null` stands for the empty value of any type.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

/// Wraps a deserializer, and everything that comes out of it.
pub(super) struct Lenient<D>(pub(super) D);

#[derive(Clone, Copy)]
enum Want {
    Anything,
    Integer,
    Float,
    Boolean,
    Text,
    Sequence,
    Map,
}

macro_rules! forward {
    ($($method:ident => $want:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.deserialize_any(Forgiving { visitor, want: Want::$want })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<D> {
    type Error = D::Error;

    forward! {
        deserialize_any => Anything,
        deserialize_bool => Boolean,
        deserialize_i8 => Integer, deserialize_i16 => Integer, deserialize_i32 => Integer, deserialize_i64 => Integer,
        deserialize_u8 => Integer, deserialize_u16 => Integer, deserialize_u32 => Integer, deserialize_u64 => Integer,
        deserialize_f32 => Float, deserialize_f64 => Float,
        deserialize_char => Text, deserialize_str => Text, deserialize_string => Text,
        deserialize_bytes => Anything, deserialize_byte_buf => Anything,
        deserialize_unit => Anything,
        deserialize_seq => Sequence,
        deserialize_map => Map,
        deserialize_identifier => Anything,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OptionVisitor(visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(EnumVisitor { visitor, variants })
    }
}

/// Hands the value to the real visitor in the form that it wants.
struct Forgiving<V> {
    visitor: V,
    want: Want,
}

impl<'de, V: Visitor<'de>> Forgiving<V> {
    fn text<E: Error>(self, text: &str) -> Result<V::Value, E> {
        match self.want {
            Want::Integer => match text.trim() {
                "" => self.visitor.visit_i64(0),
                digits => match digits.parse::<i64>() {
                    Ok(value) => self.integer(value),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &"an integer")),
                },
            },
            Want::Float => match text.trim().parse() {
                Ok(value) => self.visitor.visit_f64(value),
                Err(_) => Err(E::invalid_value(Unexpected::Str(text), &"a number")),
            },
            Want::Boolean => self
                .visitor
                .visit_bool(text.eq_ignore_ascii_case("true") || text == "1"),
            Want::Sequence if text.is_empty() => self.visitor.visit_seq(empty_seq()),
            Want::Map if text.is_empty() => self.visitor.visit_map(empty_map()),
            _ => self.visitor.visit_str(text),
        }
    }

    fn integer<E: Error>(self, value: i64) -> Result<V::Value, E> {
        match self.want {
            Want::Boolean => self.visitor.visit_bool(value != 0),
            Want::Text => self.visitor.visit_string(value.to_string()),
            _ => match u64::try_from(value) {
                Ok(value) => self.visitor.visit_u64(value),
                Err(_) => self.visitor.visit_i64(value),
            },
        }
    }
}

fn empty_seq<'de, E: Error>() -> impl SeqAccess<'de, Error = E> {
    SeqDeserializer::<_, E>::new(std::iter::empty::<u8>())
}

fn empty_map<'de, E: Error>() -> impl MapAccess<'de, Error = E> {
    MapDeserializer::<_, E>::new(std::iter::empty::<(u8, u8)>())
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Forgiving<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        match self.want {
            Want::Integer => self.visitor.visit_u64(u64::from(value)),
            Want::Text => self.visitor.visit_str(if value { "true" } else { "false" }),
            _ => self.visitor.visit_bool(value),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => self.visitor.visit_u64(value),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        match self.want {
            Want::Integer => self.visitor.visit_i64(value as i64),
            Want::Text => self.visitor.visit_string(value.to_string()),
            _ => self.visitor.visit_f64(value),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.text(text)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        match self.want {
            Want::Text | Want::Anything => self.visitor.visit_borrowed_str(text),
            _ => self.text(text),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        match self.want {
            Want::Anything => self.visitor.visit_unit(),
            Want::Integer => self.visitor.visit_i64(0),
            Want::Float => self.visitor.visit_f64(0.0),
            Want::Boolean => self.visitor.visit_bool(false),
            Want::Text => self.visitor.visit_str(""),
            Want::Sequence => self.visitor.visit_seq(empty_seq()),
            Want::Map => self.visitor.visit_map(empty_map()),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        match self.want {
            // A derived struct would take its fields from a list, in an order that nobody promised.
            Want::Map => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
            _ => self.visitor.visit_seq(LenientSeq(seq)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(LenientMap(map))
    }
}

struct OptionVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OptionVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Lenient(deserializer))
    }
}

struct LenientSeq<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for LenientSeq<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(LenientSeed(seed))
    }
}

struct LenientMap<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for LenientMap<A> {
    type Error = A::Error;

    /// Keys are read strictly: `serde_json` reads numbers from texts there by itself.
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(LenientSeed(seed))
    }
}

struct LenientSeed<T>(T);

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for LenientSeed<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Lenient(deserializer))
    }
}

/// An enum without data, by name or by ordinal; `null` is the first one.
struct EnumVisitor<V> {
    visitor: V,
    variants: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> EnumVisitor<V> {
    fn variant<E: Error>(self, name: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(StrDeserializer::<E>::new(name))
    }

    fn ordinal<E: Error>(self, ordinal: u64) -> Result<V::Value, E> {
        let variant = usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| self.variants.get(ordinal));
        match variant {
            Some(name) => self.variant(name),
            None => Err(E::invalid_value(
                Unexpected::Unsigned(ordinal),
                &"the ordinal of a known value",
            )),
        }
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for EnumVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V::Value, E> {
        match name.parse::<u64>() {
            Ok(ordinal) => self.ordinal(ordinal),
            Err(_) => self.variant(name),
        }
    }

    fn visit_u64<E: Error>(self, ordinal: u64) -> Result<V::Value, E> {
        self.ordinal(ordinal)
    }

    fn visit_i64<E: Error>(self, ordinal: i64) -> Result<V::Value, E> {
        self.ordinal(u64::try_from(ordinal).unwrap_or(u64::MAX))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.ordinal(0)
    }
}
