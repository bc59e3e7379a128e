//! The broker's side of its connections: one table from request code to handler, and the short way of sends, pulls, pops, replies, messages that
//! come back and ends of transactions.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::reply::ReplyHead;
use remoting::{Connection, Gate, HeldFailure, Replies, Request, Service};
use storage::WriteState;
use tokio::sync::watch;

use crate::Broker;
use crate::call::{Call, Entry, Handler, Kind, Refusal, Reply};
use crate::overload;
use crate::requests::{self, end_transaction, pop, pull, reply, send, send_back};

/// The table, one part a file.
const HANDLERS: &[&[Entry]] = &[
    requests::ack::HANDLERS,
    requests::assignment::HANDLERS,
    requests::client::HANDLERS,
    requests::cluster::HANDLERS,
    requests::cold::HANDLERS,
    requests::config::HANDLERS,
    requests::forward::HANDLERS,
    requests::group::HANDLERS,
    requests::half_message::HANDLERS,
    requests::lock::HANDLERS,
    requests::offset::HANDLERS,
    requests::pop::HANDLERS,
    requests::query::HANDLERS,
    requests::reset::HANDLERS,
    requests::static_topic::HANDLERS,
    requests::stats::HANDLERS,
    requests::timer::HANDLERS,
    requests::topic::HANDLERS,
];

/// What connections talk to.
pub(crate) struct BrokerService {
    /// None until the broker stands: its identity holds the port, so that the port is taken first.
    broker: OnceLock<Arc<Broker>>,
    handlers: HashMap<RequestCode, (Kind, Handler)>,
    gate: watch::Receiver<Gate>,
}

impl BrokerService {
    /// A service whose held answers wait for `gate`. It refuses everything until `begin`.
    pub(crate) fn new(gate: watch::Receiver<Gate>) -> BrokerService {
        let rows = HANDLERS.iter().copied().flatten();
        let handlers = rows
            .map(|(code, kind, handler)| (*code, (*kind, *handler)))
            .collect();
        BrokerService {
            broker: OnceLock::new(),
            handlers,
            gate,
        }
    }

    /// From here on requests are served.
    pub(crate) fn begin(&self, broker: Arc<Broker>) {
        let began = self.broker.set(broker);
        debug_assert!(began.is_ok(), "a service serves one broker");
    }

    fn serve_other(
        &self,
        broker: &Arc<Broker>,
        connection: &Arc<Connection>,
        request: &Request<'_>,
        replies: &mut Replies,
    ) {
        let head = request.head();
        match self.handlers.get(&request.code()) {
            Some((Kind::Inline, handler)) => {
                let reply = answer(
                    broker,
                    *handler,
                    &Call {
                        request,
                        connection,
                    },
                );
                replies.reply(
                    head,
                    reply.code,
                    reply.remark.as_deref(),
                    &reply.fields,
                    &[&reply.body],
                );
            }
            Some((Kind::Blocking, handler)) => {
                if let Err(refusal) = serve_blocking(broker, connection, request, *handler) {
                    replies.refuse(head, refusal.code, &refusal.remark);
                }
            }
            None => replies.refuse(
                head,
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                &format!(" request type {} not supported", request.header.code),
            ),
        }
    }
}

/// Runs a handler that may wait on the blocking pool, with its own copy of the request.
fn serve_blocking(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: &Request<'_>,
    handler: Handler,
) -> Result<(), Refusal> {
    let permit = broker.blocking_permit(connection, request.body.len())?;
    let (broker, connection) = (broker.clone(), connection.clone());
    let (head, command) = (request.head(), request.to_command());
    broker.runtime.clone().spawn_blocking(move || {
        let request = Request { header: command.as_header(), body: &command.body, codec: command.codec };
        let reply = answer(&broker, handler, &Call { request: &request, connection: &connection });
        let sent = connection.reply(head, reply.code, reply.remark.as_deref(), &reply.fields, &[&reply.body]);
        if let Err(error) = sent {
            tracing::debug!(peer = %connection.peer(), code = command.code, %error, "an answer found no way");
        }
        drop(permit);
    });
    Ok(())
}

fn answer(broker: &Broker, handler: Handler, call: &Call<'_>) -> Reply {
    handler(broker, call).unwrap_or_else(Reply::from)
}

impl Service for BrokerService {
    fn serve(&self, connection: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies) {
        let Some(broker) = self.broker.get() else {
            for request in requests {
                replies.refuse(
                    request.head(),
                    ResponseCode::SERVICE_NOT_AVAILABLE,
                    "the broker is starting",
                );
            }
            return;
        };
        // Sends go first, all of them in one append: whatever else the batch asks sees their messages.
        let sends = requests
            .iter()
            .filter(|request| send::is_send(request.code()))
            .count();
        if sends > 0 {
            match overload::of_sends(broker, replies) {
                None => send::serve(broker, connection, requests, replies),
                Some(refusal) => overload::refuse_sends(&refusal, requests, replies),
            }
        }
        if sends == requests.len() {
            return;
        }
        if requests
            .iter()
            .any(|request| end_transaction::is_end(request.code()))
        {
            end_transaction::serve(broker, connection, requests, replies);
        }
        for request in requests {
            let code = request.code();
            if pull::is_pull(code) {
                pull::serve(broker, connection, request, replies);
            } else if pop::is_pop(code) {
                pop::serve(broker, connection, request, replies);
            } else if send_back::is_send_back(code) {
                send_back::serve(broker, connection, request, replies);
            } else if reply::is_reply(code) {
                reply::serve(broker, connection, request, replies);
            } else if !send::is_send(code) && !end_transaction::is_end(code) {
                self.serve_other(broker, connection, request, replies);
            }
        }
    }

    fn refuse_held(
        &self,
        failure: HeldFailure,
        head: ReplyHead,
        answer: &Command,
        replies: &mut Replies,
    ) {
        match failure {
            // With the ids and the offset: clients take this for a kind of success, and fail without them.
            HeldFailure::TimedOut => replies.reply(
                head,
                ResponseCode::FLUSH_DISK_TIMEOUT,
                Some("the message is stored, but the disk did not confirm it in time; it is slow or overloaded"),
                &answer.fields,
                &[],
            ),
            HeldFailure::GateFailed => {
                let reason = match self.broker.get().map(|broker| broker.store.write_state()) {
                    Some(WriteState::Failed { reason } | WriteState::DiskFull { reason }) => reason,
                    Some(WriteState::Writable | WriteState::Closed) | None => "the store was closed".to_owned(),
                };
                let refusal = send::failed(&reason);
                replies.refuse(head, refusal.code, &refusal.remark);
            }
        }
    }

    fn gate(&self) -> Option<watch::Receiver<Gate>> {
        Some(self.gate.clone())
    }

    fn closed(&self, connection: &Arc<Connection>) {
        if let Some(broker) = self.broker.get() {
            broker.longpoll.closed(connection);
            broker.pop.waiting.closed(connection);
            broker.clients.closed(broker, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_handler() {
        let mut seen = std::collections::HashSet::new();
        for (code, _, _) in HANDLERS.iter().copied().flatten() {
            assert!(seen.insert(*code), "{code} is in the table twice");
            assert!(
                !send::is_send(*code)
                    && !pull::is_pull(*code)
                    && !pop::is_pop(*code)
                    && !send_back::is_send_back(*code)
                    && !reply::is_reply(*code)
                    && !end_transaction::is_end(*code),
                "{code} has a way of its own"
            );
        }
    }
}
