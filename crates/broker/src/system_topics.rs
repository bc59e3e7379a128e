//! system_topics
