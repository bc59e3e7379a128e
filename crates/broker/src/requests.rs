//! One file a request, or a group of requests about one subject. Each names its codes in `HANDLERS`;
//! `crate::service` makes one table of them. Sends, pulls, pops, replies, messages that come back and ends of transactions have
//! signatures of their own.

pub(crate) mod batch;
pub(crate) mod end_transaction;
pub(crate) mod pop;
pub(crate) mod pull;
pub(crate) mod reply;
pub(crate) mod send;
pub(crate) mod send_back;

pub(crate) mod ack;
pub(crate) mod assignment;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod cold;
pub(crate) mod config;
pub(crate) mod forward;
pub(crate) mod group;
pub(crate) mod half_message;
pub(crate) mod lock;
pub(crate) mod offset;
pub(crate) mod query;
pub(crate) mod reset;
pub(crate) mod static_topic;
pub(crate) mod stats;
pub(crate) mod timer;
pub(crate) mod topic;
