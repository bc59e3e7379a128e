//! RocketMQ's properties files: parsing, the known keys, and what to say about the others.
