//! What expressions take, and which are refused where.

mod meaning;
mod naive;
mod round_trip;
mod syntax;
