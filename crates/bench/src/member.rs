//! A client of a consumer group: what its heartbeat says holds while its connection is open.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use protocol::body::{ConsumeFromWhere, ConsumerData, HeartbeatData, SubscriptionData};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::json;

use crate::wire::Session;
use crate::workloads::run_number;

/// Leaves its group when dropped, as a client that dies does.
pub(crate) struct Member {
    pub(crate) client_id: String,
    pub(crate) session: Session,
}

impl Member {
    /// Joins with one subscription.
    ///
    /// # Errors
    /// When the broker refuses the subscription: brokers with `enablePropertyFilter=false` do so with `SQL92`.
    pub(crate) fn join(
        target: SocketAddr,
        group: &str,
        topic: &str,
        expression_type: &str,
        expression: &str,
    ) -> Result<Self> {
        let mut session = Session::open(target)?;
        let run = run_number();
        let client_id = format!("bench@{run:08X}");
        let data = HeartbeatData {
            client_id: client_id.clone(),
            consumer_data_set: vec![ConsumerData {
                consume_from_where: ConsumeFromWhere::FirstOffset,
                group_name: group.to_owned(),
                subscription_data_set: vec![SubscriptionData {
                    expression_type: expression_type.to_owned(),
                    sub_string: expression.to_owned(),
                    // A later run replaces what an earlier one said.
                    sub_version: i64::from(run) << 8,
                    topic: topic.to_owned(),
                    ..SubscriptionData::default()
                }],
                ..ConsumerData::default()
            }],
            ..HeartbeatData::default()
        };
        let heartbeat =
            Command::request(RequestCode::HEART_BEAT, &()).with_body(json::encode(&data));
        let answer = session.call(heartbeat)?;
        ensure!(
            answer.response_code() == ResponseCode::SUCCESS,
            "the heartbeat of group {group} was answered {} {}",
            answer.response_code(),
            answer.remark.unwrap_or_default()
        );
        Ok(Self { client_id, session })
    }
}
