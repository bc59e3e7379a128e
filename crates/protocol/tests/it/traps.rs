//! What real clients send that a server must get right: one case for each row about remoting in the list of traps met
//! with ali-ons (Node), the C++ client 4.x and what wraps it, rocketmq-client-go and the Java clients.

use bytes::BytesMut;
use protocol::body::*;
use protocol::code::{RequestCode, ResponseCode};
use protocol::frame::Codec;
use protocol::header::{FieldError, FieldMap};
use protocol::headers::*;
use protocol::json;
use protocol::language::Language;
use protocol::reply::{self, ReplyHead};

use crate::fixture::{encoded, golden_command, json_command, whole_frame};

/// Trap 1: ali-ons, C++ and Go leave out `serializeTypeCurrentRPC` and `remark`.
#[test]
fn trap_01_header_without_serialize_type_and_remark() {
    let command = json_command(
        r#"{"code":105,"language":"GO","version":317,"opaque":3,"flag":0,"extFields":{"topic":"TopicTest"}}"#,
    );
    assert_eq!(
        (command.code, command.opaque, command.language),
        (105, 3, Language::GO)
    );
    assert_eq!(command.remark, None);
    assert_eq!(
        command.header::<GetRouteInfoRequest>().unwrap().topic,
        "TopicTest"
    );
}

#[test]
fn trap_01_any_header_member_may_be_absent() {
    let command = json_command("{}");
    assert_eq!(
        (command.code, command.opaque, command.flag, command.version),
        (0, 0, 0, 0)
    );
}

/// Trap 2: ali-ons and C++ write field values as numbers and booleans.
#[test]
fn trap_02_field_values_as_numbers_and_booleans() {
    let command = json_command(
        r#"{"code":310,"extFields":{"a":"g","b":"T","c":"TBW102","d":4,"e":0,"f":0,"g":1700000000123,"h":0,"i":"KEYS\u0001k\u0002","j":0,"k":false,"l":null,"m":true},"flag":0,"language":"HTTP","opaque":1,"version":121}"#,
    );
    let request = command
        .fields()
        .read::<SendMessageRequestV2<'_>>()
        .unwrap()
        .0;
    assert_eq!(
        (request.queue_id, request.unit_mode, request.batch),
        (0, Some(false), Some(true))
    );
    assert_eq!(
        (request.max_reconsume_times, request.born_timestamp_ms),
        (None, 1_700_000_000_123)
    );
    assert_eq!(request.properties.as_deref(), Some("KEYS\u{1}k\u{2}"));
}

/// Trap 3: parts of a heartbeat may be absent.
#[test]
fn trap_03_heartbeat_with_absent_parts() {
    let heartbeat: HeartbeatData = json::decode(
        br#"{"clientID":"c@1","consumerDataSet":[{"groupName":"g","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{"topic":"T","subString":"*","subVersion":1}]}]}"#,
    )
    .unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    let subscription = &consumer.subscription_data_set[0];
    assert_eq!(
        (
            subscription.expression_type.as_str(),
            subscription.class_filter_mode
        ),
        ("TAG", false)
    );
    assert!(subscription.tags_set.is_empty() && subscription.code_set.is_empty());
    assert!(!consumer.unit_mode && heartbeat.producer_data_set.is_empty());
}

#[test]
fn trap_03_empty_heartbeat() {
    assert_eq!(
        json::decode::<HeartbeatData>(b"{}").unwrap(),
        HeartbeatData::default()
    );
}

/// Trap 4: C++ writes enums as ordinals, a version in quotes, and a newline behind the JSON.
#[test]
fn trap_04_heartbeat_with_ordinals_and_quoted_numbers() {
    let body = b"{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\",\"consumeType\":1,\"messageModel\":1,\
        \"consumeFromWhere\":0,\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"*\",\
        \"subVersion\":\"1700000000123\"}]}],\"producerDataSet\":[]}\n";
    let heartbeat: HeartbeatData = json::decode(body).unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(consumer.consume_type, ConsumeType::Passively);
    assert_eq!(consumer.message_model, MessageModel::Clustering);
    assert_eq!(consumer.consume_from_where, ConsumeFromWhere::LastOffset);
    assert_eq!(
        consumer.subscription_data_set[0].sub_version,
        1_700_000_000_123
    );
}

