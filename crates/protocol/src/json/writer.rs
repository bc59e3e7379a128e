//! Writes JSON with Java's map keys.

use std::io::{self, Write};

use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use super::Dialect;

/// What the key being written has turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// No key is being written.
    None,
    /// Its opening quote is due, unless it is a number.
    Begun,
    /// Its first character is `{`; whether it is a queue, the next one tells.
    Brace,
    Text,
    Number,
    /// A queue: its text is an object and goes out as it is.
    Object,
}

/// A compact formatter that decides about each key's quotes when it sees what the key is.
pub(super) struct KeyFormatter {
    dialect: Dialect,
    key: Key,
}

impl KeyFormatter {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            key: Key::None,
        }
    }

    /// The key is a text after all: supply what was held back.
    fn settle<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.key {
            Key::Begun => writer.write_all(b"\"")?,
            Key::Brace => writer.write_all(b"\"{")?,
            _ => return Ok(()),
        }
        self.key = Key::Text;
        Ok(())
    }

    fn number_key<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.key == Key::Begun && self.dialect == Dialect::Fastjson {
            self.key = Key::Number;
        }
        self.settle(writer)
    }
}

/// Integer keys come between `begin_string` and `end_string`, like texts.
macro_rules! write_integers {
    ($($method:ident($type:ty)),*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W, value: $type) -> io::Result<()> {
            self.number_key(writer)?;
            CompactFormatter.$method(writer, value)
        })*
    };
}

impl Formatter for KeyFormatter {
    write_integers!(
        write_i8(i8),
        write_i16(i16),
        write_i32(i32),
        write_i64(i64),
        write_u8(u8),
        write_u16(u16)
    );
    write_integers!(write_u32(u32), write_u64(u64));

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        CompactFormatter.begin_object_key(writer, first)?;
        self.key = Key::Begun;
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.key = Key::None;
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.key {
            Key::None => writer.write_all(b"\""),
            _ => Ok(()),
        }
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.settle(writer)?;
        match self.key {
            Key::Number | Key::Object => Ok(()),
            _ => writer.write_all(b"\""),
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.key == Key::Begun && fragment == "{" {
            self.key = Key::Brace;
            return Ok(());
        }
        self.settle(writer)?;
        writer.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        if self.key == Key::Brace && matches!(escape, CharEscape::Quote) {
            self.key = Key::Object;
            return writer.write_all(b"{\"");
        }
        self.settle(writer)?;
        match (self.key, &escape) {
            (Key::Object, CharEscape::Quote) => writer.write_all(b"\""),
            (Key::Object, CharEscape::ReverseSolidus) => writer.write_all(b"\\"),
            _ => CompactFormatter.write_char_escape(writer, escape),
        }
    }
}
