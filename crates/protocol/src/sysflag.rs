//! Bits of the `sysFlag` words: of a message, of a pull request, of a topic.

/// The body is compressed; `compression` says how.
pub const COMPRESSED: i32 = 0x1;
/// The message carries several tags.
pub const MULTI_TAGS: i32 = 0x2;
/// The two bits of the transaction state.
pub const TRANSACTION_MASK: i32 = 0x3 << 2;
/// Not part of a transaction.
pub const TRANSACTION_NONE: i32 = 0;
/// A half message.
pub const TRANSACTION_PREPARED: i32 = 0x1 << 2;
/// A committed message.
pub const TRANSACTION_COMMIT: i32 = 0x2 << 2;
/// A rolled-back message.
pub const TRANSACTION_ROLLBACK: i32 = 0x3 << 2;
/// The born host of the record is an IPv6 address.
pub const BORN_HOST_V6: i32 = 0x1 << 4;
/// The store host of the record is an IPv6 address.
pub const STORE_HOST_V6: i32 = 0x1 << 5;
/// The body holds a batch that the consumer takes apart.
pub const NEED_UNWRAP: i32 = 0x1 << 6;
/// One record stands for a batch.
pub const INNER_BATCH: i32 = 0x1 << 7;
/// The three bits of the compression type.
pub const COMPRESSION_MASK: i32 = 0x7 << 8;

/// How a compressed body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A zlib stream; also what no type at all means.
    Zlib,
    /// An LZ4 frame.
    Lz4,
    /// A Zstandard frame.
    Zstd,
}

impl Compression {
    /// The bits that announce this type.
    pub const fn bits(self) -> i32 {
        match self {
            Compression::Lz4 => 1 << 8,
            Compression::Zstd => 2 << 8,
            Compression::Zlib => 3 << 8,
        }
    }
}

/// The compression of a message's body; `None` when it is not compressed or the type is unknown.
pub const fn compression(sys_flag: i32) -> Option<Compression> {
    if sys_flag & COMPRESSED == 0 {
        return None;
    }
    match (sys_flag & COMPRESSION_MASK) >> 8 {
        0 | 3 => Some(Compression::Zlib),
        1 => Some(Compression::Lz4),
        2 => Some(Compression::Zstd),
        _ => None,
    }
}

/// The transaction state: one of the `TRANSACTION_` values.
pub const fn transaction(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}

/// Pull: the request also commits `commitOffset`.
pub const PULL_COMMIT_OFFSET: i32 = 0x1;
/// Pull: the broker may hold the request until a message arrives.
pub const PULL_SUSPEND: i32 = 0x1 << 1;
/// Pull: the request carries its own filter expression.
pub const PULL_SUBSCRIPTION: i32 = 0x1 << 2;
/// Pull: filter by class.
pub const PULL_CLASS_FILTER: i32 = 0x1 << 3;
/// Pull: sent by a lite pull consumer.
pub const PULL_LITE: i32 = 0x1 << 4;

/// Topic: belongs to one unit.
pub const TOPIC_UNIT: i32 = 0x1;
/// Topic: has subscribers of a unit.
pub const TOPIC_UNIT_SUB: i32 = 0x1 << 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_means_zlib() {
        assert_eq!(compression(COMPRESSED), Some(Compression::Zlib));
        assert_eq!(compression(Compression::Lz4.bits()), None);
        for compressed in [Compression::Zlib, Compression::Lz4, Compression::Zstd] {
            assert_eq!(
                compression(COMPRESSED | compressed.bits()),
                Some(compressed)
            );
        }
    }
}
