//! SQL92 filters: one table of expressions, and consumers that select, against Apogee and the Java broker with the same assertions.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{
    ConsumeError, ConsumeResult, LitePullConsumer, Message, MessageSelector, Producer,
    PullConsumer, PushConsumer, Received, StartFrom,
};
use protocol::code::ResponseCode;

use super::clients::{self, create_topic};
use super::sides::Side;
use crate::live;
use crate::report::Verdict;

/// What a Java broker needs for it, and Apogee does by itself.
const CONFIG: &str = "enablePropertyFilter=true\nflushDiskType=ASYNC_FLUSH\n";
const TABLE: &str = include_str!("../../../interop/filters.txt");
const TOPIC: &str = "filtered";
/// How long anything may take that happens by itself. A Java group rebalances every twenty seconds.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);
/// Clients that select by expressions.
const CLIENTS: &[&str] = &["java-4.9.8", "java-5.3.3"];
const PROGRAM_LIMIT: Duration = Duration::from_secs(180);

/// What no server takes, so that its consumer does not start.
const REFUSED: &[&str] = &[
    "n >",
    "n = = 1",
    "n BETWEEN 2 AND 1",
    "s IN (1)",
    "s = \"x\"",
    "n != 1",
    "(n = 1",
    "n > 'x'",
    "n = 9223372036854775808",
];
/// What Apogee alone refuses: what Java cannot read of these it passes over.
const REFUSED_HERE: &[&str] = &["n = 1 rubbish", "n = 1 n = 2"];

/// Every expression of the table, with the messages that Apogee and Java hand out for it.
pub(crate) fn expressions() -> impl Iterator<Item = (&'static str, [&'static str; 2])> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let mut columns = row.splitn(3, '\t');
        let mut column = || columns.next().expect("a row has three columns");
        let (here, java, expression) = (column(), column(), column());
        let java = if java == "=" { here } else { java };
        (expression, [here, java])
    })
}

/// Names and properties of the messages, as the head of the table says.
fn messages() -> impl Iterator<Item = (&'static str, Vec<(&'static str, &'static str)>)> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("# "));
    let rows = rows.filter(|row| row.get(1..3).is_none_or(|gap| gap == "  "));
    rows.map(|row| {
        let (name, properties) = row.split_at(1);
        let properties = properties
            .split(',')
            .filter_map(|property| property.trim_start().split_once('='));
        (name, properties.collect())
    })
}

/// Both servers, one after the other.
pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let binary = live::binary()?;
    for side in [Side::Apogee, Side::Java] {
        let dir = tempfile::tempdir()?;
        side.on(dir.path(), &binary, CONFIG, &[], |nameserver| {
            create_topic(&binary, nameserver, TOPIC, 1)?;
            let on_side = async {
                fill(nameserver).await?;
                table(nameserver, side).await?;
                refusals(nameserver, side).await?;
                consumers(nameserver).await
            };
            runtime
                .block_on(on_side)
                .with_context(|| format!("the Rust client against {side:?}"))?;
            for client in CLIENTS {
                clients::create_topics(&binary, nameserver, client, &[("selected", 2)])?;
            }
            clients::run_part(CLIENTS, "select", nameserver, dir.path(), PROGRAM_LIMIT)
                .with_context(|| format!("against {side:?}"))
        })?;
    }
    Ok(Verdict::Passed)
}

async fn fill(nameserver: &str) -> Result<()> {
    let producer = Producer::builder("filtered_producers", nameserver).start()?;
    for (name, properties) in messages() {
        let mut message = Message::new(TOPIC, name);
        for (name, value) in properties {
            message = message.property(name, value);
        }
        producer.send(message).await?;
    }
    producer.shutdown().await;
    Ok(())
}

