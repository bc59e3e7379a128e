//! Messages of which the append completes the properties: it gives offsets that stand in them. Those of light queues, and the first one of an inner batch.
//!
//! Nothing here runs for other messages.

use std::sync::Arc;

use protocol::{light, properties};

use crate::queue::Queue;
use crate::store::Inner;

/// A message whose properties are not stored as they came.
pub(crate) struct Rewritten {
    /// Its place in the batch.
    pub(crate) message: usize,
    /// Its places in light queues: one for each name, in the order of the names.
    pub(crate) places: Vec<Place>,
    /// Whether it is an inner batch, of which the first offset is a property.
    pub(crate) is_inner_batch: bool,
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

impl Rewritten {
    /// Looks the queues up again: one may have been deleted.
    pub(crate) fn look_up(&mut self, inner: &Inner) {
        for place in &mut self.places {
            let name = &place.queue.topic.name;
            place.queue = inner.queues.queue_or_create(name, light::QUEUE_ID);
        }
    }

    /// Gives the offsets in light queues and writes all offsets into the properties. With the append lock held, in the order of the messages.
    pub(crate) fn give_offsets(&mut self, queue_offset: u64) {
        if self.is_inner_batch {
            let first = queue_offset.to_string();
            properties::push(&mut self.properties, properties::INNER_BASE, &first);
        }
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
