//! Text of a tree parses to the same tree; no text panics.

use filter::{Comparison, Expression, Filter, Search, parse};
use proptest::prelude::*;

fn operand() -> impl Strategy<Value = Expression> {
    prop_oneof![
        "[a-c]".prop_map(Expression::Property),
        (0..9_u64).prop_map(Expression::Whole),
        (0.0..9.0).prop_map(Expression::Decimal),
    ]
}

fn condition() -> impl Strategy<Value = Expression> {
    use Comparison::*;
    let how = prop::sample::select(vec![
        Equal,
        Unequal,
        Greater,
        GreaterOrEqual,
        Less,
        LessOrEqual,
    ]);
    let place = prop::sample::select(vec![Search::Anywhere, Search::Start, Search::End]);
    let leaf = prop_oneof![
        (how, operand(), operand()).prop_map(|(how, l, r)| Expression::Compare(
            how,
            Box::new(l),
            Box::new(r)
        )),
        (operand(), any::<bool>()).prop_map(|(x, not)| Expression::IsNull(Box::new(x), not)),
        (
            "[a-c]",
            prop::collection::vec("[a-z']{0,3}", 1..7),
            any::<bool>()
        )
            .prop_map(|(name, texts, not)| Expression::In(name, texts, not)),
        (place, operand(), "[a-z']{0,3}", any::<bool>())
            .prop_map(|(place, x, text, not)| Expression::Search(place, Box::new(x), text, not)),
        (operand(), "[a%_]{0,4}", any::<bool>()).prop_map(|(x, text, not)| Expression::Like(
            Box::new(x),
            text,
            Some('!'),
            not
        )),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Or),
            inner.prop_map(|x| Expression::Not(Box::new(x))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(tree in condition()) {
        prop_assert_eq!(parse(&tree.to_string()), Ok(tree));
    }

    #[test]
    fn no_text_panics(text in "[a-c0-9 '()<>=.%,*/-]{0,40}|(NOT |a |= |IN |\\(|'b' |\\)|LIKE |AND |1 |BETWEEN |IS |NULL ){0,12}|\\PC{0,30}") {
        if let Ok(filter) = Filter::compile(&text) {
            filter.takes("a\u{1}1\u{2}b\u{1}x\u{2}");
        }
    }
}
