//! Transactions: half messages, their ends, and the questions to producers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use platform::disk::SimulatedDisk;
use protocol::body::KvTable;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    CheckTransactionStateRequest, EndTransactionRequest, ResumeCheckHalfMessageRequest,
};
use protocol::json;
use protocol::message_id::{decode_offset_id, encode_offset_id};
use protocol::record::{self, CheckBody};
use remoting::{Client, ClientConfig, InboundHandler};
use tokio::sync::mpsc;

use crate::harness::*;

pub(crate) const GROUP: &str = "tx-producers";
pub(crate) const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub(crate) const OP: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
const GIVEN_UP: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub(crate) const COMMIT: i32 = 8;
pub(crate) const ROLLBACK: i32 = 12;

/// A half as its producer knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Half {
    pub(crate) offset: i64,
    pub(crate) physical: i64,
    pub(crate) id: String,
}

pub(crate) fn half_props(id: &str, more: &[(&str, &str)]) -> String {
    let mut pairs = vec![("TRAN_MSG", "true"), ("PGROUP", GROUP), ("UNIQ_KEY", id)];
    pairs.extend(more);
    props(&pairs)
}

impl TestBroker {
    /// Sends a half to queue 0 of `Topic`.
    pub(crate) async fn half(&self, id: &str, more: &[(&str, &str)]) -> Half {
        let sent = self
            .sent("Topic", id.as_bytes(), &half_props(id, more))
            .await;
        assert_eq!(sent.transaction_id.as_deref(), Some(id));
        Half {
            offset: sent.queue_offset,
            physical: decode_offset_id(&sent.msg_id).unwrap().1 as i64,
            id: id.to_owned(),
        }
    }

    pub(crate) async fn end(&self, half: &Half, decision: i32) -> Command {
        self.call(end(half, decision)).await
    }

    pub(crate) async fn ended(&self, half: &Half, decision: i32) {
        let answer = self.end(half, decision).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
    }

    async fn refuses(&self, header: &EndTransactionRequest, code: ResponseCode, remark: &str) {
        let answer = self
            .call(Command::request(RequestCode::END_TRANSACTION, header))
            .await;
        let said = answer.remark.clone().unwrap_or_default();
        assert_eq!(answer.response_code(), code, "{said}");
        assert!(said.contains(remark), "{said}");
    }

    pub(crate) async fn bodies(&self, topic: &str) -> Vec<String> {
        let (_, _, messages) = self.pulled(topic, 0).await;
        let bodies = messages.into_iter().map(|message| message.body);
        bodies
            .map(|body| String::from_utf8(body).unwrap())
            .collect()
    }

    /// A figure of the runtime information.
    pub(crate) async fn figure(&self, name: &str) -> u64 {
        let request = Command::request(RequestCode::GET_BROKER_RUNTIME_INFO, &());
        let answer = self.call(request).await;
        let table: KvTable = json::decode(&answer.body).unwrap();
        table.table[name].parse().unwrap()
    }

    /// Waits until a figure has reached `least`.
    pub(crate) async fn reaches(&self, name: &str, least: u64) {
        let wait = async {
            while self.figure(name).await < least {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait).await.unwrap();
    }

    /// Waits until what the broker itself has appended can be read: a figure counts it before it is flushed.
    async fn flushed(&self) {
        self.sent("Flushed", b"", "").await;
    }
}

pub(crate) fn end_header(half: &Half, decision: i32) -> EndTransactionRequest {
    EndTransactionRequest {
        topic: Some("Topic".to_owned()),
        producer_group: GROUP.to_owned(),
        tran_state_table_offset: half.offset,
        commit_log_offset: half.physical,
        commit_or_rollback: decision,
        from_transaction_check: false,
        msg_id: half.id.clone(),
        transaction_id: Some(half.id.clone()),
    }
}

pub(crate) fn end(half: &Half, decision: i32) -> Command {
    Command::request(RequestCode::END_TRANSACTION, &end_header(half, decision))
}

/// Passes on what it is asked.
struct Asked(mpsc::UnboundedSender<Command>);

impl InboundHandler for Asked {
    fn on_request(
        &self,
        _: &str,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>> {
        if command.request_code() == RequestCode::CHECK_TRANSACTION_STATE {
            assert!(command.is_oneway());
            // A test that is over listens no more.
            let _ = self.0.send(command);
        }
        Box::pin(async { None })
    }

    fn on_connect(&self, _: &str) {}
}

/// A producer with a connection of its own.
struct Producer {
    client: Arc<Client>,
    asked: mpsc::UnboundedReceiver<Command>,
}

impl Producer {
    async fn join(broker: &TestBroker, id: &str, group: &str) -> Producer {
        let (sender, asked) = mpsc::unbounded_channel();
        let client = Arc::new(Client::new(
            ClientConfig::default(),
            Arc::new(Asked(sender)),
        ));
        let body = format!(
            r#"{{"clientID":"{id}","consumerDataSet":[],"producerDataSet":[{{"groupName":"{group}"}}]}}"#
        );
        let heartbeat = Command::request(RequestCode::HEART_BEAT, &()).with_body(body.into_bytes());
        let answer = client
            .call(&broker.addr().to_string(), heartbeat, TIMEOUT)
            .await
            .unwrap();
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        Producer { client, asked }
    }

