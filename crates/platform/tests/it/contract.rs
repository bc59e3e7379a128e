//! What every disk guarantees: one suite of functions, run on both.

use std::io::ErrorKind;
use std::path::Path;

use platform::disk::{Disk, OpenMode, RealDisk, SimulatedDisk};

/// Runs each function of the suite on both disks, below a directory that exists and is empty.
macro_rules! suite {
    ($($name:ident)*) => {
        mod real { $(
            #[test]
            fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::$name(&super::RealDisk, dir.path());
            }
        )* }
        mod simulated { $(
            #[test]
            fn $name() {
                let disk = super::SimulatedDisk::new(1);
                let dir = std::path::Path::new("/data");
                platform::disk::Disk::create_dir_all(&disk, dir).unwrap();
                super::$name(&disk, dir);
            }
        )* }
    };
}

suite! {
    written_bytes_are_read_back
    a_read_ends_with_the_file
    a_gap_reads_as_zeros
    a_missing_file_is_not_found
    create_keeps_what_is_there
    a_handle_for_reading_does_not_write
    cutting_and_extending_leaves_zeros
    reserved_room_reads_as_zeros
    reserving_keeps_what_is_written
    rename_replaces
    an_open_file_outlives_its_name
    a_listing_is_sorted
    only_empty_directories_go
    directories_are_created_with_their_parents
    a_lock_excludes_until_it_is_dropped
    a_refused_lock_leaves_the_first_one_in_force
    there_is_room
    reading_without_waiting_gives_the_same_bytes
}

fn written_bytes_are_read_back(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    let bytes: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    file.write_all_at(&bytes, 100).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    let mut read = vec![0; bytes.len()];
    let other = disk.open(&dir.join("f"), OpenMode::Read).unwrap();
    other.read_exact_at(&mut read, 100).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(file.len().unwrap(), 20_100);
    assert!(!file.is_empty().unwrap());
}

