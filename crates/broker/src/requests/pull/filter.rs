//! Which messages a consumer wants.

use std::sync::Arc;

use protocol::body::SubscriptionData;
use protocol::code::ResponseCode;
use protocol::tags;

use crate::call::Refusal;

/// Which messages a consumer wants, by the tags code of their entries. The consumer compares the tags themselves.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    Everything,
    Codes(Vec<i32>),
    Subscribed(Arc<SubscriptionData>),
}

impl Filter {
    pub(super) fn of_subscription(subscription: &Arc<SubscriptionData>) -> Result<Filter, Refusal> {
        if subscription.class_filter_mode {
            return Ok(Filter::Everything);
        }
        // Some clients leave it to the broker to hash the tags.
        if subscription.code_set.is_empty() {
            return Filter::of_expression(&subscription.sub_string);
        }
        Ok(if subscription.sub_string == "*" {
            Filter::Everything
        } else {
            Filter::Subscribed(subscription.clone())
        })
    }

    pub(super) fn of_expression(expression: &str) -> Result<Filter, Refusal> {
        if matches!(expression, "" | "*") {
            return Ok(Filter::Everything);
        }
        if expression.bytes().all(|byte| byte == b'|') {
            return Err(Refusal::new(
                ResponseCode::SUBSCRIPTION_PARSE_FAILED,
                "parse the consumer's subscription failed",
            ));
        }
        Ok(Filter::Codes(
            tags::split_expression(expression)
                .into_iter()
                .map(tags::hash_code)
                .collect(),
        ))
    }

    pub(super) fn takes(&self, tags_code: i64) -> bool {
        // As in Java, only the lower half is compared: the code of a tag is an int.
        let code = tags_code as i32;
        match self {
            Filter::Everything => true,
            Filter::Codes(codes) => codes.contains(&code),
            Filter::Subscribed(subscription) => subscription.code_set.contains(&code),
        }
    }
}
