//! Bodies compressed by clients: the three codecs that the protocol names.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use protocol::sysflag::{self, Compression as Codec};

/// A decompressed body above this is refused: 4 MiB is the largest body that a broker takes by default, and a
/// kilobyte of zeros compresses a thousandfold.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Compresses with zlib as Java's clients do by default (level 5).
pub(crate) fn compress(body: &[u8]) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(body.len() / 2), Compression::new(5));
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("writing to a Vec cannot fail")
        .into()
}

/// Undoes the compression that `sys_flag` names.
pub(crate) fn decompress(sys_flag: i32, body: &[u8]) -> Result<Bytes, String> {
    let plain = match sysflag::compression(sys_flag) {
        Some(Codec::Zlib) => read_bounded(ZlibDecoder::new(body)),
        Some(Codec::Lz4) => read_bounded(lz4_flex::frame::FrameDecoder::new(body)),
        Some(Codec::Zstd) => zstd::Decoder::new(body).and_then(read_bounded),
        None => {
            return Err(format!(
                "system flag {sys_flag:#x} names no known compression"
            ));
        }
    };
    plain.map_err(|e| format!("a compressed body cannot be read: {e}"))
}

fn read_bounded(source: impl Read) -> io::Result<Bytes> {
    let mut plain = Vec::new();
    source.take(BODY_BYTES_MAX + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > BODY_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is longer than {BODY_BYTES_MAX} bytes when decompressed"
        )));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Vec<u8> {
        b"apogee ".repeat(1000)
    }

    #[test]
    fn zlib_round_trip() {
        let packed = compress(&body());
        assert!(packed.len() < body().len() / 10);
        let flag = sysflag::COMPRESSED | Codec::Zlib.bits();
        assert_eq!(decompress(flag, &packed).unwrap(), body());
    }

    #[test]
    fn lz4_and_zstd_bodies_of_other_clients_are_read() {
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&body()).unwrap();
        let flag = sysflag::COMPRESSED | Codec::Lz4.bits();
        assert_eq!(decompress(flag, &lz4.finish().unwrap()).unwrap(), body());

        let zstd = zstd::encode_all(body().as_slice(), 3).unwrap();
        let flag = sysflag::COMPRESSED | Codec::Zstd.bits();
        assert_eq!(decompress(flag, &zstd).unwrap(), body());
    }

    #[test]
    fn broken_zlib_is_an_error() {
        assert!(decompress(sysflag::COMPRESSED, b"not zlib").is_err());
    }
}
