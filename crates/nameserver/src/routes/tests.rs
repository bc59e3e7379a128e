//! The table as a sequence of events and answers.

use std::collections::BTreeMap;

use super::*;
use protocol::body::TopicConfigAndMappingSerializeWrapper;

const CLUSTER: &str = "DefaultCluster";
const NOW: i64 = 1_000_000;

fn version(counter: i64, state_version: i64) -> DataVersion {
    DataVersion {
        counter,
        state_version,
        timestamp: 7,
    }
}

/// A registration of `name` with `id` at `addr`; the topics are readable and writable with four queues each.
fn registration(name: &str, id: i64, addr: &str, topics: &[&str]) -> Registration {
    let topic_config_table = topics
        .iter()
        .map(|topic| {
            let config = TopicConfig {
                topic_name: (*topic).to_owned(),
                read_queue_nums: 4,
                write_queue_nums: 4,
                perm: 6,
                ..TopicConfig::default()
            };
            ((*topic).to_owned(), config)
        })
        .collect();
    Registration {
        identity: identity(addr),
        broker_name: name.to_owned(),
        broker_id: id,
        ha_server_addr: format!("ha-{addr}"),
        zone_name: None,
        heartbeat_timeout_ms: None,
        enable_acting_master: Some(false),
        body: RegisterBrokerBody {
            topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper {
                topic_config_table,
                data_version: version(1, 0),
                ..Default::default()
            },
            ..Default::default()
        },
        connection: 1,
    }
}

fn identity(addr: &str) -> Identity {
    Identity {
        cluster: CLUSTER.to_owned(),
        addr: addr.to_owned(),
    }
}

fn farewell(name: &str, id: i64, addr: &str) -> Farewell {
    Farewell {
        identity: identity(addr),
        broker_name: name.to_owned(),
        broker_id: id,
    }
}

fn with(mut registration: Registration, change: impl FnOnce(&mut Registration)) -> Registration {
    change(&mut registration);
    registration
}

fn set_version(registration: &mut Registration, version: DataVersion) {
    registration
        .body
        .topic_config_serialize_wrapper
        .data_version = version;
}

/// Everything that clients would see of the table, in one line a topic.
fn seen(table: &Table) -> Vec<String> {
    let mut topics: Vec<String> = table.all_topics().topic_list.into_iter().collect();
    topics.sort();
    topics
        .iter()
        .map(|topic| format!("{topic}: {}", route_text(table, topic, Policy::default())))
        .collect()
}

/// A route as `broker-a[perm]{id=addr,…}` a broker.
fn route_text(table: &Table, topic: &str, policy: Policy) -> String {
    let Some(route) = table.route(topic, policy) else {
        return "none".to_owned();
    };
    let text = |data: &protocol::body::BrokerData| {
        let queues = route
            .queue_datas
            .iter()
            .find(|queues| queues.broker_name == data.broker_name);
        let addrs: Vec<String> = data
            .broker_addrs
            .iter()
            .map(|(id, addr)| format!("{id}={addr}"))
            .collect();
        format!(
            "{}[{}]{{{}}}",
            data.broker_name,
            queues.unwrap().perm,
            addrs.join(",")
        )
    };
    route
        .broker_datas
        .iter()
        .map(text)
        .collect::<Vec<_>>()
        .join(" ")
}

fn table_of(registrations: Vec<Registration>) -> Table {
    let mut table = Table::default();
    for registration in registrations {
        table
            .register(NOW, Policy::default(), registration)
            .unwrap();
    }
    table
}

#[test]
fn a_topic_is_served_by_all_brokers_that_register_it() {
    let table = table_of(vec![
        registration("b", 0, "2:1", &["t", "u"]),
        registration("a", 0, "1:1", &["t", "v"]),
    ]);
    assert_eq!(
        seen(&table),
        [
            "t: a[6]{0=1:1} b[6]{0=2:1}",
            "u: b[6]{0=2:1}",
            "v: a[6]{0=1:1}"
        ]
    );
    let info = table.cluster_info();
    assert_eq!(info.broker_addr_table.len(), 2);
    assert_eq!(info.cluster_addr_table[CLUSTER].len(), 2);
    assert!(table.route("absent", Policy::default()).is_none());
}

