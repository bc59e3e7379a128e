//! Sends: stored, answered, refused.

use bytes::BytesMut;
use protocol::batch::{self, Item};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::headers::{SendMessageRequestV2, SendMessageResponse};
use protocol::message_id::decode_offset_id;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

#[tokio::test]
async fn a_topic_created_by_a_send_is_in_its_file_when_the_send_is_answered() {
    let broker = TestBroker::start().await;
    broker.sent("FirstSeen", b"x", "").await;
    let text = broker.topic_files();
    assert!(text.contains("\"FirstSeen\""), "{text}");
}

#[tokio::test]
async fn both_versions_in_both_codecs_are_stored_and_answered() {
    let broker = TestBroker::start().await;
    let keyed = props(&[
        ("KEYS", "k1 k2"),
        ("TAGS", "tag"),
        ("UNIQ_KEY", "U1"),
        ("WAIT", "true"),
        ("用户", "值"),
    ]);
    let mut expected_offset = 0;
    for codec in [Codec::Json, Codec::Rocketmq] {
        for command in [
            send_v1("Orders", 0, "正文".as_bytes(), &keyed),
            send_v2("Orders", 0, "正文".as_bytes(), &keyed),
        ] {
            let answer = broker.call(with_codec(command, codec)).await;
            assert_eq!(
                answer.response_code(),
                ResponseCode::SUCCESS,
                "{:?}",
                answer.remark
            );
            assert_eq!(answer.codec, codec);
            assert_eq!(answer.remark, None);
            let header: SendMessageResponse = answer.header().unwrap();
            assert_eq!((header.queue_id, header.queue_offset), (0, expected_offset));
            assert_eq!(header.transaction_id.as_deref(), Some("U1"));
            assert_eq!(answer.fields.get("MSG_REGION"), Some("DefaultRegion"));
            assert_eq!(answer.fields.get("TRACE_ON"), Some("true"));
            assert_eq!(decode_offset_id(&header.msg_id).unwrap().0, broker.addr());
            expected_offset += 1;
        }
    }
    let (_, _, messages) = broker.pulled("Orders", 0).await;
    assert_eq!(messages.len(), 4);
    for (offset, message) in messages.iter().enumerate() {
        assert_eq!(message.queue_offset, offset as i64);
        assert_eq!(message.body, "正文".as_bytes());
        assert_eq!((message.topic.as_str(), message.flag), ("Orders", 7));
        for (name, value) in [
            ("KEYS", "k1 k2"),
            ("TAGS", "tag"),
            ("UNIQ_KEY", "U1"),
            ("用户", "值"),
            ("MSG_REGION", "DefaultRegion"),
            ("TRACE_ON", "true"),
            ("CLUSTER", "DefaultCluster"),
        ] {
            assert_eq!(message.property(name), Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn a_message_without_an_id_gets_one() {
    let broker = TestBroker::start().await;
    let header = broker.sent("Orders", b"x", "").await;
    let id = header.transaction_id.unwrap();
    assert_eq!(id.len(), 32);
    let (_, _, messages) = broker.pulled("Orders", 0).await;
    assert_eq!(messages[0].property("UNIQ_KEY"), Some(id.as_str()));
}

#[tokio::test]
async fn bodies_from_nothing_to_the_limit_are_taken_and_one_byte_more_is_not() {
    let broker = TestBroker::start_async_flush().await;
    let limit = broker.keys.max_message_size as usize;
    let sizes = [0, 1, 1024, 65_536, limit - 1, limit];
    for codec in [Codec::Json, Codec::Rocketmq] {
        for size in sizes {
            let answer = broker
                .call(with_codec(
                    send_v2("Sizes", 0, &vec![b'x'; size], ""),
                    codec,
                ))
                .await;
            assert_eq!(
                answer.response_code(),
                ResponseCode::SUCCESS,
                "{size}: {:?}",
                answer.remark
            );
        }
        let answer = broker
            .call(with_codec(
                send_v2("Sizes", 0, &vec![b'x'; limit + 1], ""),
                codec,
            ))
            .await;
        assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
        assert!(
            answer
                .remark
                .unwrap()
                .contains("msg body length limit 4194304B")
        );
    }
    for (offset, size) in sizes.iter().chain(&sizes).enumerate() {
        let (_, _, messages) = broker.pulled("Sizes", offset as i64).await;
        assert_eq!(messages[0].body.len(), *size);
    }
    assert_eq!(broker.max_offset("Sizes").await, 2 * sizes.len() as i64);
}

#[tokio::test]
async fn properties_beyond_the_limit_are_refused() {
    let broker = TestBroker::start().await;
    let long = props(&[("k", &"v".repeat(32_767))]);
    let answer = broker.send("Orders", b"x", &long).await;
    assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
    assert!(
        answer
            .remark
            .unwrap()
            .contains("msg properties length limit 32KB")
    );
}

fn batch_of(topic: &str, bodies: &[&[u8]], header_props: &str) -> Command {
    let mut body = BytesMut::new();
    for (index, one) in bodies.iter().enumerate() {
        let properties = props(&[("UNIQ_KEY", &format!("U{index}")), ("TAGS", "t")]);
        batch::push(
            &mut body,
            &Item {
                flag: index as i32,
                body: one,
                properties: &properties,
            },
        );
    }
    let mut header = send_header(topic, 0, header_props);
    header.batch = Some(true);
    Command::request(
        RequestCode::SEND_BATCH_MESSAGE,
        &SendMessageRequestV2(header),
    )
    .with_body(body.freeze())
}

#[tokio::test]
async fn a_batch_is_one_record_a_message_and_one_answer() {
    let broker = TestBroker::start().await;
    broker.sent("Batches", b"zero", "").await;
    for codec in [Codec::Json, Codec::Rocketmq] {
        let before = broker.max_offset("Batches").await;
        let command = batch_of(
            "Batches",
            &[b"one", b"", b"three"],
            &props(&[("UNIQ_KEY", "OFBATCH")]),
        );
        let answer = broker.call(with_codec(command, codec)).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        let header: SendMessageResponse = answer.header().unwrap();
        assert_eq!(header.queue_offset, before);
        assert_eq!(header.transaction_id.as_deref(), Some("OFBATCH"));
        let ids: Vec<_> = header
            .msg_id
            .split(',')
            .map(|id| decode_offset_id(id).unwrap().1)
            .collect();
        assert!(ids.len() == 3 && ids.is_sorted(), "{ids:?}");
        let (_, _, messages) = broker.pulled("Batches", before).await;
        let bodies: Vec<_> = messages
            .iter()
            .map(|message| message.body.as_slice())
            .collect();
        assert_eq!(bodies, [b"one".as_slice(), b"", b"three"]);
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(message.flag, index as i32);
            assert_eq!(
                message.property("UNIQ_KEY"),
                Some(format!("U{index}").as_str())
            );
            assert_eq!(message.property("CLUSTER"), None);
        }
    }
}

#[tokio::test]
async fn a_bad_batch_stores_nothing() {
    let broker = TestBroker::start().await;
    broker.sent("Batches", b"first", "").await;
    let whole = batch_of("Batches", &[b"one", b"two"], "");
    let cut = whole
        .clone()
        .with_body(whole.body.slice(..whole.body.len() - 1));
    let empty = whole.clone().with_body("");
    let large = batch_of("Batches", &[&vec![0; 2 << 20], &vec![0; 2 << 20]], "");
    let retry = batch_of("%RETRY%group", &[b"one"], "");
    for bad in [cut, empty, large, retry] {
        let answer = broker.call(bad).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::MESSAGE_ILLEGAL,
            "{:?}",
            answer.remark
        );
    }
    assert_eq!(broker.max_offset("Batches").await, 1);
}

#[tokio::test]
async fn a_one_way_send_is_stored_without_an_answer() {
    let broker = TestBroker::start().await;
    broker.sent("OneWay", b"0", "").await;
    let addr = broker.addr().to_string();
    for number in 1..=20 {
        broker
            .client
            .send_oneway(
                &addr,
                send_v2("OneWay", 0, number.to_string().as_bytes(), ""),
            )
            .await
            .unwrap();
    }
    // The connection keeps its order, so that this answer comes behind all of them.
    broker.sent("OneWay", b"last", "").await;
    assert_eq!(broker.max_offset("OneWay").await, 22);
}

#[tokio::test]
async fn one_refused_send_takes_no_other_of_its_batch_with_it() {
    let broker = TestBroker::start().await;
    let mut frames = BytesMut::new();
    let long = props(&[("k", &"v".repeat(32_700))]);
    let mut commands: Vec<Command> = (0..64)
        .map(|n| send_v2("Mixed", n % 4, b"body", ""))
        .collect();
    commands[10] = send_v2("no such char!", 0, b"body", "");
    commands[20] = send_v2("Mixed", 99, b"body", "");
    commands[30] = send_v2("Mixed", 0, b"body", &long);
    commands[40] = send_v2("SCHEDULE_TOPIC_XXXX", 0, b"body", "");
    commands[50].fields.remove("b");
    for (opaque, command) in commands.iter_mut().enumerate() {
        command.opaque = opaque as i32;
        command.encode(&mut frames);
    }
    let mut socket = tokio::net::TcpStream::connect(broker.addr()).await.unwrap();
    socket.write_all(&frames).await.unwrap();
    let answers = read_answers(&mut socket, commands.len()).await;
    for (opaque, answer) in answers.iter().enumerate() {
        let expected = match opaque {
            10 | 20 => ResponseCode::INVALID_PARAMETER,
            30 => ResponseCode::MESSAGE_ILLEGAL,
            40 => ResponseCode::NO_PERMISSION,
            50 => ResponseCode::SYSTEM_ERROR,
            _ => ResponseCode::SUCCESS,
        };
        assert_eq!(
            answer.response_code(),
            expected,
            "{opaque}: {:?}",
            answer.remark
        );
    }
}

/// Answers by opaque.
async fn read_answers(socket: &mut tokio::net::TcpStream, count: usize) -> Vec<Command> {
    let mut buffer = BytesMut::new();
    let mut answers: Vec<Option<Command>> = vec![None; count];
    for _ in 0..count {
        let (answer, bytes) = loop {
            if let Some((frame, bytes)) = protocol::frame::split(&buffer, 16 << 20).unwrap() {
                break (Command::decode(&frame).unwrap(), bytes);
            }
            let read = tokio::time::timeout(TIMEOUT, socket.read_buf(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            assert_ne!(read, 0, "the broker closed the connection");
        };
        let _ = buffer.split_to(bytes);
        let opaque = answer.opaque as usize;
        assert!(
            answers[opaque].replace(answer).is_none(),
            "two answers to one request"
        );
    }
    answers.into_iter().flatten().collect()
}

#[tokio::test]
async fn the_first_message_creates_its_topic_by_the_template() {
    let broker = TestBroker::start().await;
    // The client asks for 4 queues, the template has 8.
    let made = broker.call(send_v2("Made", 3, b"x", "")).await;
    assert_eq!(made.response_code(), ResponseCode::SUCCESS);
    let beyond = broker.call(send_v2("Made", 4, b"x", "")).await;
    assert_eq!(beyond.response_code(), ResponseCode::INVALID_PARAMETER);
    let remark = beyond.remark.unwrap();
    assert!(
        remark.starts_with(
            "request queueId[4] is illegal, TopicConfig [topicName=Made, readQueueNums=4, writeQueueNums=4, \
             perm=RW-, topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false, attributes={}] Producer: 127.0.0.1:"
        ),
        "{remark}"
    );
    let mut header = send_header("Wide", 7, "");
    header.default_topic_queue_nums = 100;
    let wide = Command::request(RequestCode::SEND_MESSAGE_V2, &SendMessageRequestV2(header))
        .with_body("x");
    assert_eq!(
        broker.call(wide).await.response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(
        broker
            .call(send_v2("Wide", 8, b"x", ""))
            .await
            .response_code(),
        ResponseCode::INVALID_PARAMETER
    );
}

#[tokio::test]
async fn an_unknown_topic_without_a_template_is_refused() {
    let broker = TestBroker::start_with(|keys| keys.auto_create_topic_enable = false).await;
    let answer = broker.send("Nowhere", b"x", "").await;
    assert_eq!(answer.response_code(), ResponseCode::TOPIC_NOT_EXIST);
    assert_eq!(
        answer.remark.unwrap(),
        "topic[Nowhere] not exist, apply first please!\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
    );
}

#[tokio::test]
async fn a_send_without_a_queue_takes_them_in_turn() {
    let broker = TestBroker::start().await;
    let mut queues = Vec::new();
    for _ in 0..4 {
        let answer = broker.call(send_v2("Turns", -1, b"x", "")).await;
        queues.push(answer.header::<SendMessageResponse>().unwrap().queue_id);
    }
    queues.sort_unstable();
    assert_eq!(queues, [0, 1, 2, 3]);
}

#[tokio::test]
async fn names_that_break_the_rules_are_refused() {
    let broker = TestBroker::start().await;
    for (topic, code) in [
        ("", ResponseCode::INVALID_PARAMETER),
        ("主题", ResponseCode::INVALID_PARAMETER),
        ("a b", ResponseCode::INVALID_PARAMETER),
        ("../../etc", ResponseCode::INVALID_PARAMETER),
        (&"t".repeat(128), ResponseCode::INVALID_PARAMETER),
        ("SELF_TEST_TOPIC", ResponseCode::NO_PERMISSION),
        ("RMQ_SYS_TRANS_HALF_TOPIC", ResponseCode::NO_PERMISSION),
    ] {
        for codec in [Codec::Json, Codec::Rocketmq] {
            let answer = broker
                .call(with_codec(send_v1(topic, 0, b"x", ""), codec))
                .await;
            // In the binary codec an empty text is no text.
            let expected = if topic.is_empty() && codec == Codec::Rocketmq {
                ResponseCode::SYSTEM_ERROR
            } else {
                code
            };
            assert_eq!(
                answer.response_code(),
                expected,
                "{topic:?} {:?}",
                answer.remark
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_plain_message_is_not_stored_as_one() {
    let broker = TestBroker::start().await;
    broker
        .sent(
            "Plain",
            b"plain",
            &props(&[("DELAY", "0"), ("TIMER_DELIVER_MS", "1000")]),
        )
        .await;
    let mut prepared = send_header("Plain", 0, "");
    prepared.sys_flag = protocol::sysflag::TRANSACTION_PREPARED;
    let prepared = Command::request(
        RequestCode::SEND_MESSAGE_V2,
        &SendMessageRequestV2(prepared),
    )
    .with_body("x");
    assert_eq!(
        broker.call(prepared).await.response_code(),
        ResponseCode::MESSAGE_ILLEGAL
    );
    assert_eq!(broker.max_offset("Plain").await, 1);
}

#[tokio::test]
async fn a_message_that_came_back_too_often_becomes_a_dead_letter() {
    let broker = TestBroker::start().await;
    let retry = |times: i32, props: &str| {
        let mut header = send_header("%RETRY%group", 0, props);
        header.reconsume_times = Some(times);
        header.max_reconsume_times = Some(16);
        Command::request(
            RequestCode::SEND_MESSAGE_V2,
            &SendMessageRequestV2(header.into_owned()),
        )
        .with_body("x")
    };
    assert_eq!(
        broker.call(retry(16, "")).await.response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(
        broker
            .call(retry(17, &props(&[("DELAY", "3")])))
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(broker.max_offset("%RETRY%group").await, 1);
    let (_, _, dead) = broker.pulled("%DLQ%group", 0).await;
    let topics = broker.topic_files();
    assert!(topics.contains("\"%DLQ%group\""), "{topics}");
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].reconsume_times, dead[0].property("DELAY")),
        (17, Some("-1"))
    );
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_the_disk_is_not_held() {
    let broker = TestBroker::start().await;
    broker
        .sent("Fast", b"x", &props(&[("WAIT", "false")]))
        .await;
    broker.sent("Fast", b"x", "").await;
    assert_eq!(broker.max_offset("Fast").await, 2);
}
