//! What consumer groups are promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{
    ConsumeResult, LitePullConsumer, Message, MessageQueue, MessageSelector, Producer,
    PullConsumer, PushConsumer, PushConsumerBuilder, Received, StartFrom,
};

use crate::cluster::{Cluster, PATIENCE, eventually};

/// What listeners saw, in order of arrival.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(MessageQueue, i64, String)>>>);

impl Seen {
    fn note(&self, messages: &[Received]) {
        let mut seen = self.0.lock().unwrap();
        for message in messages {
            let body = String::from_utf8_lossy(&message.body).into_owned();
            seen.push((message.queue.clone(), message.queue_offset, body));
        }
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn bodies(&self) -> BTreeSet<String> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, _, body)| body.clone())
            .collect()
    }

    fn by_queue(&self) -> BTreeMap<MessageQueue, Vec<i64>> {
        let mut queues: BTreeMap<MessageQueue, Vec<i64>> = BTreeMap::new();
        for (queue, offset, _) in self.0.lock().unwrap().iter() {
            queues.entry(queue.clone()).or_default().push(*offset);
        }
        queues
    }
}

fn consumer(cluster: &Cluster, group: &str) -> PushConsumerBuilder {
    PushConsumer::builder(group, cluster.nameserver())
        .subscribe("T", "*")
        .start_from(StartFrom::Oldest)
}

async fn start(builder: PushConsumerBuilder, seen: &Seen) -> PushConsumer {
    let seen = seen.clone();
    let listener = move |messages: Vec<Received>| {
        seen.note(&messages);
        std::future::ready(ConsumeResult::Success)
    };
    builder.concurrently(listener).start().await.unwrap()
}

async fn send(producer: &Producer, range: std::ops::Range<usize>) -> BTreeSet<String> {
    let mut bodies = BTreeSet::new();
    for i in range {
        let body = format!("message {i}");
        producer
            .send(Message::new("T", body.clone()))
            .await
            .unwrap();
        bodies.insert(body);
    }
    bodies
}