    /// The next question, as the half that it is about.
    async fn is_asked(&mut self) -> Half {
        self.question().await.0
    }

    async fn question(&mut self) -> (Half, Command) {
        let asked = tokio::time::timeout(TIMEOUT, self.asked.recv());
        let command = asked.await.unwrap().unwrap();
        let header: CheckTransactionStateRequest = command.header().unwrap();
        let half = Half {
            offset: header.tran_state_table_offset,
            physical: header.commit_log_offset,
            id: header.transaction_id.unwrap(),
        };
        (half, command)
    }
}

fn quick(keys: &mut broker::BrokerKeys) {
    keys.transaction_time_out = 1;
    keys.transaction_check_interval = 20;
}

#[tokio::test]
async fn nobody_sees_a_half_before_its_commit() {
    let broker = TestBroker::start().await;
    let first = broker.half("first", &[("TAGS", "t"), ("KEYS", "k")]).await;
    let second = broker.half("second", &[]).await;
    assert_eq!((first.offset, second.offset), (0, 1));
    assert_eq!(broker.max_offset("Topic").await, 0);
    broker.ended(&second, COMMIT).await;
    broker.ended(&first, COMMIT).await;
    let (_, _, messages) = broker.pulled("Topic", 0).await;
    assert_eq!(broker.bodies("Topic").await, ["second", "first"]);
    let message = &messages[1];
    assert_eq!((message.sys_flag & 12, message.flag), (COMMIT, 7));
    assert_eq!(message.prepared_transaction_offset, first.physical);
    for (name, value) in [
        ("TAGS", "t"),
        ("KEYS", "k"),
        ("TRAN_MSG", "true"),
        ("PGROUP", GROUP),
        ("UNIQ_KEY", "first"),
        ("__transactionId__", "first"),
        ("REAL_TOPIC", "Topic"),
        ("REAL_QID", "0"),
    ] {
        assert_eq!(message.property(name), Some(value), "{name}");
    }
    let (_, _, ops) = broker.pulled(OP, 0).await;
    assert_eq!(broker.bodies(OP).await, ["1,", "0,"]);
    assert!(ops.iter().all(|op| op.property("TAGS") == Some("d")));
    let (_, _, halves) = broker.pulled(HALF, 0).await;
    assert_eq!((halves.len(), halves[0].sys_flag & 12), (2, 0));
}

#[tokio::test]
async fn a_rollback_leaves_nothing() {
    let broker = TestBroker::start().await;
    let half = broker.half("a", &[]).await;
    assert_eq!(broker.figure("transactionPending").await, 1);
    broker.ended(&half, ROLLBACK).await;
    assert_eq!(broker.bodies(OP).await, ["0,"]);
    assert_eq!(broker.max_offset("Topic").await, 0);
    assert_eq!(broker.figure("transactionPending").await, 0);
    assert_eq!(broker.figure("transactionRolledBack").await, 1);
}

#[tokio::test]
async fn an_end_can_be_repeated_and_not_reversed() {
    let broker = TestBroker::start().await;
    let committed = broker.half("a", &[]).await;
    broker.ended(&committed, COMMIT).await;
    let again = broker.end(&committed, COMMIT).await;
    assert_eq!(again.response_code(), ResponseCode::SUCCESS);
    assert!(again.remark.unwrap().contains("committed before"));
    let rolled_back = broker.half("b", &[]).await;
    broker.ended(&rolled_back, ROLLBACK).await;
    broker.ended(&rolled_back, ROLLBACK).await;
    let illegal = ResponseCode::ILLEGAL_OPERATION;
    broker
        .refuses(
            &end_header(&committed, ROLLBACK),
            illegal,
            "cannot be taken back",
        )
        .await;
    broker
        .refuses(
            &end_header(&rolled_back, COMMIT),
            illegal,
            "it was rolled back",
        )
        .await;
    assert_eq!(broker.bodies("Topic").await, ["a"]);
    assert_eq!(broker.max_offset(OP).await, 2);
}

#[tokio::test]
async fn two_ends_in_one_batch_deliver_once() {
    let broker = TestBroker::start().await;
    let half = broker.half("a", &[]).await;
    let (client, addr) = (broker.client.clone(), broker.addr().to_string());
    let calls: Vec<_> = (0..8)
        .map(|_| client.call(&addr, end(&half, COMMIT), TIMEOUT))
        .collect();
    let mut ended = 0;
    for call in calls {
        let answer = call.await.unwrap();
        ended += usize::from(answer.response_code() == ResponseCode::SUCCESS);
    }
    assert!(ended >= 1);
    assert_eq!(broker.bodies("Topic").await, ["a"]);
}

#[tokio::test]
async fn what_names_no_half_is_refused_and_loses_nothing() {
    let broker = TestBroker::start().await;
    let plain = broker.sent("Topic", b"plain", "").await;
    let plain = decode_offset_id(&plain.msg_id).unwrap().1 as i64;
    let half = broker.half("a", &[]).await;
    let error = ResponseCode::SYSTEM_ERROR;
    let good = end_header(&half, COMMIT);
    let not_found = "Find prepared transaction message failed";
    for place in [-1, i64::MIN, i64::MAX, half.physical + 1, plain, 1 << 40] {
        let mut header = good.clone();
        header.commit_log_offset = place;
        broker.refuses(&header, error, not_found).await;
    }
    for offset in [-1, 1, i64::MAX] {
        let mut header = good.clone();
        header.tran_state_table_offset = offset;
        let remark = "The transaction state table offset wrong";
        broker.refuses(&header, error, remark).await;
    }
    let mut other = good.clone();
    other.producer_group = "others".to_owned();
    broker
        .refuses(&other, error, "The producer group wrong")
        .await;
    let mut nonsense = good.clone();
    nonsense.commit_or_rollback = 4;
    let invalid = ResponseCode::INVALID_PARAMETER;
    broker
        .refuses(&nonsense, invalid, "commitOrRollback=4")
        .await;
    let mut unknown = good.clone();
    unknown.commit_or_rollback = 0;
    let answer = broker
        .call(Command::request(RequestCode::END_TRANSACTION, &unknown))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(broker.max_offset(OP).await, 0);
    broker.ended(&half, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["plain", "a"]);
}

#[tokio::test]
async fn a_half_needs_its_property_and_a_broker_that_takes_halves() {
    let broker = TestBroker::start_with(|keys| keys.reject_transaction_message = true).await;
    let answer = broker.send("Topic", b"x", &half_props("a", &[])).await;
    assert_eq!(answer.response_code(), ResponseCode::NO_PERMISSION);
    let remark = answer.remark.unwrap();
    assert!(
        remark.ends_with("sending transaction message is forbidden"),
        "{remark}"
    );
    let mut header = send_header("Topic", 0, "");
    header.sys_flag = 4;
    let answer = broker
        .call(Command::request(RequestCode::SEND_MESSAGE, &header).with_body("x"))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
}

#[tokio::test]
async fn producers_of_the_group_are_asked_by_turns_until_one_knows() {
    let broker = TestBroker::start_with(quick).await;
    let mut first = Producer::join(&broker, "c1", GROUP).await;
    let mut second = Producer::join(&broker, "c2", GROUP).await;
    let mut stranger = Producer::join(&broker, "c3", "strangers").await;
    let half = broker.half("a", &[]).await;
    let (asked, command) = first.question().await;
    assert_eq!(asked, half);
    assert_eq!(second.is_asked().await, half);
    assert_eq!(first.is_asked().await, half);
    let record = record::decode(&command.body, CheckBody::Yes).unwrap();
    assert_eq!((record.topic, record.body), ("Topic", &b"a"[..]));
    let mut answer = end_header(&half, COMMIT);
    answer.from_transaction_check = true;
    let addr = broker.addr().to_string();
    let answer = Command::request(RequestCode::END_TRANSACTION, &answer);
    second.client.call(&addr, answer, TIMEOUT).await.unwrap();
    assert_eq!(broker.bodies("Topic").await, ["a"]);
    // Nothing of all this was stored again.
    assert_eq!(broker.max_offset(HALF).await, 1);
    assert!(stranger.asked.try_recv().is_err());
}

#[tokio::test]
async fn an_immunity_time_keeps_questions_and_late_ends_away() {
    let broker = TestBroker::start_with(quick).await;
    let mut producer = Producer::join(&broker, "c1", GROUP).await;
    let immune = broker
        .half("immune", &[("CHECK_IMMUNITY_TIME_IN_SECONDS", "3600")])
        .await;
    let short = broker
        .half("short", &[("CHECK_IMMUNITY_TIME_IN_SECONDS", "0")])
        .await;
    for _ in 0..3 {
        assert_eq!(producer.is_asked().await, short);
    }
    let remark = "only the answer to a check ends it";
    broker
        .refuses(
            &end_header(&short, COMMIT),
            ResponseCode::ILLEGAL_OPERATION,
            remark,
        )
        .await;
    broker.ended(&immune, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["immune"]);
}

#[tokio::test]
async fn what_nobody_knows_goes_where_an_operator_finds_it_and_can_come_back() {
    let broker = TestBroker::start_with(|keys| {
        quick(keys);
        keys.transaction_check_max = 2;
    })
    .await;
    let mut producer = Producer::join(&broker, "c1", GROUP).await;
    let half = broker.half("a", &[]).await;
    for _ in 0..2 {
        assert_eq!(producer.is_asked().await, half);
    }
    broker.reaches("transactionGivenUp", 1).await;
    broker.flushed().await;
    assert_eq!(broker.figure("transactionPending").await, 0);
    let (_, _, given_up) = broker.pulled(GIVEN_UP, 0).await;
    assert_eq!(given_up[0].property("TRANSACTION_CHECK_TIMES"), Some("2"));
    assert_eq!(given_up[0].property("REAL_TOPIC"), Some("Topic"));
    assert_eq!(broker.bodies(OP).await, ["0,"]);
    assert!(broker.topic_files().contains(GIVEN_UP));
    let store_host = broker.running.broker().identity().address;
    let id = |physical| encode_offset_id(store_host, physical as u64);
    let resume = |physical| {
        let header = ResumeCheckHalfMessageRequest {
            topic: None,
            msg_id: Some(id(physical)),
        };
        Command::request(RequestCode::RESUME_CHECK_HALF_MESSAGE, &header)
    };
    let refused = broker.call(resume(half.physical)).await;
    assert_eq!(refused.response_code(), ResponseCode::ILLEGAL_OPERATION);
    let answer = broker.call(resume(given_up[0].physical_offset)).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let again = producer.is_asked().await;
    assert_eq!((again.offset, again.id.as_str()), (1, "a"));
    // The producer knows the half by its first place only.
    broker.ended(&half, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["a"]);
    let answer = broker.call(resume(given_up[0].physical_offset)).await;
    assert_eq!(answer.response_code(), ResponseCode::ILLEGAL_OPERATION);
    assert_eq!(broker.figure("transactionPending").await, 0);
}

#[tokio::test]
async fn a_late_commit_of_what_was_given_up_is_delivered_once() {
    let broker = TestBroker::start_with(|keys| {
        quick(keys);
        keys.transaction_check_max = 1;
    })
    .await;
    let mut producer = Producer::join(&broker, "c1", GROUP).await;
    let half = broker.half("a", &[]).await;
    producer.is_asked().await;
    broker.reaches("transactionGivenUp", 1).await;
    broker.flushed().await;
    broker.ended(&half, COMMIT).await;
    broker.ended(&half, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["a"]);
}

#[tokio::test]
async fn without_a_producer_a_half_waits_and_is_seen() {
    let broker = TestBroker::start_with(quick).await;
    let half = broker.half("a", &[]).await;
    broker.reaches("transactionWithoutProducer", 1).await;
    assert_eq!(broker.figure("transactionPending").await, 1);
    assert!(broker.figure("transactionOldestAgeMs").await > 0);
    assert_eq!(broker.figure("transactionChecks").await, 0);
    // One comes back, and is asked.
    let mut producer = Producer::join(&broker, "c9", GROUP).await;
    assert_eq!(producer.is_asked().await, half);
}

#[tokio::test]
async fn pending_halves_and_the_number_of_questions_survive_a_restart() {
    let broker = TestBroker::start_with(|keys| {
        quick(keys);
        keys.transaction_check_max = 3;
    })
    .await;
    let committed = broker.half("committed", &[]).await;
    let half = broker.half("pending", &[]).await;
    broker.ended(&committed, COMMIT).await;
    let mut producer = Producer::join(&broker, "c1", GROUP).await;
    producer.is_asked().await;
    producer.client.shutdown();
    drop(producer);
    let broker = broker.restart().await;
    let mut producer = Producer::join(&broker, "c2", GROUP).await;
    let mut asked = 0;
    while broker.figure("transactionGivenUp").await == 0 {
        if let Ok(half_asked) =
            tokio::time::timeout(std::time::Duration::from_millis(50), producer.is_asked()).await
        {
            assert_eq!(half_asked, half);
            asked += 1;
        }
    }
    while producer.asked.try_recv().is_ok() {
        asked += 1;
    }
    assert!(
        (1..=2).contains(&asked),
        "asked {asked} times of 3 after the restart"
    );
    assert_eq!(broker.bodies("Topic").await, ["committed"]);
}

#[tokio::test]
async fn the_offsets_of_the_system_group_pass_what_has_ended() {
    let broker = TestBroker::start().await;
    let first = broker.half("first", &[]).await;
    let second = broker.half("second", &[]).await;
    broker.ended(&second, COMMIT).await;
    broker.ended(&first, ROLLBACK).await;
    let pending = broker.half("pending", &[]).await;
    let broker = broker.restart().await;
    let offsets = format!(
        "{}/config/consumerOffset.json",
        broker.keys.store_path_root_dir
    );
    let offsets = std::fs::read_to_string(offsets).unwrap();
    assert!(
        offsets.contains(&format!("{HALF}@CID_RMQ_SYS_TRANS")),
        "{offsets}"
    );
    assert_eq!(broker.figure("transactionPending").await, 1);
    broker.ended(&pending, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["second", "pending"]);
}

#[tokio::test]
async fn a_delay_level_counts_from_the_commit() {
    let broker = TestBroker::start_with(|keys| keys.message_delay_level = "1s".to_owned()).await;
    let half = broker.half("a", &[("DELAY", "1")]).await;
    assert_eq!(broker.max_offset("SCHEDULE_TOPIC_XXXX").await, 0);
    broker.ended(&half, COMMIT).await;
    assert_eq!(broker.max_offset("SCHEDULE_TOPIC_XXXX").await, 1);
    let answer = broker.call(long_pull("Topic", 0, "*", 10_000)).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(messages(&answer.body)[0].body, b"a");
}

#[tokio::test]
async fn a_half_in_the_oldest_part_of_the_log_is_stored_again() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 64 << 10;
        keys.transaction_check_interval = 3_600_000;
    })
    .await;
    let half = broker.half("a", &[]).await;
    let body = vec![b'x'; 20 << 10];
    for _ in 0..8 {
        broker.sent("Filler", &body, "").await;
    }
    broker.reaches("transactionMoved", 1).await;
    broker.flushed().await;
    let (_, _, halves) = broker.pulled(HALF, 0).await;
    assert_eq!(halves.len(), 2);
    assert_eq!(halves[1].property("TRANSACTION_CHECK_TIMES"), Some("0"));
    assert_eq!(broker.bodies(OP).await, ["0,"]);
    assert_eq!(broker.figure("transactionPending").await, 1);
    // Its producer knows the first place.
    broker.ended(&half, COMMIT).await;
    broker.ended(&half, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["a"]);
    assert_eq!(broker.figure("transactionPending").await, 0);
}

