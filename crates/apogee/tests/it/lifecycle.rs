//! Starting, stopping, starting again, and being told why not.

use std::net::TcpListener;

use crate::process::{Node, apogee, run};

#[test]
fn a_clean_stop_keeps_every_message() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    for number in 0..5 {
        node.admin_ok(&["sendMessage", "-t", "Kept", "-p", &format!("body {number}")]);
    }
    let (status, log) = node.terminate();
    assert!(status.success(), "{status}: {log}");

    let node = Node::start(data.path());
    let text = node.admin_ok(&["consumeMessage", "-t", "Kept"]);
    for number in 0..5 {
        assert!(text.contains(&format!("BODY: body {number}\n")), "{text}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    for number in 0..5 {
        node.admin_ok(&["sendMessage", "-t", "Kept", "-p", &format!("body {number}")]);
    }
    node.kill();
    let node = Node::start(data.path());
    let text = node.admin_ok(&["consumeMessage", "-t", "Kept"]);
    assert_eq!(text.matches("BODY: body").count(), 5, "{text}");
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    // Once, two processes wrote one store: the lock was given back when another descriptor of its file was closed.
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path());
    let mut second = apogee(&["--nameserver-port", "0", "--broker-port", "0", "--data-dir"]);
    second.arg(data.path());
    let refused = run(second);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused.stderr.contains("in use by another process"),
        "{refused:#?}"
    );
    assert!(refused.stderr.contains("--data-dir"), "{refused:#?}");
    node.admin_ok(&["topicList"]);
}

#[test]
fn a_port_in_use_names_the_role_the_port_and_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], role: &str, flag: &str| {
        let mut command = apogee(arguments);
        command.arg("--data-dir").arg(data.path());
        let refused = run(command);
        assert_eq!(refused.code, Some(1), "{refused:#?}");
        for text in [role, &port, flag] {
            assert!(refused.stderr.contains(text), "{text}: {refused:#?}");
        }
    };
    check(
        &["--nameserver-port", &port, "--broker-port", "0"],
        "name server",
        "--nameserver-port",
    );
    check(
        &["--nameserver-port", "0", "--broker-port", &port],
        "broker",
        "--broker-port",
    );
}

#[test]
fn a_bad_configuration_file_is_named_with_its_line() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("broker.conf");
    let check = |content: &str, want: &[&str]| {
        std::fs::write(&file, content).unwrap();
        for role in [vec!["broker", "-c"], vec!["--nameserver-port", "0", "-c"]] {
            let mut command = apogee(&role);
            command.arg(&file);
            let refused = run(command);
            assert_eq!(refused.code, Some(1), "{refused:#?}");
            for text in want.iter().chain(&["broker.conf"]) {
                assert!(refused.stderr.contains(text), "{text}: {refused:#?}");
            }
        }
    };
    check(
        "brokerName=a\nlistenPrt=1\n",
        &["line 2", "listenPrt", "did you mean listenPort?"],
    );
    check("brokerId=first\n", &["line 1", "brokerId"]);
    let mut missing = apogee(&["broker", "-c"]);
    missing.arg(data.path().join("absent.conf"));
    let refused = run(missing);
    assert!(refused.stderr.contains("absent.conf"), "{refused:#?}");
    assert_eq!(refused.code, Some(1));
}

#[test]
fn a_wrong_command_line_has_its_own_code() {
    for arguments in [
        &["--no-such-flag"][..],
        &["admin", "topicRoute"],
        &["admin", "noSuchCommand"],
    ] {
        assert_eq!(run(apogee(arguments)).code, Some(2), "{arguments:?}");
    }
    assert_eq!(run(apogee(&["--help"])).code, Some(0));
    assert_eq!(run(apogee(&["--version"])).code, Some(0));
}

