//! Request and response codes as named values.

mod request;
mod response;

pub use request::RequestCode;
pub use response::ResponseCode;

/// Declares a code type with its named values, so that a name is written once.
macro_rules! codes {
    ($(#[$doc:meta])* $type:ident: $($(#[$item:meta])* $name:ident = $value:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(
            /// The number on the wire.
            pub i32,
        );

        impl $type {
            $($(#[$item])* pub const $name: Self = Self($value);)*

            /// Every named value with RocketMQ's name, in ascending order.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self($value), stringify!($name)),)*];

            /// RocketMQ's name of this value.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", self.name().unwrap_or("UNKNOWN"), self.0)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl From<i32> for $type {
            fn from(value: i32) -> Self {
                Self(value)
            }
        }
    };
}
use codes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_rocketmq_has_a_name() {
        assert_eq!(RequestCode::ALL.len(), 158);
        assert_eq!(ResponseCode::ALL.len(), 66);
    }

    #[test]
    fn a_code_shows_its_name_and_number() {
        assert_eq!(RequestCode::SEND_MESSAGE.to_string(), "SEND_MESSAGE(10)");
        assert_eq!(format!("{:?}", ResponseCode(4711)), "UNKNOWN(4711)");
    }

    #[test]
    fn codes_ascend_without_duplicates() {
        assert!(
            RequestCode::ALL
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0)
        );
        assert!(
            ResponseCode::ALL
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0)
        );
    }
}
