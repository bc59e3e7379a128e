//! Blocks of the log that are written before their records come.

use std::sync::Arc;

use platform::disk::{Operation, RealDisk, RecordingDisk};
use storage::{FlushMode, Store};

use crate::support::{Home, append, append_numbered, check_numbered, eventually, flush, message};

fn zeros_written(disk: &RecordingDisk) -> usize {
    let operations = disk.operations();
    operations
        .iter()
        .filter(|operation| match operation {
            Operation::Write(_, _, bytes) => bytes.len() >= 4096 && bytes.iter().all(|&b| b == 0),
            _ => false,
        })
        .count()
}

/// Syncs of a message each wait for the journal of the file system unless their blocks were written before.
#[test]
fn small_syncs_find_their_blocks_written() {
    let home = Home::with(|config| {
        config.flush = FlushMode::Sync;
        config.segment_bytes = 1 << 20;
    });
    let disk = RecordingDisk::new(Arc::new(RealDisk));
    let store = Store::open(
        home.config.clone(),
        Arc::new(disk.clone()),
        Arc::clone(&home.clock),
    )
    .unwrap();
    let mut count = 0;
    eventually("zeros ahead of the tip", || {
        append_numbered(&store, "T", count, 10, 1);
        count += 10;
        zeros_written(&disk) > 0
    });
    // Records that come behind take the place of zeros, and zeros never that of a record: batches that reach far, among small ones.
    let large = vec![b'x'; 40 << 10];
    for _ in 0..100 {
        append(&store, &[message("Large", 0, &large, "")]);
        append_numbered(&store, "T", count, 3, 1);
        count += 3;
    }
    flush(&store);
    check_numbered(&store, "T", count, 1);
    drop(store);
    check_numbered(&home.open(), "T", count, 1);
}

/// Without a wait for syncs there is nothing to gain.
#[test]
fn nothing_is_written_ahead_without_a_wait_for_syncs() {
    let home = Home::with(|config| config.segment_bytes = 1 << 20);
    let disk = RecordingDisk::new(Arc::new(RealDisk));
    let store = Store::open(
        home.config.clone(),
        Arc::new(disk.clone()),
        Arc::clone(&home.clock),
    )
    .unwrap();
    for round in 0..20 {
        append_numbered(&store, "T", round * 10, 10, 1);
        flush(&store);
    }
    store.close();
    assert_eq!(zeros_written(&disk), 0);
}
