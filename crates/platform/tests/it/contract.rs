//! One suite of facts that every implementation of the disk trait passes.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode, RealDisk, RecordingDisk, SimulatedDisk};

fn check(disk: &dyn Disk, root: &Path) {
    files_must_exist_unless_created(disk, root);
    what_is_written_is_read(disk, root);
    holes_read_as_zeros(disk, root);
    reserved_room_reads_as_zeros_and_keeps_content(disk, root);
    entries_are_sorted(disk, root);
    rename_replaces(disk, root);
    an_open_file_outlives_its_name(disk, root);
    a_lock_has_one_holder(disk, root);
    space_is_plausible(disk, root);
}

#[test]
fn real_disk() {
    let dir = tempfile::tempdir().unwrap();
    check(&RealDisk, dir.path());
}

#[test]
fn simulated_disk() {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(Path::new("/root")).unwrap();
    check(&disk, Path::new("/root"));
}

#[test]
fn recording_disk() {
    let dir = tempfile::tempdir().unwrap();
    check(&RecordingDisk::new(Arc::new(RealDisk)), dir.path());
}

fn files_must_exist_unless_created(disk: &dyn Disk, root: &Path) {
    let path = root.join("exist");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(
            disk.open(&path, mode).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    disk.open(&path, OpenMode::Create).unwrap();
    assert!(disk.exists(&path));
    disk.open(&path, OpenMode::Read).unwrap();
    let missing_dir = root.join("nowhere/file");
    assert_eq!(
        disk.open(&missing_dir, OpenMode::Create)
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

fn what_is_written_is_read(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("written"), OpenMode::Create).unwrap();
    let bytes: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
    file.write_all_at(&bytes, 100).unwrap();
    file.write_all_at(b"xyz", 5000).unwrap();
    let mut buf = vec![0; 20_000];
    assert_eq!(file.read_at(&mut buf, 100).unwrap(), 10_000);
    assert_eq!(&buf[4900..4903], b"xyz");
    assert_eq!(buf[4903], bytes[4903]);
    assert_eq!(file.read_at(&mut buf, 10_100).unwrap(), 0);
    let mut exact = [0; 8];
    let error = file.read_exact_at(&mut exact, 10_095).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    // What was just written is in memory.
    assert_eq!(file.read_at_nowait(&mut exact, 5000).unwrap(), 8);
    assert_eq!(&exact[..3], b"xyz");
    file.sync_data().unwrap();
    file.advise_cold(0..4096);
    file.advise_read_ahead(false);
    file.advise_read_ahead(true);
}

fn holes_read_as_zeros(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("hole"), OpenMode::Create).unwrap();
    file.set_len(9000).unwrap();
    file.write_all_at(b"a", 8999).unwrap();
    assert_eq!(file.len().unwrap(), 9000);
    let mut buf = [1; 4];
    file.read_exact_at(&mut buf, 8996).unwrap();
    assert_eq!(&buf, b"\0\0\0a");
    file.set_len(10).unwrap();
    file.set_len(9000).unwrap();
    file.read_exact_at(&mut buf, 8996).unwrap();
    assert_eq!(buf, [0; 4]);
}

fn reserved_room_reads_as_zeros_and_keeps_content(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("reserved"), OpenMode::Create).unwrap();
    file.write_all_at(b"kept", 0).unwrap();
    file.reserve(100_000).unwrap();
    assert_eq!(file.len().unwrap(), 100_000);
    let mut buf = [1; 6];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"kept\0\0");
}

fn entries_are_sorted(disk: &dyn Disk, root: &Path) {
    let dir = root.join("entries");
    disk.create_dir_all(&dir.join("b")).unwrap();
    disk.open(&dir.join("c"), OpenMode::Create)
        .unwrap()
        .write_all_at(b"123", 0)
        .unwrap();
    disk.open(&dir.join("a"), OpenMode::Create).unwrap();
    let entries = disk.list(&dir).unwrap();
    let names: Vec<(&str, bool)> = entries
        .iter()
        .map(|e| (e.name.as_str(), e.is_dir))
        .collect();
    assert_eq!(names, [("a", false), ("b", true), ("c", false)]);
    assert_eq!(entries[2].len, 3);
    assert!(disk.remove_dir(&dir).is_err());
    disk.remove(&dir.join("a")).unwrap();
    disk.remove(&dir.join("c")).unwrap();
    disk.remove_dir(&dir.join("b")).unwrap();
    disk.remove_dir(&dir).unwrap();
    assert_eq!(disk.list(&dir).unwrap_err().kind(), ErrorKind::NotFound);
}

fn rename_replaces(disk: &dyn Disk, root: &Path) {
    let (from, to) = (root.join("from"), root.join("to"));
    disk.open(&from, OpenMode::Create)
        .unwrap()
        .write_all_at(b"new", 0)
        .unwrap();
    disk.open(&to, OpenMode::Create)
        .unwrap()
        .write_all_at(b"old!", 0)
        .unwrap();
    disk.rename(&from, &to).unwrap();
    disk.sync_dir(root).unwrap();
    assert!(!disk.exists(&from));
    assert_eq!(disk.open(&to, OpenMode::Read).unwrap().len().unwrap(), 3);
    assert_eq!(
        disk.rename(&from, &to).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

fn an_open_file_outlives_its_name(disk: &dyn Disk, root: &Path) {
    let path = root.join("unlinked");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    file.write_all_at(b"still", 0).unwrap();
    disk.remove(&path).unwrap();
    let mut buf = [0; 5];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"still");
    assert_eq!(disk.remove(&path).unwrap_err().kind(), ErrorKind::NotFound);
}

fn a_lock_has_one_holder(disk: &dyn Disk, root: &Path) {
    let path = root.join("lock");
    let held = disk.lock(&path).unwrap();
    assert_eq!(disk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    disk.lock(&path).unwrap();
}

fn space_is_plausible(disk: &dyn Disk, root: &Path) {
    let space = disk.space(root).unwrap();
    assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
}

/// The trait object is what the store holds.
#[allow(dead_code)]
fn is_object_safe(_: &dyn Disk, _: &dyn File) {}
