//! The broker over real sockets, seen as a client sees it.

// A test that cannot go on says where; helpers of tests are no exception.
#![allow(clippy::unwrap_used)]

mod harness;

mod admin;
mod bad_input;
mod batches;
mod clients;
mod cold;
mod compaction;
mod delayed;
mod disk;
mod filters;
mod light;
mod locks;
mod longpoll;
mod member;
mod offsets;
mod overload;
mod pop;
mod pop_order;
mod pop_waiting;
mod pull;
mod query;
mod registration;
mod reply;
mod resets;
mod restart;
mod send;
mod send_back;
mod static_topics;
mod timed;
mod tls;
mod topics;
mod transactions;
mod transactions_crash;
