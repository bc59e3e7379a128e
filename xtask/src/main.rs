//! Automation: tests, rules, interop. `cargo xtask help` lists the verbs.

mod bench;
mod bit_flips;
mod cargo;
mod ci;
mod configuration_page;
mod crash_images;
mod fuzz;
mod instructions;
mod interop;
mod kill;
mod live;
mod overload;
mod peer;
mod report;
mod scale;
mod soak;
mod tidy;

use std::process::ExitCode;

/// `scale` with a number of topics.
fn scale_from_words(topics: &str, binary: Option<&str>) -> anyhow::Result<()> {
    scale::report(topics.parse()?, binary)
}

const HELP: &str = "\
cargo xtask VERB

  ci                     what CI runs: format, lints, documentation, rules, then `test`
  test [PART]            all tests: the crates', then the official clients and the Java server beside a live Apogee
  kill CYCLES [--seed S] [--binary PATH]
                         `kill -9` under mixed traffic, CYCLES times (`test` does 50)
  crash-images N [--seed S]
                         N power cuts at every moment of recorded traffic (`test` does 5,000)
  crash-images --journal FILE POSITION IMAGE
                         one of them again, of a recording that was kept
  bit-flips [N]          N single bits flipped in the files of a store, 30,000 unless given (`test` does 6,000)
  soak SECONDS           every kind of message at once, with a kill every twenty seconds; each is accounted for (`test` does 120);
                         --seed S, --binary PATH
  overload SECONDS       four times what a broker can take, consumers that stop reading, half frames (`test` does 10)
  fuzz SECONDS           libFuzzer over every decoder, SECONDS in all; inputs that fail stay in fuzz/artifacts
  bench [quick] [--rounds N] [--only NAME,…] [--binary PATH]
                         the load table (floor, Apogee, Java broker); the whole of it rewrites docs/benchmarks.md
  scale [TOPICS [--binary PATH]]
                         many topics (100,000 unless given) and 10,000 idle connections: creation, sends, memory, restarts
  instructions accept    the instruction counts of the hot paths become those that `test` compares with
  tidy                   the rules of the code base that a program can check
  docs-configuration     write docs/configuration.md from the declared keys (--check: only compare)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["ci"] => ci::ci(),
        ["test"] => ci::test(None),
        ["test", part] => ci::test(Some(part)),
        ["kill", cycles, rest @ ..] => kill::from_words(cycles, rest),
        ["crash-images", images] => crash_images::from_words(images, "1"),
        ["crash-images", images, "--seed", seed] => crash_images::from_words(images, seed),
        ["crash-images", "--journal", file, position, image] => {
            crash_images::again(file, position, image)
        }
        ["bit-flips"] => bit_flips::campaign(30_000),
        ["bit-flips", flips] => flips
            .parse()
            .map_err(Into::into)
            .and_then(bit_flips::campaign),
        ["soak", seconds, words @ ..] => soak::from_words(seconds, words),
        ["overload", seconds] => seconds
            .parse()
            .map_err(Into::into)
            .and_then(overload::campaign),
        ["fuzz", seconds] => seconds.parse().map_err(Into::into).and_then(fuzz::campaign),
        ["bench", rest @ ..] => bench::from_words(rest),
        ["scale"] => scale::report(100_000, None),
        ["scale", topics] => scale_from_words(topics, None),
        ["scale", topics, "--binary", path] => scale_from_words(topics, Some(path)),
        ["instructions", "accept"] => instructions::check(true).map(drop),
        ["tidy"] => ci::tidy(),
        ["docs-configuration"] => configuration_page::write(),
        ["docs-configuration", "--check"] => configuration_page::check(),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
