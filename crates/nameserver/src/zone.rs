//! Routes within an availability zone, for clients that ask for the brokers near them.

use std::collections::BTreeSet;

use protocol::body::TopicRouteData;
use protocol::header::Fields;

/// The zone that a request wants to stay in, when it does.
pub(crate) fn wanted(fields: Fields<'_>) -> Option<String> {
    let on = fields.get("__ZONE_MODE")?.eq_ignore_ascii_case("true");
    let name = fields.get("__ZONE_NAME")?;
    (on && !name.trim().is_empty()).then(|| name.into_owned())
}

/// Keeps the brokers of a zone, and those whose master is down: reading from a far slave beats not reading.
pub(crate) fn keep(route: &mut TopicRouteData, zone: &str) {
    let mut kept = BTreeSet::new();
    let mut far_addrs = BTreeSet::new();
    route.broker_datas.retain(|broker| {
        let near = !broker.broker_addrs.contains_key(&0)
            || broker
                .zone_name
                .as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(zone));
        if near {
            kept.insert(broker.broker_name.clone());
        } else {
            far_addrs.extend(broker.broker_addrs.values().cloned());
        }
        near
    });
    route
        .queue_datas
        .retain(|queue| kept.contains(&queue.broker_name));
    route
        .filter_server_table
        .retain(|addr, _| !far_addrs.contains(addr));
}
