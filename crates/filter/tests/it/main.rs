//! What expressions take, and which are refused where.

mod meaning;
mod round_trip;
mod syntax;