#[test]
fn a_slave_hears_of_its_master_and_brings_no_topics() {
    let mut table = table_of(vec![registration("a", 0, "1:1", &["t", "u"])]);
    let slave = registration("a", 1, "1:2", &["t", "only-on-slave"]);
    let answer = table.register(NOW, Policy::default(), slave).unwrap();
    assert_eq!(answer.master_addr.as_deref(), Some("1:1"));
    assert_eq!(answer.ha_server_addr.as_deref(), Some("ha-1:1"));
    assert_eq!(
        seen(&table),
        ["t: a[6]{0=1:1,1=1:2}", "u: a[6]{0=1:1,1=1:2}"]
    );
}

#[test]
fn a_single_topic_before_a_full_registration_is_refused_and_changes_nothing() {
    let mut table = Table::default();
    let result = table.register(NOW, Policy::default(), registration("a", 0, "1:1", &["t"]));
    assert_eq!(result, Err(IncrementalBeforeFull));
    assert!(table.cluster_info().cluster_addr_table.is_empty());
    assert_eq!(seen(&table), [""; 0]);

    table
        .register(
            NOW,
            Policy::default(),
            registration("a", 0, "1:1", &["t", "u"]),
        )
        .unwrap();
    let single = with(registration("a", 0, "1:1", &["w"]), |r| {
        set_version(r, version(2, 0))
    });
    table.register(NOW, Policy::default(), single).unwrap();
    assert_eq!(table.all_topics().topic_list.len(), 3, "the others stay");
}

#[test]
fn an_unchanged_data_version_changes_no_topic() {
    let mut table = table_of(vec![registration("a", 0, "1:1", &["t", "u"])]);
    let wipe = |r: &mut Registration| {
        for config in r
            .body
            .topic_config_serialize_wrapper
            .topic_config_table
            .values_mut()
        {
            config.perm = 4;
        }
    };
    let same = with(registration("a", 0, "1:1", &["t", "u"]), wipe);
    table.register(NOW, Policy::default(), same).unwrap();
    assert_eq!(route_text(&table, "t", Policy::default()), "a[6]{0=1:1}");

    let newer = with(registration("a", 0, "1:1", &["t", "u"]), |r| {
        wipe(r);
        set_version(r, version(2, 0));
    });
    table.register(NOW, Policy::default(), newer).unwrap();
    assert_eq!(route_text(&table, "t", Policy::default()), "a[4]{0=1:1}");
    assert!(!table.data_version_differs(&identity("1:1"), &version(2, 0)));
    assert!(table.data_version_differs(&identity("1:1"), &version(1, 0)));
    assert!(
        table.data_version_differs(&identity("9:9"), &version(1, 0)),
        "unknown brokers must register"
    );
}

#[test]
fn absent_topics_are_forgotten_only_when_configured() {
    let check = |delete_absent_topics: bool, want: &[&str]| {
        let mut table = table_of(vec![
            registration("a", 0, "1:1", &["t", "u", "v"]),
            registration("b", 0, "2:1", &["t", "x"]),
        ]);
        let policy = Policy {
            delete_absent_topics,
            ..Policy::default()
        };
        let full = with(registration("a", 0, "1:1", &["u", "v"]), |r| {
            set_version(r, version(2, 0))
        });
        table.register(NOW, policy, full).unwrap();
        assert_eq!(seen(&table), want);
    };
    let b = "b[6]{0=2:1}";
    let a = "a[6]{0=1:1}";
    check(
        false,
        &[
            &format!("t: {a} {b}"),
            &format!("u: {a}"),
            &format!("v: {a}"),
            &format!("x: {b}"),
        ],
    );
    check(
        true,
        &[
            &format!("t: {b}"),
            &format!("u: {a}"),
            &format!("v: {a}"),
            &format!("x: {b}"),
        ],
    );
}

#[test]
fn an_address_has_one_id_when_a_slave_becomes_the_master() {
    let mut table = table_of(vec![
        registration("a", 0, "1:1", &["t", "u"]),
        registration("a", 1, "1:2", &["t", "u"]),
    ]);
    table.unregister(Policy::default(), &[farewell("a", 0, "1:1")]);
    table
        .register(
            NOW,
            Policy::default(),
            registration("a", 0, "1:2", &["t", "u"]),
        )
        .unwrap();
    assert_eq!(route_text(&table, "t", Policy::default()), "a[6]{0=1:2}");
}

