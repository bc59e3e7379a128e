//! Every administrative operation as one typed function, shared by the command line and the console.
//!
//! An operation is a method of [`Admin`]. It knows the wire, its callers know the user: what it returns are values to
//! print, and its errors say what was asked of whom.

mod cold;
mod consumers;
mod error;
mod message;
mod messages;
mod mode;
mod nameservers;
mod offsets;
mod topics;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::body::BrokerData;
use protocol::code::ResponseCode;
use protocol::command::Command;
use protocol::header::{FieldError, ReadFields};
use protocol::message_id::UniqueIds;
use remoting::Client;

pub use consumers::{Track, TrackState};
pub use error::Error;
pub use message::StoredMessage;
pub use messages::{KeySearch, NewMessage, PullStatus, Pulled, SendStatus, Sent};
pub use mode::RequestMode;
pub use offsets::{Reset, Rollback};
pub use topics::filter_name;

/// How long an operation waits for each answer, unless told otherwise. Source: Java 5.3.3: `DefaultMQAdminExt.timeoutMillis`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The administrative operations on the cluster that some name servers know.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    nameservers: Vec<String>,
    timeout: Duration,
    unique_ids: Arc<UniqueIds>,
}

impl Admin {
    /// Works through `client` on the cluster that the first reachable one of `nameservers` knows.
    pub fn new(client: Client, nameservers: Vec<String>) -> Admin {
        // No address is asked for: the nanoseconds of the start stand in for it, to tell machines apart.
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let ids = UniqueIds::new(Ipv4Addr::LOCALHOST.into(), std::process::id(), nanos as i32);
        Admin {
            client,
            nameservers,
            timeout: DEFAULT_TIMEOUT,
            unique_ids: Arc::new(ids),
        }
    }

    /// With another limit for each answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Admin {
        self.timeout = timeout;
        self
    }

    /// Asks one server and takes any answer.
    async fn ask(&self, addr: &str, request: Command) -> Result<Command, Error> {
        self.client
            .call(addr, request, self.timeout)
            .await
            .map_err(|source| Error::Call {
                addr: addr.to_owned(),
                source,
            })
    }

    /// Asks one server and takes nothing but success.
    async fn ask_ok(&self, addr: &str, request: Command) -> Result<Command, Error> {
        succeeded(addr, self.ask(addr, request).await?)
    }
}

/// The answer, when it says success.
fn succeeded(addr: &str, answer: Command) -> Result<Command, Error> {
    if answer.response_code() == ResponseCode::SUCCESS {
        return Ok(answer);
    }
    Err(Error::Refused {
        addr: addr.to_owned(),
        code: answer.response_code(),
        remark: answer.remark.unwrap_or_default(),
    })
}

fn header_of<H: for<'a> ReadFields<'a>>(addr: &str, answer: &Command) -> Result<H, Error> {
    answer
        .header()
        .map_err(|error: FieldError| Error::BadAnswer {
            addr: addr.to_owned(),
            reason: error.to_string(),
        })
}

fn body_of<T: serde::de::DeserializeOwned>(addr: &str, answer: &Command) -> Result<T, Error> {
    protocol::json::decode(&answer.body).map_err(|error| Error::BadAnswer {
        addr: addr.to_owned(),
        reason: error.to_string(),
    })
}

/// Whom to ask about a broker group: its master, or the slave with the lowest id.
fn select_addr(broker: &BrokerData) -> Option<&str> {
    broker.broker_addrs.values().next().map(String::as_str)
}
