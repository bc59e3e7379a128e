//! Whether groups take the messages of topics by pull or by pop.

use protocol::body::{MessageRequestMode, SetMessageRequestModeRequestBody};
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::json;

use crate::{Admin, Error};

/// How a group takes a topic's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestMode {
    /// Each member reads its queues, and keeps the offsets.
    Pull,
    /// The broker hands out messages of any queue, and keeps account of them.
    Pop,
}

impl RequestMode {
    /// RocketMQ's name of it.
    pub fn name(self) -> &'static str {
        match self {
            RequestMode::Pull => "PULL",
            RequestMode::Pop => "POP",
        }
    }
}

impl Admin {
    /// Sets on one broker how a group takes a topic's messages. `share` is how many queues each member takes beside its own when it pops; 0 is all. Members that
    /// leave the assignment of queues to the broker follow within half a minute.
    ///
    /// # Errors
    /// The broker refuses it: there is no such topic (TOPIC_NOT_EXIST), or no such group where groups are not created by themselves.
    pub async fn set_request_mode(
        &self,
        broker: &str,
        topic: &str,
        group: &str,
        mode: RequestMode,
        share: i32,
    ) -> Result<(), Error> {
        let body = SetMessageRequestModeRequestBody {
            consumer_group: group.to_owned(),
            mode: match mode {
                RequestMode::Pull => MessageRequestMode::Pull,
                RequestMode::Pop => MessageRequestMode::Pop,
            },
            pop_share_queue_num: share,
            topic: topic.to_owned(),
        };
        let request = Command::request(RequestCode::SET_MESSAGE_REQUEST_MODE, &())
            .with_body(json::encode(&body));
        self.ask_ok(broker, request).await.map(drop)
    }
}
