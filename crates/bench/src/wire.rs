//! The generator's sockets: one request and its answer, or whole answers cut from a stream.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use protocol::command::Command;
use protocol::frame;
use protocol::header::Header;

use crate::frames::OPAQUE_BASE;

/// A server that is silent for this long fails the run.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What one read asks for.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// A blocking connection whose reads and writes give up after [`SILENCE_MAX`].
pub(crate) fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, CONNECT_MAX)
        .with_context(|| format!("no server accepts connections at {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

/// A connection for questions to the server, beside the load.
pub(crate) struct Session {
    target: SocketAddr,
    stream: TcpStream,
    input: Input,
    answers: Vec<Option<Command>>,
}

impl Session {
    pub(crate) fn open(target: SocketAddr) -> Result<Self> {
        Ok(Self {
            target,
            stream: connect(target)?,
            input: Input::new(),
            answers: Vec::new(),
        })
    }

    /// Sends the request and waits for its answer.
    pub(crate) fn call(&mut self, request: Command) -> Result<Command> {
        let mut answers = self.call_all(vec![request])?;
        Ok(answers.remove(0))
    }

    /// The connection without what was for its answers.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends all requests and waits for all answers, which come back in the order of the requests.
    pub(crate) fn call_all(&mut self, requests: Vec<Command>) -> Result<Vec<Command>> {
        let target = self.target;
        let mut out = BytesMut::new();
        for (index, mut request) in requests.into_iter().enumerate() {
            request.opaque = OPAQUE_BASE + index as i32;
            request.encode(&mut out);
            self.answers.push(None);
        }
        self.stream
            .write_all(&out)
            .with_context(|| format!("{target} closed the connection"))?;
        while self.answers.iter().any(Option::is_none) {
            ensure!(
                self.input.fill(&mut self.stream)?,
                "{target} does not answer"
            );
            let answers = &mut self.answers;
            self.input.each(|header, body| {
                // A broker may ask something of its clients in between.
                if header.is_response() {
                    let index = header.opaque.wrapping_sub(OPAQUE_BASE) as usize;
                    let place = answers.get_mut(index).context("answer to no request")?;
                    let body = bytes::Bytes::copy_from_slice(body);
                    *place = Some(Command::from_header(&header, frame::Codec::Json, body));
                }
                Ok(())
            })?;
        }
        Ok(self.answers.drain(..).flatten().collect())
    }
}

/// Answers as they arrive: whole frames are taken from the front, the rest waits for more bytes.
pub(crate) struct Input {
    buffer: Vec<u8>,
    filled: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            filled: 0,
        }
    }

    /// One read; false when nothing came within the socket's timeout, or at once where it does not block.
    pub(crate) fn fill(&mut self, stream: &mut TcpStream) -> Result<bool> {
        match stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => {
                self.filled += read;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error).context("the connection broke"),
        }
    }

    /// Hands out every complete frame.
    pub(crate) fn each(
        &mut self,
        mut take: impl FnMut(Header<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        while let Some((frame, length)) =
            frame::split(&self.buffer[start..self.filled], frame::FRAME_BYTES_MAX)?
        {
            take(Header::decode(frame.codec, frame.header)?, frame.body)?;
            start += length;
        }
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        if self.filled == self.buffer.len() {
            // `split` refuses a frame above the limit, so this ends.
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        Ok(())
    }
}
