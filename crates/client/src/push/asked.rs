//! What a push consumer answers to brokers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::body::{CmResult, ConsumeMessageDirectlyResult, ProcessQueueInfo};
use tokio::time::timeout;

use crate::asked::{Answer, Asked, Inside};
use crate::message::{MessageQueue, Received};

use super::{ConsumeResult, Core, MessageModel, RELEASE_PATIENCE};

/// How long an aborted task has to be gone.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

impl Asked for Core {
    fn group(&self) -> &str {
        &self.settings.group
    }

    fn reset(self: Arc<Self>, offsets: Vec<(MessageQueue, i64)>) {
        tokio::spawn(self.go_on_at(offsets.into_iter().collect()));
    }

    fn offsets(&self, topic: &str) -> Vec<(MessageQueue, i64)> {
        self.offsets.of(topic)
    }

    fn inside(&self) -> Inside {
        let settings = &self.settings;
        let model = match settings.model {
            MessageModel::Clustering => "CLUSTERING",
            MessageModel::Broadcasting => "BROADCASTING",
        };
        let properties = [
            ("PROP_CONSUME_TYPE", "CONSUME_PASSIVELY".to_owned()),
            ("PROP_CONSUMEORDERLY", settings.orderly.to_string()),
            (
                "PROP_THREADPOOL_CORE_SIZE",
                settings.concurrency.to_string(),
            ),
            ("PROP_CONSUMER_START_TIMESTAMP", self.started_ms.to_string()),
            ("consumerGroup", settings.group.clone()),
            ("messageModel", model.to_owned()),
            ("consumeMessageBatchMaxSize", settings.batch.to_string()),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value));
        let assigned = self.assigned.lock().expect("no holder panics");
        let queues = assigned.iter().map(|(queue, assigned)| {
            let info = ProcessQueueInfo {
                locked: self.needs_lock() && assigned.lock.is_held(),
                ..assigned.progress.info()
            };
            (queue.clone(), info)
        });
        Inside {
            properties: BTreeMap::from(properties),
            subscriptions: self
                .subscriptions
                .values()
                .map(|each| each.to_wire())
                .collect(),
            queues: queues.collect(),
        }
    }

    fn consume(self: Arc<Self>, message: Received) -> Option<Answer<ConsumeMessageDirectlyResult>> {
        Some(Box::pin(async move {
            let result = match (self.listener)(vec![message]).await {
                ConsumeResult::Success => CmResult::Success,
                ConsumeResult::Later | ConsumeResult::LaterByLevel(_) => CmResult::Later,
            };
            ConsumeMessageDirectlyResult {
                order: self.settings.orderly,
                consume_result: Some(result),
                ..ConsumeMessageDirectlyResult::default()
            }
        }))
    }
}

impl Core {
    /// Goes on elsewhere in those of the queues that this member consumes. Running listeners finish; what else was pulled is
    /// forgotten. The broker knows of the place before the first message from there is consumed.
    async fn go_on_at(self: Arc<Self>, offsets: HashMap<MessageQueue, i64>) {
        let _changing = self.changing.lock().await;
        let mut stopped = Vec::new();
        {
            let mut assigned = self.assigned.lock().expect("no holder panics");
            for (queue, assigned) in assigned.extract_if(|queue, _| offsets.contains_key(queue)) {
                assigned.stop.send_replace(true);
                stopped.push((queue, assigned));
            }
        }
        let mut places = Vec::new();
        for (queue, mut assigned) in stopped {
            if timeout(RELEASE_PATIENCE, &mut assigned.task).await.is_err() {
                tracing::warn!(%queue, "a listener still runs; its messages may be delivered again");
                assigned.task.abort();
                drop(timeout(ABORT_PATIENCE, &mut assigned.task).await);
            }
            let offset = offsets[&queue];
            self.offsets.reach(&queue, offset);
            places.push((queue, offset, assigned.lock));
        }
        self.offsets.persist().await;
        let is_stopping = *self.stopping.borrow();
        for (queue, offset, lock) in places {
            if !is_stopping {
                self.begin_at(queue, offset, lock);
            }
        }
    }
}
