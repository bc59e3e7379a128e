//! Where groups shall go on: resets by the broker and by its consumers, corrections, late commits; what consumers tell of
//! themselves.

use protocol::body::{
    GetConsumerStatusBody, MessageQueue, QueryCorrectionOffsetBody, ResetOffsetBody,
    ResetOffsetBodyForC,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    CloneGroupOffsetRequest, ConsumeMessageDirectlyResultRequest, GetConsumeStatsRequest,
    GetConsumerRunningInfoRequest, GetConsumerStatusRequest, PullMessageResponse,
    QueryConsumerOffsetRequest, QueryConsumerOffsetResponse, QueryCorrectionOffset,
    ResetOffsetRequest, ViewBrokerStatsDataRequest,
};
use protocol::language::Language;
use protocol::{json, record, sysflag, version};

use crate::harness::{TestBroker, long_pull, pull_header};
use crate::member::Member;

fn reset(group: &str, topic: &str) -> ResetOffsetRequest {
    ResetOffsetRequest {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: -1,
        offset: Some(-1),
        timestamp_ms: 0,
        force: true,
    }
}

async fn resets(broker: &TestBroker, header: &ResetOffsetRequest) -> Command {
    let code = RequestCode::INVOKE_BROKER_TO_RESET_OFFSET;
    broker.call(Command::request(code, header)).await
}

async fn offset(broker: &TestBroker, group: &str) -> i64 {
    let header = QueryConsumerOffsetRequest {
        consumer_group: group.to_owned(),
        topic: "t".to_owned(),
        queue_id: 0,
        set_zero_if_not_found: None,
    };
    let code = RequestCode::QUERY_CONSUMER_OFFSET;
    let answer = broker.call(Command::request(code, &header)).await;
    answer
        .header::<QueryConsumerOffsetResponse>()
        .unwrap()
        .offset
}

/// Five messages in queue 0 of `t`. Consumers are told of resets, unless the broker keeps them.
async fn broker(server_side: bool) -> TestBroker {
    let broker =
        TestBroker::start_with(|keys| keys.use_server_side_reset_offset = server_side).await;
    for _ in 0..5 {
        broker.sent("t", b"body", "").await;
    }
    broker
}

#[tokio::test]
async fn a_pull_that_waits_hears_of_a_reset_at_once() {
    let broker = broker(true).await;
    // The group exists once it has pulled.
    let header = pull_header("t", 0, 5);
    broker
        .call(Command::request(RequestCode::PULL_MESSAGE, &header))
        .await;
    let waiting = broker.call(long_pull("t", 5, "*", 60_000));
    // One connection serves both in order, so that the pull waits before it is reset.
    let header = reset("consumers", "t");
    let (answer, reset) = tokio::join!(waiting, resets(&broker, &header));
    assert_eq!(
        reset.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        reset.remark
    );
    assert_eq!(answer.response_code(), ResponseCode::PULL_OFFSET_MOVED);
    assert_eq!(answer.remark.as_deref(), Some("OFFSET_RESET"));
    let moved: PullMessageResponse = answer.header().unwrap();
    assert_eq!(moved.next_begin_offset, 0);
}

#[tokio::test]
async fn a_reset_survives_a_restart_and_what_is_committed_meanwhile() {
    let broker = broker(true).await;
    let member = Member::join(&broker, "one", "g").await;
    member.commits("g", 4).await;
    resets(&broker, &reset("g", "t")).await;
    let broker = broker.restart().await;
    let member = Member::join(&broker, "one", "g").await;
    assert_eq!(
        member.commits("g", 5).await.as_deref(),
        Some("Offset has been previously reset")
    );
    assert_eq!(offset(&broker, "g").await, 0);
    let mut pull = pull_header("t", 0, 4);
    pull.consumer_group = "g".to_owned();
    pull.sys_flag |= sysflag::PULL_COMMIT_OFFSET;
    pull.commit_offset = 4;
    let told = member
        .call(Command::request(RequestCode::PULL_MESSAGE, &pull))
        .await;
    assert_eq!(told.response_code(), ResponseCode::PULL_OFFSET_MOVED);
    // It follows; what its pull carries is from before.
    pull.queue_offset = 0;
    let found = member
        .call(Command::request(RequestCode::PULL_MESSAGE, &pull))
        .await;
    assert_eq!(found.response_code(), ResponseCode::SUCCESS);
    assert_eq!(offset(&broker, "g").await, 0);
    assert_eq!(member.commits("g", 1).await, None);
    assert_eq!(offset(&broker, "g").await, 1);
}

