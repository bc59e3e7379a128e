//! How groups take the messages of topics, by pull or by pop, kept in `config/messageRequestMode.json`. Java 5.3: `MessageRequestModeManager`.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use platform::disk::Disk;
use protocol::body::{MessageRequestModeSerializeWrapper, SetMessageRequestModeRequestBody};

use crate::persist::{JsonFile, LoadError};

/// The file.
const FILE: &str = "messageRequestMode.json";

/// The settings of all topics and groups.
#[derive(Debug)]
pub(crate) struct RequestModes {
    table: RwLock<MessageRequestModeSerializeWrapper>,
    file: JsonFile,
}

impl RequestModes {
    /// What `messageRequestMode.json` in `dir` holds; nothing when there is no such file. Reads it.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> Result<RequestModes, LoadError> {
        let file = JsonFile::new(dir.join(FILE), disk);
        let table = file.load()?.unwrap_or_default();
        Ok(RequestModes {
            table: RwLock::new(table),
            file,
        })
    }

    /// What was set for a topic and a group.
    pub(crate) fn get(&self, topic: &str, group: &str) -> Option<SetMessageRequestModeRequestBody> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .message_request_mode_map
            .get(topic)?
            .get(group)
            .cloned()
    }

    /// Sets it. On return it survives loss of power; on an error it holds until the next start. Blocks.
    pub(crate) fn set(&self, mode: SetMessageRequestModeRequestBody) -> io::Result<()> {
        // Held while the file is written: writers take turns, and readers wait for one small file.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let groups = table
            .message_request_mode_map
            .entry(mode.topic.clone())
            .or_default();
        groups.insert(mode.consumer_group.clone(), mode);
        self.file.replace(&*table)
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> MessageRequestModeSerializeWrapper {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.clone()
    }
}
