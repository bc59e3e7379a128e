//! Permission bits of topics and brokers.

/// Prefer this topic's queues.
pub const PRIORITY: i32 = 0x1 << 3;
/// Consumers may read.
pub const READ: i32 = 0x1 << 2;
/// Producers may write.
pub const WRITE: i32 = 0x1 << 1;
/// Topics created on demand inherit from this one.
pub const INHERIT: i32 = 0x1;

/// Whether consumers may read.
pub const fn is_readable(perm: i32) -> bool {
    perm & READ != 0
}

/// Whether producers may write.
pub const fn is_writable(perm: i32) -> bool {
    perm & WRITE != 0
}

/// Whether topics may inherit.
pub const fn is_inherited(perm: i32) -> bool {
    perm & INHERIT != 0
}

/// The form that tools print: `RW-`, `RWX`.
pub fn describe(perm: i32) -> String {
    let letter = |set: bool, letter: char| if set { letter } else { '-' };
    [
        letter(is_readable(perm), 'R'),
        letter(is_writable(perm), 'W'),
        letter(is_inherited(perm), 'X'),
    ]
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn tools_print_letters() {
        assert_eq!(super::describe(6), "RW-");
        assert_eq!(super::describe(7), "RWX");
        assert_eq!(super::describe(4), "R--");
    }
}
