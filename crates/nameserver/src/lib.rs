//! Which broker serves which topic.
//!
//! A name server keeps what brokers tell it and answers clients from that. It never talks to other name servers: brokers
//! register with each, and each may be restarted at any time, since brokers register again within half a minute.
//!
//! | module | subject |
//! |---|---|
//! | [`routes`] | the table of brokers and topics: a pure core |
//! | `requests` | one table from request code to handler, and the handlers |
//! | [`kv`] | the key–value configuration and its file |
//! | [`config`] | the keys of the configuration file |
//! | `settings` | changing them while the server runs |
//! | `zone` | routes within an availability zone |
//! | `listen` | a name server on a socket, with its clock |

pub mod config;
pub mod kv;
mod listen;
mod requests;
pub mod routes;
mod settings;
mod zone;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use platform::clock::{Clock, RealClock};
use platform::disk::{Disk, RealDisk};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::NotifyMinBrokerIdChangeRequest;
use protocol::reply::ReplyHead;
use remoting::{Client, Connection, Gate, HeldFailure, Replies, Request, Service};
use tokio::sync::watch;

pub use config::Config;
pub use listen::{Running, StartError, start};

use requests::{Call, Kind, Refusal, Reply};
use routes::{MinIdChange, Table};
use settings::Settings;

/// A registration with a larger body leaves the read loop: decoding it takes longer than a connection should wait.
const INLINE_BODY_BYTES_MAX: usize = 64 << 10;

/// What a name server works with besides its configuration.
#[derive(Clone)]
pub struct Context {
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How it reaches brokers to tell them of changes in their group. Without one they are not told.
    pub client: Option<Client>,
}

impl Default for Context {
    /// The machine's disk and clock, and no client.
    fn default() -> Context {
        Context {
            disk: Arc::new(RealDisk),
            clock: Arc::new(RealClock::default()),
            client: None,
        }
    }
}

/// A name server, without a socket: [`start`] gives it one, `Client::register_local` makes it reachable in the process.
///
/// Lock order: `table` before `connections`. Neither is held over a call out of this crate.
pub struct NameServer {
    this: Weak<NameServer>,
    settings: Settings,
    table: RwLock<Table>,
    kv: kv::KvConfig,
    /// The connections of registered brokers, to close those that expire.
    connections: Mutex<HashMap<u64, Weak<Connection>>>,
    context: Context,
    started: Duration,
}

impl NameServer {
    /// A name server that knows nobody yet, with the key–value configuration of its file.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood.
    pub fn new(config: Config, context: Context) -> std::io::Result<Arc<NameServer>> {
        let kv = kv::KvConfig::load(
            config.kv_config_path.clone().into(),
            Arc::clone(&context.disk),
        )?;
        let started = context.clock.monotonic();
        Ok(Arc::new_cyclic(|this| NameServer {
            this: Weak::clone(this),
            settings: Settings::new(config, Arc::clone(&context.disk)),
            table: RwLock::default(),
            kv,
            connections: Mutex::default(),
            context,
            started,
        }))
    }

    /// The current configuration.
    pub fn config(&self) -> Arc<Config> {
        self.settings.current()
    }

    /// Forgets brokers that have been silent for too long, and closes their connections. To be called every
    /// `scanNotActiveBrokerInterval`; [`start`] does.
    pub fn expire(&self) {
        let policy = self.settings.policy();
        let expired = self.write_table().expire(self.now_ms(), policy);
        for id in expired.connections {
            let connection = self
                .connections()
                .remove(&id)
                .and_then(|weak| weak.upgrade());
            if let Some(connection) = connection {
                connection.close("the broker was silent for too long");
            }
        }
        self.announce(expired.changes);
    }

