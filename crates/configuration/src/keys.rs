//! Declaring a role's keys.

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Name in files: RocketMQ's.
    pub name: &'static str,
    /// Meaning, one sentence or two.
    pub doc: &'static str,
    /// Type in words.
    pub type_name: &'static str,
    /// Unit of the value, or nothing.
    pub unit: &'static str,
    /// The default as it would be written.
    pub default: String,
    /// Accepted range in words, or nothing.
    pub bounds: &'static str,
}

/// The configuration of a role.
pub trait KeySet {
    /// Every key, in the order of declaration, with its default.
    fn keys(&self) -> Vec<Key>;
    /// Sets a key; `None` when there is no such key.
    ///
    /// The error says what would be accepted, in words that complete "must be …".
    fn set(&mut self, name: &str, value: &str) -> Option<Result<(), String>>;
    /// The value as it would be written; `None` when there is no such key.
    fn get(&self, name: &str) -> Option<String>;
    /// All keys as `key=value` lines, sorted.
    fn to_properties(&self) -> String {
        let mut lines: Vec<String> = self
            .keys()
            .iter()
            .map(|key| format!("{}={}\n", key.name, self.get(key.name).unwrap_or_default()))
            .collect();
        lines.sort();
        lines.concat()
    }
}

/// Declares a role's configuration: a struct with defaults, and the table of its keys.
///
/// ```
/// configuration::keys! {
///     /// What the example reads.
///     pub struct Example {
///         /// Port that clients connect to.
///         listen_port: u16 = 10911, "listenPort";
///         /// How long a message is kept.
///         reserved_hours: u32 = 72, "fileReservedTime", unit "h", within 1..=87600;
///     }
/// }
/// use configuration::KeySet;
/// let mut example = Example::default();
/// assert_eq!(example.set("fileReservedTime", "48"), Some(Ok(())));
/// assert!(example.set("fileReservedTime", "0").unwrap().is_err());
/// assert_eq!(example.to_properties(), "fileReservedTime=48\nlistenPort=10911\n");
/// ```
#[macro_export]
macro_rules! keys {
    ($(#[$struct_doc:meta])* $visibility:vis struct $type:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $name:literal
            $(, unit $unit:literal)? $(, within $bounds:expr)?;)*
    }) => {
        $(#[$struct_doc])*
        #[derive(Clone, Debug)]
        $visibility struct $type {
            $($(#[doc = $doc])+ $visibility $field: $kind,)*
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::KeySet for $type {
            fn keys(&self) -> Vec<$crate::Key> {
                let defaults = Self::default();
                vec![$($crate::Key {
                    name: $name,
                    doc: concat!($($doc),+).trim_ascii_start(),
                    type_name: <$kind as $crate::Value>::TYPE,
                    unit: concat!($($unit)?),
                    default: $crate::Value::render(&defaults.$field),
                    bounds: concat!($(stringify!($bounds))?),
                },)*]
            }

            fn set(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
                match name {
                    $($name => Some(match <$kind as $crate::Value>::parse(value) {
                        Ok(parsed) => {
                            $(if !($bounds).contains(&parsed) {
                                return Some(Err(concat!("within ", stringify!($bounds)).to_owned()));
                            })?
                            self.$field = parsed;
                            Ok(())
                        }
                        Err(accepted) => Err(accepted),
                    }),)*
                    _ => None,
                }
            }

            fn get(&self, name: &str) -> Option<String> {
                match name {
                    $($name => Some($crate::Value::render(&self.$field)),)*
                    _ => None,
                }
            }
        }
    };
}
