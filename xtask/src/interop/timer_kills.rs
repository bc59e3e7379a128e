//! `kill -9` of a broker that takes, delivers and recalls timer messages: what was acknowledged comes, none early, what was recalled never, and few come twice.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use platform::random::Random;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    GetMaxOffsetRequest, GetMaxOffsetResponse, PullMessageRequest, RecallMessageRequest,
    SendMessageRequest, SendMessageRequestV2, SendMessageResponse,
};
use protocol::record::{self, CheckBody};
use protocol::{properties as names, sysflag};
use remoting::{Client, ClientConfig, NoPushes};

use crate::live::{self, Role};
use crate::report::Verdict;

const KILLS: u64 = 16;
const TOPIC: &str = "timed-kills";
/// Small files, so that segments roll.
const CONFIG: &str = "recallMessageEnable=true\nmappedFileSizeCommitLog=1048576\nmaxHashSlotNum=1000\nmaxIndexNum=200000\n\
                      flushDelayOffsetInterval=50\ndiskMaxUsedSpaceRatio=99\n";
/// Load before a kill.
const LOAD_MS: std::ops::Range<u64> = 100..600;
/// The longest delay of a message: longer than a kill and a start.
const DELAY_MS_MAX: u64 = 4_000;
/// Messages in flight.
const WINDOW: usize = 32;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that one kill may have come twice: one append, and those that the position had not noted.
const TWICE_PER_KILL: usize = 2 * 256;

#[derive(Default)]
struct Ledger {
    next: u64,
    /// Acknowledged, with their times.
    acknowledged: HashMap<u64, i64>,
    /// Recalls that succeeded, and those without an answer.
    recalled: HashSet<u64>,
    in_doubt: HashSet<u64>,
    handles: Vec<(u64, String)>,
}

/// One campaign.
pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Runtime::new()?;
    let binary = live::binary()?;
    for flush in ["SYNC_FLUSH", "ASYNC_FLUSH"] {
        let dir = tempfile::tempdir()?;
        let nameserver = Role::nameserver(&binary, dir.path())?;
        let start = || {
            Role::broker(
                &binary,
                dir.path(),
                &nameserver.addr,
                &format!("{CONFIG}flushDiskType={flush}\n"),
            )
        };
        let client = Arc::new(Client::new(ClientConfig::default(), Arc::new(NoPushes)));
        let mut ledger = Ledger::default();
        let mut random = Random(7);
        for _ in 0..KILLS {
            let broker = start()?;
            let load =
                Duration::from_millis(LOAD_MS.start + random.below(LOAD_MS.end - LOAD_MS.start));
            runtime.block_on(traffic(
                &client,
                &broker.addr,
                &mut ledger,
                &mut random,
                load,
            ))?;
            broker.kill_9()?;
        }
        let broker = start()?;
        let twice = runtime
            .block_on(check(&client, &broker.addr, &ledger))
            .with_context(|| format!("{flush}, after {KILLS} kills"))?;
        eprintln!(
            "   {flush}: {} messages acknowledged, {} recalled; after {KILLS} kills none is lost, none came early, {twice} came twice",
            ledger.acknowledged.len(),
            ledger.recalled.len()
        );
        broker.stop()?;
        nameserver.stop()?;
    }
    Ok(Verdict::Passed)
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// Sends and recalls until the time is over.
async fn traffic(
    client: &Arc<Client>,
    addr: &str,
    ledger: &mut Ledger,
    random: &mut Random,
    load: Duration,
) -> Result<()> {
    let end = Instant::now() + load;
    while Instant::now() < end {
        let mut sends = Vec::with_capacity(WINDOW);
        for _ in 0..WINDOW {
            let (number, due_ms) = (ledger.next, now_ms() + random.below(DELAY_MS_MAX) as i64);
            ledger.next += 1;
            let (client, addr, request) = (client.clone(), addr.to_owned(), send(number, due_ms));
            let call = tokio::spawn(async move { client.call(&addr, request, CALL_TIMEOUT).await });
            sends.push((number, due_ms, call));
        }
        for (number, due_ms, call) in sends {
            let answer = call.await??;
            ensure!(
                answer.response_code() == ResponseCode::SUCCESS,
                "a send is refused: {:?}",
                answer.remark
            );
            ledger.acknowledged.insert(number, due_ms);
            let header: SendMessageResponse = answer.header()?;
            if number % 8 == 0 {
                ledger
                    .handles
                    .extend(header.recall_handle.map(|handle| (number, handle)));
            }
        }
        if ledger.handles.len() > 4 {
            let at = random.below(ledger.handles.len() as u64) as usize;
            let (number, handle) = ledger.handles.swap_remove(at);
            recall(client, addr, ledger, number, handle).await;
        }
    }
    Ok(())
}

