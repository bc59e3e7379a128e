//! Producer and consumers over remoting, for Apogee and for any other RocketMQ server.
//!
//! | type | what it does |
//! |---|---|
//! | [`Producer`] | sends: awaited, started and awaited later, one-way, batched, to a chosen queue; requests and replies |
//! | [`TransactionProducer`] | sends messages that nobody sees until the program says how its own work ended |
//! | [`PushConsumer`] | calls a listener for each message; several instances of a group share the queues |
//! | [`LitePullConsumer`] | the caller polls; the group shares the queues, or the caller assigns them |
//! | [`PullConsumer`] | the caller names queue and offset of every pull |
//! | [`PopConsumer`] | the broker hands out messages of all queues for a time; the caller acknowledges each |
//!
//! Every type owns its connections and its heartbeat; dropping it without `shutdown` closes the connections, and the
//! brokers notice by the closed sockets.

mod asked;
mod assignment;
mod broker_calls;
mod compression;
mod error;
mod instance;
mod lite_pull;
mod message;
mod offsets;
mod pop;
mod process_queue;
mod producer;
mod pull;
mod push;
mod rebalance;
mod request;
mod route;
mod selector;
mod trace;
mod transaction;

pub use assignment::allocate_averagely;
pub use error::{ConsumeError, Error, SendError};
pub use lite_pull::{LitePullConsumer, LitePullConsumerBuilder};
pub use message::{Message, MessageQueue, Received, SendReceipt, SendStatus};
pub use pop::{PopConsumer, Popped};
pub use producer::{Producer, ProducerBuilder};
pub use pull::{PullConsumer, PullStatus, Pulled};
pub use push::{ConsumeResult, MessageModel, PushConsumer, PushConsumerBuilder, StartFrom};
pub use request::{Reply, RequestError};
pub use selector::MessageSelector;
pub use transaction::{
    TransactionProducer, TransactionProducerBuilder, TransactionReceipt, TransactionState,
};