    /// The time by which brokers live and die. Not the wall clock: when that is set, no broker dies of it.
    fn now_ms(&self) -> i64 {
        i64::try_from(self.context.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
    }

    fn age_seconds(&self) -> i64 {
        let age = self.context.clock.monotonic().saturating_sub(self.started);
        i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
    }

    fn read_table(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_table(&self) -> std::sync::RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Weak<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells members that the lowest id of their group changed, without waiting for them. One that cannot be reached asks
    /// by itself, every second.
    fn announce(&self, changes: Vec<MinIdChange>) {
        let Some(client) = &self.context.client else {
            return;
        };
        for change in changes {
            let header = NotifyMinBrokerIdChangeRequest {
                min_broker_id: Some(change.min_id),
                min_broker_addr: Some(change.min_addr),
                offline_broker_addr: change.offline_addr,
                ha_broker_addr: change.ha_addr,
                ..Default::default()
            };
            for addr in change.notify {
                let client = client.clone();
                let request = Command::request(RequestCode::NOTIFY_MIN_BROKER_ID_CHANGE, &header);
                tokio::spawn(async move {
                    if let Err(error) = client.send_oneway(&addr, request).await {
                        tracing::warn!(addr, %error, "broker not told of the lowest id of its group");
                    }
                });
            }
        }
    }

    /// Answers one request, here or, where that may block, from a thread that may.
    fn handle(&self, connection: &Arc<Connection>, request: &Request<'_>, replies: &mut Replies) {
        let head = request.head();
        let code = request.code();
        let Some((kind, handler)) = requests::find(code) else {
            let remark = format!(" request type {} not supported", code.0);
            replies.refuse(head, ResponseCode::REQUEST_CODE_NOT_SUPPORTED, &remark);
            return;
        };
        let inline = match kind {
            Kind::Inline => true,
            Kind::InlineWhenSmall => request.body.len() <= INLINE_BODY_BYTES_MAX,
            Kind::Blocking => false,
        };
        if inline {
            let call = Call {
                fields: request.header.fields,
                body: request.body,
                version: request.header.version,
                connection,
            };
            match handler(self, &call) {
                Ok(Reply { fields, body }) => {
                    replies.reply(head, ResponseCode::SUCCESS, None, &fields, &[&body]);
                }
                Err(Refusal { code, remark }) => {
                    replies.reply(head, code, remark.as_deref(), &(), &[])
                }
            }
        } else {
            self.handle_elsewhere(connection, request, head, handler, replies);
        }
    }

    fn handle_elsewhere(
        &self,
        connection: &Arc<Connection>,
        request: &Request<'_>,
        head: ReplyHead,
        handler: requests::Handler,
        replies: &mut Replies,
    ) {
        let (Some(this), Some(permit)) = (self.this.upgrade(), connection.permit()) else {
            replies.refuse(
                head,
                ResponseCode::SYSTEM_BUSY,
                "[OVERLOAD]system busy, start flow control for a while",
            );
            return;
        };
        let command = request.to_command();
        let connection = Arc::clone(connection);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let call = Call {
                fields: command.fields(),
                body: &command.body,
                version: command.version,
                connection: &connection,
            };
            let sent = match handler(&this, &call) {
                Ok(Reply { fields, body }) => {
                    connection.reply(head, ResponseCode::SUCCESS, None, &fields, &[&body])
                }
                Err(Refusal { code, remark }) => {
                    connection.reply(head, code, remark.as_deref(), &(), &[])
                }
            };
            if let Err(error) = sent {
                tracing::debug!(peer = %connection.peer(), %error, "answer not sent");
            }
        });
    }
}

impl Service for NameServer {
    fn serve(&self, connection: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies) {
        for request in requests {
            self.handle(connection, request, replies);
        }
    }

    fn refuse_held(&self, _: HeldFailure, head: ReplyHead, _: &Command, replies: &mut Replies) {
        // A name server holds no replies.
        replies.refuse(
            head,
            ResponseCode::SYSTEM_ERROR,
            "the reply was held without a reason",
        );
    }

    fn gate(&self) -> Option<watch::Receiver<Gate>> {
        None
    }

    fn closed(&self, connection: &Arc<Connection>) {
        if self.connections().remove(&connection.id()).is_some() {
            let policy = self.settings.policy();
            let changes = self
                .write_table()
                .connection_closed(policy, connection.id());
            self.announce(changes);
        }
    }
}
