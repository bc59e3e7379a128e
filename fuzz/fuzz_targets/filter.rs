//! Fuzz target: SQL92 expressions. The text is an expression and, behind the first NUL, the properties of a message.
//!
//! What is accepted must print as a text that means the same, and no message may stop it.

#![no_main]

use filter::Filter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (expression, properties) = text.split_once('\0').unwrap_or((text, "a\u{1}1\u{2}b\u{1}x\u{2}"));
    match (filter::parse(expression), Filter::compile(expression)) {
        (Ok(tree), Ok(filter)) => {
            let printed = tree.to_string();
            // Printing adds parentheses and quotes; it may pass the bounds of a text.
            if let Ok(again) = Filter::compile(&printed) {
                assert_eq!(again.takes(properties), filter.takes(properties), "{printed}");
            }
        }
        (Err(error), Err(same)) => {
            assert_eq!(error, same);
            assert!(error.at.byte <= expression.len());
        }
        (parsed, compiled) => panic!("{parsed:?} and {compiled:?}"),
    }
});