#[test]
fn trap_04_every_value_of_a_body_may_be_null() {
    let heartbeat: HeartbeatData =
        json::decode(br#"{"clientID":null,"producerDataSet":null,"consumerDataSet":[{"groupName":"g","unitMode":null,"subscriptionDataSet":null}]}"#)
            .unwrap();
    assert_eq!(heartbeat.consumer_data_set[0].group_name, "g");
}

/// Trap 5: only "true" is true; anything else is false and no error.
#[test]
fn trap_05_booleans_as_java_parses_them() {
    let unit_mode = |value: &str| {
        let fields = FieldMap::from_iter([
            ("offset", "1"),
            ("group", "g"),
            ("delayLevel", "0"),
            ("unitMode", value),
        ]);
        protocol::header::Fields::from_map(&fields)
            .read::<ConsumerSendMsgBackRequest>()
            .unwrap()
            .unit_mode
    };
    for (value, want) in [
        ("true", true),
        ("TRUE", true),
        ("false", false),
        ("0", false),
        ("1", false),
        ("yes", false),
    ] {
        assert_eq!(unit_mode(value), want, "{value}");
    }
    let command = json_command(
        r#"{"code":10,"extFields":{"producerGroup":"g","topic":"T","defaultTopic":"TBW102","defaultTopicQueueNums":"4","queueId":"1","sysFlag":"0","bornTimestamp":"1","flag":"0","properties":"","reconsumeTimes":"0","unitMode":"0","batch":"0"}}"#,
    );
    let request = command.fields().read::<SendMessageRequest<'_>>().unwrap();
    assert_eq!(
        (
            request.unit_mode,
            request.batch,
            request.max_reconsume_times
        ),
        (Some(false), Some(false), None)
    );
}

/// Trap 6: the long send header is still the main path of C++ and Go.
#[test]
fn trap_06_long_and_short_send_headers_mean_the_same() {
    let long = golden_command("send_v1_json");
    let short = golden_command("send_v2_json");
    assert_eq!(
        long.fields().read::<SendMessageRequest<'_>>().unwrap(),
        short.fields().read::<SendMessageRequestV2<'_>>().unwrap().0
    );
}

#[test]
fn trap_06_a_missing_field_is_named_as_java_names_it() {
    let command = json_command(r#"{"code":10,"extFields":{"producerGroup":"g"}}"#);
    let error = command
        .fields()
        .read::<SendMessageRequest<'_>>()
        .unwrap_err();
    assert_eq!(error.to_string(), "the custom field <topic> is null");
    let error = json_command(r#"{"code":310,"extFields":{"a":"g","b":"T"}}"#);
    let error = error
        .fields()
        .read::<SendMessageRequestV2<'_>>()
        .unwrap_err();
    assert_eq!(error, FieldError::Missing("c"));
}

/// Traps 7 and 8: an answer comes in the codec of its request, whatever that is.
#[test]
fn trap_07_the_answer_has_the_codec_of_the_request() {
    for (name, codec) in [
        ("send_v2_json", Codec::Json),
        ("send_v2_binary", Codec::Rocketmq),
    ] {
        let request = golden_command(name);
        let head = ReplyHead::of(request.codec, &request.as_header());
        let mut out = BytesMut::new();
        reply::encode(
            &mut out,
            head,
            ResponseCode::SUCCESS,
            None,
            &(),
            &[b"bo", b"dy"],
        );
        let frame = whole_frame(&out);
        assert_eq!((frame.codec, frame.body), (codec, &b"body"[..]));
    }
}

/// Trap 8: Go decodes the fields into a map of strings, so no value may be anything else.
#[test]
fn trap_08_field_values_of_an_answer_are_strings() {
    let head = ReplyHead {
        codec: Codec::Json,
        opaque: 5,
        oneway: false,
    };
    let fields = PullMessageResponse {
        next_begin_offset: 7,
        ..Default::default()
    };
    let mut out = BytesMut::new();
    reply::encode(&mut out, head, ResponseCode::SUCCESS, None, &fields, &[]);
    let text = std::str::from_utf8(whole_frame(&out).header)
        .unwrap()
        .to_owned();
    assert_eq!(
        text,
        "{\"code\":0,\"extFields\":{\"suggestWhichBrokerId\":\"0\",\"nextBeginOffset\":\"7\",\"minOffset\":\"0\",\
         \"maxOffset\":\"0\"},\"flag\":1,\"language\":\"JAVA\",\"opaque\":5,\"serializeTypeCurrentRPC\":\"JSON\",\
         \"version\":479}"
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        value["extFields"]
            .as_object()
            .unwrap()
            .values()
            .all(serde_json::Value::is_string)
    );
}

/// Trap 9: the remark of code 17 is matched by clients, line break and all.
#[test]
fn trap_09_the_remark_about_a_missing_route_arrives_unharmed() {
    let remark = "No topic route info in name server for the topic: X\n\
                  See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";
    for codec in [Codec::Json, Codec::Rocketmq] {
        let head = ReplyHead {
            codec,
            opaque: 1,
            oneway: false,
        };
        let mut out = BytesMut::new();
        reply::encode(
            &mut out,
            head,
            ResponseCode::TOPIC_NOT_EXIST,
            Some(remark),
            &(),
            &[],
        );
        let command = protocol::command::Command::decode(&whole_frame(&out)).unwrap();
        assert_eq!(
            (command.code, command.remark.as_deref()),
            (17, Some(remark))
        );
    }
}

/// Trap 22: map keys that are numbers come with quotes and without, and leave with quotes.
#[test]
fn trap_22_routes_with_and_without_quoted_keys() {
    for addresses in [r#"{"0":"a:1","1":"b:2"}"#, r#"{0:"a:1",1:"b:2"}"#] {
        let body = format!(
            r#"{{"brokerDatas":[{{"brokerName":"b","brokerAddrs":{addresses},"cluster":"c"}}],"queueDatas":[]}}"#
        );
        let route: TopicRouteData = json::decode(body.as_bytes()).unwrap();
        assert_eq!(route.broker_datas[0].broker_addrs[&1], "b:2");
        let written = String::from_utf8(json::encode(&route)).unwrap();
        assert!(
            written.contains(r#""brokerAddrs":{"0":"a:1","1":"b:2"}"#),
            "{written}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok());
    }
}

/// ali-ons signs always; its extra fields must not disturb.
#[test]
fn unknown_fields_and_members_are_ignored() {
    let command = json_command(
        r#" {"code" : 15 ,"x":{"y":[1,{"z":"\u4e2d"}]},"extFields":{"AccessKey":"a","Signature":"s=","OnsChannel":"ALIYUN","consumerGroup":"g","topic":"T","queueId":"0","commitOffset":"5","nested":{"a":[]}},"language":"NEW","opaque":"9"} "#,
    );
    let request = command.header::<UpdateConsumerOffsetRequest>().unwrap();
    assert_eq!(
        (request.commit_offset, command.opaque, command.language),
        (5, 9, Language::OTHER)
    );
    assert_eq!(command.request_code(), RequestCode::UPDATE_CONSUMER_OFFSET);
    assert_eq!(command.fields.get("nested"), Some(r#"{"a":[]}"#));
}

/// A command's fields keep their values when it passes from one codec to the other.
#[test]
fn a_command_can_change_its_codec() {
    let mut command = golden_command("send_v2_json");
    command.codec = Codec::Rocketmq;
    let bytes = encoded(&command);
    let again = protocol::command::Command::decode(&whole_frame(&bytes)).unwrap();
    assert_eq!(again.fields, command.fields);
}