#[tokio::test]
async fn without_resets_of_its_own_the_broker_tells_each_member_in_its_form() {
    let broker = broker(false).await;
    let now = version::CURRENT;
    let mut java = Member::join(&broker, "java", "g").await;
    let mut cpp = Member::join_as(&broker, "cpp", "g", Language::CPP, 63, |_| None).await;
    let mut go = Member::join_as(&broker, "go", "g", Language::GO, now, |_| None).await;
    java.commits("g", 4).await;
    let mut header = reset("g", "t");
    header.timestamp_ms = -1;
    header.force = false;
    let answer = resets(&broker, &header).await;
    let body: ResetOffsetBody = json::decode(&answer.body).unwrap();
    let queue = MessageQueue::new("t", "broker-a", 0);
    assert_eq!(
        body.offset_table[&queue], 4,
        "the end is not before where the group is"
    );
    for member in [&mut java, &mut go] {
        let push = member.hears().await;
        assert_eq!(
            push.request_code(),
            RequestCode::RESET_CONSUMER_CLIENT_OFFSET
        );
        assert!(push.is_oneway());
        let header: ResetOffsetRequest = push.header().unwrap();
        let fields = (&*header.group, &*header.topic, header.timestamp_ms);
        assert_eq!(fields, ("g", "t", -1));
        assert_eq!(json::decode::<ResetOffsetBody>(&push.body).unwrap(), body);
    }
    let list: ResetOffsetBodyForC = json::decode(&cpp.hears().await.body).unwrap();
    assert_eq!(list.offset_table.len(), body.offset_table.len());
    assert_eq!(
        (list.offset_table[0].queue_id, list.offset_table[0].offset),
        (0, 4)
    );
    assert_eq!(offset(&broker, "g").await, 4, "a member commits it");

    // By the word of the operator all but Java's clients read lists.
    header.timestamp_ms = 0;
    let code = RequestCode::INVOKE_BROKER_TO_RESET_OFFSET;
    let mut request = Command::request(code, &header);
    request.language = Language::CPP;
    broker.call(request).await;
    let push = java.hears().await;
    let told: ResetOffsetBody = json::decode(&push.body).unwrap();
    assert_eq!(told.offset_table[&queue], 0);
    let list: ResetOffsetBodyForC = json::decode(&go.hears().await.body).unwrap();
    assert_eq!(list.offset_table[0].offset, 0);
}

#[tokio::test]
async fn members_are_not_told_of_what_cannot_be_done() {
    let broker = broker(false).await;
    let mut member = Member::join(&broker, "one", "g").await;
    let refused = async |group: &str, topic: &str| {
        let answer = resets(&broker, &reset(group, topic)).await;
        (answer.code, answer.remark.unwrap_or_default())
    };
    assert_eq!(
        refused("g", "unknown").await.0,
        ResponseCode::TOPIC_NOT_EXIST.0
    );
    let (code, remark) = refused("g", "t").await;
    assert_eq!((code, &*remark), (1, "THe consumer group <g> not exist"));
    member.commits("g", 1).await;
    // Nobody is online for the other one.
    let clone = CloneGroupOffsetRequest {
        src_group: "g".to_owned(),
        dest_group: "h".to_owned(),
        topic: Some("t".to_owned()),
        offline: false,
    };
    broker
        .call(Command::request(RequestCode::CLONE_GROUP_OFFSET, &clone))
        .await;
    let (code, remark) = refused("h", "t").await;
    assert_eq!(code, ResponseCode::CONSUMER_NOT_ONLINE.0);
    assert_eq!(
        remark,
        "Consumer not online, so can not reset offset, Group: h Topic: t Timestamp: 0"
    );
    let _old = Member::join_as(&broker, "old", "g", Language::JAVA, 27, |_| None).await;
    let (code, remark) = refused("g", "t").await;
    assert_eq!(
        (code, &*remark),
        (1, "the client does not support this feature. version=27")
    );
    assert!(member.heard_nothing());
}

