//! The language of a client library, as it names itself in every header.

/// One byte in the binary header, a name in the JSON header. An unknown value never fails a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Language(
    /// The number on the wire.
    pub u8,
);

/// Names by number; the position is the number.
const NAMES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP",
    "OMS", "RUST", "NODE_JS",
];

impl Language {
    /// Java, and what every server calls itself.
    pub const JAVA: Self = Self(0);
    /// C++ and what wraps it.
    pub const CPP: Self = Self(1);
    /// .NET.
    pub const DOTNET: Self = Self(2);
    /// Python.
    pub const PYTHON: Self = Self(3);
    /// Delphi.
    pub const DELPHI: Self = Self(4);
    /// Erlang.
    pub const ERLANG: Self = Self(5);
    /// Ruby.
    pub const RUBY: Self = Self(6);
    /// Anything else.
    pub const OTHER: Self = Self(7);
    /// HTTP gateways.
    pub const HTTP: Self = Self(8);
    /// Go.
    pub const GO: Self = Self(9);
    /// PHP.
    pub const PHP: Self = Self(10);
    /// OpenMessaging.
    pub const OMS: Self = Self(11);
    /// Rust.
    pub const RUST: Self = Self(12);
    /// Node.js.
    pub const NODE_JS: Self = Self(13);

    /// The name in a JSON header; `OTHER` for a number without a name.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// The language of a name; `OTHER` for an unknown name.
    pub fn from_name(name: &str) -> Self {
        let number = NAMES.iter().position(|known| *known == name);
        number
            .and_then(|number| u8::try_from(number).ok())
            .map_or(Self::OTHER, Self)
    }

    /// The language of a number in JSON; `OTHER` for an unknown one, which would be written as that too.
    pub(crate) fn from_number(number: u64) -> Self {
        let known = usize::try_from(number).is_ok_and(|number| number < NAMES.len());
        u8::try_from(number).map_or(
            Self::OTHER,
            |number| if known { Self(number) } else { Self::OTHER },
        )
    }
}

impl Default for Language {
    fn default() -> Self {
        Self::JAVA
    }
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Debug for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl serde::Serialize for Language {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Language {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Language;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a language name or its number")
            }
            fn visit_str<E>(self, name: &str) -> Result<Language, E> {
                Ok(Language::from_name(name))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Language, E> {
                Ok(Language::from_number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Language, E> {
                Ok(u64::try_from(number).map_or(Language::OTHER, Language::from_number))
            }
            fn visit_unit<E>(self) -> Result<Language, E> {
                Ok(Language::OTHER)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(Language::from_name("NODE_JS"), Language::NODE_JS);
        assert_eq!(Language::GO.name(), "GO");
    }

    #[test]
    fn an_unknown_language_is_other() {
        assert_eq!(Language::from_name("COBOL"), Language::OTHER);
        assert_eq!(Language(200).name(), "OTHER");
    }

    /// Found by the fuzzer: a JSON header with the language 24 was passed on as OTHER, so that who received it saw another command than who sent it.
    #[test]
    fn an_unknown_number_is_other_when_it_is_read() {
        assert_eq!(Language::from_number(24), Language::OTHER);
        assert_eq!(Language::from_number(u64::MAX), Language::OTHER);
        assert_eq!(Language::from_number(12), Language::RUST);
    }
}
