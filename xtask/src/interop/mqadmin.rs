//! Java's own mqadmin prints the same from Apogee as from the Java broker, after the same actions.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::toolchain;
use crate::live::{self, Role};
use crate::peer::{self, JavaPeer};
use crate::report::Verdict;

/// What both brokers are told.
const CONFIG: &str = "flushDiskType=ASYNC_FLUSH\nmappedFileSizeCommitLog=16777216\n";

/// Commands with their words separated by blanks; `NS` is the name server, `BROKER` the broker. `send` is our own, see `peer.Mqadmin`.
const COMMANDS: &[&str] = &[
    "updateTopic -n NS -c DefaultCluster -t Admin -r 4 -w 4",
    "updateTopic -n NS -b BROKER -t Admin2 -r 2 -w 3 -p 4",
    "updateTopic -n NS -b BROKER -t Admin3 -o true",
    "updateTopic -n NS -b BROKER -t bad#name",
    "updateTopic -n NS -c NoCluster -t Admin4",
    "send NS Admin 30",
    "topicRoute -n NS -t Admin",
    "topicRoute -n NS -t Admin -l",
    "topicRoute -n NS -t Admin2",
    "topicRoute -n NS -t Admin3",
    "topicRoute -n NS -t absent",
    "topicStatus -n NS -t Admin",
    "topicStatus -n NS -t Admin2",
    "topicStatus -n NS -t absent",
    "clusterList -n NS",
    "queryMsgById -n NS -t Admin -i ${3}",
    "queryMsgById -n NS -t Admin -i ${29}",
    "queryMsgByKey -n NS -t Admin -k all",
    "queryMsgByKey -n NS -t Admin -k key3",
    "queryMsgByKey -n NS -t Admin -k absent",
    // A group whose consumers are away.
    "updateSubGroup -n NS -c DefaultCluster -g Readers",
    "updateSubGroup -n NS -b BROKER -g Copies",
    // The route of a group is that of its retry topic.
    "updateTopic -n NS -b BROKER -t %RETRY%Readers -r 1 -w 1",
    "updateTopic -n NS -b BROKER -t %RETRY%Copies -r 1 -w 1",
    "resetOffsetByTime -n NS -g Readers -t Admin -s 0",
    "consumerProgress -n NS -g Readers",
    "resetOffsetByTime -n NS -g Readers -t Admin -s 0 -b BROKER -q 1 -o 5",
    "resetOffsetByTime -n NS -g Readers -t Admin -s 0 -b BROKER -q 1 -o 99",
    "consumerProgress -n NS -g Readers -t Admin",
    "cloneGroupOffset -n NS -s Readers -d Copies -t Admin",
    "consumerProgress -n NS -g Copies",
    "brokerConsumeStats -n NS -b BROKER",
    "skipAccumulatedMessage -n NS -g Readers -t Admin",
    "consumerProgress -n NS -g Readers -t Admin",
    "resetOffsetByTime -n NS -g Readers -t absent -s 0",
    "resetOffsetByTime -n NS -g absent -t Admin -s 0",
    "skipAccumulatedMessage -n NS -g absent -t Admin",
    "cloneGroupOffset -n NS -s absent -d Copies2 -t Admin",
    "consumerProgress -n NS -g absent",
    "consumerStatus -n NS -g Readers",
    "consumerProgress -n NS",
    "setConsumeMode -n NS -b BROKER -t Admin -g Readers -m POP -q 2",
    "setConsumeMode -n NS -c DefaultCluster -t Admin -g Readers -m PULL",
    "setConsumeMode -n NS -b BROKER -t absent -g Readers -m POP",
    "updateStaticTopic -n NS -c DefaultCluster -t Static -qn 4",
    "topicRoute -n NS -t Static",
    "send NS Static 12",
    "topicStatus -n NS -t Static",
    "updateStaticTopic -n NS -c DefaultCluster -t Static -qn 6",
    "topicRoute -n NS -t Static",
];

/// Runs the commands against both and compares.
pub(crate) fn run() -> Result<Verdict> {
    let work = tempfile::tempdir()?;
    let of_java = java(&work.path().join("java"))?;
    let of_apogee = apogee(&work.path().join("apogee"))?;
    let kept = toolchain::directory("mqadmin")?;
    fs::write(kept.join("java.txt"), &of_java)?;
    fs::write(kept.join("apogee.txt"), &of_apogee)?;
    match first_difference(&of_java, &of_apogee) {
        None => Ok(Verdict::Passed),
        Some(difference) => bail!("{difference}; both outputs are in {}", kept.display()),
    }
}

fn java(dir: &Path) -> Result<String> {
    fs::create_dir_all(dir)?;
    let server = JavaPeer::start(dir, CONFIG)?;
    let printed = output(dir, &server.nameserver, &server.broker)?;
    server.stop()?;
    Ok(printed)
}

fn apogee(dir: &Path) -> Result<String> {
    fs::create_dir_all(dir)?;
    let binary = live::binary()?;
    let nameserver = Role::nameserver(&binary, dir)?;
    let broker = Role::broker(&binary, dir, &nameserver.addr, CONFIG)?;
    live::wait_for_broker(&nameserver.addr)?;
    let printed = output(dir, &nameserver.addr, &broker.addr)?;
    broker.stop()?;
    nameserver.stop()?;
    Ok(printed)
}

fn output(dir: &Path, nameserver: &str, broker: &str) -> Result<String> {
    let lines: Vec<String> = COMMANDS
        .iter()
        .map(|line| {
            line.replace("NS", nameserver)
                .replace("BROKER", broker)
                .replace(' ', "\t")
        })
        .collect();
    let input = dir.join("commands");
    fs::write(&input, format!("{}\n", lines.join("\n")))?;
    peer::program("peer.Mqadmin", &[], &input, &dir.join("printed"))
}

/// Where two texts part, with the command that printed it.
pub(crate) fn first_difference(java: &str, apogee: &str) -> Option<String> {
    let mut command = "the beginning";
    let (mut ours, mut theirs) = (apogee.lines(), java.lines());
    loop {
        match (theirs.next(), ours.next()) {
            (None, None) => return None,
            (java, apogee) if java == apogee => {
                if let Some(line) = java.filter(|line| line.starts_with("$ ")) {
                    command = line;
                }
            }
            (java, apogee) => {
                let shown = |line: Option<&str>| {
                    line.map_or("nothing".to_owned(), |line| format!("{line:?}"))
                };
                return Some(format!(
                    "after {command}: Java has {}, Apogee {}",
                    shown(java),
                    shown(apogee)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn a_difference_names_its_command() {
        assert_eq!(first_difference("$ a\n1\n", "$ a\n1\n"), None);
        let difference = first_difference("$ a\n1\n$ b\n2\n", "$ a\n1\n$ b\n3\n").unwrap();
        assert_eq!(difference, "after $ b: Java has \"2\", Apogee \"3\"");
        assert!(
            first_difference("x\ny\n", "x\n")
                .unwrap()
                .ends_with("Apogee nothing")
        );
    }
}
