//! UPDATE_BROKER_CONFIG (25) and GET_BROKER_CONFIG (26). Java 5.3: `AdminBrokerProcessor`, `Configuration`.

use std::io;
use std::path::Path;
use std::str;

use configuration::{Entry as Property, KeySet};
use platform::disk::{Disk, OpenMode};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::GetBrokerConfigResponse;
use protocol::json;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::UPDATE_BROKER_CONFIG, Kind::Blocking, update),
    (RequestCode::GET_BROKER_CONFIG, Kind::Inline, get),
];

/// Keys that nobody changes from afar, as in Java.
const FIXED: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];
/// A configuration file is no larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Changes settings. All of them are checked before the first one holds; the file that the broker was started with is
/// changed as well, so that they hold after a restart.
fn update(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let text =
        str::from_utf8(call.body()).map_err(|_| Refusal::system_error("the body is not UTF-8"))?;
    let wanted =
        configuration::parse(text).map_err(|error| Refusal::system_error(error.to_string()))?;
    if wanted
        .iter()
        .any(|property| FIXED.contains(&property.key.as_str()))
    {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            "Can not update config in black list.",
        ));
    }
    let before = broker.keys();
    let mut keys = (*before).clone();
    let applied = configuration::apply("request", text, &mut keys);
    applied.map_err(|error| Refusal::system_error(error.to_string()))?;
    if let Some(path) = &broker.context().config_file {
        rewrite(&*broker.context().disk, path, &wanted).map_err(|error| {
            Refusal::system_error(format!(
                "nothing was changed: cannot write {}: {error}",
                path.display()
            ))
        })?;
    }
    for property in &wanted {
        let (old, new) = (before.get(&property.key), keys.get(&property.key));
        tracing::info!(key = property.key, ?old, ?new, by = %call.connection.peer(), "a setting was changed");
    }
    if keys.broker_permission != before.broker_permission {
        broker.topics.renew_version();
    }
    broker.set_keys(keys);
    Ok(Reply::ok())
}

/// Puts the properties into a file in place of those of the same keys; everything else stays as its owner wrote it.
fn rewrite(disk: &dyn Disk, path: &Path, wanted: &[Property]) -> io::Result<()> {
    let text = if disk.exists(path) {
        read(disk, path)?
    } else {
        String::new()
    };
    let new = replaced(&text, wanted);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = Path::new(&beside);
    let file = disk.open(beside, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(new.as_bytes(), 0)?;
    file.sync_all()?;
    disk.rename(beside, path)?;
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => disk.sync_dir(dir),
        _ => disk.sync_dir(Path::new(".")),
    }
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = vec![0; len as usize];
    file.read_exact_at(&mut text, 0)?;
    String::from_utf8(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8"))
}

/// The text with the lines of these keys removed and added anew at its end.
fn replaced(text: &str, wanted: &[Property]) -> String {
    let is_wanted = |key: &str| wanted.iter().any(|property| property.key == key);
    let mut out = String::with_capacity(text.len());
    let mut drops_continuation = false;
    for line in text.lines() {
        let continues = line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        let entry = configuration::parse(line)
            .ok()
            .and_then(|mut entries| entries.pop());
        let drops = drops_continuation || entry.is_some_and(|entry| is_wanted(&entry.key));
        drops_continuation = drops && continues;
        if !drops {
            out.push_str(line);
            out.push('\n');
        }
    }
    for property in wanted {
        out.push_str(&format!(
            "{}={}\n",
            property.key,
            property.value.replace('\\', "\\\\")
        ));
    }
    out
}

fn get(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let version =
        String::from_utf8(json::encode(&broker.topics.data_version())).unwrap_or_default();
    Ok(Reply::ok()
        .header(&GetBrokerConfigResponse { version })
        .body(broker.keys().to_properties()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_is_not_changed() {
        let text = "# mine\nbrokerName = a\nlongKey=1\\\n  2\n\nfileReservedTime=48\nbrokerName=b";
        let wanted = configuration::parse("fileReservedTime=12\nnew=C:\\\\x").unwrap();
        let got = replaced(text, &wanted);
        assert_eq!(
            got,
            "# mine\nbrokerName = a\nlongKey=1\\\n  2\n\nbrokerName=b\nfileReservedTime=12\nnew=C:\\\\x\n"
        );
        let wanted = configuration::parse("longKey=3").unwrap();
        assert!(!replaced(text, &wanted).contains("  2"));
        assert_eq!(replaced("", &wanted), "longKey=3\n");
    }
}
