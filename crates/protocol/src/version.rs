//! Version numbers of RocketMQ as clients send them: ordinals of one list to which each release adds two entries.

/// What this server calls itself: the ordinal of Java 5.3.3 and 5.3.4, which share it.
pub const CURRENT: i32 = 479;
/// Before Java 3.0.7, the first client that can be told to reset its offsets, and asked for them.
pub const V3_0_7_SNAPSHOT: i32 = 28;
/// Before Java 3.1.8, the first client that tells of its inside and consumes a message on demand.
pub const V3_1_8_SNAPSHOT: i32 = 62;
/// Java 3.4.9, the first that honours `maxReconsumeTimes`.
pub const V3_4_9: i32 = 121;
/// Java 4.9.0.
pub const V4_9_0: i32 = 393;
/// Java 4.9.3.
pub const V4_9_3: i32 = 399;
/// Java 4.9.4, the first client that reads standard JSON in routes.
pub const V4_9_4: i32 = 401;
/// Java 4.9.8.
pub const V4_9_8: i32 = 409;
/// Java 5.0.0, the first broker whose registration carries queue mappings.
pub const V5_0_0: i32 = 413;
/// Java 5.1.0.
pub const V5_1_0: i32 = 433;
/// Java 5.2.0.
pub const V5_2_0: i32 = 453;
/// Java 5.3.0.
pub const V5_3_0: i32 = 473;
/// Java 5.3.1; clients above it understand GO_AWAY.
pub const V5_3_1: i32 = 475;
/// Java 5.3.3.
pub const V5_3_3: i32 = 479;
/// The entry of 5.3.4 in the list, although its release still sends 479.
pub const V5_3_4: i32 = 481;
/// Java 5.4.0.
pub const V5_4_0: i32 = 493;

/// The name of an ordinal that this page knows, for people; else its number.
pub fn describe(version: i32) -> String {
    match name(version) {
        Some(name) => name,
        None => version.to_string(),
    }
}

/// From 4.0.0 on the list is regular: ten patch numbers a minor, a snapshot before each release.
fn name(version: i32) -> Option<String> {
    const V4_0_0_SNAPSHOT: i32 = 212;
    const V5_0_0_SNAPSHOT: i32 = 412;
    if !(V4_0_0_SNAPSHOT..V5_0_0_SNAPSHOT + 200).contains(&version) {
        return None;
    }
    let (major, steps) = match version {
        V5_0_0_SNAPSHOT.. => (5, version - V5_0_0_SNAPSHOT),
        _ => (4, version - V4_0_0_SNAPSHOT),
    };
    let (release, snapshot) = (steps / 2, steps % 2 == 0);
    Some(format!(
        "V{major}_{}_{}{}",
        release / 10,
        release % 10,
        if snapshot { "_SNAPSHOT" } else { "" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_list() {
        for (version, want) in [
            (V4_9_4, "V4_9_4"),
            (CURRENT, "V5_3_3"),
            (V5_4_0, "V5_4_0"),
            (212, "V4_0_0_SNAPSHOT"),
            (63, "63"),
        ] {
            assert_eq!(describe(version), want);
        }
    }
}
