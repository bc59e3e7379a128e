//! Keys that promise what is not there yet: ignoring them would leave their operator in a wrong belief.

/// Why a start is refused when `key` has `value`; `None` when it may be ignored.
pub(crate) fn broken_by_ignoring(key: &str, value: &str) -> Option<&'static str> {
    let promise = PROMISES.iter().find(|promise| promise.key == key)?;
    let is_harmless = promise
        .harmless
        .iter()
        .any(|harmless| value.eq_ignore_ascii_case(harmless));
    (!is_harmless).then_some(promise.reason)
}

struct Promise {
    key: &'static str,
    /// Values that ask for nothing.
    harmless: &'static [&'static str],
    reason: &'static str,
}

const NO_ELECTION: &str = "masters are not elected yet";
const NO_REPLICAS: &str =
    "nothing is replicated yet, and sends would be acknowledged without their copies";
const NO_CLIENT_CERTIFICATES: &str =
    "clients are not asked for certificates yet, and everybody would be let in";
const NO_ACCESS_CONTROL: &str = "there is no access control yet, and everybody would be let in";

#[rustfmt::skip]
const PROMISES: &[Promise] = &[
    Promise { key: "aclEnable", harmless: &["false"], reason: NO_ACCESS_CONTROL },
    Promise { key: "allAckInSyncStateSet", harmless: &["false"], reason: NO_REPLICAS },
    Promise { key: "authenticationEnabled", harmless: &["false"], reason: NO_ACCESS_CONTROL },
    Promise { key: "authorizationEnabled", harmless: &["false"], reason: NO_ACCESS_CONTROL },
    Promise { key: "brokerRole", harmless: &["ASYNC_MASTER", "SYNC_MASTER"], reason: "a broker cannot follow a master yet" },
    Promise { key: "enableControllerInNamesrv", harmless: &["false"], reason: NO_ELECTION },
    Promise { key: "enableControllerMode", harmless: &["false"], reason: NO_ELECTION },
    Promise { key: "enableDLegerCommitLog", harmless: &["false"], reason: NO_ELECTION },
    Promise { key: "inSyncReplicas", harmless: &["1"], reason: NO_REPLICAS },
    Promise {
        key: "storeType",
        harmless: &["default"],
        reason: "consume queues kept in RocksDB cannot be read; start RocketMQ once more with storeType=default, which writes them as files",
    },
    Promise { key: "tls.server.authClient", harmless: &["false"], reason: NO_CLIENT_CERTIFICATES },
    Promise { key: "tls.server.keyPassword", harmless: &[""], reason: "the private key must not be encrypted" },
    Promise { key: "tls.server.need.client.auth", harmless: &["none"], reason: NO_CLIENT_CERTIFICATES },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::reason_ignored;

    #[test]
    fn every_promise_is_a_key_that_would_be_ignored() {
        for promise in PROMISES {
            assert!(reason_ignored(promise.key).is_some(), "{}", promise.key);
        }
    }
}
