//! Bytes to values and back: remoting frames, headers, bodies, the message record. No I/O, no clock.
