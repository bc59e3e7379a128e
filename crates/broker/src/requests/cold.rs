//! Flow control of cold reads: thresholds of groups (2001, 2002), what is read (2003), how the kernel reads ahead (2004).
//! Java 5.3: `AdminBrokerProcessor`.

use std::str;

use protocol::code::{RequestCode, ResponseCode};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::cold::Limits;

pub(crate) const HANDLERS: &[Entry] = &[
    (
        RequestCode::UPDATE_COLD_DATA_FLOW_CTR_CONFIG,
        Kind::Inline,
        update,
    ),
    (
        RequestCode::REMOVE_COLD_DATA_FLOW_CTR_CONFIG,
        Kind::Inline,
        remove,
    ),
    (RequestCode::GET_COLD_DATA_FLOW_CTR_INFO, Kind::Inline, info),
    (
        RequestCode::SET_COMMITLOG_READ_MODE,
        Kind::Blocking,
        read_mode,
    ),
];

/// The field that says how to read: 0 ahead, 1 only what is asked for. They are `MADV_NORMAL` and `MADV_RANDOM`.
const READ_AHEAD_MODE: &str = "READ_AHEAD_MODE";

fn text<'a>(call: &Call<'a>) -> Result<&'a str, Refusal> {
    str::from_utf8(call.body()).map_err(|_| Refusal::system_error("the body is not UTF-8"))
}

/// Properties `group=bytes`. All of them are read before the first one holds; Java passes over those that are no number.
fn update(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let wanted = configuration::parse(text(call)?)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let mut thresholds = Vec::new();
    for property in &wanted {
        let threshold: i64 = property.value.trim().parse().map_err(|_| {
            Refusal::system_error(format!(
                "the threshold of group {} is no number of bytes: {}",
                property.key, property.value
            ))
        })?;
        thresholds.push((&property.key, threshold));
    }
    for (group, threshold) in thresholds {
        broker
            .cold_reads
            .configure(group, threshold)
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        tracing::info!(group, threshold, by = %call.connection.peer(), "cold reads of a group have a threshold of their own");
    }
    Ok(Reply::ok())
}

fn remove(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    broker.cold_reads.remove(text(call)?);
    Ok(Reply::ok())
}

fn info(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let info = broker.cold_reads.info(&Limits::of(&broker.keys()));
    Ok(Reply::ok().body(protocol::json::encode(&info)))
}

fn read_mode(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let mode = call.request.header.fields.get(READ_AHEAD_MODE);
    let Some(mode) = mode.and_then(|mode| mode.trim().parse::<i32>().ok()) else {
        return Err(Refusal::system_error(
            "set commitlog readahead mode param error",
        ));
    };
    let ahead = match mode {
        0 => true,
        1 => false,
        _ => {
            return Err(Refusal::new(
                ResponseCode::INVALID_PARAMETER,
                "set commitlog readahead mode param value error",
            ));
        }
    };
    let keys = crate::BrokerKeys {
        data_read_ahead_enable: ahead,
        ..(*broker.keys()).clone()
    };
    broker.set_keys(keys);
    Ok(Reply::ok().remark(format!(
        "set commitlog readahead mode success, mode: {mode}"
    )))
}
