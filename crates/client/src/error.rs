//! What can go wrong between a program and the brokers, and what the caller does about it.

use protocol::code::ResponseCode;
use remoting::CallError;

/// A refused or failed call to a name server or broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server could not be asked: no connection, or no answer in time. Another server may be tried.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server refused; the remark says why.
    #[error("{addr} refused with {code}: {remark}")]
    Refused {
        /// Who refused.
        addr: String,
        /// RocketMQ's response code.
        code: ResponseCode,
        /// The server's words.
        remark: String,
    },
    /// No name server knows the topic: create it, or let the broker create topics by itself.
    #[error(
        "no name server of {nameservers} has a route for topic {topic}: create the topic first"
    )]
    NoRoute {
        /// The topic.
        topic: String,
        /// The name servers asked.
        nameservers: String,
    },
    /// The topic is known, and no broker that serves it is.
    #[error("topic {topic} has no queue that can be {wanted} now")]
    NoQueue {
        /// The topic.
        topic: String,
        /// "written" or "read".
        wanted: &'static str,
    },
    /// The broker of that name is not in any route known here.
    #[error("broker {0} is not in the route of any topic in use")]
    UnknownBroker(String),
    /// The server's answer does not have the form that the protocol gives it.
    #[error("{addr} answered what cannot be read: {reason}")]
    Malformed {
        /// Who answered.
        addr: String,
        /// What is wrong.
        reason: String,
    },
    /// The caller's arguments make no sense; nothing was sent.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The response code, when a server refused.
    pub fn refusal(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A send that was not accepted, after all retries.
#[derive(Debug, thiserror::Error)]
#[error("message of topic {topic} was not accepted after {attempts} attempt(s): {last}")]
pub struct SendError {
    /// The topic.
    pub topic: String,
    /// How many brokers were tried, the same one twice counted twice.
    pub attempts: u32,
    /// The last attempt's failure. After a timeout the message may have been stored all the same.
    #[source]
    pub last: Error,
}

/// A consumer that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The builder lacks something.
    #[error("consumer of group {group} cannot start: {reason}")]
    Configuration {
        /// The group.
        group: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// The servers could not be reached or refused.
    #[error(transparent)]
    Server(#[from] Error),
}