#[tokio::test]
async fn a_cold_half_is_ended_where_waiting_harms_nobody() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
    })
    .await;
    let half = broker.half("a", &[]).await;
    let broker = broker.restart().await;
    disk.set_faults(|faults| faults.reads_are_cold = true);
    broker.ended(&half, COMMIT).await;
    disk.set_faults(|faults| faults.reads_are_cold = false);
    assert_eq!(broker.bodies("Topic").await, ["a"]);
}

#[tokio::test]
async fn an_end_that_is_not_synced_is_not_acknowledged() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
    })
    .await;
    let half = broker.half("a", &[]).await;
    disk.set_faults(|faults| faults.sync_fails = true);
    let answer = broker.end(&half, COMMIT).await;
    assert_eq!(answer.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
}

#[tokio::test]
async fn a_deliver_time_counts_from_the_commit() {
    let broker = TestBroker::start().await;
    let delay = broker.half("delayed", &[("TIMER_DELAY_MS", "400")]).await;
    let over = broker.half("over", &[("TIMER_DELIVER_MS", "1000")]).await;
    let never = broker.half("never", &[("TIMER_DELAY_MS", "1")]).await;
    broker.ended(&never, ROLLBACK).await;
    let committed = std::time::Instant::now();
    broker.ended(&delay, COMMIT).await;
    broker.ended(&over, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["over"]);
    // A producer that asks again hears that it is done, and the message comes once.
    broker.ended(&delay, COMMIT).await;
    let wait = async {
        while broker.max_offset("Topic").await < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.unwrap();
    assert!(committed.elapsed().as_millis() >= 400);
    let (_, _, messages) = broker.pulled("Topic", 0).await;
    assert_eq!(messages[1].body, b"delayed");
    assert_eq!(messages[1].prepared_transaction_offset, delay.physical);
    assert_eq!(messages[1].property("REAL_TOPIC"), None);
    // Once it is with its consumers the commit is still known.
    broker.ended(&delay, COMMIT).await;
    assert_eq!(broker.bodies("rmq_sys_wheel_timer").await, ["delayed"]);
    assert_eq!(broker.max_offset("Topic").await, 2);
    assert_eq!(broker.figure("transactionPending").await, 0);
}

#[tokio::test]
async fn a_committed_message_that_waits_for_its_time_survives_a_kill() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
    })
    .await;
    let half = broker.half("delayed", &[("TIMER_DELAY_MS", "700")]).await;
    broker.ended(&half, COMMIT).await;
    let broker = broker.go_on_with(Arc::new(disk.kill())).await;
    broker.ended(&half, COMMIT).await;
    let wait = async {
        while broker.max_offset("Topic").await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.unwrap();
    assert_eq!(broker.bodies("Topic").await, ["delayed"]);
    assert_eq!(broker.figure("transactionPending").await, 0);
}

#[tokio::test]
async fn a_half_whose_deliver_time_makes_no_sense_is_refused() {
    let broker = TestBroker::start().await;
    let long = "x".repeat(32_600);
    for more in [
        &[("TIMER_DELAY_MS", "-1")][..],
        &[("TIMER_DELIVER_MS", "soon")],
        &[("TIMER_DELAY_SEC", "99999999999")],
        &[("TIMER_DELAY_MS", "5"), ("TIMER_DEL_UNIQKEY", "Topic+U")],
        &[("TIMER_DEL_UNIQKEY", "Topic+U")],
        // The commit would not find room for the time.
        &[("TIMER_DELAY_MS", "5"), ("k", &long)],
    ] {
        let answer = broker.send("Topic", b"x", &half_props("bad", more)).await;
        assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
    }
    broker.half("long", &[("k", &long)]).await;
    assert_eq!(broker.figure("transactionPending").await, 1);
}