async fn recall(client: &Client, addr: &str, ledger: &mut Ledger, number: u64, handle: String) {
    let header = RecallMessageRequest {
        producer_group: None,
        topic: TOPIC.to_owned(),
        recall_handle: handle,
    };
    let request = Command::request(RequestCode::RECALL_MESSAGE, &header);
    match client.call(addr, request, CALL_TIMEOUT).await {
        Ok(answer) if answer.response_code() == ResponseCode::SUCCESS => {
            ledger.recalled.insert(number);
        }
        Ok(answer) if answer.response_code() == ResponseCode::ILLEGAL_OPERATION => {}
        Ok(_) | Err(_) => {
            ledger.in_doubt.insert(number);
        }
    }
}

fn send(number: u64, due_ms: i64) -> Command {
    let mut properties = String::new();
    names::push(
        &mut properties,
        names::UNIQ_KEY,
        &format!("id-{number:016X}"),
    );
    names::push(
        &mut properties,
        names::TIMER_DELIVER_MS,
        &due_ms.to_string(),
    );
    let header = SendMessageRequestV2(SendMessageRequest {
        producer_group: "timed-kill-producers".into(),
        topic: TOPIC.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 1,
        queue_id: 0,
        born_timestamp_ms: now_ms(),
        properties: Some(properties.into()),
        ..SendMessageRequest::default()
    });
    Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(number.to_be_bytes().to_vec())
}

/// Waits until everything is due, and reads what came. Gives how many came twice.
async fn check(client: &Client, addr: &str, ledger: &Ledger) -> Result<usize> {
    let last = ledger.acknowledged.values().max().copied().unwrap_or(0);
    let expected = ledger
        .acknowledged
        .keys()
        .filter(|number| !ledger.recalled.contains(number) && !ledger.in_doubt.contains(number));
    let expected: HashSet<u64> = expected.copied().collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen: HashMap<u64, usize> = HashMap::new();
    let mut offset = 0;
    loop {
        let header = GetMaxOffsetRequest {
            topic: TOPIC.to_owned(),
            queue_id: 0,
            ..GetMaxOffsetRequest::default()
        };
        let answer = client
            .call(
                addr,
                Command::request(RequestCode::GET_MAX_OFFSET, &header),
                CALL_TIMEOUT,
            )
            .await?;
        let end = answer.header::<GetMaxOffsetResponse>()?.offset;
        while offset < end {
            offset = pull(client, addr, offset, ledger, &mut seen).await?;
        }
        let missing = expected
            .iter()
            .filter(|number| !seen.contains_key(number))
            .count();
        if missing == 0 && now_ms() > last + 1_000 {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{missing} acknowledged messages are lost"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let came_back = ledger
        .recalled
        .iter()
        .filter(|number| seen.contains_key(number))
        .count();
    ensure!(came_back == 0, "{came_back} recalled messages came");
    let twice = seen.values().map(|count| count - 1).sum();
    ensure!(
        twice <= TWICE_PER_KILL * KILLS as usize,
        "{twice} messages came twice"
    );
    Ok(twice)
}

async fn pull(
    client: &Client,
    addr: &str,
    offset: i64,
    ledger: &Ledger,
    seen: &mut HashMap<u64, usize>,
) -> Result<i64> {
    let header = PullMessageRequest {
        consumer_group: "checker".to_owned(),
        topic: TOPIC.to_owned(),
        queue_id: 0,
        queue_offset: offset,
        messages_max: 32,
        sys_flag: sysflag::PULL_SUBSCRIPTION,
        subscription: Some("*".to_owned()),
        ..PullMessageRequest::default()
    };
    let answer = client
        .call(
            addr,
            Command::request(RequestCode::PULL_MESSAGE, &header),
            CALL_TIMEOUT,
        )
        .await?;
    ensure!(
        answer.response_code() == ResponseCode::SUCCESS,
        "offset {offset} cannot be read: {:?}",
        answer.remark
    );
    let mut rest = &answer.body[..];
    let mut next = offset;
    while !rest.is_empty() {
        let record = record::decode(rest, CheckBody::Yes)?;
        let number = u64::from_be_bytes(record.body.try_into().context("another body was sent")?);
        ensure!(number < ledger.next, "message {number} was never sent");
        let due = names::get(record.properties, names::TIMER_DELIVER_MS)
            .context("no TIMER_DELIVER_MS")?;
        ensure!(
            record.store_timestamp_ms >= due.parse::<i64>()?,
            "message {number} came early"
        );
        *seen.entry(number).or_default() += 1;
        next = record.queue_offset as i64 + 1;
        rest = &rest[record.size as usize..];
    }
    ensure!(next > offset, "a pull at {offset} gives nothing");
    Ok(next)
}
