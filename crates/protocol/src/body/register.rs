//! What a broker tells a name server of itself, as JSON or in the compressed form.
//!
//! ```text
//! compressed: zlib of
//!   length 4, data version (JSON) | topics 4, each: length 4, "name read write perm filterType {attributes}"
//!   | length 4, filter servers (JSON) | from 5.0.0: mappings 4, each: length 4, mapping (JSON)
//! ```

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use super::{
    DataVersion, TopicConfig, TopicConfigAndMappingSerializeWrapper, TopicFilterType,
    TopicQueueMappingInfo,
};
use crate::json::{self, BodyError};
use crate::version;

/// A registration inflates to no more than this; a million topics take about half of it.
const INFLATED_BYTES_MAX: u64 = 256 << 20;

/// The body of REGISTER_BROKER.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    /// `filterServerList`
    pub filter_server_list: Vec<String>,
    /// `topicConfigSerializeWrapper`
    pub topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper,
}

impl RegisterBrokerBody {
    /// The bytes, compressed or not.
    pub fn encode(&self, compress: bool) -> Vec<u8> {
        if !compress {
            return json::encode_as(self, json::Dialect::Fastjson);
        }
        let wrapper = &self.topic_config_serialize_wrapper;
        let mut parts = Vec::new();
        put_part(&mut parts, &json::encode(&wrapper.data_version));
        put_count(&mut parts, wrapper.topic_config_table.len());
        for (name, topic) in &wrapper.topic_config_table {
            put_part(&mut parts, encode_topic(name, topic).as_bytes());
        }
        put_part(&mut parts, &json::encode(&self.filter_server_list));
        put_count(&mut parts, wrapper.topic_queue_mapping_info_map.len());
        for mapping in wrapper.topic_queue_mapping_info_map.values() {
            put_part(
                &mut parts,
                &json::encode_as(mapping, json::Dialect::Fastjson),
            );
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail.
        let _ = encoder.write_all(&parts);
        encoder.finish().unwrap_or_default()
    }

    /// The body of a request with `compressed` as its header says, from a broker of `broker_version`.
    pub fn decode(body: &[u8], compressed: bool, broker_version: i32) -> Result<Self, BodyError> {
        if !compressed {
            return json::decode(body);
        }
        let mut parts = Vec::new();
        let read = ZlibDecoder::new(body)
            .take(INFLATED_BYTES_MAX + 1)
            .read_to_end(&mut parts);
        if read.is_err() || parts.len() as u64 > INFLATED_BYTES_MAX {
            return Err(BodyError::Broken("compression"));
        }
        let mut parts = Parts { rest: &parts };
        let mut registration = Self::default();
        let wrapper = &mut registration.topic_config_serialize_wrapper;
        wrapper.data_version = json::decode::<DataVersion>(parts.part("data version")?)?;
        for _ in 0..parts.count("number of topics")? {
            let topic = decode_topic(parts.part("topic")?)?;
            wrapper
                .topic_config_table
                .insert(topic.topic_name.clone(), topic);
        }
        registration.filter_server_list =
            json::decode(parts.part("filter servers")?).unwrap_or_default();
        if broker_version >= version::V5_0_0 {
            for _ in 0..parts.count("number of mappings")? {
                let mapping: TopicQueueMappingInfo = json::decode(parts.part("mapping")?)?;
                wrapper
                    .topic_queue_mapping_info_map
                    .insert(mapping.topic.clone(), mapping);
            }
        }
        Ok(registration)
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_be_bytes());
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    put_count(out, part.len());
    out.extend_from_slice(part);
}

struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn count(&mut self, what: &'static str) -> Result<u32, BodyError> {
        let (count, rest) = self
            .rest
            .split_first_chunk::<4>()
            .ok_or(BodyError::Broken(what))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*count))
    }

    fn part(&mut self, what: &'static str) -> Result<&'a [u8], BodyError> {
        let length = self.count(what)? as usize;
        let (part, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(BodyError::Broken(what))?;
        self.rest = rest;
        Ok(part)
    }
}

/// A topic as one line. The system flag and the order do not travel in it.
pub(crate) fn encode_topic(name: &str, topic: &TopicConfig) -> String {
    let filter = match topic.topic_filter_type {
        TopicFilterType::SingleTag => "SINGLE_TAG",
        TopicFilterType::MultiTag => "MULTI_TAG",
    };
    let attributes = String::from_utf8(json::encode(&topic.attributes)).unwrap_or_default();
    let (read, write, perm) = (topic.read_queue_nums, topic.write_queue_nums, topic.perm);
    format!("{name} {read} {write} {perm} {filter} {attributes}")
}

fn decode_topic(line: &[u8]) -> Result<TopicConfig, BodyError> {
    let broken = || BodyError::Broken("topic");
    let line = std::str::from_utf8(line).map_err(|_| broken())?;
    let mut words = line.splitn(6, ' ');
    let name = words.next().ok_or_else(broken)?.to_owned();
    let mut number = || words.next()?.parse::<i32>().ok();
    let (read_queue_nums, write_queue_nums, perm) = (
        number().ok_or_else(broken)?,
        number().ok_or_else(broken)?,
        number().ok_or_else(broken)?,
    );
    let topic_filter_type = match words.next().ok_or_else(broken)? {
        "MULTI_TAG" => TopicFilterType::MultiTag,
        _ => TopicFilterType::SingleTag,
    };
    // Attributes that do not parse are left out, as in Java.
    let attributes = words
        .next()
        .and_then(|text| json::decode(text.as_bytes()).ok())
        .unwrap_or_default();
    Ok(TopicConfig {
        topic_name: name,
        read_queue_nums,
        write_queue_nums,
        perm,
        topic_filter_type,
        attributes,
        ..TopicConfig::default()
    })
}
