//! Light queues (LMQ) in the append: the queues that a message names beside that of its topic, and its offsets in them, which become one of its properties.
//!
//! Nothing here runs for a message without the properties of light queues.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::{light, properties, record};

use crate::dispatch::Facts;
use crate::message::NewMessage;
use crate::queue::Queue;
use crate::store::Inner;

/// A message whose properties are not stored as they came.
pub(crate) struct Light {
    /// Its place in the batch.
    pub(crate) message: usize,
    /// One for each name, in the order of the names.
    pub(crate) places: Vec<Place>,
    /// What is stored: first without the offsets, which are given under the append lock.
    pub(crate) properties: String,
}

/// A message's place in a light queue.
pub(crate) struct Place {
    pub(crate) queue: Arc<Queue>,
    pub(crate) offset: u64,
    /// The place with the same queue, named before: the message lies there once.
    pub(crate) same_as: Option<usize>,
}

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
) -> (Light, usize) {
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
    let light = Light {
        message: index,
        places,
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

impl Light {
    /// Looks the queues up again: one may have been deleted.
    pub(crate) fn look_up(&mut self, inner: &Inner) {
        for place in &mut self.places {
            let name = &place.queue.topic.name;
            place.queue = inner.queues.queue_or_create(name, light::QUEUE_ID);
        }
    }

    /// Gives the offsets and writes them into the properties. With the append lock held, in the order of the messages.
    pub(crate) fn give_offsets(&mut self) {
        for index in 0..self.places.len() {
            self.places[index].offset = match self.places[index].same_as {
                Some(first) => self.places[first].offset,
                None => {
                    let queue = &self.places[index].queue;
                    let offset = queue.next();
                    queue.set_next(offset + 1);
                    offset
                }
            };
        }
        if !self.places.is_empty() {
            light::push_offsets(
                &mut self.properties,
                self.places.iter().map(|place| place.offset),
            );
        }
    }

    /// The message is not stored.
    pub(crate) fn take_back_offsets(&self) {
        for place in self.places.iter().rev() {
            if place.same_as.is_none() {
                place.queue.set_next(place.offset);
            }
        }
    }
}
