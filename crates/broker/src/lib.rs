//! Keeps and hands out messages.
