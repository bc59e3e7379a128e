//! Which broker serves which topic.
