//! Which groups pop: what `mqadmin setConsumeMode` and `updateSubGroup` ask, of either server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::body::{
    ClusterInfo, MessageRequestMode, SetMessageRequestModeRequestBody, SubscriptionGroupConfig,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::json;
use remoting::{Client, ClientConfig, NoPushes};

const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A group that shall pop a topic.
pub(super) struct Pops {
    pub(super) topic: String,
    pub(super) group: String,
    /// How often a message may come again.
    pub(super) retries_max: i32,
}

/// Sets the modes in the only broker that the name server knows.
///
/// # Errors
/// When there is none, or it refuses.
pub(super) async fn set(nameserver: &str, all: &[Pops]) -> Result<()> {
    let client = Client::new(ClientConfig::default(), Arc::new(NoPushes));
    let request = Command::request(RequestCode::GET_BROKER_CLUSTER_INFO, &());
    let answer = client.call(nameserver, request, CALL_TIMEOUT).await?;
    let brokers: ClusterInfo = json::decode(&answer.body)?;
    let mut addresses = brokers.broker_addr_table.values();
    let broker = addresses
        .find_map(|broker| broker.broker_addrs.get(&0))
        .context("the name server knows no broker")?;
    for pops in all {
        let config = SubscriptionGroupConfig {
            group_name: pops.group.clone(),
            retry_max_times: pops.retries_max,
            ..SubscriptionGroupConfig::default()
        };
        let mode = SetMessageRequestModeRequestBody {
            consumer_group: pops.group.clone(),
            mode: MessageRequestMode::Pop,
            pop_share_queue_num: 0,
            topic: pops.topic.clone(),
        };
        let requests = [
            Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &())
                .with_body(json::encode(&config)),
            Command::request(RequestCode::SET_MESSAGE_REQUEST_MODE, &())
                .with_body(json::encode(&mode)),
        ];
        for request in requests {
            let answer = client.call(broker, request, CALL_TIMEOUT).await?;
            ensure!(
                answer.response_code() == ResponseCode::SUCCESS,
                "the mode of {} cannot be set: {:?}",
                pops.topic,
                answer.remark
            );
        }
    }
    client.shutdown();
    Ok(())
}
