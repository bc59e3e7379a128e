//! Which messages a consumer wants.

use std::sync::Arc;

use protocol::body::SubscriptionData;
use protocol::code::ResponseCode;
use protocol::{properties, record, tags};

use super::check::{check_kind, may_filter_by, unreadable};
use crate::call::Refusal;
use crate::filters;
use crate::{Broker, BrokerKeys};

/// Which messages a consumer wants. Tags are judged by the code in the queue's entry, and compared by the consumer itself; an
/// expression is asked of the message's properties.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Everything,
    Codes(Vec<i32>),
    Subscribed(Arc<SubscriptionData>),
    /// An expression that a heartbeat brought.
    Expression(Arc<filter::Filter>),
    /// An expression that the pull itself brought.
    OwnExpression(Arc<filter::Filter>),
    /// What the group wants of the topic that a message was sent to first. Java 5.3: `ExpressionForRetryMessageFilter`.
    OfRealTopic(String),
}

impl Filter {
    pub(crate) fn of_subscription(subscription: &Arc<SubscriptionData>) -> Result<Filter, Refusal> {
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

    /// `*`, or tags joined by `||`.
    pub(crate) fn of_expression(expression: &str) -> Result<Filter, Refusal> {
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

    /// What a request brings itself: tags, or an expression of the kind `kind`.
    pub(crate) fn of_request(
        broker: &Broker,
        keys: &BrokerKeys,
        kind: &str,
        expression: &str,
    ) -> Result<Filter, Refusal> {
        if filters::is_by_tag(kind) {
            return Filter::of_expression(expression);
        }
        if !expression.is_empty() {
            may_filter_by(keys, kind)?;
        }
        check_kind(kind)?;
        // Java 5.3 does not look at what compiling gave, and hands out everything.
        let filter = broker.filters.compile(expression).map_err(unreadable)?;
        Ok(Filter::OwnExpression(filter))
    }

    /// Whether the entry of a message does not rule it out.
    pub(crate) fn takes(&self, tags_code: i64) -> bool {
        // As in Java, only the lower half is compared: the code of a tag is an int.
        let code = tags_code as i32;
        match self {
            Filter::Everything
            | Filter::Expression(_)
            | Filter::OwnExpression(_)
            | Filter::OfRealTopic(_) => true,
            Filter::Codes(codes) => codes.contains(&code),
            Filter::Subscribed(subscription) => subscription.code_set.contains(&code),
        }
    }

    /// Whether the message itself is asked.
    pub(crate) fn reads_messages(&self) -> bool {
        matches!(
            self,
            Filter::Expression(_) | Filter::OwnExpression(_) | Filter::OfRealTopic(_)
        )
    }

    /// Asks a message that its entry did not rule out.
    pub(crate) fn takes_record(&self, broker: &Broker, bytes: &[u8]) -> bool {
        // Whoever handed it out has decoded it or wrote it.
        let properties = record::peek_properties(bytes).unwrap_or_default();
        match self {
            Filter::Everything | Filter::Codes(_) | Filter::Subscribed(_) => true,
            Filter::Expression(filter) | Filter::OwnExpression(filter) => filter.takes(properties),
            Filter::OfRealTopic(group) => properties::get(properties, properties::RETRY_TOPIC)
                .and_then(|topic| broker.filters.get(group, topic))
                .is_none_or(|registered| registered.filter.takes(properties)),
        }
    }

    /// Memory that lives no longer than this filter, in bytes.
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Filter::Everything | Filter::Subscribed(_) | Filter::Expression(_) => 0,
            Filter::Codes(codes) => size_of_val(&**codes),
            // Others may share it, and then it is counted too often.
            Filter::OwnExpression(filter) => filter.bytes(),
            Filter::OfRealTopic(group) => group.len(),
        }
    }
}
