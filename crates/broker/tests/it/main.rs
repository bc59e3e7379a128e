//! The broker over real sockets, seen as a client sees it.

mod harness;

mod admin;
mod bad_input;
mod clients;
mod disk;
mod locks;
mod longpoll;
mod offsets;
mod pull;
mod query;
mod registration;
mod restart;
mod send;
mod topics;
