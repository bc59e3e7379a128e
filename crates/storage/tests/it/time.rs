//! Searching by time.

use std::time::Duration;

use storage::Boundary;

use crate::support::*;

#[test]
fn offsets_are_found_by_time() {
    let mut home = Home::new();
    let clock = home.manual_clock(1000);
    let store = home.open();
    // Offsets 0..10 at 1000, 10..20 at 3000, 20..30 at 5000.
    for round in 0..3 {
        append_numbered(&store, "T", round * 10, 10, 1);
        clock.advance(Duration::from_millis(2000));
    }
    let find = |timestamp, boundary| store.offset_by_time("T", 0, timestamp, boundary).unwrap();
    assert_eq!(find(0, Boundary::Lower), 0);
    assert_eq!(find(1000, Boundary::Lower), 0);
    assert_eq!(find(1001, Boundary::Lower), 10);
    assert_eq!(find(3000, Boundary::Lower), 10);
    assert_eq!(find(4000, Boundary::Lower), 20);
    assert_eq!(find(5001, Boundary::Lower), 30);
    assert_eq!(find(0, Boundary::Upper), 0);
    assert_eq!(find(1000, Boundary::Upper), 9);
    assert_eq!(find(2000, Boundary::Upper), 9);
    assert_eq!(find(3000, Boundary::Upper), 19);
    assert_eq!(find(9000, Boundary::Upper), 29);
    assert_eq!(store.earliest_store_time("T", 0), Some(1000));
    assert_eq!(store.store_time("T", 0, 15), Some(3000));
    assert_eq!(store.store_time("T", 0, 30), None);
    assert_eq!(
        store
            .offset_by_time("absent", 0, 5, Boundary::Lower)
            .unwrap(),
        0
    );
    let range = |begin, end| {
        store
            .query_by_key("T", "k15", 9, begin, end)
            .unwrap()
            .records
            .len()
    };
    assert_eq!(
        (range(0, 2999), range(3000, 3000), range(3001, 9000)),
        (0, 1, 0)
    );
    store.close();
    let store = home.open();
    let range = |begin, end| {
        store
            .query_by_key("T", "k15", 9, begin, end)
            .unwrap()
            .records
            .len()
    };
    assert_eq!(
        (range(0, 2999), range(3000, 3000), range(3001, 9000)),
        (0, 1, 0)
    );
}

#[test]
fn store_time_never_goes_back() {
    let mut home = Home::new();
    let clock = home.manual_clock(10_000);
    let store = home.open();
    append_numbered(&store, "T", 0, 1, 1);
    clock.set_wall(4_000);
    let second = append_numbered(&store, "T", 1, 1, 1)[0];
    assert_eq!(second.store_timestamp_ms, 10_000);
    store.close();
    assert_eq!(
        append_numbered(&home.open(), "T", 2, 1, 1)[0].store_timestamp_ms,
        10_000
    );
}
