//! The plainest consumer: the caller names queue and offset of every pull.

use std::sync::Arc;
use std::time::Duration;

use crate::broker_calls::{PullCall, PullFound};
use crate::error::Error;
use crate::instance::{Instance, now_ms};
use crate::message::{MessageQueue, Received};
use crate::selector::MessageSelector;

/// Pulls from queues that the caller names. It joins no rebalancing: any number of them read the same queue.
pub struct PullConsumer {
    group: String,
    instance: Arc<Instance>,
}

/// Why a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStatus {
    /// Messages came.
    Found,
    /// There is nothing at or beyond the offset yet.
    NoNewMessage,
    /// Messages were there; the selector took none.
    NoMatchedMessage,
    /// The offset lies outside the queue; [`Pulled::next_offset`] lies inside.
    OffsetIllegal,
}

/// What a pull brought.
#[derive(Debug)]
pub struct Pulled {
    /// Why it ended.
    pub status: PullStatus,
    /// Messages in order of their offsets; empty unless found.
    pub messages: Vec<Received>,
    /// Where the next pull begins.
    pub next_offset: i64,
    /// The oldest offset that the queue holds.
    pub min_offset: i64,
    /// One beyond the newest.
    pub max_offset: i64,
}

impl PullConsumer {
    /// A consumer of `group`; `nameservers` is `host:port`, several separated by `;`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name server list cannot be used.
    pub fn new(group: impl Into<String>, nameservers: &str) -> Result<Self, Error> {
        let instance = Instance::new(nameservers)?;
        instance.start();
        Ok(Self {
            group: group.into(),
            instance,
        })
    }

    /// The readable queues of `topic`, sorted by broker and index.
    ///
    /// # Errors
    /// When there is no route.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        Ok(self.instance.fetch_route(topic).await?.readable.clone())
    }

    /// Pulls at most `messages_max` messages from `offset` on that `selector` takes: `"*"`, `"a || b"` by tags, or
    /// [`MessageSelector::by_sql`]. Waits up to `wait` for the first.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn pull(
        &self,
        queue: &MessageQueue,
        selector: impl Into<MessageSelector>,
        offset: i64,
        messages_max: i32,
        wait: Duration,
    ) -> Result<Pulled, Error> {
        self.instance.route(&queue.topic).await?;
        let selector = selector.into();
        let call = PullCall {
            group: &self.group,
            queue,
            offset,
            messages_max,
            selector: Some(&selector),
            version: now_ms(),
            commit: None,
            suspend: wait,
            lite: false,
        };
        let answer = self.instance.pull(&call).await?;
        let (status, messages) = match answer.found {
            PullFound::Messages(mut messages) => {
                messages.retain(|message| selector.takes(message));
                if messages.is_empty() {
                    (PullStatus::NoMatchedMessage, messages)
                } else {
                    (PullStatus::Found, messages)
                }
            }
            PullFound::Nothing => (PullStatus::NoNewMessage, Vec::new()),
            PullFound::NoneMatched => (PullStatus::NoMatchedMessage, Vec::new()),
            PullFound::OffsetMoved => (PullStatus::OffsetIllegal, Vec::new()),
        };
        Ok(Pulled {
            status,
            messages,
            next_offset: answer.next_offset,
            min_offset: answer.min_offset,
            max_offset: answer.max_offset,
        })
    }

    /// The oldest offset that the queue holds.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, Error> {
        self.instance.route(&queue.topic).await?;
        self.instance.min_offset(queue).await
    }

    /// One beyond the newest offset of the queue.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, Error> {
        self.instance.route(&queue.topic).await?;
        self.instance.max_offset(queue).await
    }

    /// The first offset stored at `timestamp_ms` (since 1970) or later.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn search_offset(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
    ) -> Result<i64, Error> {
        self.instance.route(&queue.topic).await?;
        self.instance.search_offset(queue, timestamp_ms).await
    }

    /// The group's committed offset, `None` when it never committed one.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn committed_offset(&self, queue: &MessageQueue) -> Result<Option<i64>, Error> {
        self.instance.route(&queue.topic).await?;
        self.instance.query_offset(&self.group, queue).await
    }

    /// Commits the group's offset: everything below counts as consumed.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn commit_offset(&self, queue: &MessageQueue, offset: i64) -> Result<(), Error> {
        self.instance.route(&queue.topic).await?;
        self.instance
            .update_offset(&self.group, queue, offset)
            .await
    }

    /// Closes the connections.
    pub async fn shutdown(&self) {
        self.instance.shutdown().await;
    }
}
