//! The load generator and the floor program.
//!
//! One generator drives every server that speaks the protocol, so that ratios between servers are ratios of the
//! servers: the same frames, connections and in-flight counts, the same checks. [`Floor`] is the least that any broker
//! must do for the same load.
//!
//! | part | subject |
//! |---|---|
//! | `args`, [`Load`], [`Workload`] | what is asked for |
//! | `workloads` | what each workload sends and reads, and what must have arrived in the end |
//! | `engine` | one run: senders and readers as threads, observed over one interval |
//! | `producer`, `reader`, `popper`, `wire` | a connection that sends, one that pulls, one that pops, what all stand on |
//! | `frames`, `stamp` | requests built ahead and patched; who sent a message, and when it was due |
//! | [`Overload`] | more than a broker can take, and clients that hold its memory |
//! | `site`, `ledger` | the queues at the server; what was received against what was acknowledged |
//! | [`TimerLoad`] | messages that wait by the million, and how late those are that do not |
//! | `topics` | many topics and many idle connections |
//! | [`Transactions`] | halves and their ends |
//! | [`HandOver`] | queues of a client that dies |
//! | `member` | a client of a group, as its heartbeat makes it |
//! | [`Report`], `compare`, [`Usage`] | figures |

mod args;
mod busy;
mod compare;
mod engine;
mod floor;
mod frames;
mod hand_over;
mod ledger;
mod load;
mod member;
mod overload;
mod popper;
mod probe;
mod process;
mod producer;
mod reader;
mod report;
mod site;
mod stamp;
mod timers;
mod topics;
mod transactions;
mod wire;
mod workloads;

pub use args::{Args, run};
pub use floor::Floor;
pub use hand_over::{HandOver, HandOverReport, run as run_hand_over};
pub use load::{Codec, Load, Workload};
pub use overload::{Overload, OverloadReport, run as run_overload};
pub use probe::first_accepted;
pub use process::Usage;
pub use report::{BrokerCost, Drained, GeneratorCost, Latency, Received, Report, Setup, Verified};
pub use timers::{TimerLoad, TimerReport, run as run_timers};
pub use topics::{Created, Creation, IdleConnections, raise_descriptors};
pub use transactions::{Transactions, TransactionsReport};
pub use workloads::run as run_workload;
