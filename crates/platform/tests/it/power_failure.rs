//! What the simulated disk loses, and what it must not lose.

use std::io::ErrorKind;
use std::path::Path;

use platform::disk::{Disk, OpenMode, SimulatedDisk, create_dir_all_synced};

const SEEDS: std::ops::Range<u64> = 0..200;

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn content(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Read).ok()?;
    let mut content = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    Some(content)
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_crash() {
    let disk = disk();
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    file.write_all_at(&[7; 3000], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[8; 3000], 3000).unwrap();
    let mut torn = 0;
    for seed in SEEDS {
        let content = content(&disk.crash(seed), "/d/f").unwrap();
        assert_eq!(content[..3000], [7; 3000]);
        let survived = content[3000..].iter().filter(|byte| **byte == 8).count();
        torn += usize::from(survived > 0 && survived < 3000);
    }
    assert!(torn > 10, "unsynced writes are sometimes torn");
}

#[test]
fn an_unsynced_name_may_be_lost_and_may_survive() {
    let disk = disk();
    disk.open(Path::new("/d/f"), OpenMode::Create)
        .unwrap()
        .sync_all()
        .unwrap();
    let survived = SEEDS
        .filter(|seed| disk.crash(*seed).exists(Path::new("/d/f")))
        .count();
    assert!(survived > 10 && survived < 190, "{survived}");
}

/// A directory is a name as any other: without a sync of the one above it goes, and what lies in it goes with it.
#[test]
fn a_directory_may_be_lost_with_everything_in_it() {
    let disk = disk();
    let dir = Path::new("/d/below");
    disk.create_dir_all(dir).unwrap();
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(dir).unwrap();
    let survived = |disk: &SimulatedDisk| {
        SEEDS
            .map(|seed| disk.crash(seed))
            .filter(|disk| {
                let file = disk.exists(&dir.join("f"));
                assert_eq!(file, disk.exists(dir));
                file
            })
            .count()
    };
    let count = survived(&disk);
    assert!(count > 10 && count < 190, "{count}");
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(survived(&disk), SEEDS.count());
}

#[test]
fn directories_created_with_their_sync_survive_every_crash() {
    let disk = SimulatedDisk::new();
    let dir = Path::new("/a/b/c");
    create_dir_all_synced(&disk, dir).unwrap();
    let mut seeds = SEEDS;
    assert!(seeds.all(|seed| disk.crash(seed).exists(dir)));
}

#[test]
fn a_killed_process_loses_nothing() {
    let disk = disk();
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    let _held = disk.lock(Path::new("/d/lock")).unwrap();
    file.write_all_at(b"unsynced", 0).unwrap();
    let next = disk.kill();
    assert_eq!(content(&next, "/d/f").unwrap(), b"unsynced");
    next.lock(Path::new("/d/lock")).unwrap();
}

#[test]
fn a_later_sync_does_not_mend_a_failed_one() {
    let disk = disk();
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    disk.set_faults(|faults| faults.sync_fails = true);
    assert!(file.sync_data().is_err());
    disk.set_faults(|faults| faults.sync_fails = false);
    file.write_all_at(&[2; 512], 512).unwrap();
    file.sync_data().unwrap();
    let lost = SEEDS
        .filter(|seed| content(&disk.crash(*seed), "/d/f").unwrap()[..512] != [1; 512])
        .count();
    assert!(
        lost > 10,
        "the bytes of the failed sync are lost in some crashes"
    );
    for seed in SEEDS {
        assert_eq!(content(&disk.crash(seed), "/d/f").unwrap()[512..], [2; 512]);
    }
}

#[test]
fn a_full_disk_refuses_and_takes_again_when_room_returns() {
    let disk = disk();
    disk.set_faults(|faults| faults.capacity_bytes = Some(64 << 10));
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    file.reserve(32 << 10).unwrap();
    let other = disk.open(Path::new("/d/g"), OpenMode::Create).unwrap();
    assert_eq!(
        other.reserve(64 << 10).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    file.write_all_at(&[1; 32 << 10], 0)
        .expect("reserved room is there");
    assert_eq!(
        file.write_all_at(&[1; 64 << 10], 32 << 10)
            .unwrap_err()
            .kind(),
        ErrorKind::StorageFull
    );
    disk.remove(Path::new("/d/f")).unwrap();
    other.reserve(64 << 10).unwrap();
    assert_eq!(disk.space(Path::new("/d")).unwrap().free_bytes, 0);
}

#[test]
fn after_the_power_is_gone_everything_fails() {
    let disk = disk();
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    disk.set_faults(|faults| faults.power_off_after = Some(1));
    file.write_all_at(b"a", 0).unwrap();
    assert!(file.write_all_at(b"b", 1).is_err());
    assert!(file.sync_data().is_err());
    assert!(disk.open(Path::new("/d/f"), OpenMode::Read).is_err());
}
