//! Whether the store takes writes, and if not, why.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::AppendError;
use crate::stats::WriteState;

/// The reasons against writing. A failure is for good, a full disk is not.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// False in the normal case, so that an append looks at one flag.
    refused: AtomicBool,
    no_space_flag: AtomicBool,
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default, Clone)]
struct Reasons {
    closed: bool,
    failed: Option<String>,
    /// The disk is fuller than the configured limit: appends are refused.
    too_full: Option<String>,
    /// The last attempt to get space failed: appends try again.
    no_space: Option<String>,
}

impl Health {
    pub(crate) fn check_writable(&self) -> Result<(), AppendError> {
        if !self.refused.load(Ordering::Acquire) {
            return Ok(());
        }
        let reasons = self.reasons();
        if let Some(reason) = &reasons.failed {
            return Err(AppendError::Failed {
                reason: reason.clone(),
            });
        }
        if reasons.closed {
            return Err(AppendError::Closed);
        }
        match &reasons.too_full {
            Some(reason) => Err(AppendError::DiskFull {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn write_state(&self) -> WriteState {
        let reasons = self.reasons();
        if let Some(reason) = &reasons.failed {
            WriteState::Failed {
                reason: reason.clone(),
            }
        } else if reasons.closed {
            WriteState::Closed
        } else if let Some(reason) = reasons.too_full.as_ref().or(reasons.no_space.as_ref()) {
            WriteState::DiskFull {
                reason: reason.clone(),
            }
        } else {
            WriteState::Writable
        }
    }

    pub(crate) fn failure(&self) -> Option<String> {
        if !self.refused.load(Ordering::Acquire) {
            return None;
        }
        self.reasons().failed.clone()
    }

    /// True when it is the first failure; only that one is kept.
    pub(crate) fn fail(&self, reason: &str) -> bool {
        let mut reasons = self.reasons();
        let first = reasons.failed.is_none();
        if first {
            reasons.failed = Some(reason.to_owned());
        }
        self.refused.store(true, Ordering::Release);
        first
    }

    pub(crate) fn close(&self) {
        self.reasons().closed = true;
        self.refused.store(true, Ordering::Release);
    }

    /// Sets or clears the refusal by the configured limit. True when that changed something.
    pub(crate) fn set_too_full(&self, reason: Option<&str>) -> bool {
        let mut reasons = self.reasons();
        let changed = reasons.too_full.is_some() != reason.is_some();
        reasons.too_full = reason.map(str::to_owned);
        let refused = reasons.closed || reasons.failed.is_some() || reasons.too_full.is_some();
        self.refused.store(refused, Ordering::Release);
        changed
    }

    /// Notes that the system had no space, or that it has again.
    pub(crate) fn set_no_space(&self, reason: Option<&str>) {
        if reason.is_none() && !self.no_space_flag.load(Ordering::Relaxed) {
            return;
        }
        self.no_space_flag
            .store(reason.is_some(), Ordering::Relaxed);
        self.reasons().no_space = reason.map(str::to_owned);
    }

    fn reasons(&self) -> std::sync::MutexGuard<'_, Reasons> {
        self.reasons
            .lock()
            .expect("no code panics while it changes the reasons")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_passes_and_a_failure_stays() {
        let health = Health::default();
        assert_eq!(health.write_state(), WriteState::Writable);
        assert!(health.set_too_full(Some("95 %")));
        assert!(matches!(
            health.check_writable(),
            Err(AppendError::DiskFull { .. })
        ));
        assert!(health.set_too_full(None));
        assert!(health.check_writable().is_ok());
        health.set_no_space(Some("ENOSPC"));
        assert!(
            health.check_writable().is_ok(),
            "the next append tries again"
        );
        assert!(matches!(health.write_state(), WriteState::DiskFull { .. }));
        health.set_no_space(None);
        assert!(health.fail("EIO"));
        assert!(!health.fail("later"));
        health.set_too_full(None);
        assert!(
            matches!(health.check_writable(), Err(AppendError::Failed { reason }) if reason == "EIO")
        );
    }
}
