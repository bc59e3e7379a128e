//! JSON with a line for each entry, indented with tabs, as Java's files are. Made on the way from the serializer to the
//! file, so that a table of any size takes no more memory than the writer behind it.

use std::io::{self, Write};

/// Passes compact JSON on with line ends and indentation.
pub(super) struct Pretty<W> {
    to: W,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The last byte opened an object or a list: whether a line follows depends on the next one.
    opened: bool,
}

impl<W: Write> Pretty<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            depth: 0,
            in_string: false,
            escaped: false,
            opened: false,
        }
    }

    /// The writer behind it.
    pub(super) fn into_inner(self) -> W {
        self.to
    }

    fn new_line(&mut self) -> io::Result<()> {
        const TABS: [u8; 16] = [b'\t'; 16];
        self.to.write_all(b"\n")?;
        let mut left = self.depth;
        while left > 0 {
            let tabs = left.min(TABS.len());
            self.to.write_all(&TABS[..tabs])?;
            left -= tabs;
        }
        Ok(())
    }

    fn put(&mut self, byte: u8) -> io::Result<()> {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return self.to.write_all(&[byte]);
        }
        let closes = matches!(byte, b'}' | b']');
        let opened = std::mem::replace(&mut self.opened, matches!(byte, b'{' | b'['));
        if closes {
            self.depth = self.depth.saturating_sub(1);
        }
        if opened != closes {
            self.new_line()?;
        }
        self.to.write_all(&[byte])?;
        match byte {
            b'{' | b'[' => self.depth += 1,
            b',' => self.new_line()?,
            _ => self.in_string = byte == b'"',
        }
        Ok(())
    }
}

impl<W: Write> Write for Pretty<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.put(byte)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_java() {
        let mut pretty = Pretty::new(Vec::new());
        pretty.write_all(br#"{"a":"{[,\""#).unwrap();
        pretty
            .write_all(br#"","b":[],"c":{"d":{},0:[1,2]}}"#)
            .unwrap();
        let text = String::from_utf8(pretty.into_inner()).unwrap();
        assert_eq!(
            text,
            "{\n\t\"a\":\"{[,\\\"\",\n\t\"b\":[],\n\t\"c\":{\n\t\t\"d\":{},\n\t\t0:[\n\t\t\t1,\n\t\t\t2\n\t\t]\n\t}\n}"
        );
    }
}
