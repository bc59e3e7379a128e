//! A consumer with a connection of its own, that keeps what the broker asks it and answers as the test says.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::UpdateConsumerOffsetRequest;
use protocol::language::Language;
use protocol::version;
use remoting::{Client, ClientConfig, InboundHandler};
use tokio::sync::mpsc;

use crate::harness::{TIMEOUT, TestBroker};

pub(crate) type Answer = fn(&Command) -> Option<Command>;

/// Changes of the group are no news here: `tests/it/clients.rs` looks at those.
struct Asked {
    heard: mpsc::UnboundedSender<Command>,
    answer: Answer,
}

impl InboundHandler for Asked {
    fn on_request(
        &self,
        _: &str,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>> {
        let answer = (self.answer)(&command);
        if command.request_code() != RequestCode::NOTIFY_CONSUMER_IDS_CHANGED {
            // A test that is over listens no more.
            let _ = self.heard.send(command);
        }
        Box::pin(std::future::ready(answer))
    }

    fn on_connect(&self, _: &str) {}
}

pub(crate) struct Member {
    pub(crate) client: Arc<Client>,
    heard: mpsc::UnboundedReceiver<Command>,
    id: String,
    addr: String,
}

impl Member {
    /// A member of `group` that subscribes to `t`, by a Java client of today.
    pub(crate) async fn join(broker: &TestBroker, id: &str, group: &str) -> Member {
        Member::join_as(broker, id, group, Language::JAVA, version::CURRENT, |_| {
            None
        })
        .await
    }

    pub(crate) async fn join_as(
        broker: &TestBroker,
        id: &str,
        group: &str,
        language: Language,
        version: i32,
        answer: Answer,
    ) -> Member {
        let (sender, heard) = mpsc::unbounded_channel();
        let asked = Asked {
            heard: sender,
            answer,
        };
        let member = Member {
            client: Arc::new(Client::new(ClientConfig::default(), Arc::new(asked))),
            heard,
            id: id.to_owned(),
            addr: broker.addr().to_string(),
        };
        member.heartbeat(group, language, version).await;
        member
    }

    pub(crate) async fn heartbeat(&self, group: &str, language: Language, version: i32) {
        let id = &self.id;
        let body = format!(
            r#"{{"clientID":"{id}","consumerDataSet":[{{"groupName":"{group}","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{{"topic":"t","subString":"*","subVersion":1}}]}}],"producerDataSet":[]}}"#
        );
        let mut command =
            Command::request(RequestCode::HEART_BEAT, &()).with_body(body.into_bytes());
        command.language = language;
        command.version = version;
        assert_eq!(
            self.call(command).await.response_code(),
            ResponseCode::SUCCESS
        );
    }

    pub(crate) async fn call(&self, command: Command) -> Command {
        let answer = self.client.call(&self.addr, command, TIMEOUT).await;
        answer.unwrap()
    }

    /// Commits an offset of queue 0 of `t`. Gives the remark.
    pub(crate) async fn commits(&self, group: &str, offset: i64) -> Option<String> {
        let header = UpdateConsumerOffsetRequest {
            consumer_group: group.to_owned(),
            topic: "t".to_owned(),
            queue_id: 0,
            commit_offset: offset,
        };
        let answer = self
            .call(Command::request(
                RequestCode::UPDATE_CONSUMER_OFFSET,
                &header,
            ))
            .await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        answer.remark
    }

    /// The next thing that the broker asked.
    pub(crate) async fn hears(&mut self) -> Command {
        let heard = tokio::time::timeout(TIMEOUT, self.heard.recv()).await;
        heard.unwrap().unwrap()
    }

    /// Whether it was asked nothing so far.
    pub(crate) fn heard_nothing(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }
}
