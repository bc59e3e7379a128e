//! Expressions that were compiled of late, by their text: pulls bring theirs with them each time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use filter::{Filter, SyntaxError};

/// Memory of the compiled forms kept. When it is full all of them go, and those in use come back with their next pull.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Compiled {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    filters: HashMap<Box<str>, Arc<Filter>>,
    bytes: usize,
}

impl Compiled {
    /// The compiled form of a text. Equal texts share it.
    pub(super) fn get(&self, text: &str) -> Result<Arc<Filter>, SyntaxError> {
        let known = self
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .filters
            .get(text)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        // Outside the lock: a long text takes a while.
        let filter = Arc::new(Filter::compile(text)?);
        let bytes = text.len() + filter.bytes();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.bytes + bytes > BYTES_MAX {
            *state = State::default();
        }
        if state.filters.insert(text.into(), filter.clone()).is_none() {
            state.bytes += bytes;
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_and_memory_stays_within_its_bound() {
        let compiled = Compiled::default();
        let first = compiled.get("a = 1").unwrap();
        assert!(Arc::ptr_eq(&first, &compiled.get("a = 1").unwrap()));
        let list: Vec<String> = (0..5000).map(|number| format!("'{number}'")).collect();
        let list = list.join(",");
        for number in 0..200 {
            compiled.get(&format!("p{number} IN ({list})")).unwrap();
            assert!(compiled.state.read().unwrap().bytes <= BYTES_MAX);
        }
        assert!(!Arc::ptr_eq(&first, &compiled.get("a = 1").unwrap()));
    }
}
