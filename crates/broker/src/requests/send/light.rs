//! The light queues (LMQ) that a message names: which are refused before it is stored.

use protocol::code::ResponseCode;
use protocol::light::{self, BadName};

use crate::Broker;
use crate::call::Refusal;
use crate::settings::Settings;

/// How much of a name is repeated to who sent it, in characters.
const SHOWN: usize = 64;

/// Checks the names in `INNER_MULTI_DISPATCH`, and gives how many bytes the offsets may add to the properties. Without light queues they mean nothing.
/// Java 5.3.4: `PutMessageStatus.LMQ_CONSUME_QUEUE_NUM_EXCEEDED`, which nothing gives there.
pub(super) fn check(broker: &Broker, settings: &Settings, names: &str) -> Result<usize, Refusal> {
    let Some(queues_max) = settings.light_queues_max else {
        return Ok(0);
    };
    let names = light::names(names).map_err(|BadName(name)| {
        let shown: String = name.chars().take(SHOWN).collect();
        Refusal::new(
            ResponseCode::MESSAGE_ILLEGAL,
            format!(
                "the message is illegal, its property INNER_MULTI_DISPATCH names [{shown}]; a light queue's name begins with {} and has at most 255 bytes, none of them a slash",
                light::PREFIX
            ),
        )
    })?;
    let (mut count, mut unknown) = (0, 0);
    for name in names {
        count += 1;
        unknown += usize::from(!broker.store.has_messages(name, light::QUEUE_ID));
    }
    if unknown > 0 && broker.store.light_queues() + unknown > queues_max {
        return Err(Refusal::system_error(format!(
            "[LMQ_CONSUME_QUEUE_NUM_EXCEEDED]broker config enableLmq and enableMultiDispatch, lmq consumeQueue num exceed maxLmqConsumeQueueNum config num, \
             which is {queues_max}. Raise it, or delete light queues that nobody uses."
        )));
    }
    Ok(light::offsets_bytes_max(count))
}
