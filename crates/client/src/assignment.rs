//! Which consumer of a group takes which queues. Every member computes it alone from the same sorted lists, so all
//! agree without talking to each other.

/// Gives `me` its share of `queues`: contiguous runs, the first members one queue longer when it does not divide.
///
/// `members` and `queues` must be sorted in the same way by every member. A member that is not listed gets nothing.
/// Source of the rule: Java 5.3.3: `AllocateMessageQueueAveragely`, so that Java and Rust consumers can share a group.
pub fn allocate_averagely<Q: Clone>(me: &str, members: &[String], queues: &[Q]) -> Vec<Q> {
    let Some(position) = members.iter().position(|member| member == me) else {
        return Vec::new();
    };
    let share = queues.len() / members.len();
    let longer = queues.len() % members.len();
    let start = position * share + position.min(longer);
    let count = share + usize::from(position < longer);
    queues[start..start + count].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("c{i}")).collect()
    }

    #[test]
    fn every_queue_goes_to_exactly_one_member() {
        for queue_count in 0..20 {
            for member_count in 1..8 {
                let queues: Vec<usize> = (0..queue_count).collect();
                let all = members(member_count);
                let mut taken: Vec<usize> = all
                    .iter()
                    .flat_map(|m| allocate_averagely(m, &all, &queues))
                    .collect();
                taken.sort_unstable();
                assert_eq!(
                    taken, queues,
                    "{queue_count} queues, {member_count} members"
                );
            }
        }
    }

    #[test]
    fn shares_are_contiguous_and_the_first_are_longer() {
        let all = members(3);
        let queues: Vec<usize> = (0..8).collect();
        assert_eq!(allocate_averagely("c0", &all, &queues), [0, 1, 2]);
        assert_eq!(allocate_averagely("c1", &all, &queues), [3, 4, 5]);
        assert_eq!(allocate_averagely("c2", &all, &queues), [6, 7]);
    }

    #[test]
    fn an_unlisted_member_gets_nothing() {
        assert!(allocate_averagely("x", &members(2), &[1, 2, 3]).is_empty());
    }
}