#[tokio::test]
async fn absurd_resets_are_refused_or_end_inside_the_queue() {
    let broker = broker(true).await;
    let _member = Member::join(&broker, "one", "g").await;
    let check = async |change: fn(&mut ResetOffsetRequest), want: Result<i64, i32>| {
        let mut header = reset("g", "t");
        change(&mut header);
        let answer = resets(&broker, &header).await;
        let got = match answer.response_code() {
            ResponseCode::SUCCESS => {
                let body: ResetOffsetBody = json::decode(&answer.body).unwrap();
                Ok(body.offset_table[&MessageQueue::new("t", "broker-a", 0)])
            }
            ResponseCode(code) => Err(code),
        };
        assert_eq!(got, want, "{header:?}: {:?}", answer.remark);
    };
    check(|header| header.timestamp_ms = i64::MIN, Ok(5)).await;
    check(|header| header.timestamp_ms = i64::MAX, Ok(5)).await;
    check(|header| header.queue_id = i32::MIN, Ok(0)).await;
    check(
        |header| header.queue_id = i32::MAX,
        Err(ResponseCode::INVALID_PARAMETER.0),
    )
    .await;
    check(
        |header| (header.queue_id, header.offset) = (0, Some(i64::MIN)),
        Err(1),
    )
    .await;
    check(
        |header| (header.queue_id, header.offset) = (0, Some(i64::MAX)),
        Err(1),
    )
    .await;
    check(
        |header| (header.queue_id, header.offset) = (0, Some(6)),
        Err(1),
    )
    .await;
    check(
        |header| (header.queue_id, header.offset) = (0, Some(5)),
        Ok(5),
    )
    .await;
    check(|header| header.group = "nobody".to_owned(), Err(26)).await;
    check(|header| header.topic = String::new(), Err(17)).await;
    let empty = Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &());
    assert_eq!(broker.call(empty).await.code, 1);
}

#[tokio::test]
async fn a_late_commit_does_not_take_a_queue_back() {
    let broker = broker(true).await;
    let one = Member::join(&broker, "one", "g").await;
    let two = Member::join(&broker, "two", "g").await;
    assert_eq!(one.commits("g", 2).await, None);
    // The queue went over to the second member, which went on; the first one's last commit was on its way.
    assert_eq!(two.commits("g", 4).await, None);
    assert!(
        one.commits("g", 3)
            .await
            .unwrap()
            .contains("has come further")
    );
    assert_eq!(offset(&broker, "g").await, 4);
    // Its own member may seek back, and a tool may say anything.
    two.commits("g", 3).await;
    assert_eq!(offset(&broker, "g").await, 3);
    two.commits("g", 4).await;
    let tool = Member::join(&broker, "tool", "another group").await;
    tool.commits("g", 1).await;
    assert_eq!(offset(&broker, "g").await, 1);
    // A commit that comes with a pull is one as well.
    two.commits("g", 4).await;
    let mut pull = pull_header("t", 0, 3);
    pull.consumer_group = "g".to_owned();
    pull.sys_flag |= sysflag::PULL_COMMIT_OFFSET;
    pull.commit_offset = 2;
    one.call(Command::request(RequestCode::PULL_MESSAGE, &pull))
        .await;
    assert_eq!(offset(&broker, "g").await, 4);
    // Nobody else is left who could be behind.
    two.client.shutdown();
    while one.commits("g", 2).await.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(offset(&broker, "g").await, 2);
}

