//! mqadmin's commands against a live process, as text and as JSON, and their exit codes.

use serde_json::Value;

use crate::process::{Node, apogee, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn topics_are_created_shown_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    let text = node.admin_ok(&[
        "updateTopic",
        "-c",
        "DefaultCluster",
        "-t",
        "Orders",
        "-r",
        "4",
        "-w",
        "4",
    ]);
    assert_eq!(
        text,
        format!(
            "create topic to {} success.\nTopicConfig [topicName=Orders, readQueueNums=4, writeQueueNums=4, perm=RW-, \
             topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false, attributes={{}}]\n",
            node.broker
        )
    );
    assert!(
        node.admin_ok(&["topicList"])
            .lines()
            .any(|topic| topic == "Orders")
    );
    let list = json(&node.admin_ok(&["topicList", "--json"]));
    assert!(
        list["topicList"]
            .as_array()
            .unwrap()
            .contains(&Value::from("Orders"))
    );

    let route = node.admin_ok(&["topicRoute", "-t", "Orders"]);
    let want = format!(
        "{{\n\t\"brokerDatas\":[\n\t\t{{\n\t\t\t\"brokerAddrs\":{{0:\"{}\"\n\t\t\t}},\n\t\t\t\"brokerName\":\"broker-a\",\n\t\t\t\
         \"cluster\":\"DefaultCluster\",\n\t\t\t\"enableActingMaster\":false\n\t\t}}\n\t],\n\t\"filterServerTable\":{{}},\n\t\
         \"queueDatas\":[\n\t\t{{\n\t\t\t\"brokerName\":\"broker-a\",\n\t\t\t\"perm\":6,\n\t\t\t\"readQueueNums\":4,\n\t\t\t\
         \"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":4\n\t\t}}\n\t]\n}}\n",
        node.broker
    );
    assert_eq!(route, want);
    assert!(
        node.admin_ok(&["topicRoute", "-t", "Orders", "-l"])
            .contains("Total:")
    );

    let text = node.admin_ok(&["deleteTopic", "-c", "DefaultCluster", "-t", "Orders"]);
    assert!(
        text.ends_with("delete topic [Orders] from NameServer success.\n"),
        "{text}"
    );
    let gone = node.admin(&["topicRoute", "-t", "Orders"]);
    assert_eq!(gone.code, Some(1), "{gone:#?}");
    assert!(gone.stderr.contains("No topic route info"), "{gone:#?}");
    assert!(gone.stderr.contains("hint:"), "{gone:#?}");
}

