//! One message, again and again until a server that is starting accepts it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{SendMessageRequest, SendMessageRequestV2};

use crate::wire::Session;

/// How often a server that does not accept yet is asked again.
const RETRY: Duration = Duration::from_millis(1);

/// Waits until the server accepts a message for `topic`, which it may create; gives the moment.
///
/// # Errors
/// When it does not within `limit`, with its last words.
pub fn first_accepted(target: SocketAddr, topic: &str, limit: Duration) -> Result<Instant> {
    let deadline = Instant::now() + limit;
    loop {
        let refusal = match attempt(target, topic) {
            Ok((ResponseCode::SUCCESS, _)) => return Ok(Instant::now()),
            Ok((code, remark)) => format!("{code} {}", remark.unwrap_or_default()),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("{target} accepted no message within {limit:?}: {refusal}");
        }
        thread::sleep(RETRY);
    }
}

fn attempt(target: SocketAddr, topic: &str) -> Result<(ResponseCode, Option<String>)> {
    let header = SendMessageRequestV2(SendMessageRequest {
        producer_group: "bench".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        properties: Some("".into()),
        ..SendMessageRequest::default()
    });
    let request =
        Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(&b"accepted?"[..]);
    let answer = Session::open(target)?.call(request)?;
    Ok((answer.response_code(), answer.remark))
}