#[tokio::test]
async fn corrections_are_the_least_offsets_of_the_groups_that_count() {
    let broker = broker(true).await;
    for (group, offset) in [("a", 4), ("b", 3), ("c", 1)] {
        Member::join(&broker, group, group)
            .await
            .commits(group, offset)
            .await;
    }
    let correction = async |compared: &str, without: Option<&str>| {
        let header = QueryCorrectionOffset {
            filter_groups: without.map(str::to_owned),
            compare_group: compared.to_owned(),
            topic: "t".to_owned(),
        };
        let code = RequestCode::QUERY_CORRECTION_OFFSET;
        let answer = broker.call(Command::request(code, &header)).await;
        let body: QueryCorrectionOffsetBody = json::decode(&answer.body).unwrap();
        body.correction_offsets.get(&0).copied()
    };
    assert_eq!(correction("a", None).await, Some(1));
    assert_eq!(correction("a", Some("c")).await, Some(3));
    assert_eq!(
        correction("c", Some("c")).await,
        Some(i64::MAX),
        "it is behind them"
    );
    assert_eq!(correction("c", Some("a, b,c,,")).await, Some(i64::MAX));
    assert_eq!(correction("nobody", Some("a,b,c")).await, None);
    assert_eq!(
        offset(&broker, "b").await,
        3,
        "those left out keep their offsets"
    );
}

fn tells_offset(command: &Command) -> Option<Command> {
    if command.request_code() != RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT {
        return None;
    }
    let body = r#"{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"t"}:7}}"#;
    Some(Command::response(ResponseCode::SUCCESS, None).with_body(body.as_bytes().to_vec()))
}

fn refuses(command: &Command) -> Option<Command> {
    (!command.is_oneway()).then(|| Command::response(ResponseCode::SYSTEM_ERROR, Some("no".into())))
}

fn tells_nonsense(command: &Command) -> Option<Command> {
    let answer = Command::response(ResponseCode::SUCCESS, None).with_body(b"{\"a".to_vec());
    (!command.is_oneway()).then_some(answer)
}

#[tokio::test]
async fn members_say_where_they_are_and_those_that_do_not_are_left_out() {
    let broker = broker(true).await;
    let now = version::CURRENT;
    let status = async |client: &str| {
        let header = GetConsumerStatusRequest {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            client_addr: Some(client.to_owned()),
        };
        let code = RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS;
        broker.call(Command::request(code, &header)).await
    };
    let nobody = status("").await;
    assert_eq!(
        nobody.remark.as_deref(),
        Some("No Any Consumer online in the consumer group: [g]")
    );
    let join = |id, answer| Member::join_as(&broker, id, "g", Language::JAVA, now, answer);
    let mut tells = join("tells", tells_offset).await;
    let _refuses = join("refuses", refuses).await;
    let _nonsense = join("nonsense", tells_nonsense).await;
    let body: GetConsumerStatusBody = json::decode(&status("").await.body).unwrap();
    let clients: Vec<&String> = body.consumer_table.keys().collect();
    assert_eq!(clients, ["tells"]);
    let queue = MessageQueue::new("t", "broker-a", 0);
    assert_eq!(body.consumer_table["tells"][&queue], 7);
    assert_eq!(
        tells
            .hears()
            .await
            .header::<GetConsumerStatusRequest>()
            .unwrap()
            .group,
        "g"
    );
    let body: GetConsumerStatusBody = json::decode(&status("refuses").await.body).unwrap();
    assert!(body.consumer_table.is_empty());
    assert!(tells.heard_nothing(), "it was not asked for");
}

fn consumes(command: &Command) -> Option<Command> {
    let body = match command.request_code() {
        RequestCode::CONSUME_MESSAGE_DIRECTLY => r#"{"consumeResult":"CR_SUCCESS"}"#,
        RequestCode::GET_CONSUMER_RUNNING_INFO => r#"{"jstack":"stacks"}"#,
        _ => return None,
    };
    Some(Command::response(ResponseCode::SUCCESS, None).with_body(body.as_bytes().to_vec()))
}

