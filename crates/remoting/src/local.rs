//! The in-process transport: decoded commands from one end to the other, without bytes or sockets.
//!
//! A local connection has two ends. What one end sends is served, at once and on the sender's thread, by the service
//! behind the other end, exactly as if a socket's task had read it.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use protocol::command::Command;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::connection::{Connection, Limits, SendError, Transport};
use crate::replies::Replies;
use crate::service::{Gate, Request, Service};

/// The link from one end to the other.
pub(crate) struct LocalEnd {
    /// The other end. Weak: the pair is owned by the client, and each end may be held by either side.
    other: Weak<Connection>,
    /// What serves the commands that this end sends.
    service: Arc<dyn Service>,
    /// What must hear that this end is closed.
    own_service: Arc<dyn Service>,
    gate: Option<watch::Receiver<Gate>>,
    hold_timeout: Duration,
    /// Where services are told of the end of a connection: outside all locks of whoever closed it.
    runtime: Handle,
}

/// Both ends of a local connection. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct LocalPair {
    pub(crate) client: Arc<Connection>,
    /// Only kept alive here: the client's end has no strong way to it.
    _server: Arc<Connection>,
}

/// Answers that an in-process service holds until its gate passes. The caller waits for the gate itself.
pub(crate) struct HeldAnswers {
    replies: Replies,
    service: Arc<dyn Service>,
    gate: Option<watch::Receiver<Gate>>,
}

impl LocalPair {
    /// Connects `client_service` (pushes of the server) with `server_service`. Must be called within a runtime.
    pub(crate) fn new(
        name: &Arc<str>,
        client_service: Arc<dyn Service>,
        server_service: Arc<dyn Service>,
        limits: Limits,
        hold_timeout: Duration,
    ) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let addr = name.parse().unwrap_or(nowhere);
        let runtime = Handle::current();
        let end = |other: Weak<Connection>,
                   service: &Arc<dyn Service>,
                   own_service: &Arc<dyn Service>| LocalEnd {
            other,
            gate: service.gate(),
            service: service.clone(),
            own_service: own_service.clone(),
            hold_timeout,
            runtime: runtime.clone(),
        };
        let mut server = None;
        let client = Arc::new_cyclic(|client: &Weak<Connection>| {
            let server_end = end(client.clone(), &client_service, &server_service);
            let connection = Connection::new(
                name.clone(),
                nowhere,
                addr,
                Transport::Local(server_end),
                limits,
                Budget::unlimited(),
            );
            let connection = Arc::new(connection);
            let client_end = end(
                Arc::downgrade(&connection),
                &server_service,
                &client_service,
            );
            server = Some(connection);
            Connection::new(
                name.clone(),
                addr,
                nowhere,
                Transport::Local(client_end),
                limits,
                Budget::unlimited(),
            )
        });
        let server = server.expect("new_cyclic has run the closure that makes the other end");
        LocalPair {
            client,
            _server: server,
        }
    }
}

impl Drop for LocalPair {
    fn drop(&mut self) {
        self.client.close("the client let it go");
    }
}

impl LocalEnd {
    /// Gives an answer to whoever waits for it at the other end.
    pub(crate) fn deliver_answer(&self, answer: Command) -> Result<(), SendError> {
        let other = self.other.upgrade().filter(|other| other.is_open());
        other.ok_or(SendError::Closed)?.resolve([answer]);
        Ok(())
    }

    /// Lets the other side serve a one-way command.
    pub(crate) fn deliver_oneway(&self, command: &Command) -> Result<(), SendError> {
        let other = self.other.upgrade().ok_or(SendError::Closed)?;
        self.serve(&other, command);
        Ok(())
    }

    /// Lets the other side serve a call of `caller`. Answers that are ready are with the caller on return.
    pub(crate) fn deliver_call(
        &self,
        caller: &Connection,
        command: &Command,
    ) -> Result<Option<HeldAnswers>, SendError> {
        let other = self.other.upgrade().ok_or(SendError::Closed)?;
        let mut replies = self.serve(&other, command);
        caller.resolve(replies.take_ready());
        Ok(replies.holds().then(|| HeldAnswers {
            replies,
            service: self.service.clone(),
            gate: self.gate.clone(),
        }))
    }

    fn serve(&self, other: &Arc<Connection>, command: &Command) -> Replies {
        let mut replies = Replies::decoded(self.hold_timeout);
        let passed = self.gate.as_ref().map_or(0, |gate| gate.borrow().position);
        replies.begin(Instant::now(), passed, Duration::ZERO);
        let request = Request::of(command);
        self.service
            .serve(other, std::slice::from_ref(&request), &mut replies);
        replies
    }

    /// Closes both ends; each service hears it once.
    pub(crate) fn close(&self, own: &Connection) {
        // The other end holds the only way to an Arc of this one.
        if !own.shut() {
            return;
        }
        let Some(other) = self.other.upgrade() else {
            return;
        };
        let Transport::Local(other_end) = other.transport() else {
            return;
        };
        other.shut();
        let own = other_end.other.upgrade();
        let (own_service, other_service) = (self.own_service.clone(), self.service.clone());
        self.runtime.spawn(async move {
            if let Some(own) = own {
                own_service.closed(&own);
            }
            other_service.closed(&other);
        });
    }
}

impl HeldAnswers {
    /// Waits until every held answer is released or refused, and hands them to `caller`.
    pub(crate) async fn settle(&mut self, caller: &Connection) {
        loop {
            let gate = match &mut self.gate {
                Some(gate) => *gate.borrow_and_update(),
                None => Gate {
                    position: 0,
                    failed: true,
                },
            };
            self.replies.settle(gate, &*self.service);
            caller.resolve(self.replies.take_ready());
            let (Some(deadline), Some(gate)) = (self.replies.first_deadline(), &mut self.gate)
            else {
                return;
            };
            tokio::select! {
                changed = gate.changed() => if changed.is_err() {
                    self.gate = None;
                },
                () = tokio::time::sleep_until(deadline) => {
                    self.replies.expire(Instant::now(), &*self.service);
                    caller.resolve(self.replies.take_ready());
                }
            }
        }
    }
}