#[test]
fn a_deposed_master_is_ignored() {
    let mut table = table_of(vec![with(registration("a", 0, "1:2", &["t", "u"]), |r| {
        set_version(r, version(1, 5));
    })]);
    let old = with(registration("a", 0, "1:1", &["t", "u"]), |r| {
        set_version(r, version(9, 4))
    });
    assert_eq!(
        table.register(NOW, Policy::default(), old),
        Ok(Registered::default())
    );
    assert_eq!(route_text(&table, "t", Policy::default()), "a[6]{0=1:2}");
    assert!(table.data_version(&identity("1:1")).is_none());

    let newer = with(registration("a", 0, "1:1", &["t", "u"]), |r| {
        set_version(r, version(1, 6))
    });
    table.register(NOW, Policy::default(), newer).unwrap();
    assert_eq!(route_text(&table, "t", Policy::default()), "a[6]{0=1:1}");
}

#[test]
fn a_process_that_changes_its_name_leaves_the_old_one() {
    let mut table = table_of(vec![registration("old", 0, "1:1", &["t", "u"])]);
    table
        .register(
            NOW,
            Policy::default(),
            registration("new", 0, "1:1", &["u", "v"]),
        )
        .unwrap();
    assert_eq!(seen(&table), ["u: new[6]{0=1:1}", "v: new[6]{0=1:1}"]);
    assert_eq!(table.cluster_info().broker_addr_table.len(), 1);
}

#[test]
fn the_last_member_takes_its_topics_along() {
    let mut table = table_of(vec![
        registration("a", 0, "1:1", &["t", "u"]),
        registration("b", 0, "2:1", &["t", "x"]),
    ]);
    table.unregister(
        Policy::default(),
        &[farewell("a", 0, "1:1"), farewell("a", 0, "1:1")],
    );
    assert_eq!(seen(&table), ["t: b[6]{0=2:1}", "x: b[6]{0=2:1}"]);
    table.unregister(Policy::default(), &[farewell("nobody", 0, "7:7")]);
    table.unregister(Policy::default(), &[farewell("b", 0, "2:1")]);
    assert!(table.cluster_info().cluster_addr_table.is_empty());
    assert_eq!(seen(&table), [""; 0]);
}

#[test]
fn a_closed_connection_takes_only_those_that_still_use_it() {
    let mut table = table_of(vec![
        registration("a", 0, "1:1", &["t", "u"]),
        registration("b", 0, "2:1", &["t", "u"]),
        with(registration("a", 0, "1:1", &["t", "u"]), |r| {
            r.connection = 2
        }),
    ]);
    table.connection_closed(Policy::default(), 1);
    assert_eq!(route_text(&table, "t", Policy::default()), "a[6]{0=1:1}");
    table.connection_closed(Policy::default(), 2);
    assert_eq!(seen(&table), [""; 0]);
}

#[test]
fn silence_longer_than_the_brokers_own_time_is_death() {
    let mut table = table_of(vec![
        with(registration("a", 0, "1:1", &["t", "u"]), |r| {
            r.connection = 10
        }),
        with(registration("b", 0, "2:1", &["t", "u"]), |r| {
            r.connection = 20;
            r.heartbeat_timeout_ms = Some(1000);
        }),
    ]);
    assert_eq!(
        table.expire(NOW + 1000, Policy::default()),
        removal::Expired::default()
    );
    table.heartbeat(NOW + 1000, &identity("2:1"));
    assert_eq!(
        table.expire(NOW + 2000, Policy::default()),
        removal::Expired::default()
    );
    assert_eq!(
        table.expire(NOW + 2001, Policy::default()).connections,
        [20]
    );
    assert_eq!(seen(&table), ["t: a[6]{0=1:1}", "u: a[6]{0=1:1}"]);
    assert_eq!(
        table
            .expire(NOW + DEFAULT_HEARTBEAT_TIMEOUT_MS + 1, Policy::default())
            .connections,
        [10]
    );
    table.heartbeat(NOW, &identity("1:1"));
    assert!(
        table.data_version(&identity("1:1")).is_none(),
        "a heartbeat registers nobody"
    );
}

