//! The command line's administrative commands: mqadmin's names and flags.