fn a_read_ends_with_the_file(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    let mut buf = [0; 8];
    assert_eq!(file.read_at(&mut buf, 1).unwrap(), 2);
    assert_eq!(&buf[..2], b"bc");
    assert_eq!(file.read_at(&mut buf, 3).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
    let short = file.read_exact_at(&mut buf, 1).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
}

fn a_gap_reads_as_zeros(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.write_all_at(b"x", 10_000).unwrap();
    let mut buf = [1; 10_001];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert!(buf[..10_000].iter().all(|byte| *byte == 0));
    assert_eq!(buf[10_000], b'x');
}

fn a_missing_file_is_not_found(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("missing");
    let failures = [
        disk.open(&path, OpenMode::Read).map(|_| ()),
        disk.open(&path, OpenMode::ReadWrite).map(|_| ()),
        disk.open(&path.join("f"), OpenMode::Create).map(|_| ()),
        disk.remove(&path),
        disk.list(&path).map(|_| ()),
        disk.rename(&path, &dir.join("other")),
        disk.remove_dir(&path),
        disk.sync_dir(&path),
    ];
    for failure in failures {
        assert_eq!(failure.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(!disk.exists(&path));
}

fn create_keeps_what_is_there(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    let again = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    assert_eq!(again.len().unwrap(), 3);
}

fn a_handle_for_reading_does_not_write(disk: &dyn Disk, dir: &Path) {
    disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    let file = disk.open(&dir.join("f"), OpenMode::Read).unwrap();
    assert!(file.write_all_at(b"abc", 0).is_err());
    assert!(file.set_len(5).is_err());
    assert_eq!(file.len().unwrap(), 0);
}

fn cutting_and_extending_leaves_zeros(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.write_all_at(&[7; 10_000], 0).unwrap();
    file.set_len(5_000).unwrap();
    assert_eq!(file.len().unwrap(), 5_000);
    file.set_len(9_000).unwrap();
    let mut buf = vec![1; 9_000];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert!(buf[..5_000].iter().all(|byte| *byte == 7));
    assert!(buf[5_000..].iter().all(|byte| *byte == 0));
}

fn reserved_room_reads_as_zeros(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.reserve(1 << 20).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    let mut buf = [1; 100];
    file.read_exact_at(&mut buf, (1 << 20) - 100).unwrap();
    assert_eq!(buf, [0; 100]);
}

fn reserving_keeps_what_is_written(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.write_all_at(&[7; 5_000], 0).unwrap();
    file.reserve(0).unwrap();
    file.reserve(1_000).unwrap();
    assert_eq!(file.len().unwrap(), 5_000);
    file.reserve(6_000).unwrap();
    let mut buf = [1; 6_000];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert!(buf[..5_000].iter().all(|byte| *byte == 7));
    assert!(buf[5_000..].iter().all(|byte| *byte == 0));
}

fn rename_replaces(disk: &dyn Disk, dir: &Path) {
    let (new, old) = (dir.join("new"), dir.join("old"));
    let file = disk.open(&new, OpenMode::Create).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    let file = disk.open(&old, OpenMode::Create).unwrap();
    file.write_all_at(b"older", 0).unwrap();
    disk.rename(&new, &old).unwrap();
    disk.sync_dir(dir).unwrap();
    assert!(!disk.exists(&new));
    let renamed = disk.open(&old, OpenMode::Read).unwrap();
    assert_eq!(renamed.len().unwrap(), 3);
}

fn an_open_file_outlives_its_name(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    disk.remove(&path).unwrap();
    assert!(!disk.exists(&path));
    let mut buf = [0; 3];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abc");
    let another = disk.open(&path, OpenMode::Create).unwrap();
    assert!(another.is_empty().unwrap());
}

fn a_listing_is_sorted(disk: &dyn Disk, dir: &Path) {
    for name in ["b", "a", "10", "9"] {
        let file = disk.open(&dir.join(name), OpenMode::Create).unwrap();
        file.set_len(7).unwrap();
    }
    disk.create_dir_all(&dir.join("c")).unwrap();
    let entries = disk.list(dir).unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["10", "9", "a", "b", "c"]);
    for entry in &entries {
        assert_eq!(entry.is_dir, entry.name == "c");
        assert!(entry.is_dir || entry.len == 7);
    }
}

fn only_empty_directories_go(disk: &dyn Disk, dir: &Path) {
    let inner = dir.join("inner");
    disk.create_dir_all(&inner).unwrap();
    disk.open(&inner.join("f"), OpenMode::Create).unwrap();
    let refused = disk.remove_dir(&inner).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DirectoryNotEmpty);
    disk.remove(&inner.join("f")).unwrap();
    disk.remove_dir(&inner).unwrap();
    assert!(!disk.exists(&inner));
}

fn directories_are_created_with_their_parents(disk: &dyn Disk, dir: &Path) {
    let deep = dir.join("a/b/c");
    disk.create_dir_all(&deep).unwrap();
    disk.create_dir_all(&deep).unwrap();
    assert!(disk.exists(&deep));
    disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    assert!(disk.create_dir_all(&dir.join("f")).is_err());
    assert!(disk.create_dir_all(&dir.join("f/g")).is_err());
}

fn a_lock_excludes_until_it_is_dropped(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("lock");
    let held = disk.lock(&path).unwrap();
    assert_eq!(disk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    disk.lock(&dir.join("other")).unwrap();
    drop(held);
    disk.lock(&path).unwrap();
}

fn a_refused_lock_leaves_the_first_one_in_force(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("lock");
    let _held = disk.lock(&path).unwrap();
    for _ in 0..3 {
        assert_eq!(disk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

fn there_is_room(disk: &dyn Disk, dir: &Path) {
    let space = disk.space(dir).unwrap();
    assert!(
        0 < space.free_bytes && space.free_bytes <= space.total_bytes,
        "{space:?}"
    );
}

fn reading_without_waiting_gives_the_same_bytes(disk: &dyn Disk, dir: &Path) {
    let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
    file.write_all_at(&[7; 8192], 0).unwrap();
    file.sync_data().unwrap();
    file.advise_cold(0..8192);
    let mut buf = [0; 8192];
    match file.read_at_nowait(&mut buf, 0) {
        Ok(count) => assert!(count > 0 && buf[..count].iter().all(|byte| *byte == 7)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    assert_eq!(file.read_at_nowait(&mut buf, 8192).unwrap(), 0);
}

/// Java's FileChannel takes record locks; a lock of any other kind would not be seen by a Java broker.
#[cfg(target_os = "linux")]
#[test]
fn the_real_lock_is_a_record_lock() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let _held = RealDisk.lock(&path).unwrap();
    // A second try must not take the first one's lock away by closing its own descriptor.
    RealDisk.lock(&path).unwrap_err();
    let inode = std::fs::metadata(&path).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let ours = locks
        .lines()
        .find(|line| line.contains(&format!(":{inode} 0 ")));
    assert!(
        ours.is_some_and(|line| line.contains("POSIX") && line.contains("WRITE")),
        "{ours:?}"
    );
}