#[test]
fn a_slave_acts_for_its_master_read_only() {
    let acting = |id, addr| {
        with(registration("a", id, addr, &["t", "u"]), |r| {
            r.enable_acting_master = Some(true)
        })
    };
    let mut table = table_of(vec![acting(0, "1:1"), acting(1, "1:2"), acting(2, "1:3")]);
    let policy = Policy {
        acting_master: true,
        notify_min_id: true,
        ..Policy::default()
    };
    let changes = table.unregister(policy, &[farewell("a", 0, "1:1")]);
    assert_eq!(
        changes,
        [MinIdChange {
            min_id: 1,
            min_addr: "1:2".to_owned(),
            offline_addr: Some("1:1".to_owned()),
            ha_addr: None,
            notify: vec!["1:2".to_owned(), "1:3".to_owned()],
        }]
    );
    assert_eq!(
        route_text(&table, "t", policy),
        "a[4]{0=1:2,2=1:3}",
        "the lowest id stands in as 0"
    );
    assert_eq!(
        route_text(&table, "t", Policy::default()),
        "a[4]{1=1:2,2=1:3}"
    );
    // The acting master registers with its topics writable; they are not.
    let again = with(acting(1, "1:2"), |r| set_version(r, version(3, 0)));
    table.register(NOW, policy, again).unwrap();
    assert_eq!(route_text(&table, "t", policy), "a[4]{0=1:2,2=1:3}");
    // The master returns: its members hear of it, and its topics are writable.
    let back = table.register(
        NOW,
        policy,
        with(acting(0, "1:1"), |r| set_version(r, version(4, 0))),
    );
    let change = back.unwrap().changed.unwrap();
    assert_eq!(
        (change.min_id, change.notify),
        (0, vec!["1:2".to_owned(), "1:3".to_owned()])
    );
    assert_eq!(change.ha_addr.as_deref(), Some("ha-1:1"));
    assert_eq!(route_text(&table, "t", policy), "a[6]{0=1:1,1=1:2,2=1:3}");
}

#[test]
fn members_that_do_not_act_are_not_told() {
    let mut table = table_of(vec![
        registration("a", 0, "1:1", &["t", "u"]),
        registration("a", 1, "1:2", &["t", "u"]),
    ]);
    let policy = Policy {
        notify_min_id: true,
        ..Policy::default()
    };
    assert_eq!(table.unregister(policy, &[farewell("a", 0, "1:1")]), []);
    assert_eq!(
        route_text(&table, "t", policy),
        "a[6]{1=1:2}",
        "nor do topics lose their permission"
    );
}

#[test]
fn the_topic_of_members_shows_who_is_really_there() {
    let acting = |id, addr: &str| {
        with(
            registration("a", id, addr, &["rmq_sys_SYNC_BROKER_MEMBER_a", "u"]),
            |r| {
                r.enable_acting_master = Some(true);
            },
        )
    };
    let mut table = table_of(vec![acting(0, "1:1"), acting(1, "1:2")]);
    let policy = Policy {
        acting_master: true,
        ..Policy::default()
    };
    table.unregister(policy, &[farewell("a", 0, "1:1")]);
    assert_eq!(
        route_text(&table, "rmq_sys_SYNC_BROKER_MEMBER_a", policy),
        "a[4]{1=1:2}"
    );
}

#[test]
fn write_permission_is_wiped_and_given_back() {
    let mut table = table_of(vec![
        registration("a", 0, "1:1", &["t", "u"]),
        registration("b", 0, "2:1", &["t", "x"]),
    ]);
    assert_eq!(table.wipe_write_perm("a"), 2);
    assert_eq!(
        route_text(&table, "t", Policy::default()),
        "a[4]{0=1:1} b[6]{0=2:1}"
    );
    assert_eq!(table.add_write_perm("a"), 2);
    assert_eq!(
        route_text(&table, "t", Policy::default()),
        "a[6]{0=1:1} b[6]{0=2:1}"
    );
    assert_eq!(table.wipe_write_perm("nobody"), 0);
}