#[test]
fn messages_are_sent_counted_read_and_found() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    node.admin_ok(&[
        "updateTopic",
        "-b",
        &node.broker,
        "-t",
        "Mail",
        "-r",
        "2",
        "-w",
        "2",
    ]);
    let sent = json(&node.admin_ok(&[
        "sendMessage",
        "-t",
        "Mail",
        "-p",
        "你好 -x",
        "-k",
        "key1 key2",
        "-c",
        "TagA",
        "-b",
        "broker-a",
        "-i",
        "1",
        "--json",
    ]));
    assert_eq!(
        (&sent["sendStatus"], &sent["queueId"]),
        (&Value::from("SEND_OK"), &Value::from(1))
    );
    let (unique, offset_id) = (
        sent["msgId"].as_str().unwrap(),
        sent["offsetMsgId"].as_str().unwrap(),
    );
    let text = node.admin_ok(&[
        "sendMessage",
        "-t",
        "Mail",
        "-p",
        "second",
        "-b",
        "broker-a",
        "-i",
        "1",
    ]);
    assert!(text.contains("SEND_OK"), "{text}");

    let status = json(&node.admin_ok(&["topicStatus", "-t", "Mail", "--json"]));
    let offsets: Vec<_> = status["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| &queue["maxOffset"])
        .collect();
    assert_eq!(offsets, [0, 2]);
    let text = node.admin_ok(&["topicStatus", "-t", "Mail"]);
    assert!(
        text.starts_with("#Broker Name                      #QID  #Min Offset"),
        "{text}"
    );
    assert!(text.contains("\nTopic Put TPS: "), "{text}");

    let text = node.admin_ok(&["consumeMessage", "-t", "Mail"]);
    assert!(
        text.contains(&format!(
            "MSGID: {unique} MessageExt [brokerName=broker-a, queueId=1, "
        )),
        "{text}"
    );
    assert!(text.contains(" BODY: 你好 -x\n"), "{text}");
    let read = json(&node.admin_ok(&[
        "consumeMessage",
        "-t",
        "Mail",
        "-b",
        "broker-a",
        "-i",
        "1",
        "-o",
        "1",
        "--json",
    ]));
    let read = read.as_array().unwrap();
    assert_eq!((read.len(), &read[0]["body"]), (1, &Value::from("second")));
    let one = json(&node.admin_ok(&["consumeMessage", "-t", "Mail", "-c", "1", "--json"]));
    assert_eq!(one.as_array().unwrap().len(), 1);

    for id in [unique, offset_id] {
        let text = node.admin_ok(&["queryMsgById", "-t", "Mail", "-i", id, "-f", "UTF-8"]);
        assert!(
            text.starts_with(&format!(
                "OffsetID:            {offset_id}\nTopic:               Mail\n"
            )),
            "{text}"
        );
        assert!(
            text.contains("Keys:                [key1 key2]\n"),
            "{text}"
        );
        assert!(text.contains("Message Body:        你好 -x\n"), "{text}");
    }
    for key in ["key1", "key2"] {
        let found = json(&node.admin_ok(&["queryMsgByKey", "-t", "Mail", "-k", key, "--json"]));
        assert_eq!(found[0]["msgId"], unique);
    }
    let text = node.admin_ok(&["queryMsgByKey", "-t", "Mail", "-k", "key1"]);
    assert!(text.contains(unique), "{text}");
    let text = node.admin_ok(&["queryMsgByUniqueKey", "-t", "Mail", "-i", unique]);
    assert!(text.starts_with("Topic:               Mail\n"), "{text}");

    for arguments in [
        &["queryMsgByKey", "-t", "Mail", "-k", "absent"][..],
        &["queryMsgByUniqueKey", "-t", "Mail", "-i", "absent"],
        &["queryMsgById", "-t", "Mail", "-i", "absent"],
    ] {
        let finished = node.admin(arguments);
        assert_eq!(finished.code, Some(1), "{finished:#?}");
        assert!(finished.stderr.contains("no message"), "{finished:#?}");
    }
}

#[test]
fn clusters_are_listed_with_what_their_brokers_say() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    let text = node.admin_ok(&["clusterList"]);
    let row = text.lines().nth(1).unwrap_or_default();
    assert!(
        row.starts_with("DefaultCluster          broker-a                0     127.0.0.1:"),
        "{text}"
    );
    assert!(
        row.contains("V5_3_3") && row.trim_end().ends_with("true"),
        "{text}"
    );
    assert!(
        node.admin_ok(&["clusterList", "-m"])
            .contains("#InTotalYest")
    );
    let rows = json(&node.admin_ok(&["clusterList", "--json"]));
    assert_eq!(rows[0]["addr"], node.broker);
    let unknown = node.admin(&["clusterList", "-c", "Nowhere"]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.stderr.contains("no cluster named Nowhere"),
        "{unknown:#?}"
    );
}

#[test]
fn failures_have_exit_codes_and_say_whom_they_asked() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let refused = run(apogee(&["admin", "topicList", "-n", &closed]));
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused.stderr.contains(&closed) && refused.stdout.is_empty(),
        "{refused:#?}"
    );
    let mut command = apogee(&["admin", "topicList"]);
    command.env("NAMESRV_ADDR", &closed);
    assert!(
        run(command).stderr.contains(&closed),
        "the environment says which name server"
    );
}

