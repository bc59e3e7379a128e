//! The table of producers: values in, values out. Java 5.3: `ProducerManager`.

use std::collections::{BTreeMap, HashMap};

use super::registry::Client;

/// Producers by group and by client.
#[derive(Debug)]
pub(super) struct Producers<H> {
    groups: BTreeMap<String, BTreeMap<u64, Client<H>>>,
    /// By client id, then by connection: how many groups it is in there.
    clients: HashMap<String, BTreeMap<u64, Reachable<H>>>,
}

#[derive(Debug)]
struct Reachable<H> {
    handle: H,
    groups: usize,
}

impl<H: Clone> Producers<H> {
    /// A client produces for a group.
    pub(super) fn join(&mut self, group: &str, client: Client<H>) {
        let reachable = self.clients.entry(client.client_id.clone()).or_default();
        let reachable = reachable.entry(client.connection_id);
        let reachable = reachable.or_insert_with(|| Reachable {
            handle: client.handle.clone(),
            groups: 0,
        });
        reachable.groups += 1;
        let members = self.groups.entry(group.to_owned()).or_default();
        if let Some(before) = members.insert(client.connection_id, client) {
            self.unreachable(&before);
        }
    }

    /// The client on a connection no longer produces for a group.
    pub(super) fn leave(&mut self, group: &str, connection_id: u64) {
        let Some(members) = self.groups.get_mut(group) else {
            return;
        };
        let left = members.remove(&connection_id);
        if members.is_empty() {
            self.groups.remove(group);
        }
        if let Some(client) = left {
            self.unreachable(&client);
        }
    }

    /// The client is in one group less.
    fn unreachable(&mut self, client: &Client<H>) {
        let Some(connections) = self.clients.get_mut(&client.client_id) else {
            return;
        };
        if let Some(reachable) = connections.get_mut(&client.connection_id) {
            reachable.groups -= 1;
            if reachable.groups == 0 {
                connections.remove(&client.connection_id);
            }
        }
        if connections.is_empty() {
            self.clients.remove(&client.client_id);
        }
    }

    /// The producers of a group; none while nobody of it is connected.
    pub(super) fn group(&self, group: &str) -> Option<Vec<Client<H>>> {
        let members = self.groups.get(group)?;
        Some(members.values().cloned().collect())
    }

    /// What reaches a client, on the newest of its connections.
    pub(super) fn reachable(&self, client_id: &str) -> Option<H> {
        let (_, newest) = self.clients.get(client_id)?.last_key_value()?;
        Some(newest.handle.clone())
    }

    /// All producers by group.
    pub(super) fn all(&self) -> Vec<(String, Vec<Client<H>>)> {
        let groups = self.groups.iter();
        groups
            .map(|(group, members)| (group.clone(), members.values().cloned().collect()))
            .collect()
    }
}

impl<H> Default for Producers<H> {
    fn default() -> Producers<H> {
        Producers {
            groups: BTreeMap::new(),
            clients: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::language::Language;

    use super::*;

    fn client(connection_id: u64, id: &str) -> Client<u64> {
        Client {
            connection_id,
            handle: connection_id,
            client_id: id.to_owned(),
            language: Language::RUST,
            version: 0,
            seen_ms: 0,
        }
    }

    #[test]
    fn a_client_is_reachable_while_it_is_in_a_group() {
        let mut producers = Producers::default();
        producers.join("g", client(1, "a"));
        producers.join("g", client(1, "a"));
        producers.join("h", client(1, "a"));
        assert_eq!(producers.reachable("a"), Some(1));
        producers.leave("g", 1);
        producers.leave("g", 1);
        assert_eq!(producers.reachable("a"), Some(1));
        producers.leave("h", 1);
        assert_eq!(producers.reachable("a"), None);
        assert!(producers.clients.is_empty() && producers.groups.is_empty());
    }

    #[test]
    fn a_client_that_came_back_is_reached_where_it_is() {
        let mut producers = Producers::default();
        producers.join("g", client(1, "a"));
        producers.join("g", client(2, "a"));
        assert_eq!(producers.reachable("a"), Some(2));
        producers.leave("g", 2);
        assert_eq!(producers.reachable("a"), Some(1));
        producers.join("g", client(1, "b"));
        assert_eq!(
            (producers.reachable("a"), producers.reachable("b")),
            (None, Some(1))
        );
    }
}
