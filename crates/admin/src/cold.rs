//! Flow control of cold reads: thresholds of groups, what was read, how the kernel reads ahead.

use protocol::code::RequestCode;
use protocol::command::Command;

use crate::{Admin, Error};

impl Admin {
    /// Gives a group a threshold of its own on one broker: bytes in five seconds that are not in memory.
    pub async fn set_cold_threshold(
        &self,
        broker: &str,
        group: &str,
        threshold: i64,
    ) -> Result<(), Error> {
        let code = RequestCode::UPDATE_COLD_DATA_FLOW_CTR_CONFIG;
        let body = format!("{group}={threshold}\n").into_bytes();
        let request = Command::request(code, &()).with_body(body);
        self.ask_ok(broker, request).await.map(drop)
    }

    /// The group has the threshold of all others again.
    pub async fn remove_cold_threshold(&self, broker: &str, group: &str) -> Result<(), Error> {
        let code = RequestCode::REMOVE_COLD_DATA_FLOW_CTR_CONFIG;
        let request = Command::request(code, &()).with_body(group.as_bytes().to_vec());
        self.ask_ok(broker, request).await.map(drop)
    }

    /// What groups read that was not in memory, and what they may: the JSON that the broker writes.
    pub async fn cold_reads(&self, broker: &str) -> Result<String, Error> {
        let code = RequestCode::GET_COLD_DATA_FLOW_CTR_INFO;
        let answer = self.ask_ok(broker, Command::request(code, &())).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Whether the kernel reads the commit log ahead of what is asked for. Gives what the broker says to it.
    pub async fn set_read_ahead(&self, broker: &str, ahead: bool) -> Result<String, Error> {
        let mut request = Command::request(RequestCode::SET_COMMITLOG_READ_MODE, &());
        let mode = if ahead { "0" } else { "1" };
        request.fields.insert("READ_AHEAD_MODE", mode);
        let answer = self.ask_ok(broker, request).await?;
        Ok(answer.remark.unwrap_or_default())
    }
}
