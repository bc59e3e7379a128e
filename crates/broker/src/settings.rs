//! The configuration in the form that the message path uses: computed once a change, not once a message.

use std::sync::Arc;

use protocol::properties as names;

use crate::Identity;
use crate::config::BrokerKeys;
use crate::text::OffsetIds;

/// What one request may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `maxMessageSize`: largest body.
    pub(crate) message_bytes_max: usize,
    /// `maxTransferCountOnMessageInMemory`, `maxTransferBytesOnMessageInMemory`.
    pub(crate) warm: Transfer,
    /// `maxTransferCountOnMessageInDisk`, `maxTransferBytesOnMessageInDisk`.
    pub(crate) cold: Transfer,
}

/// How much one pull hands out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
}

impl Transfer {
    /// The smaller of each.
    pub(crate) fn at_most(self, limit: Transfer) -> Transfer {
        Transfer {
            messages_max: self.messages_max.min(limit.messages_max),
            bytes_max: self.bytes_max.min(limit.bytes_max),
        }
    }
}

/// The configuration of this moment.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) keys: Arc<BrokerKeys>,
    pub(crate) limits: Limits,
    /// `waitTimeMillsInSendQueue`.
    pub(crate) send_wait_ms_max: u64,
    pub(crate) region_id: String,
    pub(crate) trace_on: &'static str,
    /// What the broker adds to the properties of each message.
    pub(crate) stored_properties: String,
    pub(crate) offset_ids: OffsetIds,
    /// How many light queues messages may name in all (`maxLmqConsumeQueueNum`), when they may name any.
    pub(crate) light_queues_max: Option<usize>,
}

impl Settings {
    pub(crate) fn new(keys: Arc<BrokerKeys>, identity: &Identity) -> Settings {
        let trace_on = if keys.trace_on { "true" } else { "false" };
        let mut stored_properties = String::new();
        names::push(&mut stored_properties, names::MSG_REGION, &keys.region_id);
        names::push(&mut stored_properties, names::TRACE_SWITCH, trace_on);
        names::push(&mut stored_properties, names::CLUSTER, &identity.cluster);
        Settings {
            limits: Limits {
                message_bytes_max: keys.max_message_size as usize,
                warm: Transfer {
                    messages_max: keys.max_transfer_count_on_message_in_memory as usize,
                    bytes_max: keys.max_transfer_bytes_on_message_in_memory as usize,
                },
                cold: Transfer {
                    messages_max: keys.max_transfer_count_on_message_in_disk as usize,
                    bytes_max: keys.max_transfer_bytes_on_message_in_disk as usize,
                },
            },
            send_wait_ms_max: keys.wait_time_mills_in_send_queue,
            region_id: keys.region_id.clone(),
            trace_on,
            stored_properties,
            offset_ids: OffsetIds::new(identity.address),
            light_queues_max: (keys.enable_lmq && keys.enable_multi_dispatch)
                .then_some(keys.max_lmq_consume_queue_num as usize),
            keys,
        }
    }
}
