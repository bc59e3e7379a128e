//! Why an operation did not succeed.

use protocol::code::ResponseCode;
use remoting::CallError;
use thiserror::Error;

/// Why an operation did not succeed. Nothing is retried inside: whether it is safe, the caller knows.
#[derive(Debug, Error)]
pub enum Error {
    /// A server did not answer. Check the address, and that the server runs.
    #[error("{addr} did not answer: {source}")]
    Call {
        /// Whom was asked.
        addr: String,
        /// What happened.
        source: CallError,
    },
    /// No name server answered. Check the list of addresses.
    #[error("no name server answered ({}); give their addresses with -n or NAMESRV_ADDR", tried.join("; "))]
    NoNameServer {
        /// Each address with what happened.
        tried: Vec<String>,
    },
    /// A server answered that it will not.
    #[error("{addr} refused: CODE: {}  DESC: {remark}", code.0)]
    Refused {
        /// Who refused.
        addr: String,
        /// RocketMQ's code.
        code: ResponseCode,
        /// Its explanation.
        remark: String,
    },
    /// A server answered with something that is not understood. It is of another kind or version.
    #[error("{addr} sent an answer that is not understood: {reason}")]
    BadAnswer {
        /// Who answered.
        addr: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// No such cluster. The known ones are listed.
    #[error("no cluster named {cluster}; the name server knows {}", known.join(", "))]
    UnknownCluster {
        /// The name asked for.
        cluster: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No broker can do this at present: the topic has none that is alive and permits it.
    #[error("no broker of topic {topic} {missing}")]
    NoBroker {
        /// The topic.
        topic: String,
        /// What they all lack.
        missing: String,
    },
    /// Nothing was found under this id or key.
    #[error("query message by key finished, but no message.")]
    NoMessage,
    /// An id that is neither RocketMQ's nor anything like it.
    #[error("{id} is not a message id")]
    BadMessageId {
        /// The text given.
        id: String,
    },
}
