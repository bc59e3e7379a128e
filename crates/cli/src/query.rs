//! The commands that find messages by id, key and unique key.

use std::fmt::Write;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use admin::{Admin, KeySearch, StoredMessage};
use serde_json::{Value, json};

use crate::consume::{PROPERTY_BUCKETS, json_body};
use crate::format::{java_map, local_time};
use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct QueryMsgById {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Message ids, separated by commas
    #[arg(short = 'i', long = "msgId", value_name = "ID,ID")]
    ids: String,
    /// Print the body too, in this encoding; only UTF-8 is known
    #[arg(short = 'f', long = "bodyFormat", value_name = "ENCODING")]
    body_format: Option<String>,
    /// Only brokers of this cluster
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn by_id(args: &QueryMsgById, session: Session) -> Result<(), Failure> {
    let with_body = match args.body_format.as_deref().map(str::trim) {
        None => false,
        Some(name) if name.eq_ignore_ascii_case("UTF-8") || name.eq_ignore_ascii_case("UTF8") => {
            true
        }
        Some(name) => return Err(Failure::Usage(format!("-f {name}: only UTF-8 is known"))),
    };
    let Session { admin, out } = session;
    let mut documents = Vec::new();
    for id in args
        .ids
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
    {
        let cluster = args.cluster.as_deref().map(str::trim);
        let message = admin.message(args.topic.trim(), id, cluster).await?;
        if out.is_json() {
            documents.push(with_tracks(&admin, &message).await);
            continue;
        }
        let mut text = format!("{:<20} {}\n", "OffsetID:", message.offset_msg_id);
        text += &details(&message, &save_body(&message, 0)?);
        if with_body {
            let _ = writeln!(
                text,
                "{:<20} {}",
                "Message Body:",
                String::from_utf8_lossy(&message.body)
            );
        }
        text += &tracks_text(&admin, &message).await;
        out.text(&text)?;
    }
    if out.is_json() {
        out.json(&documents)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct QueryMsgByKey {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// The key
    #[arg(short = 'k', long = "msgKey", value_name = "KEY")]
    key: String,
    /// Stored at or after this time, in milliseconds
    #[arg(
        short = 'b',
        long = "beginTimestamp",
        value_name = "MS",
        default_value_t = 0
    )]
    begin_ms: i64,
    /// Stored at or before this time, in milliseconds
    #[arg(short = 'e', long = "endTimestamp", value_name = "MS", default_value_t = i64::MAX, hide_default_value = true)]
    end_ms: i64,
    /// The most messages that each broker returns
    #[arg(
        short = 'm',
        long = "maxNum",
        value_name = "COUNT",
        default_value_t = 64
    )]
    messages_max: i32,
    /// Only brokers of this cluster
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn by_key(args: &QueryMsgByKey, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let search = KeySearch {
        topic: args.topic.trim().to_owned(),
        key: args.key.trim().to_owned(),
        cluster: args
            .cluster
            .as_deref()
            .map(|cluster| cluster.trim().to_owned()),
        messages_max: args.messages_max,
        begin_ms: args.begin_ms,
        end_ms: args.end_ms,
    };
    let found = admin.messages_by_key(&search).await?;
    if out.is_json() {
        out.json(&found.iter().map(document_value).collect::<Vec<_>>())?;
        return Ok(());
    }
    let mut text = format!("{:<50} {:>4} {:>40}\n", "#Message ID", "#QID", "#Offset");
    for message in &found {
        let StoredMessage {
            msg_id,
            queue_id,
            queue_offset,
            ..
        } = message;
        let _ = writeln!(text, "{msg_id:<50} {queue_id:>4} {queue_offset:>40}");
    }
    out.text(&text)?;
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct QueryMsgByUniqueKey {
    /// The unique key, which producers call the message id
    #[arg(short = 'i', long = "msgId", value_name = "ID")]
    id: String,
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// All messages with this key, 32 at most, instead of the oldest
    #[arg(short = 'a', long = "showAll")]
    all: bool,
    /// Only brokers of this cluster
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn by_unique_key(
    args: &QueryMsgByUniqueKey,
    session: Session,
) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let cluster = args.cluster.as_deref().map(str::trim);
    let mut found = admin
        .messages_by_unique_id(args.topic.trim(), args.id.trim(), cluster, 0)
        .await?;
    if !args.all {
        found.truncate(1);
    }
    let mut documents = Vec::new();
    for (index, message) in found.iter().enumerate() {
        if out.is_json() {
            documents.push(with_tracks(&admin, message).await);
            continue;
        }
        let mut text = details(message, &save_body(message, index)?);
        text += &tracks_text(&admin, message).await;
        out.text(&text)?;
    }
    if out.is_json() {
        out.json(&documents)?;
    }
    Ok(())
}

/// A message with its body, as JSON text.
pub(crate) fn document(message: &StoredMessage) -> String {
    format!("{:#}", document_value(message))
}

fn document_value(message: &StoredMessage) -> Value {
    let mut value = json!(message);
    let properties: serde_json::Map<String, Value> = message
        .properties
        .iter()
        .map(|(name, text)| (name.clone(), json!(text)))
        .collect();
    value["properties"] = Value::Object(properties);
    if let (Value::Object(value), Value::Object(body)) = (&mut value, json_body(message)) {
        value.extend(body);
    }
    value
}

async fn with_tracks(admin: &Admin, message: &StoredMessage) -> Value {
    let mut value = document_value(message);
    match admin.tracks(message).await {
        Ok(tracks) => value["tracks"] = json!(tracks),
        Err(error) => {
            eprintln!("warning: what consumers did with the message is not known: {error}")
        }
    }
    value
}

fn details(message: &StoredMessage, body_path: &str) -> String {
    let properties = message
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let rows: [(&str, String); 14] = [
        ("Topic:", message.topic.clone()),
        ("Tags:", format!("[{}]", message.tags().unwrap_or("null"))),
        ("Keys:", format!("[{}]", message.keys().unwrap_or("null"))),
        ("Queue ID:", message.queue_id.to_string()),
        ("Queue Offset:", message.queue_offset.to_string()),
        ("CommitLog Offset:", message.commit_log_offset.to_string()),
        ("Reconsume Times:", message.reconsume_times.to_string()),
        ("Born Timestamp:", local_time(message.born_timestamp)),
        ("Store Timestamp:", local_time(message.store_timestamp)),
        ("Born Host:", message.born_host.to_string()),
        ("Store Host:", message.store_host.to_string()),
        ("System Flag:", message.sys_flag.to_string()),
        ("Properties:", java_map(properties, PROPERTY_BUCKETS)),
        ("Message Body Path:", body_path.to_owned()),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<20} {value}\n"))
        .collect()
}

async fn tracks_text(admin: &Admin, message: &StoredMessage) -> String {
    match admin.tracks(message).await {
        Ok(tracks) if tracks.is_empty() => "\n\nWARN: No Consumer\n".to_owned(),
        Ok(tracks) => {
            let mut text = "\n\n".to_owned();
            for track in tracks {
                let reason = track.exception_desc.as_deref().unwrap_or("null");
                let _ = writeln!(
                    text,
                    "MessageTrack [consumerGroup={}, trackType={}, exceptionDesc={reason}]",
                    track.consumer_group,
                    track.track_type.name(),
                );
            }
            text
        }
        Err(error) => {
            eprintln!("warning: what consumers did with the message is not known: {error}");
            String::new()
        }
    }
}

/// Saves the body where mqadmin does, and returns the path.
///
/// The id comes from a producer, so only harmless characters of it reach the path; the file is made anew, so that a link
/// which another user left there is not followed.
fn save_body(message: &StoredMessage, index: usize) -> Result<String, Failure> {
    let directory = PathBuf::from("/tmp/rocketmq/msgbodys");
    let harmless = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let mut name: String = message.msg_id.chars().map(harmless).take(200).collect();
    if index > 0 {
        let _ = write!(name, "_{index}");
    }
    let path = directory.join(name);
    let save = || -> io::Result<()> {
        fs::create_dir_all(&directory)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?
            .write_all(&message.body)
    };
    save().map_err(|error| {
        Failure::Other(format!(
            "cannot save the body to {}: {error}",
            path.display()
        ))
    })?;
    Ok(path.display().to_string())
}
