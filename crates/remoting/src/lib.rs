//! Connections, server and client side: framing, correlation, batching, back-pressure, TLS; and an in-process transport.
