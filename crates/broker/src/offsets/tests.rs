//! Commits, resets, deletions, and the file that keeps them.

use platform::disk::RealDisk;

use super::*;

fn load(dir: &Path) -> Offsets {
    Offsets::load(dir, Arc::new(RealDisk), false).unwrap()
}

fn load_light(dir: &Path) -> Offsets {
    Offsets::load(dir, Arc::new(RealDisk), true).unwrap()
}

#[test]
fn offsets_of_light_groups_lie_where_java_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load_light(dir.path());
    offsets.commit("g", "t", 0, 5);
    offsets.commit("%LMQ%g", "%LMQ%a@b", 0, 6);
    offsets.commit("g", "%LMQ%a@b", 0, 7);
    offsets.commit("%LMQ%many", "t", 0, 8);
    offsets.commit("%LMQ%many", "t", 3, 9);
    offsets.fold().unwrap();
    assert!(!dir.path().join("consumerOffset.json").exists());
    let text = std::fs::read_to_string(dir.path().join("lmqConsumerOffset.json")).unwrap();
    assert!(
        text.contains("\"lmqOffsetTable\":{\n\t\t\"%LMQ%a@b@%LMQ%g\":6\n\t}"),
        "{text}"
    );
    let again = load_light(dir.path());
    let query = |group: &str, topic: &str, queue| again.query(group, topic, queue);
    assert_eq!(query("g", "t", 0), Some(5));
    assert_eq!(query("%LMQ%g", "%LMQ%a@b", 0), Some(6));
    assert_eq!(query("g", "%LMQ%a@b", 0), Some(7));
    assert_eq!(query("%LMQ%many", "t", 0), Some(8));
    assert_eq!(query("%LMQ%many", "t", 3), Some(9));
}

/// Java keeps all offsets in another file with light queues, and forgets them all when they are switched on.
#[test]
fn offsets_stay_when_light_queues_are_switched_on_and_off() {
    let dir = tempfile::tempdir().unwrap();
    let plain = load(dir.path());
    plain.commit("g", "t", 0, 5);
    plain.fold().unwrap();
    let light = load_light(dir.path());
    assert_eq!(light.query("g", "t", 0), Some(5));
    light.commit("g", "t", 0, 6);
    light.commit("%LMQ%g", "%LMQ%a", 0, 1);
    light.fold().unwrap();
    let plain = load(dir.path());
    assert_eq!(plain.query("g", "t", 0), Some(6));
    assert_eq!(plain.query("%LMQ%g", "%LMQ%a", 0), Some(1));
    plain.commit("g", "t", 0, 7);
    plain.fold().unwrap();
    assert_eq!(load_light(dir.path()).query("g", "t", 0), Some(7));
}

#[test]
fn a_file_of_java_with_light_queues_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let text = "{\"dataVersion\":{\"counter\":3,\"stateVersion\":0,\"timestamp\":1},\"lmqOffsetTable\":{\"%LMQ%a@%LMQ%g\":4,\"x\":1},\"offsetTable\":{\"t@g\":{0:7}}}";
    std::fs::write(dir.path().join("lmqConsumerOffset.json"), text).unwrap();
    let offsets = load_light(dir.path());
    assert_eq!(offsets.query("%LMQ%g", "%LMQ%a", 0), Some(4));
    assert_eq!(offsets.query("g", "t", 0), Some(7));
}

#[test]
fn offsets_survive_in_a_file_with_java_keys() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    offsets.commit("g", "t", 0, 5);
    offsets.commit("g", "t", 1, 6);
    offsets.commit("g", "t", 0, 4);
    offsets.fold().unwrap();
    let text = std::fs::read_to_string(dir.path().join("consumerOffset.json")).unwrap();
    assert!(
        text.contains("\t\"offsetTable\":{\n\t\t\"t@g\":{\n\t\t\t0:4,\n\t\t\t1:6\n\t\t}\n\t}"),
        "{text}"
    );
    let again = load(dir.path());
    assert_eq!(
        (again.query("g", "t", 0), again.query("g", "t", 1)),
        (Some(4), Some(6))
    );
    assert_eq!(
        (
            again.query("g", "t", 2),
            again.query("h", "t", 0),
            again.query("g", "u", 0)
        ),
        (None, None, None)
    );
}

#[test]
fn a_file_of_java_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":3,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795248733851\n\t},\n\t\"groupTopicMap\":{\"g\":[\"%RETRY%g\"]},\n\t\"offsetTable\":{\n\t\t\"%RETRY%g@g\":{0:7,\"1\":8},\"nonsense\":{0:1}}\n}";
    std::fs::write(dir.path().join("consumerOffset.json"), text).unwrap();
    let offsets = load(dir.path());
    assert_eq!(offsets.of("g", "%RETRY%g"), Queues::from([(0, 7), (1, 8)]));
    assert_eq!(
        offsets.topics_of("g"),
        BTreeSet::from(["%RETRY%g".to_owned()])
    );
    assert_eq!(
        offsets.groups_of("%RETRY%g"),
        BTreeSet::from(["g".to_owned()])
    );
}

#[test]
fn offsets_ahead_of_their_queue_go_back_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    for (queue_id, offset) in [(0, 9), (1, 10), (2, 11)] {
        offsets.commit("g", "t", queue_id, offset);
    }
    offsets.clamp(|_, _| 10);
    assert_eq!(
        offsets.of("g", "t"),
        Queues::from([(0, 9), (1, 10), (2, 10)])
    );
}