#[test]
fn groups_are_reset_copied_and_shown() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    let words = |line: &str| -> Vec<String> {
        let words = line
            .split(' ')
            .map(|word| word.replace("BROKER", &node.broker));
        words.collect()
    };
    let ok = |line: &str| {
        let words = words(line);
        node.admin_ok(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    ok("updateTopic -b BROKER -t Mail -r 1 -w 1");
    for _ in 0..3 {
        ok("sendMessage -t Mail -p body");
    }
    // The group comes into being with its first pull.
    ok("consumeMessage -t Mail -g readers");
    let at = |group: &str| {
        let shown = json(&ok(&format!("consumerProgress -g {group} -t Mail --json")));
        let queue = &shown["queues"][0];
        (
            queue["consumerOffset"].as_i64(),
            queue["brokerOffset"].as_i64(),
        )
    };
    let text = ok("resetOffsetByTime -g readers -t Mail -s 0");
    assert!(
        text.starts_with("start reset consumer offset by specified, group[readers], topic[Mail], force[true], timestamp(string)[0], timestamp(long)[0]\n#brokerName "),
        "{text}"
    );
    let row: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row, ["broker-a", "0", "0"]);
    assert_eq!(at("readers"), (Some(0), Some(3)));
    let text = ok("resetOffsetByTime -g readers -t Mail -s 0 -b BROKER -q 0 -o 2");
    assert!(text.ends_with("\nreset consumer offset to 2\n"), "{text}");
    assert_eq!(at("readers"), (Some(2), Some(3)));
    ok("cloneGroupOffset -s readers -d others -t Mail");
    assert_eq!(at("others"), (Some(2), Some(3)));
    ok("skipAccumulatedMessage -g readers -t Mail");
    assert_eq!(at("readers"), (Some(3), Some(3)));
    let text = ok("consumerProgress -g readers -t Mail");
    assert!(text.contains("\nConsume Diff Total: 0\n"), "{text}");
    assert!(ok("brokerConsumeStats -b BROKER").contains("\nDiff Total: "));
    let text = ok("statsAll -t Mail");
    let row = text.lines().find(|line| line.contains("others")).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..3], ["Mail", "others", "1"], "{text}");
    let text = ok("setConsumeMode -b BROKER -t Mail -g readers -m POP -q 2");
    let want = format!(
        "set consume mode to {} success.\ntopic[Mail] group[readers] consume mode[POP] popShareQueueNum[2]\n",
        node.broker
    );
    assert_eq!(text, want);
    let shown = json(&ok(
        "setConsumeMode -c DefaultCluster -t Mail -g readers -m pull --json",
    ));
    assert_eq!(
        (shown["brokers"][0].as_str(), shown["mode"].as_str()),
        (Some(&*node.broker), Some("PULL"))
    );
    let text = ok("updateColdDataFlowCtrGroupConfig -b BROKER -g readers -v 1000");
    assert!(
        text.starts_with("updateColdDataFlowCtrGroupConfig success, "),
        "{text}"
    );
    let text = ok("getColdDataFlowCtrInfo -c DefaultCluster");
    assert!(text.contains("\"readers\":1000"), "{text}");
    ok("removeColdDataFlowCtrGroupConfig -b BROKER -g readers");
    let text = ok("setCommitLogReadAheadMode -b BROKER -m 1");
    assert!(
        text.ends_with("set commitlog readahead mode success, mode: 1\n"),
        "{text}"
    );
    for (line, code) in [
        ("setCommitLogReadAheadMode -b BROKER -m 2", 2),
        ("getColdDataFlowCtrInfo", 2),
        ("setConsumeMode -b BROKER -t absent -g readers -m POP", 1),
        (
            "setConsumeMode -b BROKER -t %RETRY%readers -g readers -m POP",
            1,
        ),
        ("setConsumeMode -c absent -t Mail -g readers -m POP", 1),
        ("setConsumeMode -b BROKER -t Mail -g readers -m PUSH", 2),
        ("resetOffsetByTime -g absent -t Mail -s 0", 1),
        ("resetOffsetByTime -g readers -t absent -s 0", 1),
        (
            "resetOffsetByTime -g readers -t Mail -s 0 -b BROKER -q 0 -o 99",
            1,
        ),
        ("resetOffsetByTime -g readers -t Mail -s yesterday", 2),
        ("consumerStatus -g readers", 1),
        ("consumerProgress -g absent", 1),
    ] {
        let words = words(line);
        let finished = node.admin(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(finished.code, Some(code), "{line}: {finished:#?}");
    }
    assert_eq!(
        at("readers"),
        (Some(3), Some(3)),
        "what is refused changes nothing"
    );
}
