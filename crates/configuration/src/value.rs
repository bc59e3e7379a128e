//! Types that a key can have, and how their values are written.

use std::path::PathBuf;

/// A type of configuration values.
pub trait Value: Sized {
    /// The type's name in the documentation.
    const TYPE: &'static str;
    /// Reads a value.
    ///
    /// # Errors
    /// What would be accepted, in words that complete "must be …".
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes it as it is read.
    fn render(&self) -> String;
}

impl Value for String {
    const TYPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn render(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a path".to_owned());
        }
        Ok(text.into())
    }

    fn render(&self) -> String {
        self.display().to_string()
    }
}

impl Value for bool {
    const TYPE: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        // Java takes everything but "true" for false; a typing error would then switch a feature off in silence.
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

/// A key that may be left out.
impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }

    fn render(&self) -> String {
        self.as_ref().map(Value::render).unwrap_or_default()
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const TYPE: &'static str = "number";

            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| {
                    format!("a whole number from {} to {}, in digits", <$type>::MIN, <$type>::MAX)
                })
            }

            fn render(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers!(i32, i64, u16, u32, u64, usize);
