//! Applying a file to a role's keys.

use crate::keys::KeySet;
use crate::known::reason_ignored;
use crate::promises::broken_by_ignoring;
use crate::properties::{ParseError, parse};
use crate::suggest::nearest;

/// A file that cannot be used; nothing was started with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The syntax is broken.
    #[error("{file}, {source}")]
    Syntax {
        /// The file.
        file: String,
        /// What is wrong.
        source: ParseError,
    },
    /// No such key, here or in RocketMQ.
    #[error("{file}, line {line}: there is no key {key}{}", suggestion(.nearest))]
    Unknown {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The known key that is most like it.
        nearest: Option<String>,
    },
    /// The value does not fit the key.
    #[error("{file}, line {line}: {key} must be {accepted}, and is {value:?}")]
    BadValue {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// The key asks for something that is not there, and that its operator relies on.
    #[error("{file}, line {line}: {key}={value} cannot be kept: {reason}")]
    Promise {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What would not happen.
        reason: &'static str,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|key| format!(" (did you mean {key}?)"))
        .unwrap_or_default()
}

/// A key of RocketMQ's that has no effect here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The key.
    pub key: String,
    /// From 1.
    pub line: usize,
    /// Why it has none.
    pub reason: &'static str,
}

/// What applying a file did besides setting keys.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Keys without effect, in the file's order: to be said once at start.
    pub ignored: Vec<Ignored>,
    /// Keys that were set, in the file's order.
    pub set: Vec<String>,
}

/// Sets every key of the file's `text`. Either all of them fit, or nothing may be started with `keys`.
///
/// # Errors
/// The first line that cannot be used.
pub fn apply(file: &str, text: &str, keys: &mut dyn KeySet) -> Result<Report, Error> {
    let entries = parse(text).map_err(|source| Error::Syntax {
        file: file.to_owned(),
        source,
    })?;
    let mut report = Report::default();
    for entry in entries {
        match keys.set(&entry.key, &entry.value) {
            Some(Ok(())) => report.set.push(entry.key),
            Some(Err(accepted)) => {
                return Err(Error::BadValue {
                    file: file.to_owned(),
                    line: entry.line,
                    key: entry.key,
                    value: entry.value,
                    accepted,
                });
            }
            None => match reason_ignored(&entry.key) {
                Some(_) if let Some(reason) = broken_by_ignoring(&entry.key, &entry.value) => {
                    return Err(Error::Promise {
                        file: file.to_owned(),
                        line: entry.line,
                        key: entry.key,
                        value: entry.value,
                        reason,
                    });
                }
                Some(reason) => report.ignored.push(Ignored {
                    key: entry.key,
                    line: entry.line,
                    reason,
                }),
                None => {
                    return Err(Error::Unknown {
                        file: file.to_owned(),
                        line: entry.line,
                        nearest: nearest(&entry.key, keys),
                        key: entry.key,
                    });
                }
            },
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::keys! {
        /// Keys of the tests.
        struct Sample {
            /// Port.
            listen_port: u16 = 10911, "listenPort";
            /// Hours.
            reserved: u32 = 72, "fileReservedTime", unit "h", within 1..=100;
            /// On or off.
            enabled: bool = true, "longPollingEnable";
        }
    }

    fn error(text: &str) -> String {
        apply("broker.conf", text, &mut Sample::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn known_keys_are_set_and_meaningless_ones_reported() {
        let mut sample = Sample::default();
        let text = "listenPort=1\nsendMessageThreadPoolNums=4\nlongPollingEnable=FALSE";
        let report = apply("broker.conf", text, &mut sample).unwrap();
        assert_eq!((sample.listen_port, sample.enabled), (1, false));
        assert_eq!(report.ignored.len(), 1);
        assert_eq!(
            (report.ignored[0].key.as_str(), report.ignored[0].line),
            ("sendMessageThreadPoolNums", 2)
        );
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest() {
        assert_eq!(
            error("# x\nlistenPrt=1"),
            "broker.conf, line 2: there is no key listenPrt (did you mean listenPort?)"
        );
        assert_eq!(
            error("qqqqqqqqqqqqqq=1"),
            "broker.conf, line 1: there is no key qqqqqqqqqqqqqq"
        );
    }

    #[test]
    fn what_an_operator_relies_on_is_not_ignored() {
        assert_eq!(
            error("authenticationEnabled=true"),
            "broker.conf, line 1: authenticationEnabled=true cannot be kept: there is no access control yet, and everybody \
             would be let in"
        );
        assert!(error("brokerRole=SLAVE").contains("cannot follow a master"));
        let harmless = "brokerRole=ASYNC_MASTER\naclEnable=false\ninSyncReplicas=1";
        let report = apply("broker.conf", harmless, &mut Sample::default()).unwrap();
        assert_eq!(report.ignored.len(), 3);
    }

    #[test]
    fn a_bad_value_says_what_is_accepted() {
        assert_eq!(
            error("fileReservedTime=1024*3"),
            "broker.conf, line 1: fileReservedTime must be a whole number from 0 to 4294967295, in digits, and is \"1024*3\""
        );
        assert_eq!(
            error("fileReservedTime=0"),
            "broker.conf, line 1: fileReservedTime must be within 1..=100, and is \"0\""
        );
        assert!(error("longPollingEnable=yes").contains("must be true or false"));
    }
}
