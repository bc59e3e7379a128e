//! The configuration while the server runs: read by every request, changed by an operator, kept in its file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use platform::disk::Disk;
use protocol::code::ResponseCode;

use crate::Config;
use crate::kv::{read, replace};
use crate::requests::Refusal;
use crate::routes::Policy;

/// Keys that decide where files and sockets are; they hold from the start on.
const FIXED: [&str; 6] = [
    "bindAddress",
    "configBlackList",
    "configStorePath",
    "kvConfigPath",
    "listenPort",
    "rocketmqHome",
];

/// The current configuration, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Settings {
    current: RwLock<Arc<Config>>,
    disk: Arc<dyn Disk>,
    /// One change at a time, with its file; always taken before `current`.
    changing: Mutex<()>,
}

impl Settings {
    pub(crate) fn new(config: Config, disk: Arc<dyn Disk>) -> Settings {
        Settings {
            current: RwLock::new(Arc::new(config)),
            disk,
            changing: Mutex::new(()),
        }
    }

    pub(crate) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn policy(&self) -> Policy {
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Policy {
            acting_master: config.support_acting_master,
            delete_absent_topics: config.delete_topic_with_broker_registration,
            notify_min_id: config.notify_min_broker_id_changed,
        }
    }

    /// Takes `key=value` lines in, all of them or none, and writes them to the file. Blocks on the disk.
    ///
    /// Java accepts keys that it does not know without a word; here they are refused, since a key that is set to no effect is
    /// a mistake that somebody will look for.
    pub(crate) fn update(&self, text: &str) -> Result<(), Refusal> {
        let entries = configuration::parse(text).map_err(|error| refusal(error.to_string()))?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = Config::clone(&self.current());
        let black_list = config.config_black_list.clone();
        if entries.iter().any(|entry| {
            FIXED.contains(&&*entry.key) || black_list.split(';').any(|key| key == entry.key)
        }) {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                "Can not update config in black list.",
            ));
        }
        configuration::apply("the update", text, &mut config)
            .map_err(|error| refusal(error.to_string()))?;
        let path = Path::new(&config.config_store_path);
        let saved = read(&*self.disk, path).and_then(|old| {
            let old = String::from_utf8_lossy(old.as_deref().unwrap_or_default()).into_owned();
            replace(&*self.disk, path, merged(&old, &entries).as_bytes())
        });
        saved.map_err(|error| refusal(format!("{} cannot be written: {error}", path.display())))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }
}

fn refusal(remark: String) -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
}

/// The file's text with some keys set: their lines are replaced where they stand alone, everything else stays, comments
/// included, and keys without a line are appended.
fn merged(old: &str, changes: &[configuration::Entry]) -> String {
    let line_of = |entry: &configuration::Entry| {
        format!("{}={}", entry.key, entry.value.replace('\\', "\\\\"))
    };
    let mut written: Vec<&str> = Vec::new();
    let mut text = String::new();
    for line in old.lines() {
        let change = configuration::parse(line)
            .ok()
            .filter(|entries| entries.len() == 1 && !line.trim_end().ends_with('\\'))
            .and_then(|entries| changes.iter().rfind(|change| change.key == entries[0].key));
        match change {
            Some(change) if written.contains(&&*change.key) => {}
            Some(change) => {
                written.push(&change.key);
                text += &line_of(change);
                text.push('\n');
            }
            None => {
                text += line;
                text.push('\n');
            }
        }
    }
    for change in changes {
        if !written.contains(&&*change.key) {
            text += &line_of(change);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::disk::RealDisk;

    #[test]
    fn a_change_keeps_the_rest_of_the_file() {
        let check = |old: &str, changes: &str, want: &str| {
            assert_eq!(merged(old, &configuration::parse(changes).unwrap()), want);
        };
        check("", "a=1", "a=1\n");
        check(
            "# why\na = 1\nb=2\n",
            "b=3\nc=4",
            "# why\na = 1\nb=3\nc=4\n",
        );
        check("a=1\na=2\n", "a=3", "a=3\n");
    }

    #[test]
    fn updates_hold_at_once_and_survive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("conf/namesrv.properties");
        let config = Config {
            config_store_path: path.display().to_string(),
            ..Config::default()
        };
        let settings = Settings::new(config, Arc::new(RealDisk));
        settings
            .update("supportActingMaster=true\nenableTopicList=false\n")
            .unwrap();
        assert!(settings.policy().acting_master);
        assert!(!settings.current().enable_topic_list);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "supportActingMaster=true\nenableTopicList=false\n");

        let code = |text: &str| settings.update(text).unwrap_err().code;
        assert_eq!(
            code("enableTopicList=true\nlistenPort=1"),
            ResponseCode::NO_PERMISSION
        );
        assert_eq!(code("kvConfigPath=/x"), ResponseCode::NO_PERMISSION);
        assert_eq!(
            code("enableTopicList=true\nenableTopicLst=true"),
            ResponseCode::SYSTEM_ERROR
        );
        assert_eq!(code("enableTopicList=maybe"), ResponseCode::SYSTEM_ERROR);
        assert!(!settings.current().enable_topic_list, "all or nothing");
    }
}
