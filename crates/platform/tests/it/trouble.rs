//! Injected faults, full disks and cold caches of the simulated disk.

use std::io::ErrorKind;
use std::path::Path;

use platform::disk::simulated::{Fault, Operation};
use platform::disk::{Disk, OpenMode, SimulatedDisk};

fn bytes_of(disk: &SimulatedDisk, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_fault_strikes_the_chosen_operation_on_the_chosen_path_in_its_time() {
    let disk = SimulatedDisk::new(1);
    let log = disk
        .open(Path::new("/commitlog"), OpenMode::Create)
        .unwrap();
    let other = disk.open(Path::new("/other"), OpenMode::Create).unwrap();
    disk.inject(
        Fault::eio(Operation::Sync)
            .on("commitlog")
            .after(1)
            .times(2),
    );
    log.sync_data().unwrap();
    assert_eq!(log.sync_data().unwrap_err().raw_os_error(), Some(5));
    other.sync_data().unwrap();
    log.write_all_at(b"x", 0).unwrap();
    log.sync_data().unwrap_err();
    log.sync_data().unwrap();
}

/// The kernel marks pages clean when their write-back fails: a second fsync that succeeds has written nothing.
#[test]
fn a_sync_that_succeeds_after_a_failed_one_proves_nothing() {
    let disk = SimulatedDisk::new(1);
    let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.inject(Fault::eio(Operation::Sync).times(1));
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(
        bytes_of(&disk, "/f"),
        [2; 512],
        "memory shows what was written"
    );
    assert!((0..100).any(|seed| bytes_of(&disk.crash(seed), "/f") == [1; 512]));
    file.write_all_at(&[3; 512], 0).unwrap();
    file.sync_data().unwrap();
    assert!((0..100).all(|seed| bytes_of(&disk.crash(seed), "/f") == [3; 512]));
}

#[test]
fn a_failing_write_leaves_a_prefix() {
    let disk = SimulatedDisk::new(1);
    let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
    disk.inject(Fault::eio(Operation::Write));
    for _ in 0..50 {
        file.write_all_at(&[7; 100], 0).unwrap_err();
        let bytes = bytes_of(&disk, "/f");
        assert!(bytes.len() <= 100 && bytes.iter().all(|byte| *byte == 7));
    }
    disk.heal();
    file.write_all_at(&[7; 100], 0).unwrap();
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(64 << 10);
    let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
    file.reserve(32 << 10).unwrap();
    assert_eq!(disk.space(Path::new("/")).unwrap().free_bytes, 32 << 10);
    let other = disk.open(Path::new("/g"), OpenMode::Create).unwrap();
    assert_eq!(
        other.reserve(33 << 10).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(other.len().unwrap(), 0);
    assert_eq!(
        other.write_all_at(&[1; 40 << 10], 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(other.len().unwrap(), 32 << 10, "what fitted was written");
    file.write_all_at(&[2; 32 << 10], 0).unwrap();
    disk.remove(Path::new("/g")).unwrap();
    file.reserve(64 << 10).unwrap();
    assert_eq!(disk.used_bytes(), 64 << 10);
}

#[test]
fn what_others_hold_is_not_free() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(1 << 20);
    disk.set_occupied(1 << 20);
    let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
    assert_eq!(
        file.write_all_at(b"x", 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    disk.set_occupied(0);
    file.write_all_at(b"x", 0).unwrap();
}

#[test]
fn a_cold_page_is_read_only_by_those_who_wait() {
    let disk = SimulatedDisk::new(1);
    let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
    file.write_all_at(&[7; 3 * 4096], 0).unwrap();
    disk.drop_page_cache();
    let mut buf = [0; 3 * 4096];
    assert_eq!(
        file.read_at_nowait(&mut buf, 0).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(file.read_at(&mut buf[..10], 0).unwrap(), 10);
    assert_eq!(
        file.read_at_nowait(&mut buf, 0).unwrap(),
        4096,
        "as far as it is in memory"
    );
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(file.read_at_nowait(&mut buf, 0).unwrap(), 3 * 4096);
}
