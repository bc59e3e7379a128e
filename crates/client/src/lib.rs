//! Producer and consumers over remoting.