fn queues_of_topic(consumer: &PushConsumer) -> usize {
    consumer
        .assigned()
        .iter()
        .filter(|queue| queue.topic == "T")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_share_the_queues_and_lose_nothing_when_one_leaves() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let mut want = send(&producer, 0..20).await;
    let seen = Seen::default();
    let first = start(consumer(&cluster, "shared"), &seen).await;
    eventually("the first twenty", || seen.bodies() == want).await;
    let second = start(consumer(&cluster, "shared"), &seen).await;
    eventually("an even share", || {
        queues_of_topic(&first) == 2 && queues_of_topic(&second) == 2
    })
    .await;
    want.extend(send(&producer, 20..120).await);
    eventually("the next hundred", || seen.bodies() == want).await;
    first.shutdown().await;
    eventually("the whole share", || queues_of_topic(&second) == 4).await;
    want.extend(send(&producer, 120..140).await);
    eventually("the last twenty", || seen.bodies() == want).await;
    second.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_left_off() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let want = send(&producer, 0..10).await;
    let seen = Seen::default();
    let before = start(consumer(&cluster, "resuming"), &seen).await;
    eventually("ten messages", || seen.bodies() == want).await;
    before.shutdown().await;
    let want = send(&producer, 10..15).await;
    let seen = Seen::default();
    let after = start(consumer(&cluster, "resuming"), &seen).await;
    eventually("the new ones", || seen.count() >= 5).await;
    after.shutdown().await;
    assert_eq!(seen.bodies(), want);
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_group_sees_each_queue_in_order_although_a_listener_refuses_once() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let want = send(&producer, 0..60).await;
    let seen = Seen::default();
    let noted = seen.clone();
    let refused = Arc::new(Mutex::new(false));
    let orderly = consumer(&cluster, "orderly").orderly(move |messages| {
        let first_time = !std::mem::replace(&mut *refused.lock().unwrap(), true);
        if !first_time {
            noted.note(&messages);
        }
        std::future::ready(if first_time {
            ConsumeResult::Later
        } else {
            ConsumeResult::Success
        })
    });
    let orderly = orderly.start().await.unwrap();
    eventually("all messages", || seen.bodies() == want).await;
    orderly.shutdown().await;
    for (queue, offsets) in seen.by_queue() {
        let in_order: Vec<i64> = (0..offsets.len() as i64).collect();
        assert_eq!(offsets, in_order, "{queue}");
    }
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_a_broadcast_group_sees_everything_and_remembers_it_in_its_file() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let want = send(&producer, 0..10).await;
    let dir = tempfile::tempdir().unwrap();
    let file = Some(dir.path().join("offsets.json"));
    let (one, two) = (Seen::default(), Seen::default());
    let first = start(
        consumer(&cluster, "everybody").broadcasting(file.clone()),
        &one,
    )
    .await;
    let second = start(consumer(&cluster, "everybody").broadcasting(None), &two).await;
    eventually("both see all", || {
        one.bodies() == want && two.bodies() == want
    })
    .await;
    first.shutdown().await;
    second.shutdown().await;
    let more = send(&producer, 10..12).await;
    let again = Seen::default();
    let first = start(consumer(&cluster, "everybody").broadcasting(file), &again).await;
    eventually("the new ones", || again.count() >= 2).await;
    first.shutdown().await;
    assert_eq!(again.bodies(), more);
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_select() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    // "Aa" and "BB" have the same hash, by which the broker filters.
    for tag in ["Aa", "BB", "C", "Aa"] {
        producer
            .send(Message::new("T", format!("tagged {tag}")).tag(tag))
            .await
            .unwrap();
    }
    let seen = Seen::default();
    let tagged = PushConsumer::builder("tagged", cluster.nameserver())
        .subscribe("T", "Aa || C")
        .start_from(StartFrom::Oldest);
    let tagged = start(tagged, &seen).await;
    eventually("three messages", || seen.count() >= 3).await;
    tagged.shutdown().await;
    assert_eq!(seen.count(), 3);
    assert_eq!(
        seen.bodies(),
        ["tagged Aa".to_owned(), "tagged C".to_owned()].into()
    );
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_selects_messages_for_every_kind_of_consumer() {
    let cluster = Cluster::start(&["broker-a"]).await;
    cluster.create_topic("T").await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    for price in 0..40 {
        let message = Message::new("T", format!("{price}"));
        let message = message.property("price", price.to_string());
        producer.send(message).await.unwrap();
    }
    let want: BTreeSet<String> = (10..=19).map(|price| price.to_string()).collect();
    let dear = || MessageSelector::by_sql("price BETWEEN 10 AND 19");

    let seen = Seen::default();
    let push = PushConsumer::builder("push", cluster.nameserver())
        .subscribe("T", dear())
        .start_from(StartFrom::Oldest);
    let push = start(push, &seen).await;
    eventually("ten messages", || seen.count() >= want.len()).await;
    push.shutdown().await;
    assert_eq!(seen.bodies(), want);

    let lite = LitePullConsumer::builder("lite", cluster.nameserver())
        .subscribe("T", dear())
        .start_from(StartFrom::Oldest)
        .start()
        .await
        .unwrap();
    let mut polled = BTreeSet::new();
    while polled.len() < want.len() {
        let messages = lite.poll(PATIENCE).await;
        polled.extend(
            messages
                .iter()
                .map(|m| String::from_utf8_lossy(&m.body).into_owned()),
        );
    }
    lite.shutdown().await;
    assert_eq!(polled, want);

    let reader = PullConsumer::new("pull", &cluster.nameserver()).unwrap();
    let mut pulled = BTreeSet::new();
    for queue in reader.queues("T").await.unwrap() {
        let found = reader
            .pull(&queue, dear(), 0, 32, Duration::ZERO)
            .await
            .unwrap();
        pulled.extend(
            found
                .messages
                .iter()
                .map(|m| String::from_utf8_lossy(&m.body).into_owned()),
        );
    }
    reader.shutdown().await;
    assert_eq!(pulled, want);
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_expression_cannot_be_read_does_not_start() {
    let cluster = Cluster::start(&["broker-a"]).await;
    cluster.create_topic("T").await;
    let wrong = || MessageSelector::by_sql("price BETWEEN 10 OR 19");
    let push = PushConsumer::builder("g", cluster.nameserver())
        .subscribe("T", wrong())
        .concurrently(|_| std::future::ready(ConsumeResult::Success));
    let lite = LitePullConsumer::builder("g", cluster.nameserver()).subscribe("T", wrong());
    let errors = [
        push.start().await.err().unwrap(),
        lite.start().await.err().unwrap(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("line 1, column 18"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_listener_takes_is_delivered_again() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let want = send(&producer, 0..1).await;
    let seen = Seen::default();
    let noted = seen.clone();
    let stubborn = consumer(&cluster, "stubborn").concurrently(move |messages| {
        let taken = messages[0].reconsume_times > 0;
        if taken {
            noted.note(&messages);
        }
        std::future::ready(if taken {
            ConsumeResult::Success
        } else {
            ConsumeResult::Later
        })
    });
    let stubborn = stubborn.start().await.unwrap();
    eventually("the redelivery", || seen.bodies() == want).await;
    stubborn.shutdown().await;
    producer.shutdown().await;
}

/// A second for each of the first levels, so that a message comes back soon whichever it has.
async fn with_short_levels() -> Cluster {
    Cluster::start_with(&["broker-a"], |keys| {
        keys.message_delay_level = "1s 1s 1s 1s 1s 1h".to_owned();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_too_often_is_a_dead_letter() {
    let cluster = with_short_levels().await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let want = send(&producer, 0..1).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let failing = consumer(&cluster, "failing")
        .max_reconsume_times(2)
        .concurrently(move |messages| {
            let times = messages[0].reconsume_times;
            noted
                .lock()
                .unwrap()
                .push((messages[0].topic.clone(), times));
            // By a level of its own once, then by the next in turn.
            std::future::ready(if times == 0 {
                ConsumeResult::LaterByLevel(1)
            } else {
                ConsumeResult::Later
            })
        });
    let failing = failing.start().await.unwrap();
    let seen = Seen::default();
    dead_letters(&cluster, "failing", &seen).await;
    assert_eq!(seen.bodies(), want);
    failing.shutdown().await;
    let topic = || "T".to_owned();
    assert_eq!(
        *times.lock().unwrap(),
        [(topic(), 0), (topic(), 1), (topic(), 2)]
    );
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_queue_goes_on_behind_a_message_that_is_given_up() {
    let cluster = with_short_levels().await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    for body in ["bad", "good"] {
        let sent = producer.send_selected(Message::new("T", body), |_| 0).await;
        sent.unwrap();
    }
    let seen = Seen::default();
    let noted = seen.clone();
    let orderly = consumer(&cluster, "giving-up")
        .max_reconsume_times(1)
        .suspend_time(Duration::from_millis(10))
        .orderly(move |messages| {
            noted.note(&messages);
            std::future::ready(if messages[0].body == "bad" {
                ConsumeResult::Later
            } else {
                ConsumeResult::Success
            })
        });
    let orderly = orderly.start().await.unwrap();
    let dead = Seen::default();
    dead_letters(&cluster, "giving-up", &dead).await;
    assert_eq!(dead.bodies(), ["bad".to_owned()].into());
    eventually("the next message", || seen.count() >= 3).await;
    orderly.shutdown().await;
    let bodies: Vec<String> = seen
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(_, _, body)| body.clone())
        .collect();
    assert_eq!(bodies, ["bad", "bad", "good"]);
    producer.shutdown().await;
}

/// A consumer that was stopped before all of its tasks had run for the first time waited for one of them for ever.
#[tokio::test]
async fn a_consumer_stops_however_soon() {
    let cluster = with_short_levels().await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    producer.send(Message::new("T", "one")).await.unwrap();
    for _ in 0..20 {
        let hasty = start(consumer(&cluster, "hasty"), &Seen::default()).await;
        let stopped = tokio::time::timeout(PATIENCE, hasty.shutdown()).await;
        stopped.expect("it stops");
    }
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_its_level() {
    let cluster = with_short_levels().await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let begin = std::time::Instant::now();
    for (body, level) in [("an hour", 6), ("a second", 1), ("now", 0)] {
        producer
            .send(Message::new("T", body).delay_level(level))
            .await
            .unwrap();
    }
    let seen = Seen::default();
    let waiting = start(consumer(&cluster, "waiting"), &seen).await;
    eventually("both", || seen.count() >= 2).await;
    assert!(begin.elapsed() >= Duration::from_secs(1));
    waiting.shutdown().await;
    assert_eq!(
        seen.bodies(),
        ["now".to_owned(), "a second".to_owned()].into()
    );
    producer.shutdown().await;
}

/// Waits for the first dead letter of a group.
async fn dead_letters(cluster: &Cluster, group: &str, seen: &Seen) {
    let topic = format!("%DLQ%{group}");
    // The topic is there with its first letter.
    let reader = client::PullConsumer::new("undertaker", &cluster.nameserver()).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while reader.queues(&topic).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing was given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reader.shutdown().await;
    let letters = PushConsumer::builder("undertaker", cluster.nameserver())
        .subscribe(topic, "*")
        .start_from(StartFrom::Oldest);
    let letters = start(letters, seen).await;
    eventually("the dead letter", || seen.count() >= 1).await;
    letters.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lite_pull_consumer_polls_seeks_and_commits() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let want = send(&producer, 0..30).await;
    let lite = LitePullConsumer::builder("lite", cluster.nameserver())
        .subscribe("T", "*")
        .start_from(StartFrom::Oldest)
        .auto_commit(false)
        .start()
        .await
        .unwrap();
    let seen = Seen::default();
    while seen.count() < 30 {
        let polled = lite.poll(PATIENCE).await;
        assert!(!polled.is_empty());
        seen.note(&polled);
    }
    assert_eq!(seen.bodies(), want);
    let queue = lite.assigned()[0].clone();
    lite.seek(&queue, 0).unwrap();
    let again = lite.poll(PATIENCE).await;
    assert_eq!((&again[0].queue, again[0].queue_offset), (&queue, 0));
    assert!(lite.poll(Duration::ZERO).await.is_empty());
    lite.commit().await;
    lite.shutdown().await;

    let assigned = LitePullConsumer::builder("lite", cluster.nameserver()).assign([queue.clone()]);
    let assigned = assigned.start().await.unwrap();
    producer
        .send_selected(Message::new("T", "new"), |_| queue.queue_id as usize)
        .await
        .unwrap();
    let polled = assigned.poll(PATIENCE).await;
    assert_eq!(polled[0].body, "new");
    assigned.shutdown().await;
    producer.shutdown().await;
}
