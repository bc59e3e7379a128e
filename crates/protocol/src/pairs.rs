//! Lists of names and values in which of equal names the last one counts.

use std::collections::HashMap;
use std::hash::Hash;

/// Up to this many pairs a walk through the list is quicker than a table, and most lists stay below.
const WALK_MAX: usize = 32;

/// The pairs with one value a name: the last value, at the place of the first. Takes linear time whatever comes from the
/// network; a walk for each name of a header full of tiny fields would take hours.
pub(crate) fn collect_last<N: Eq + Hash + Clone, V>(
    entries: impl IntoIterator<Item = (N, V)>,
) -> Vec<(N, V)> {
    let mut pairs: Vec<(N, V)> = Vec::new();
    let mut places: HashMap<N, usize> = HashMap::new();
    for (name, value) in entries {
        if pairs.len() == WALK_MAX && places.is_empty() {
            places.extend(
                pairs
                    .iter()
                    .enumerate()
                    .map(|(place, (name, _))| (name.clone(), place)),
            );
        }
        let place = match places.is_empty() {
            true => pairs.iter().position(|(known, _)| *known == name),
            false => places.get(&name).copied(),
        };
        match place {
            Some(place) => pairs[place].1 = value,
            None => {
                if !places.is_empty() {
                    places.insert(name.clone(), pairs.len());
                }
                pairs.push((name, value));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_at_the_first_place() {
        for distinct in [3, WALK_MAX - 1, WALK_MAX, WALK_MAX + 1, 1_000] {
            let entries = (0..2 * distinct).map(|number| (number % distinct, number));
            let want: Vec<_> = (0..distinct)
                .map(|number| (number, number + distinct))
                .collect();
            assert_eq!(collect_last(entries), want);
        }
    }
}
