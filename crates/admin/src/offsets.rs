//! Where groups go on: reset by time or offset, taken over from another group, corrected.

use protocol::body::{
    MessageQueue, QueryCorrectionOffsetBody, QueueTable, ResetOffsetBody, TopicRouteData,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    CloneGroupOffsetRequest, QueryCorrectionOffset, ResetOffsetRequest, UpdateConsumerOffsetRequest,
};
use protocol::language::Language;
use serde::Serialize;

use crate::{Admin, Error, body_of, select_addr};

/// Where and how a group is reset.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// It goes on with the first message stored then or later, in ms since 1970; -1: at the end of each queue.
    pub timestamp_ms: i64,
    /// Also forward; otherwise a queue stays where it is when that is before. Brokers that keep resets themselves always force.
    pub force: bool,
    /// The members of the group are C++ clients, which read another form.
    pub cpp: bool,
    /// Another topic whose route says which brokers are asked.
    pub route_of: Option<String>,
}

/// What became of one queue when a group was reset without its members, who must be restarted to hear of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The broker.
    pub broker_name: String,
    /// The queue.
    pub queue_id: i32,
    /// Its end.
    pub broker_offset: i64,
    /// Where the group was.
    pub consumer_offset: i64,
    /// The offset of the time.
    pub timestamp_offset: i64,
    /// Where the group goes on.
    pub rollback_offset: i64,
}

impl Admin {
    /// Resets a group in all queues of a topic. Gives where it goes on in each.
    ///
    /// # Errors
    /// A refusal with `CONSUMER_NOT_ONLINE` by a broker that leaves it to connected members, of which there are none:
    /// [`roll_back`](Self::roll_back) works then.
    pub async fn reset_offsets(&self, reset: &Reset) -> Result<QueueTable<i64>, Error> {
        let route = self.route_of_reset(reset).await?;
        let mut all = QueueTable::default();
        for addr in route.broker_datas.iter().filter_map(select_addr) {
            let header = ResetOffsetRequest {
                group: reset.group.clone(),
                topic: reset.topic.clone(),
                queue_id: -1,
                offset: Some(-1),
                timestamp_ms: reset.timestamp_ms,
                force: reset.force,
            };
            let mut request = Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &header);
            if reset.cpp {
                request.language = Language::CPP;
            }
            let answer = self.ask_ok(addr, request).await?;
            let body: ResetOffsetBody = body_of(addr, &answer)?;
            all.extend(body.offset_table.0);
        }
        Ok(all)
    }

    async fn route_of_reset(&self, reset: &Reset) -> Result<TopicRouteData, Error> {
        let topic = reset.route_of.as_deref().unwrap_or(&reset.topic);
        self.route(topic).await
    }

    /// Resets a group in one queue to an offset.
    pub async fn reset_offset(
        &self,
        broker: &str,
        group: &str,
        topic: &str,
        queue_id: i32,
        offset: i64,
    ) -> Result<(), Error> {
        let header = ResetOffsetRequest {
            group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id,
            offset: Some(offset),
            timestamp_ms: 0,
            force: true,
        };
        let request = Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &header);
        match self.ask_ok(broker, request).await {
            // A broker that does not keep resets, of a group that has no members: committing does it.
            Err(Error::Refused { code, .. }) if code == ResponseCode::CONSUMER_NOT_ONLINE => {
                let queue = MessageQueue::new(topic, "", queue_id);
                self.update_offset(broker, group, &queue, offset).await
            }
            answer => answer.map(drop),
        }
    }

    /// Commits an offset for a group.
    pub async fn update_offset(
        &self,
        broker: &str,
        group: &str,
        queue: &MessageQueue,
        offset: i64,
    ) -> Result<(), Error> {
        let header = UpdateConsumerOffsetRequest {
            consumer_group: group.to_owned(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            commit_offset: offset,
        };
        let request = Command::request(RequestCode::UPDATE_CONSUMER_OFFSET, &header);
        self.ask_ok(broker, request).await.map(drop)
    }

    /// Resets a group that has no connected members, by committing for it. Java 5.3.4: `resetOffsetByTimestampOld`.
    pub async fn roll_back(&self, reset: &Reset) -> Result<Vec<Rollback>, Error> {
        let route = self.route_of_reset(reset).await?;
        let mut done = Vec::new();
        for addr in route.broker_datas.iter().filter_map(select_addr) {
            let stats = self.consume_stats_of(addr, &reset.group, None).await?;
            let known = stats.offset_table.0.into_iter();
            let mut queues: Vec<_> = known
                .filter(|(queue, _)| queue.topic == reset.topic)
                .map(|(queue, at)| (queue, at.broker_offset, at.consumer_offset))
                .collect();
            if queues.is_empty() {
                let stats = self.topic_stats_of(addr, &reset.topic).await?;
                let ends = stats.offset_table.0.into_iter();
                queues = ends
                    .map(|(queue, ends)| (queue, ends.max_offset, ends.min_offset))
                    .collect();
            }
            for (queue, broker_offset, consumer_offset) in queues {
                let timestamp_offset = if reset.timestamp_ms == -1 {
                    self.max_offset(addr, &queue).await?
                } else {
                    self.search_offset(addr, &queue, reset.timestamp_ms).await?
                };
                let moves = reset.force || timestamp_offset <= consumer_offset;
                if moves {
                    self.update_offset(addr, &reset.group, &queue, timestamp_offset)
                        .await?;
                }
                done.push(Rollback {
                    broker_name: queue.broker_name,
                    queue_id: queue.queue_id,
                    broker_offset,
                    consumer_offset,
                    timestamp_offset,
                    rollback_offset: if moves {
                        timestamp_offset
                    } else {
                        consumer_offset
                    },
                });
            }
        }
        Ok(done)
    }

    /// `to` goes on where `from` is in the topic. `offline`: also when `from` has members that do not subscribe to it.
    pub async fn clone_offsets(
        &self,
        from: &str,
        to: &str,
        topic: &str,
        offline: bool,
    ) -> Result<(), Error> {
        let route = self.route(topic).await?;
        for addr in route.broker_datas.iter().filter_map(select_addr) {
            let header = CloneGroupOffsetRequest {
                src_group: from.to_owned(),
                dest_group: to.to_owned(),
                topic: Some(topic.to_owned()),
                offline,
            };
            let request = Command::request(RequestCode::CLONE_GROUP_OFFSET, &header);
            self.ask_ok(addr, request).await?;
        }
        Ok(())
    }

    /// The least offset of all groups in each queue of a topic on one broker, those of `without` aside; the largest number where
    /// `compared` is behind it.
    pub async fn correction_offsets(
        &self,
        broker: &str,
        topic: &str,
        compared: &str,
        without: &[&str],
    ) -> Result<QueryCorrectionOffsetBody, Error> {
        let header = QueryCorrectionOffset {
            filter_groups: Some(without.join(",")),
            compare_group: compared.to_owned(),
            topic: topic.to_owned(),
        };
        let request = Command::request(RequestCode::QUERY_CORRECTION_OFFSET, &header);
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }
}
