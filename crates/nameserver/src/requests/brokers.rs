//! What brokers say of themselves: registration, heartbeat, farewell.

use std::sync::Arc;

use protocol::body::{DataVersion, KvTable, RegisterBrokerBody};
use protocol::headers::{
    BrokerHeartbeatRequest, QueryDataVersionRequest, QueryDataVersionResponse,
    RegisterBrokerRequest, RegisterBrokerResponse, UnRegisterBrokerRequest,
};
use protocol::record;

use super::{Call, Refusal, Reply, json};
use crate::NameServer;
use crate::kv::ORDER_TOPIC_CONFIG;
use crate::routes::{Farewell, Identity, Registration};

/// First byte of a zlib stream with the usual window.
const ZLIB: u8 = 0x78;

/// The first version whose registration is more than the topics.
const V3_0_11: i32 = 37;

pub(super) fn register(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: RegisterBrokerRequest = call.fields.read()?;
    if request.body_crc != 0 && record::body_crc(call.body) as i32 != request.body_crc {
        tracing::warn!(broker = request.broker_name, peer = %call.connection.peer(), "registration with a wrong checksum");
        return Err(Refusal::error("crc32 not match"));
    }
    let registration = Registration {
        identity: Identity {
            cluster: request.cluster_name,
            addr: request.broker_addr,
        },
        broker_name: request.broker_name,
        broker_id: request.broker_id,
        ha_server_addr: request.ha_server_addr,
        zone_name: call.fields.get("__ZONE_NAME").map(|name| name.into_owned()),
        heartbeat_timeout_ms: request.heartbeat_timeout_ms,
        enable_acting_master: request.enable_acting_master,
        body: body(call, request.compressed)?,
        connection: call.connection.id(),
    };
    server
        .connections()
        .insert(call.connection.id(), Arc::downgrade(call.connection));
    let policy = server.settings.policy();
    let registered = server
        .write_table()
        .register(server.now_ms(), policy, registration)
        .map_err(|error| Refusal::error(error.to_string()))?;
    server.announce(registered.changed.into_iter().collect());
    if !call.connection.is_open() {
        // A large registration is taken in beside the read loop, so its connection may have been reported closed before.
        let changes = server
            .write_table()
            .connection_closed(policy, call.connection.id());
        server.connections().remove(&call.connection.id());
        server.announce(changes);
    }
    let reply = Reply::of(&RegisterBrokerResponse {
        ha_server_addr: registered.ha_server_addr,
        master_addr: registered.master_addr,
    });
    match server.kv.namespace(ORDER_TOPIC_CONFIG) {
        Some(table) if server.config().return_order_topic_config_to_broker => {
            Ok(reply.with_body(&KvTable { table }))
        }
        _ => Ok(reply),
    }
}

/// The registration's body, in the form that the sender's version writes.
fn body(call: &Call<'_>, compressed: bool) -> Result<RegisterBrokerBody, Refusal> {
    if call.body.is_empty() {
        return Ok(RegisterBrokerBody::default());
    }
    if call.version < V3_0_11 {
        return Ok(RegisterBrokerBody {
            topic_config_serialize_wrapper: json(call.body)?,
            ..RegisterBrokerBody::default()
        });
    }
    // Java's broker 5.3.3 with compressedRegister=true compresses, and says in the header that it did not. JSON never begins
    // with the byte that zlib begins with.
    let compressed = compressed || call.body.first() == Some(&ZLIB);
    RegisterBrokerBody::decode(call.body, compressed, call.version)
        .map_err(|error| Refusal::error(format!("Failed to decode RegisterBrokerBody: {error}")))
}

pub(super) fn unregister(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: UnRegisterBrokerRequest = call.fields.read()?;
    let farewell = Farewell {
        identity: Identity {
            cluster: request.cluster_name,
            addr: request.broker_addr,
        },
        broker_name: request.broker_name,
        broker_id: request.broker_id,
    };
    let policy = server.settings.policy();
    let changes = server.write_table().unregister(policy, &[farewell]);
    server.announce(changes);
    Ok(Reply::default())
}

pub(super) fn heartbeat(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: BrokerHeartbeatRequest = call.fields.read()?;
    let identity = Identity {
        cluster: request.cluster_name,
        addr: request.broker_addr,
    };
    server.write_table().heartbeat(server.now_ms(), &identity);
    Ok(Reply::default())
}

/// Whether a broker with this version of its topics must register them; counts as a sign of life.
pub(super) fn query_data_version(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: QueryDataVersionRequest = call.fields.read()?;
    let version: DataVersion = json(call.body)?;
    let identity = Identity {
        cluster: request.cluster_name,
        addr: request.broker_addr,
    };
    let mut table = server.write_table();
    let changed = table.data_version_differs(&identity, &version);
    table.heartbeat(server.now_ms(), &identity);
    let reply = Reply::of(&QueryDataVersionResponse { changed });
    match table.data_version(&identity) {
        Some(known) => Ok(reply.with_body(known)),
        None => Ok(reply),
    }
}