/// Each expression of the table takes what its row says.
async fn table(nameserver: &str, side: Side) -> Result<()> {
    let reader = PullConsumer::new("filtered_reader", nameserver)?;
    let queue = reader.queues(TOPIC).await?.remove(0);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (expression, [here, java]) in expressions() {
        let want = if side == Side::Apogee { here } else { java };
        let selector = MessageSelector::by_sql(expression);
        let mut taken = String::new();
        let mut offset = 0;
        loop {
            let pulled = match reader
                .pull(&queue, selector.clone(), offset, 32, Duration::ZERO)
                .await
            {
                Ok(pulled) => pulled,
                Err(error) if error.refusal() == Some(ResponseCode::SUBSCRIPTION_PARSE_FAILED) => {
                    taken = "refused".to_owned();
                    break;
                }
                Err(error) => return Err(error).context(expression),
            };
            for message in &pulled.messages {
                taken.push_str(std::str::from_utf8(&message.body)?);
            }
            if pulled.next_offset >= pulled.max_offset {
                break;
            }
            ensure!(
                pulled.next_offset > offset,
                "{expression}: no way on from {offset}"
            );
            offset = pulled.next_offset;
        }
        count += 1;
        if taken != want {
            wrong.push(format!("{taken}\t{want}\t{expression}"));
        }
    }
    reader.shutdown().await;
    if !wrong.is_empty() {
        let wrong = wrong.join("\n");
        bail!("{side:?} took what stands first, not what stands second:\n{wrong}");
    }
    eprintln!("   {side:?}: {count} expressions take what the table says");
    Ok(())
}

/// A consumer whose expression cannot be read does not start.
async fn refusals(nameserver: &str, side: Side) -> Result<()> {
    let here = REFUSED_HERE.iter().filter(|_| side == Side::Apogee);
    for expression in REFUSED.iter().chain(here) {
        let builder = LitePullConsumer::builder("filtered_refused", nameserver);
        let selector = MessageSelector::by_sql(*expression);
        match builder.subscribe(TOPIC, selector).start().await {
            Err(ConsumeError::Server(error))
                if error.refusal() == Some(ResponseCode::SUBSCRIPTION_PARSE_FAILED) =>
            {
                let place = error.to_string().contains("line 1, column ");
                ensure!(place || side == Side::Java, "{expression}: {error}");
            }
            Err(error) => return Err(error).with_context(|| format!("{expression:?}")),
            Ok(_) => bail!("{expression:?} was taken"),
        }
    }
    Ok(())
}

/// Push and lite pull consumers get what they select and nothing else.
async fn consumers(nameserver: &str) -> Result<()> {
    let selector = || MessageSelector::by_sql("s IN ('Rome', 'Oslo') AND n IS NOT NULL");
    let want: BTreeSet<String> = ["b", "c", "l"].map(str::to_owned).into();
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let push = PushConsumer::builder("filtered_push", nameserver)
        .subscribe(TOPIC, selector())
        .start_from(StartFrom::Oldest)
        .concurrently(move |messages| {
            noted
                .lock()
                .expect("no holder panics")
                .extend(names(&messages));
            ready(ConsumeResult::Success)
        })
        .start()
        .await?;
    let deadline = Instant::now() + PATIENCE;
    let so_far = || seen.lock().expect("no holder panics").clone();
    while so_far().len() < want.len() {
        ensure!(Instant::now() < deadline, "push: only {:?} came", so_far());
        tokio::time::sleep(POLL).await;
    }
    push.shutdown().await;
    ensure!(so_far() == want, "push: {:?} came", so_far());

    let lite = LitePullConsumer::builder("filtered_lite", nameserver)
        .subscribe(TOPIC, selector())
        .start_from(StartFrom::Oldest)
        .start()
        .await?;
    let mut polled = BTreeSet::new();
    while polled.len() < want.len() {
        ensure!(Instant::now() < deadline, "lite pull: only {polled:?} came");
        polled.extend(names(&lite.poll(Duration::from_secs(1)).await));
    }
    lite.shutdown().await;
    ensure!(polled == want, "lite pull: {polled:?} came");
    Ok(())
}

fn names(messages: &[Received]) -> Vec<String> {
    let name = |message: &Received| String::from_utf8_lossy(&message.body).into_owned();
    messages.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_understood() {
        let names: Vec<_> = messages().map(|(name, _)| name).collect();
        assert_eq!(names.concat(), "abcdefghijkl");
        let (_, last) = messages().last().unwrap();
        assert_eq!(
            last,
            [("n", "7"), ("s", "Rome"), ("t", "yes"), ("TAGS", "blue")]
        );
        assert!(expressions().count() >= 60);
        for (expression, _) in expressions() {
            let is_refused = REFUSED_HERE.contains(&expression);
            assert_eq!(
                filter::Filter::compile(expression).is_err(),
                is_refused,
                "{expression}"
            );
        }
    }
}
