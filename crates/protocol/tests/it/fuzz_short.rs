//! A short form of the fuzzers that runs with every test: golden bytes, mutated, and bytes of no sense at all.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::fixture::{GOLDEN, golden};
use crate::fuzz_targets::TARGETS;

/// Each target gets this long, or `ROUNDS_MAX` inputs.
const TIME_PER_TARGET: Duration = Duration::from_millis(400);
const ROUNDS_MAX: u64 = 200_000;

/// A small generator of its own, so that a round can be named by its number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A few changes of the kinds that find mistakes in parsers.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const INTERESTING: [u8; 14] = [
        0, 1, 2, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'}', b'[', b',', b'u', b'-',
    ];
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = INTERESTING[random.below(INTERESTING.len())],
            2 => input.insert(at, INTERESTING[random.below(INTERESTING.len())]),
            3 => input.truncate(at),
            4 => {
                let from = random.below(other.len());
                let length = random.below(other.len() - from);
                let end = input.len();
                input.splice(at..end, other[from..from + length].iter().copied());
            }
            _ => {
                let length = random.below(8).min(input.len() - at);
                input.drain(at..at + length);
            }
        }
    }
}

#[test]
fn mutated_golden_bytes_never_panic() {
    let mut seeds: Vec<Vec<u8>> = GOLDEN.iter().map(|(name, _)| golden(name)).collect();
    let headers = seeds.clone();
    // Frames also without their first eight bytes, which makes them headers.
    seeds.extend(
        headers
            .into_iter()
            .filter_map(|bytes| bytes.get(8..).map(<[u8]>::to_vec)),
    );
    for (name, target) in TARGETS {
        let begun = Instant::now();
        let mut random = Random(name.len() as u64);
        for round in 0..ROUNDS_MAX {
            let mut input = seeds[random.below(seeds.len())].clone();
            let other = &seeds[random.below(seeds.len())];
            mutate(&mut input, other, &mut random);
            target(&input);
            if round % 64 == 0 && begun.elapsed() > TIME_PER_TARGET {
                break;
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        TARGETS.iter().for_each(|(_, target)| target(&bytes));
    }
}
