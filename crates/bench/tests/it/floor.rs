//! The floor program answers what the generator sends.

use std::thread;

use bench::{Codec, Floor, Load, Workload, run_workload};

use crate::server::short;

#[test]
fn the_floor_takes_sends_with_both_codecs() {
    let dir = tempfile::tempdir().unwrap();
    let floor = Floor::start(0, &dir.path().join("floor"), false).unwrap();
    let addr = floor.local_addr();
    // It serves until the test's process ends.
    thread::spawn(move || floor.serve());
    for codec in [Codec::Json, Codec::Binary] {
        let load = Load {
            codec,
            create: false,
            ..short(addr)
        };
        let report = run_workload(&load, &Workload::Send).unwrap();
        assert!(report.messages > 0 && report.is_clean(), "{report}");
        assert_eq!(report.verified.stored, None);
    }
}
