//! Commit log, consume queues, index, recovery, retention. Knows no sockets.