#[tokio::test]
async fn a_member_is_given_one_message_and_tells_of_its_inside() {
    let broker = broker(true).await;
    let sent = broker.sent("t", b"again", "").await;
    let now = version::CURRENT;
    let mut member = Member::join_as(&broker, "one", "g", Language::JAVA, now, consumes).await;
    let mut header = ConsumeMessageDirectlyResultRequest {
        consumer_group: "g".to_owned(),
        client_id: Some("one".to_owned()),
        msg_id: Some(sent.msg_id.clone()),
        topic: Some("t".to_owned()),
        ..ConsumeMessageDirectlyResultRequest::default()
    };
    let code = RequestCode::CONSUME_MESSAGE_DIRECTLY;
    let answer = broker.call(Command::request(code, &header)).await;
    assert_eq!(&*answer.body, br#"{"consumeResult":"CR_SUCCESS"}"#);
    let asked = member.hears().await;
    let record = record::decode(&asked.body, record::CheckBody::Yes).unwrap();
    assert_eq!((record.topic, record.body), ("t", &b"again"[..]));
    assert_eq!(asked.fields.get("brokerName"), Some("broker-a"));
    assert_eq!(asked.fields.get("topicSysFlag"), Some("0"));
    for id in ["nonsense", "", "0000000000000000FFFFFFFFFFFFFFFF"] {
        header.msg_id = Some(id.to_owned());
        let answer = broker.call(Command::request(code, &header)).await;
        assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR, "{id}");
    }
    let mut header = GetConsumerRunningInfoRequest {
        consumer_group: "g".to_owned(),
        client_id: "one".to_owned(),
        jstack_enable: true,
    };
    let code = RequestCode::GET_CONSUMER_RUNNING_INFO;
    let answer = broker.call(Command::request(code, &header)).await;
    assert_eq!(&*answer.body, br#"{"jstack":"stacks"}"#);
    assert_eq!(
        member.hears().await.fields.get("jstackEnable"),
        Some("true")
    );
    header.client_id = "two".to_owned();
    let answer = broker.call(Command::request(code, &header)).await;
    assert_eq!(
        answer.remark.as_deref(),
        Some("The Consumer <g> <two> not online")
    );
    let _old = Member::join_as(&broker, "two", "g", Language::JAVA, 61, consumes).await;
    let answer = broker.call(Command::request(code, &header)).await;
    assert!(answer.remark.unwrap().contains("too low to finish"));
}

#[tokio::test]
async fn figures_are_found_by_javas_names() {
    let broker = broker(true).await;
    let member = Member::join(&broker, "one", "g").await;
    let mut pull = pull_header("t", 0, 0);
    pull.consumer_group = "g".to_owned();
    member
        .call(Command::request(RequestCode::PULL_MESSAGE, &pull))
        .await;
    pull.queue_offset = 5;
    pull.sys_flag |= sysflag::PULL_COMMIT_OFFSET;
    pull.commit_offset = 2;
    member
        .call(Command::request(RequestCode::PULL_MESSAGE, &pull))
        .await;
    let view = async |name: &str, key: &str| {
        let header = ViewBrokerStatsDataRequest {
            stats_name: name.to_owned(),
            stats_key: key.to_owned(),
        };
        let code = RequestCode::VIEW_BROKER_STATS_DATA;
        let answer = broker.call(Command::request(code, &header)).await;
        (answer.code, answer.remark.unwrap_or_default())
    };
    for (name, key) in [
        ("TOPIC_PUT_NUMS", "t"),
        ("TOPIC_PUT_SIZE", "t"),
        ("GROUP_GET_NUMS", "t@g"),
        ("GROUP_GET_SIZE", "t@g"),
        ("BROKER_PUT_NUMS", "DefaultCluster"),
    ] {
        assert_eq!(view(name, key).await.0, 0, "{name} {key}");
    }
    assert_eq!(
        view("TOPIC_PUT_NUMS", "absent").await,
        (
            1,
            "The stats <TOPIC_PUT_NUMS> <absent> not exist".to_owned()
        )
    );
    let header = GetConsumeStatsRequest {
        consumer_group: "g".to_owned(),
        topic: Some("t".to_owned()),
        topic_list: None,
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_CONSUME_STATS, &header))
        .await;
    let stats: protocol::body::ConsumeStats = json::decode(&answer.body).unwrap();
    let at = &stats.offset_table[&MessageQueue::new("t", "broker-a", 0)];
    assert_eq!(
        (at.broker_offset, at.consumer_offset, at.pull_offset),
        (5, 2, 5)
    );
}
