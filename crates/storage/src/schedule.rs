//! Delay levels: how long a message of level n waits. The consume queue of the schedule topic holds the deliver time in place of the tags code.

use crate::error::OpenError;

/// Waiting times in milliseconds, level 1 first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DelayLevels(Vec<i64>);

/// Levels at most. Each is a queue of the schedule topic that somebody has to follow.
const LEVELS_MAX: usize = 256;

impl DelayLevels {
    /// Reads `1s 5s 2m 1h 1d`.
    pub(crate) fn parse(text: &str) -> Result<DelayLevels, OpenError> {
        let mut levels = Vec::new();
        for word in text.split_whitespace() {
            let level = word.char_indices().next_back().and_then(|(at, unit)| {
                let unit_ms = match unit {
                    's' => 1000,
                    'm' => 60 * 1000,
                    'h' => 60 * 60 * 1000,
                    'd' => 24 * 60 * 60 * 1000,
                    _ => return None,
                };
                let number = word[..at].parse::<i64>().ok()?;
                number.checked_mul(unit_ms).filter(|ms| *ms >= 0)
            });
            let invalid = || {
                OpenError::Configuration(format!(
                    "messageDelayLevel: {word:?} is not a number with one of the units s, m, h, d"
                ))
            };
            levels.push(level.ok_or_else(invalid)?);
        }
        if levels.is_empty() || levels.len() > LEVELS_MAX {
            return Err(OpenError::Configuration(format!(
                "messageDelayLevel names {} levels; 1 to {LEVELS_MAX} are possible",
                levels.len()
            )));
        }
        Ok(DelayLevels(levels))
    }

    /// The waiting times, level 1 first. There is at least one.
    pub(crate) fn all_ms(&self) -> &[i64] {
        &self.0
    }

    /// How long a message with this `DELAY` property waits; None when the text names no level. A level beyond the last counts as the last.
    pub(crate) fn delay_ms(&self, level: &str) -> Option<i64> {
        let level = level.parse::<i32>().ok().filter(|level| *level > 0)?;
        let index = (level as usize).min(self.0.len()) - 1;
        self.0.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_beyond_the_last_wait_like_the_last() {
        let levels = DelayLevels::parse("1s 2m 1h 1d").unwrap();
        assert_eq!(levels.delay_ms("1"), Some(1000));
        assert_eq!(levels.delay_ms("2"), Some(120_000));
        assert_eq!(levels.delay_ms("4"), Some(86_400_000));
        assert_eq!(levels.delay_ms("99"), Some(86_400_000));
        assert_eq!(levels.delay_ms("0"), None);
        assert_eq!(levels.delay_ms("x"), None);
        assert!(DelayLevels::parse("1s 5x").is_err());
        assert!(DelayLevels::parse("1s -5s").is_err());
        assert!(DelayLevels::parse(" ").is_err());
        assert!(DelayLevels::parse(&"1s ".repeat(LEVELS_MAX + 1)).is_err());
        assert!(DelayLevels::parse("é").is_err());
    }
}
