//! The known key that is most like an unknown one.

use crate::keys::KeySet;
use crate::known;

/// Keys further away than this share of their length are no suggestion.
const DISTANCE_SHARE_MAX: usize = 3;

/// The nearest key by edits; a key with an effect wins over one without.
pub(crate) fn nearest(wanted: &str, keys: &dyn KeySet) -> Option<String> {
    let own: Vec<&'static str> = keys.keys().iter().map(|key| key.name).collect();
    let limit = wanted.len() / DISTANCE_SHARE_MAX;
    own.into_iter()
        .chain(known::all())
        .map(|name| (distance(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, name)| name.to_owned())
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            let replaced = previous[j] + usize::from(x != y);
            current.push(replaced.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
