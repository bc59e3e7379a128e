//! Light queues (LMQ) in the append: the queues that a message names beside that of its topic, and its offsets in them, which become one of its properties.
//!
//! Nothing here runs for a message without the properties of light queues.

use std::collections::HashMap;

use protocol::{light, properties, record};

use crate::dispatch::Facts;
use crate::message::NewMessage;
use crate::rewritten::{Place, Rewritten};
use crate::store::Inner;

/// What becomes of a message with a property of light queues, and by how many bytes its record may grow. What a client says of offsets is not stored.
///
/// Who lets clients in has refused what cannot go to the queues that it names. What comes here all the same, perhaps after it waited for years, lies in its
/// topic only.
pub(crate) fn prepare(
    inner: &Inner,
    index: usize,
    message: &NewMessage<'_>,
    facts: &Facts<'_>,
    properties_bytes_max: usize,
) -> (Rewritten, usize) {
    let text = record::without_checksum(message.properties);
    let mut stored = String::with_capacity(text.len() + 64);
    properties::iter(text)
        .filter(|(name, _)| *name != properties::INNER_MULTI_QUEUE_OFFSET)
        .for_each(|(name, value)| properties::push(&mut stored, name, value));
    let mut places = Vec::new();
    let is_on = inner.config.light_queues && light::takes(message.topic);
    if let Some(list) = facts.light.filter(|_| is_on) {
        places = self::places(inner, list);
        let grown = stored.len() + light::offsets_bytes_max(places.len());
        if grown > properties_bytes_max {
            tracing::error!(
                topic = message.topic,
                queues = places.len(),
                "a message's properties have no room for its offsets in light queues; it lies in its topic only"
            );
            places.clear();
        }
    }
    let bytes_max = stored.len() + light::offsets_bytes_max(places.len());
    let light = Rewritten {
        message: index,
        places,
        is_inner_batch: false,
        properties: stored,
    };
    (light, bytes_max.saturating_sub(text.len()))
}

fn places(inner: &Inner, list: &str) -> Vec<Place> {
    let names = match light::names(list) {
        Ok(names) => names,
        Err(light::BadName(name)) => {
            tracing::warn!(
                name,
                "no light queue can have this name; the message lies in its topic only"
            );
            return Vec::new();
        }
    };
    let mut known = HashMap::new();
    let place = |(index, name)| {
        let first = *known.entry(name).or_insert(index);
        Place {
            queue: inner.queues.queue_or_create(name, light::QUEUE_ID),
            offset: 0,
            same_as: (first != index).then_some(first),
        }
    };
    names.enumerate().map(place).collect()
}