#[test]
fn a_reset_holds_until_a_consumer_follows_it_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    assert_eq!(offsets.reset_of_pull("g", "t", 0, 9), None);
    offsets.reset("g", "t", 0, 3);
    assert!(offsets.has_reset("g", "t", 0) && !offsets.has_reset("g", "t", 1));
    assert_eq!(offsets.query("g", "t", 0), Some(3));
    assert_eq!(
        offsets.reset_of_pull("g", "t", 0, 9),
        Some(ResetOfPull::GoTo(3))
    );
    assert!(
        offsets.has_reset("g", "t", 0),
        "whether it follows is not known"
    );
    offsets.fold().unwrap();
    let text = std::fs::read_to_string(dir.path().join("consumerOffset.json")).unwrap();
    assert!(
        text.contains("\"resetOffsetTable\":{\n\t\t\"t@g\":{\n\t\t\t0:3"),
        "{text}"
    );
    let offsets = load(dir.path());
    assert!(offsets.has_reset("g", "t", 0));
    assert_eq!(
        offsets.reset_of_pull("g", "t", 0, 3),
        Some(ResetOfPull::Followed)
    );
    assert!(!offsets.has_reset("g", "t", 0));
    offsets.fold().unwrap();
    assert!(!load(dir.path()).has_reset("g", "t", 0));
    offsets.reset("g", "t", 0, 4);
    offsets.delete_topic("t");
    let left = (
        offsets.reset_of_pull("g", "t", 0, 9),
        offsets.query("g", "t", 0),
    );
    assert_eq!(left, (None, None));
}

#[test]
fn a_consumer_that_never_follows_a_reset_hears_of_it_a_few_times() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    offsets.reset("g", "t", 0, 3);
    let told = (0..9).filter_map(|_| offsets.reset_of_pull("g", "t", 0, 9));
    assert_eq!(told.count(), usize::from(resets::TELLS_MAX));
    assert!(!offsets.has_reset("g", "t", 0));
}

fn commit(offset: i64, by: u64, at_ms: i64) -> Commit {
    Commit {
        offset,
        pulled: None,
        by,
        at_ms,
    }
}

#[test]
fn a_member_does_not_go_behind_what_another_has_just_committed() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    let put = |commit, members| offsets.commit_of_consumer("g", "t", 0, commit, |_, _| members);
    assert!(put(commit(10, 1, 0), true));
    assert!(
        !put(commit(7, 2, 5), true),
        "late, from before the queue changed hands"
    );
    assert_eq!(offsets.query("g", "t", 0), Some(10));
    assert!(put(commit(8, 1, 6), true), "its own offset may go back");
    assert!(put(commit(12, 2, 7), true));
    assert!(
        put(commit(11, 3, 8), false),
        "a tool, or a member that has gone"
    );
    assert!(put(commit(20, 2, 10), true));
    assert!(
        put(commit(15, 1, 10 + RIVAL_MS), true),
        "whoever says so for long means it"
    );
    offsets.commit("g", "t", 0, 3);
    assert!(
        put(commit(2, 1, 11), true),
        "nothing is known of the offset before"
    );
    assert!(put(commit(9, 2, 12), true));
    assert!(!put(commit(2, 1, 13), true));
    offsets.forget_committers("g", "t");
    assert!(put(commit(2, 1, 14), true), "it was told to");
    assert_eq!(offsets.query("g", "t", 0), Some(2));
}

#[test]
fn the_offset_of_the_last_pull_is_kept_until_a_tool_moves_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    let pull = Commit {
        pulled: Some(9),
        ..commit(4, 1, 0)
    };
    offsets.commit_of_consumer("g", "t", 0, pull, |_, _| true);
    offsets.commit_of_consumer("g", "t", 0, commit(5, 1, 1), |_, _| true);
    assert_eq!(offsets.pulled("g", "t", 0), Some(9));
    offsets.commit("g", "t", 0, 2);
    assert_eq!(offsets.pulled("g", "t", 0), None);
}

#[test]
fn the_least_offset_of_the_groups_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    for (group, queue_id, offset) in [("a", 0, 5), ("b", 0, 7), ("c", 0, 1), ("a", 1, 9)] {
        offsets.commit(group, "t", queue_id, offset);
    }
    let least = |without: &[&str]| offsets.least("t", &without.iter().copied().collect(), |_| 2);
    assert_eq!(
        least(&[]),
        Queues::from([(0, 5), (1, 9)]),
        "c is before the first message"
    );
    assert_eq!(least(&["a"]), Queues::from([(0, 7)]));
    assert_eq!(
        offsets.query("a", "t", 0),
        Some(5),
        "Java forgets the offsets of those left out"
    );
}

#[test]
fn deleted_topics_and_groups_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = load(dir.path());
    offsets.commit("g", "t", 0, 1);
    offsets.commit("g", "u", 0, 1);
    offsets.commit("h", "t", 0, 1);
    offsets.copy("g", "i", "t");
    offsets.delete_topic("t");
    assert_eq!(
        offsets
            .snapshot()
            .offset_table
            .into_keys()
            .collect::<Vec<_>>(),
        ["u@g"]
    );
    offsets.delete_group("g");
    assert!(offsets.snapshot().offset_table.is_empty());
}
