//! Sends that name a deliver time. Java 5.3: `HookUtils.transformTimerMessage`, `SendMessageProcessor.attachRecallHandle`.

use std::ops::Range;

use protocol::code::ResponseCode;
use protocol::{recall, topic};

use super::properties::{NotATime, Scan};
use crate::Broker;
use crate::call::Refusal;
use crate::settings::Settings;

/// When a message that names a time is delivered; none when that is at once.
pub(super) fn due_ms(
    broker: &Broker,
    settings: &Settings,
    scan: &Scan<'_>,
) -> Result<Option<i64>, Refusal> {
    let now_ms = broker.now_ms();
    let at_ms = scan.deliver_at_ms(now_ms).map_err(|error| match error {
        NotATime::NotANumber => illegal("the delay or the deliver time is no number"),
        NotATime::Negative => illegal("the delay or the deliver time is negative"),
    })?;
    let Some(at_ms) = at_ms else {
        // An order to drop a message would be delivered as one.
        return if scan.drops_timer {
            Err(illegal(
                "an order to delete a message (TIMER_DEL_UNIQKEY) needs that message's deliver time in TIMER_DELIVER_MS",
            ))
        } else {
            Ok(None)
        };
    };
    if broker.timers.is_none() {
        return Err(Refusal::system_error(
            "accurate timer message is not enabled, timerWheelEnable is false",
        ));
    }
    let delay_ms_max = settings.keys.timer_max_delay_sec.saturating_mul(1000);
    let is_over = at_ms <= now_ms;
    if at_ms.saturating_sub(now_ms) > i64::try_from(delay_ms_max).unwrap_or(i64::MAX)
        || (is_over && scan.drops_timer)
    {
        return Err(illegal(&format!(
            "the delay time should not be bigger than the max delay {delay_ms_max}ms; or if set del msg, the delay time should be bigger than the current time"
        )));
    }
    Ok((!is_over).then_some(at_ms))
}

fn illegal(reason: &str) -> Refusal {
    Refusal::new(
        ResponseCode::MESSAGE_ILLEGAL,
        format!("timer message illegal, {reason}"),
    )
}

/// Appends the handle by which the message can be taken back. Messages of retry topics have none. Java adds one, for it cuts the time to a tick.
pub(super) fn push_handle(
    broker: &Broker,
    text: &mut String,
    name: &str,
    due_ms: i64,
    unique_id: &str,
) -> Range<usize> {
    let start = text.len();
    if !name.starts_with(topic::RETRY_PREFIX) {
        text.push_str(&recall::encode(
            name,
            &broker.identity().name,
            due_ms.saturating_add(1),
            unique_id,
        ));
    }
    start..text.len()
}
