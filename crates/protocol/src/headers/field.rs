//! How a field of each type is read and written.

use std::borrow::Cow;

use crate::header::{FieldError, FieldMap, FieldValue, Fields, ReadFields, WriteFields};

/// A type that a header's field can have.
pub(crate) trait Field<'f>: Sized {
    /// For messages.
    const EXPECTED: &'static str;

    /// The value of a text; `None` when it is not of this type.
    fn parse(value: FieldValue<'f>) -> Option<Self>;

    /// What an absent field stands for.
    fn absent(name: &'static str) -> Result<Self, FieldError> {
        Err(FieldError::Missing(name))
    }

    /// Writes the field, unless it is absent.
    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str));
}

/// Reads one field, or says what is wrong with it.
pub(crate) fn read<'f, T: Field<'f>>(
    name: &'static str,
    value: FieldValue<'f>,
) -> Result<T, FieldError> {
    T::parse(value).ok_or_else(|| FieldError::invalid(name, T::EXPECTED, value))
}

impl<'f> Field<'f> for i32 {
    const EXPECTED: &'static str = "32-bit integer";

    fn parse(value: FieldValue<'f>) -> Option<Self> {
        value.integer()?.try_into().ok()
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        write(name, itoa::Buffer::new().format(*self));
    }
}

impl<'f> Field<'f> for i64 {
    const EXPECTED: &'static str = "64-bit integer";

    fn parse(value: FieldValue<'f>) -> Option<Self> {
        value.integer()
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        write(name, itoa::Buffer::new().format(*self));
    }
}

impl<'f> Field<'f> for bool {
    const EXPECTED: &'static str = "boolean";

    fn parse(value: FieldValue<'f>) -> Option<Self> {
        Some(value.boolean())
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        write(name, if *self { "true" } else { "false" });
    }
}

impl<'f> Field<'f> for String {
    const EXPECTED: &'static str = "text";

    fn parse(value: FieldValue<'f>) -> Option<Self> {
        Some(value.text().into_owned())
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        write(name, self);
    }
}

impl<'f> Field<'f> for Cow<'f, str> {
    const EXPECTED: &'static str = "text";

    fn parse(value: FieldValue<'f>) -> Option<Self> {
        Some(value.text())
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        write(name, self);
    }
}

impl<'f, T: Field<'f>> Field<'f> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn parse(value: FieldValue<'f>) -> Option<Self> {
        T::parse(value).map(Some)
    }

    fn absent(_: &'static str) -> Result<Self, FieldError> {
        Ok(None)
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        if let Some(value) = self {
            value.write(name, write);
        }
    }
}

/// Which message answers a search by time when several share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BoundaryType {
    /// The first one.
    #[default]
    Lower,
    /// The last one.
    Upper,
}

impl<'f> Field<'f> for BoundaryType {
    const EXPECTED: &'static str = "boundary type";

    /// Anything but "upper" is the lower boundary, as in Java.
    fn parse(value: FieldValue<'f>) -> Option<Self> {
        let upper = value.text().eq_ignore_ascii_case("upper");
        Some(if upper {
            BoundaryType::Upper
        } else {
            BoundaryType::Lower
        })
    }

    fn write(&self, name: &str, write: &mut dyn FnMut(&str, &str)) {
        let text = match self {
            BoundaryType::Lower => "LOWER",
            BoundaryType::Upper => "UPPER",
        };
        write(name, text);
    }
}

/// A header together with the broker it is meant for, which RocketMQ's proxy needs in order to pass a request on.
#[derive(Clone, Debug, PartialEq)]
pub struct WithBrokerName<H> {
    /// The header itself.
    pub header: H,
    /// `bname`
    pub broker_name: Option<String>,
}

const BROKER_NAME: &str = "bname";

impl<'f, H: ReadFields<'f>> ReadFields<'f> for WithBrokerName<H> {
    fn read_fields(fields: Fields<'f>) -> Result<Self, FieldError> {
        Ok(Self {
            header: fields.read()?,
            broker_name: fields.get(BROKER_NAME).map(Cow::into_owned),
        })
    }
}

impl<H: WriteFields> WriteFields for WithBrokerName<H> {
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str)) {
        self.header.write_fields(write);
        self.broker_name.write(BROKER_NAME, write);
    }
}

/// Several headers in one: used where a request carries fields beyond its own header.
impl<A: WriteFields> WriteFields for (A, &FieldMap) {
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str)) {
        self.0.write_fields(write);
        self.1.write_fields(write);
    }
}