#[test]
fn roles_run_apart_and_the_broker_says_goodbye() {
    let data = tempfile::tempdir().unwrap();
    let nameserver_conf = data.path().join("namesrv.conf");
    let kv = data.path().join("kv.json");
    std::fs::write(
        &nameserver_conf,
        format!(
            "listenPort=0\nbindAddress=127.0.0.1\nkvConfigPath={}\nclusterTest=false\n",
            kv.display()
        ),
    )
    .unwrap();
    let mut command = apogee(&["nameserver", "-c"]);
    command.arg(&nameserver_conf);
    let mut nameserver = Node::spawn(command);
    nameserver.nameserver = nameserver.address_after("nameserver: listening on ");
    nameserver.log_with("clusterTest");

    let broker_conf = data.path().join("broker.conf");
    let store = data.path().join("store");
    std::fs::write(
        &broker_conf,
        format!(
            "brokerName=broker-x\nlistenPort=0\nbindAddress=127.0.0.1\nbrokerIP1=localhost\nstorePathRootDir={}\n\
             flushDiskType=ASYNC_FLUSH\nsendMessageThreadPoolNums=8\n",
            store.display()
        ),
    )
    .unwrap();
    let mut command = apogee(&["broker", "-n", &nameserver.nameserver, "-c"]);
    command.arg(&broker_conf);
    let broker = Node::spawn(command);
    let line = broker.line_with("broker broker-x: listening on 127.0.0.1:");
    assert!(line.contains("advertised as localhost:"), "{line}");
    broker.log_with("sendMessageThreadPoolNums");
    nameserver.log_with("broker registered");

    let sent = nameserver.admin_ok(&["sendMessage", "-t", "T", "-p", "x", "--json"]);
    assert!(sent.contains("\"brokerName\": \"broker-x\""), "{sent}");
    let (status, log) = broker.terminate();
    assert!(status.success(), "{status}: {log}");
    nameserver.log_with("broker unregistered");
    assert_eq!(nameserver.admin_ok(&["topicList"]), "");
}

#[test]
fn an_address_that_leads_nowhere_is_warned_of() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("broker.conf");
    // Port 0 is replaced by a free one, on which nothing listens but this broker, at another loopback address.
    std::fs::write(&file, "brokerIP1=127.0.0.9\n").unwrap();
    let node = Node::start_with(data.path(), &["-c", file.to_str().unwrap()]);
    node.log_with("cannot be reached from here");
}

#[test]
fn listening_for_everybody_is_warned_of() {
    let data = tempfile::tempdir().unwrap();
    let mut command = apogee(&[
        "--nameserver-port",
        "0",
        "--broker-port",
        "0",
        "--listen-ip",
        "0.0.0.0",
        "--data-dir",
    ]);
    command.arg(data.path());
    let node = Node::spawn(command);
    node.log_with("the name server listens on 0.0.0.0 without access control");
    node.log_with("the broker listens on 0.0.0.0 without access control");
}

#[test]
fn the_first_start_shows_a_message() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = apogee(&["--nameserver-port", "0", "--broker-port", "0"]);
        command.current_dir(directory.path());
        let mut node = Node::spawn(command);
        node.nameserver = node.address_after("nameserver: listening on ");
        node
    };
    let node = start();
    node.line_with("A message went through:");
    let received = node.line_with("received  \"Hello from Apogee!\" from queue");
    assert!(received.contains("at offset 0"), "{received}");
    node.line_with("Ctrl-C stops.");
    let topics = node.admin_ok(&["topicList"]);
    assert!(topics.contains("HelloApogee\n"), "{topics}");
    assert!(
        !topics.contains("%RETRY%"),
        "no group is left behind: {topics}"
    );
    let (status, _) = node.terminate();
    assert!(status.success());
    assert!(
        directory
            .path()
            .join("apogee-data/store/commitlog")
            .exists()
    );

    let node = start();
    node.until_registered();
    let text = node.admin_ok(&["consumeMessage", "-t", "HelloApogee"]);
    assert_eq!(
        text.matches("BODY: Hello from Apogee!").count(),
        1,
        "only the first start sends one: {text}"
    );
}

#[test]
fn configuration_is_printed_without_starting() {
    let all = run(apogee(&["broker", "-p"]));
    assert_eq!(all.code, Some(0));
    assert!(
        all.stdout.contains("flushDiskType=SYNC_FLUSH\n"),
        "{all:#?}"
    );
    let important = run(apogee(&["broker", "-m"]));
    assert!(important.stdout.lines().count() < all.stdout.lines().count());
    assert!(
        run(apogee(&["nameserver", "-p"]))
            .stdout
            .contains("listenPort=9876\n")
    );
}

#[test]
fn links_take_the_arguments_of_their_programs() {
    let directory = tempfile::tempdir().unwrap();
    for (name, arguments, want) in [
        ("mqbroker", vec!["-p"], "brokerName=broker-a\n"),
        ("mqnamesrv", vec!["-p"], "listenPort=9876\n"),
        ("mqadmin", vec!["topicRoute", "-h"], "--topic"),
    ] {
        let link = directory.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_apogee"), &link).unwrap();
        let output = std::process::Command::new(&link)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains(want),
            "{name}: {output:?}"
        );
    }
}
