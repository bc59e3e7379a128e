//! A checksum in a JSON file, as its last member: `"apogeeCrc32":"1a2b3c4d"`.
//!
//! Java's reader passes over members that it does not know, and what Java or a person writes without it is read as before. The checksum, CRC-32,
//! is of the text without the member and the comma before it.

use std::borrow::Cow;
use std::io::{self, Write};

const NAME: &[u8] = b"\"apogeeCrc32\":\"";
const DIGITS: usize = 8;

/// What the checksum says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// There is none: Java wrote the file, or a person.
    Absent,
    /// The text is what was written.
    Whole,
    /// The text was changed since: by hand, or by a disk.
    Broken,
}

/// Passes the text of an object on and puts its checksum in at the end, so that a table of any size needs no copy of its text.
#[derive(Debug)]
pub struct Sealer<W> {
    to: W,
    crc: crc32fast::Hasher,
    /// The last bytes: the end of the object, and the line end before it where there is one.
    held: Vec<u8>,
    bytes: u64,
}

/// What ends an object on a line of its own.
const END: &[u8] = b"\n}";

impl<W: Write> Sealer<W> {
    /// Passes on to `to`.
    pub fn new(to: W) -> Self {
        Sealer {
            to,
            crc: crc32fast::Hasher::new(),
            held: Vec::with_capacity(END.len() + 1),
            bytes: 0,
        }
    }

    /// Writes the checksum and the end, and gives the writer behind it. What was no object stays as it was.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        let space: &[u8] = if self.held == END { b"\n" } else { b"" };
        let Some(inner) = self.held.strip_suffix(b"}") else {
            self.to.write_all(&self.held)?;
            return Ok(self.to);
        };
        self.to.write_all(&inner[..inner.len() - space.len()])?;
        if self.bytes > b"{}".len() as u64 {
            self.to.write_all(b",")?;
        }
        if !space.is_empty() {
            self.to.write_all(b"\n\t")?;
        }
        self.to.write_all(NAME)?;
        write!(self.to, "{:08x}\"", self.crc.finalize())?;
        self.to.write_all(space)?;
        self.to.write_all(b"}")?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        let (first, last) = bytes.split_at(bytes.len().saturating_sub(END.len()));
        if !first.is_empty() {
            self.to.write_all(&self.held)?;
            self.to.write_all(first)?;
            self.held.clear();
        }
        self.held.extend_from_slice(last);
        let early = self.held.len().saturating_sub(END.len());
        self.to.write_all(&self.held[..early])?;
        self.held.drain(..early);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The text of an object with its checksum in it. What is no object stays as it is.
pub fn seal(text: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(Vec::with_capacity(text.len() + NAME.len() + DIGITS + 8));
    sealer
        .write_all(text)
        .and_then(|()| sealer.finish())
        .expect("memory takes every byte")
}

/// The text without the checksum, and what that says. A checksum that is not the last member is left in the text.
pub fn unseal(text: &[u8]) -> (Cow<'_, [u8]>, Seal) {
    let found = text.windows(NAME.len()).rposition(|part| part == NAME);
    let Some(at) = found else {
        return (Cow::Borrowed(text), Seal::Absent);
    };
    let before = text[..at].trim_ascii_end();
    let before = before.strip_suffix(b",").unwrap_or(before);
    let rest = &text[at + NAME.len()..];
    let Some((digits, rest)) = rest.split_at_checked(DIGITS) else {
        return (Cow::Borrowed(text), Seal::Broken);
    };
    let Some(rest) = rest
        .strip_prefix(b"\"")
        .filter(|rest| rest.trim_ascii() == b"}")
    else {
        return (Cow::Borrowed(text), Seal::Broken);
    };
    let plain = [before, rest].concat();
    let is_whole = format!("{:08x}", crc32fast::hash(&plain)).as_bytes() == digits;
    let seal = if is_whole { Seal::Whole } else { Seal::Broken };
    (Cow::Owned(plain), seal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_json_and_comes_back() {
        for text in [&b"{\n\t\"a\":1\n}"[..], b"{\"a\":{}}", b"{}"] {
            let sealed = seal(text);
            serde_json::from_slice::<serde_json::Value>(&sealed).unwrap();
            assert_eq!(unseal(&sealed), (Cow::Borrowed(text), Seal::Whole));
        }
        let sealed = String::from_utf8(seal(b"{\n\t\"a\":1\n}")).unwrap();
        assert!(
            sealed.starts_with("{\n\t\"a\":1,\n\t\"apogeeCrc32\":\"") && sealed.ends_with("\"\n}")
        );
    }

    #[test]
    fn however_the_text_comes_its_seal_is_the_same() {
        for text in [
            &b"{\n\t\"a\":1\n}"[..],
            b"{\"a\":{}}",
            b"{}",
            b"[1]",
            b"}",
            b"",
        ] {
            for piece in 1..=text.len().max(1) {
                let mut sealer = Sealer::new(Vec::new());
                for part in text.chunks(piece) {
                    sealer.write_all(part).unwrap();
                }
                assert_eq!(sealer.finish().unwrap(), seal(text), "{piece}");
            }
        }
    }

    #[test]
    fn what_was_changed_is_told_and_kept() {
        let sealed = String::from_utf8(seal(b"{\n\t\"a\":1\n}")).unwrap();
        let edited = sealed.replace("1,", "2,");
        let (text, seal) = unseal(edited.as_bytes());
        assert_eq!((&*text, seal), (&b"{\n\t\"a\":2\n}"[..], Seal::Broken));
        let behind = sealed.replace("\"\n}", "\",\"b\":2}");
        assert_eq!(unseal(behind.as_bytes()).1, Seal::Broken);
        assert_eq!(unseal(b"{\"a\":1}").1, Seal::Absent);
    }
}
