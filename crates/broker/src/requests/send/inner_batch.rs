//! A batch for a topic with `queue.type=BatchCQ`: it is stored as it came, as one record that takes an offset for each of its messages.
//! Java 5.3.4: `SendMessageProcessor.sendBatchMessage`.

use protocol::batch::INNER_MESSAGES_MAX;
use protocol::code::ResponseCode;
use protocol::properties::{self as names, BYTES_MAX};
use protocol::sysflag;

use super::properties::{self, Delivery, Scan};
use super::{AskedBatch, Batch, Draft, Sends, Target, Waiting, topic};
use crate::call::Refusal;
use crate::requests::batch::Item;

/// What the store adds to the properties at most: the number of messages, and the offset of the first.
const ADDED_BYTES_MAX: usize = 64;

impl Batch<'_> {
    /// Drafts the one record of a batch whose messages were checked.
    pub(super) fn draft_inner_batch(
        &self,
        sends: &mut Sends,
        asked: &AskedBatch<'_, '_>,
        scan: &Scan<'_>,
        items: &[Item<'_>],
    ) -> Result<(), Refusal> {
        check(self.settings.light_queues_max.is_some(), scan, items)?;
        let AskedBatch {
            topic,
            index,
            request,
            header,
            ..
        } = *asked;
        let config = &sends.topics[topic];
        let queue_id = topic::queue_id(self.broker, config, asked.queue_id)?;
        let sys_flag = topic::sys_flag(config, header.sys_flag);
        let start = sends.text.len();
        let unique_id = properties::store(
            &mut sends.text,
            header.properties.as_deref().unwrap_or(""),
            scan,
            Delivery::Now,
            &self.settings.stored_properties,
            || self.broker.unique_ids.next(self.broker.now_ms()),
        );
        let mut count = itoa::Buffer::new();
        names::push(&mut sends.text, names::INNER_NUM, count.format(items.len()));
        if sends.text.len() - start + ADDED_BYTES_MAX > BYTES_MAX {
            sends.text.truncate(start);
            return Err(self.illegal());
        }
        sends.body_bytes += request.body.len();
        sends.inner_batches += 1;
        sends.drafts.push(Draft {
            target: Target::Topic(topic),
            request: index,
            body: 0..request.body.len(),
            properties: start..sends.text.len(),
            queue_id,
            flag: header.flag,
            sys_flag: sys_flag & !sysflag::TRANSACTION_MASK
                | sysflag::INNER_BATCH
                | sysflag::NEED_UNWRAP,
            born_timestamp_ms: header.born_timestamp_ms,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            messages: items.len() as u32,
        });
        let queue_id = self.shown_queue(sends, topic, queue_id);
        sends.waiting.push(Waiting {
            head: request.head(),
            messages: 1,
            queue_id,
            unique_id,
            recall_handle: 0..0,
            wait_for_flush: self.holds(scan.wait),
            is_inner_batch: true,
        });
        Ok(())
    }
}

/// What no inner batch may be.
fn check(has_light_queues: bool, scan: &Scan<'_>, items: &[Item<'_>]) -> Result<(), Refusal> {
    let illegal = |remark: String| Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
    if items.len() as u64 > INNER_MESSAGES_MAX {
        return illegal(format!(
            "a batch for a topic with queue.type=BatchCQ holds at most {INNER_MESSAGES_MAX} messages"
        ));
    }
    if scan.inner_batch || scan.is_timed() || scan.drops_timer {
        return illegal("a batch can be neither delayed nor part of another one".to_owned());
    }
    let mut lists = items.iter().map(|item| item.light).chain([scan.light]);
    if has_light_queues && lists.any(|list| list.is_some()) {
        return illegal(
            "the messages of a batch for a topic with queue.type=BatchCQ cannot go to light queues"
                .to_owned(),
        );
    }
    Ok(())
}