#[test]
fn topics_are_registered_and_deleted_one_by_one() {
    let queues = |broker: &str| QueueData {
        broker_name: broker.to_owned(),
        read_queue_nums: 2,
        write_queue_nums: 2,
        perm: 6,
        topic_sys_flag: 0,
    };
    let mut table = table_of(vec![registration("a", 0, "1:1", &["t", "u"])]);
    assert!(table.register_topic("new", &[queues("a")]));
    assert!(!table.register_topic("other", &[queues("a"), queues("nobody")]));
    assert_eq!(table.all_topics().topic_list.len(), 3);
    table.delete_topic("new", Some("OtherCluster"));
    assert_eq!(table.all_topics().topic_list.len(), 3);
    table.delete_topic("new", Some(CLUSTER));
    table.delete_topic("t", None);
    assert_eq!(seen(&table), ["u: a[6]{0=1:1}"]);
}

#[test]
fn lists_select_by_cluster_and_unit() {
    let flagged = |flag: i32, topic: &str| {
        with(registration("a", 0, "1:1", &[topic, "plain"]), |r| {
            let topics = &mut r.body.topic_config_serialize_wrapper.topic_config_table;
            topics.get_mut(topic).unwrap().topic_sys_flag = flag;
            set_version(r, version(i64::from(flag) + 10, 0));
        })
    };
    let table = table_of(vec![
        flagged(1, "unit"),
        flagged(2, "sub"),
        flagged(3, "both"),
        with(registration("z", 0, "9:9", &["far", "plain"]), |r| {
            r.identity.cluster = "Far".to_owned()
        }),
    ]);
    let list = |topics: TopicListOf| {
        topics(&table)
            .topic_list
            .into_iter()
            .collect::<Vec<_>>()
            .join(",")
    };
    type TopicListOf = fn(&Table) -> protocol::body::TopicList;
    let sorted = |text: String| {
        let mut names: Vec<&str> = text.split(',').collect();
        names.sort_unstable();
        names.join(",")
    };
    assert_eq!(sorted(list(Table::unit_topics)), "both,unit");
    assert_eq!(sorted(list(Table::unit_sub_topics)), "both,sub");
    assert_eq!(sorted(list(Table::unit_sub_ununit_topics)), "sub");
    assert_eq!(
        sorted(list(|table| table.topics_of_cluster("Far"))),
        "far,plain"
    );
    assert_eq!(sorted(list(|table| table.topics_of_cluster("None"))), "");
    assert_eq!(sorted(list(Table::system_topics)), "DefaultCluster,Far,a,z");
    assert_eq!(table.system_topics().broker_addr.as_deref(), Some("1:1"));
}

#[test]
fn static_mappings_outlive_their_broker() {
    let mut table = table_of(vec![
        with(registration("a", 0, "1:1", &["t", "u"]), |r| {
            let info = TopicQueueMappingInfo {
                broker_name: "a".to_owned(),
                ..Default::default()
            };
            let wrapper = &mut r.body.topic_config_serialize_wrapper;
            wrapper.topic_queue_mapping_info_map = [("t".to_owned(), info)].into_iter().collect();
        }),
        registration("b", 0, "2:1", &["t", "u"]),
    ]);
    table.unregister(Policy::default(), &[farewell("a", 0, "1:1")]);
    let route = table.route("t", Policy::default()).unwrap();
    let mapping: BTreeMap<_, _> = route
        .topic_queue_mapping_by_broker
        .unwrap()
        .into_iter()
        .collect();
    assert!(mapping.contains_key("a"));
}

#[test]
fn filter_servers_follow_their_broker() {
    let servers = vec!["1:9000".to_owned()];
    let mut table = table_of(vec![with(registration("a", 0, "1:1", &["t", "u"]), |r| {
        r.body.filter_server_list.clone_from(&servers);
    })]);
    let route = table.route("t", Policy::default()).unwrap();
    assert_eq!(route.filter_server_table["1:1"], servers);
    table
        .register(
            NOW,
            Policy::default(),
            registration("a", 0, "1:1", &["t", "u"]),
        )
        .unwrap();
    assert!(
        table
            .route("t", Policy::default())
            .unwrap()
            .filter_server_table
            .is_empty()
    );
}
