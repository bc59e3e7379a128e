//! What the simulated disk keeps and loses at a power failure, and when the process is killed.

use std::collections::BTreeSet;
use std::path::Path;

use platform::disk::{Disk, File, OpenMode, SimulatedDisk};

/// Power failures tried where one outcome of several must show itself.
const SEEDS: u64 = 200;

fn content(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn create(disk: &SimulatedDisk, path: &str, bytes: &[u8]) -> std::sync::Arc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn what_was_synced_with_its_name_is_there() {
    let disk = SimulatedDisk::new(1);
    create(&disk, "/f", &[7; 3000]).sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for seed in 0..SEEDS {
        assert_eq!(content(&disk.crash(seed), "/f").unwrap(), [7; 3000]);
    }
}

#[test]
fn a_file_whose_directory_was_not_synced_may_vanish() {
    let disk = SimulatedDisk::new(1);
    create(&disk, "/f", b"abc").sync_all().unwrap();
    let outcomes: BTreeSet<bool> = (0..SEEDS)
        .map(|seed| disk.crash(seed).exists(Path::new("/f")))
        .collect();
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn unsynced_bytes_are_lost_kept_or_torn_at_sectors() {
    let disk = SimulatedDisk::new(1);
    let file = create(&disk, "/f", &[1; 2048]);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(&[2; 1500], 100).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let bytes = content(&disk.crash(seed), "/f").unwrap();
        assert_eq!(bytes.len(), 2048);
        assert!(
            bytes[..100]
                .iter()
                .chain(&bytes[1600..])
                .all(|byte| *byte == 1)
        );
        let sectors = [
            &bytes[100..512],
            &bytes[512..1024],
            &bytes[1024..1536],
            &bytes[1536..1600],
        ];
        let sectors = sectors.map(|sector| {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "a sector is never torn"
            );
            sector[0]
        });
        outcomes.insert(sectors);
    }
    assert!(outcomes.contains(&[1, 1, 1, 1]) && outcomes.contains(&[2, 2, 2, 2]));
    assert!(outcomes.contains(&[2, 2, 1, 1]), "the tail is torn");
    assert!(outcomes.contains(&[1, 2, 1, 2]), "the order is not kept");
}

#[test]
fn an_unsynced_length_is_any_between() {
    let disk = SimulatedDisk::new(1);
    let file = create(&disk, "/f", &[1; 512]);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(&[2; 1024], 512).unwrap();
    let lengths: BTreeSet<usize> = (0..SEEDS)
        .map(|seed| content(&disk.crash(seed), "/f").unwrap().len())
        .collect();
    assert!(
        lengths.is_superset(&BTreeSet::from([512, 1024, 1536])),
        "{lengths:?}"
    );
    assert!(lengths.iter().all(|length| (512..=1536).contains(length)));
}

#[test]
fn a_cut_that_was_not_synced_may_come_back() {
    let disk = SimulatedDisk::new(1);
    let file = create(&disk, "/f", &[1; 4096]);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.set_len(1000).unwrap();
    let whole = (0..SEEDS).map(|seed| content(&disk.crash(seed), "/f").unwrap());
    let outcomes: BTreeSet<usize> = whole.map(|bytes| bytes.len()).collect();
    assert!(outcomes.contains(&1000) && outcomes.contains(&4096));
    file.sync_data().unwrap();
    assert!((0..SEEDS).all(|seed| content(&disk.crash(seed), "/f").unwrap() == [1; 1000]));
}

#[test]
fn a_rename_happened_or_not() {
    let disk = SimulatedDisk::new(1);
    create(&disk, "/f", b"old").sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    create(&disk, "/f.tmp", b"new").sync_data().unwrap();
    disk.rename(Path::new("/f.tmp"), Path::new("/f")).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let after = disk.crash(seed);
        outcomes.insert((
            content(&after, "/f").unwrap(),
            after.exists(Path::new("/f.tmp")),
        ));
    }
    let expected = [
        (b"old".to_vec(), false),
        (b"old".to_vec(), true),
        (b"new".to_vec(), false),
    ];
    assert_eq!(outcomes, BTreeSet::from(expected));
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let disk = SimulatedDisk::new(1);
    create(&disk, "/f", b"abc").sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.remove(Path::new("/f")).unwrap();
    assert!((0..SEEDS).any(|seed| content(&disk.crash(seed), "/f") == Some(b"abc".to_vec())));
    disk.sync_dir(Path::new("/")).unwrap();
    assert!((0..SEEDS).all(|seed| !disk.crash(seed).exists(Path::new("/f"))));
}

#[test]
fn a_kill_loses_nothing_and_syncs_nothing() {
    let disk = SimulatedDisk::new(1);
    let file = create(&disk, "/f", b"abc");
    let _lock = disk.lock(Path::new("/lock")).unwrap();
    let after = disk.kill();
    file.write_all_at(b"later", 0).unwrap();
    assert_eq!(content(&after, "/f").unwrap(), b"abc");
    after.lock(Path::new("/lock")).unwrap();
    assert!((0..SEEDS).any(|seed| !after.crash(seed).exists(Path::new("/f"))));
}

#[test]
fn a_crashed_disk_is_synced_and_apart_from_the_old_one() {
    let disk = SimulatedDisk::new(1);
    let file = create(&disk, "/f", &[1; 2000]);
    for seed in 0..SEEDS {
        let after = disk.crash(seed);
        let again = after.crash(seed + 1);
        assert_eq!(content(&after, "/f"), content(&again, "/f"));
    }
    let after = disk.crash(3);
    let before = content(&after, "/f");
    file.write_all_at(&[9; 2000], 0).unwrap();
    assert_eq!(content(&after, "/f"), before);
}

#[test]
fn a_seed_gives_one_outcome() {
    let disk = SimulatedDisk::new(1);
    create(&disk, "/f", &[1; 9000]);
    for seed in 0..SEEDS {
        assert_eq!(
            content(&disk.crash(seed), "/f"),
            content(&disk.crash(seed), "/f")
        );
    }
}

#[test]
fn nothing_works_or_changes_once_the_power_is_cut() {
    let disk = SimulatedDisk::new(1);
    let file = create(&disk, "/f", b"abc");
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.cut_power_after(1);
    file.write_all_at(b"xyz", 0).unwrap();
    assert!(disk.is_off());
    assert!(file.write_all_at(b"123", 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(file.read_at(&mut [0; 3], 0).is_err());
    assert!(disk.open(Path::new("/f"), OpenMode::Create).is_err());
    let outcomes: BTreeSet<Vec<u8>> = (0..SEEDS)
        .map(|seed| content(&disk.crash(seed), "/f").unwrap())
        .collect();
    assert_eq!(outcomes, BTreeSet::from([b"abc".to_vec(), b"xyz".to_vec()]));
}
