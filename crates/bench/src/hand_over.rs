//! How long the queues of a client that died, which consumed them in order, wait for the next one.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use protocol::body::{LockBatchRequestBody, LockBatchResponseBody, MessageQueue};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::json;
use serde::{Deserialize, Serialize};

use crate::load::Load;
use crate::member::Member;
use crate::site::Site;

const GROUP: &str = "bench-hand-over";
/// How often the next client asks. An official client asks every twenty seconds, and when it is told that its group changed.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct HandOver {
    /// Target, topic and queues.
    pub load: Load,
    /// The longest wait.
    pub patience: Duration,
}

/// The outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandOverReport {
    /// Queues that were handed over.
    pub queues: u32,
    /// From the death of the first client, whose connection closed, until the next one had all of them.
    pub seconds: f64,
}

/// Locks all queues of the topic as one client, closes its connection, and asks as another one until it has them.
///
/// # Errors
/// When the broker refuses a lock, or nothing was handed over in time.
pub fn run(plan: &HandOver) -> Result<HandOverReport> {
    let load = &plan.load;
    let _site = Site::prepare(load)?;
    let join = || Member::join(load.target, GROUP, &load.topic, "TAG", "*");
    let mut first = join()?;
    let mut next = join()?;
    ensure!(
        lock(load, &mut first)?.len() == load.queues as usize,
        "the first client did not get its queues: the group has others"
    );
    ensure!(
        lock(load, &mut next)?.is_empty(),
        "the broker gave queues away that another client holds"
    );
    drop(first);
    let died = Instant::now();
    while lock(load, &mut next)?.len() < load.queues as usize {
        ensure!(
            died.elapsed() < plan.patience,
            "the queues were not handed over within {:?}",
            plan.patience
        );
        thread::sleep(ASK_INTERVAL);
    }
    Ok(HandOverReport {
        queues: load.queues,
        seconds: died.elapsed().as_secs_f64(),
    })
}

/// The queues that the client has afterwards.
fn lock(load: &Load, member: &mut Member) -> Result<BTreeSet<MessageQueue>> {
    let queues = (0..load.queues as i32).map(|id| MessageQueue::new(&load.topic, BROKER, id));
    let body = LockBatchRequestBody {
        client_id: member.client_id.clone(),
        consumer_group: GROUP.to_owned(),
        mq_set: queues.collect(),
        only_this_broker: true,
    };
    let request = Command::request(RequestCode::LOCK_BATCH_MQ, &()).with_body(json::encode(&body));
    let answer = member.session.call(request)?;
    ensure!(
        answer.response_code() == ResponseCode::SUCCESS,
        "a lock was answered {} {}",
        answer.response_code(),
        answer.remark.unwrap_or_default()
    );
    let locked: LockBatchResponseBody = json::decode(&answer.body)?;
    Ok(locked.lock_ok_mq_set)
}

/// Locks are by the name that clients give; brokers do not compare it with theirs.
const BROKER: &str = "bench";
