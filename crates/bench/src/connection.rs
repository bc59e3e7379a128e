//! One connection of the generator: a thread that keeps a fixed number of requests in flight.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use hdrhistogram::Histogram;
use protocol::command::Command;
use protocol::frame;
use protocol::header::Header;

use crate::frames::{Frames, OPAQUE_BASE};

/// A server that is silent for this long fails the run.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 256 << 10;

/// What one connection saw.
pub(crate) struct Tally {
    pub(crate) acknowledged_in_all: u64,
    pub(crate) acknowledged_measured: u64,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<String>,
    pub(crate) latencies_us: Histogram<u64>,
}

/// When measuring begins and ends.
#[derive(Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

/// Keeps `window` requests in flight until the interval ends, then waits for the outstanding answers.
pub(crate) fn drive(
    target: SocketAddr,
    frames: &Frames,
    window: usize,
    first_queue: usize,
    interval: Interval,
) -> Result<Tally> {
    let mut stream = connect(target)?;
    let mut tally = Tally {
        acknowledged_in_all: 0,
        acknowledged_measured: 0,
        refused: 0,
        first_refusal: None,
        latencies_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
    };
    let mut sent_at = vec![Instant::now(); window];
    let mut free: Vec<usize> = (0..window).collect();
    let mut queue = first_queue;
    let mut out = Vec::with_capacity(READ_BYTES);
    let mut input = Input::new();
    loop {
        let now = Instant::now();
        if now < interval.end {
            let now_ms = unix_ms();
            for slot in free.drain(..) {
                frames.write(queue, OPAQUE_BASE + slot as i32, now_ms, &mut out);
                queue += 1;
                sent_at[slot] = now;
            }
            stream
                .write_all(&out)
                .context("the server closed the connection")?;
            out.clear();
        } else if free.len() == window {
            return Ok(tally);
        }
        input.fill(&mut stream)?;
        let arrived = Instant::now();
        input.each(|header| {
            let slot = (header.opaque - OPAQUE_BASE) as usize;
            ensure!(
                slot < window,
                "answer to a request that was not made (opaque {})",
                header.opaque
            );
            free.push(slot);
            if header.code != 0 {
                tally.refused += 1;
                let remark = header.remark.unwrap_or_default();
                tally
                    .first_refusal
                    .get_or_insert_with(|| format!("code {}: {remark}", header.code));
                return Ok(());
            }
            tally.acknowledged_in_all += 1;
            if arrived >= interval.begin && arrived < interval.end {
                tally.acknowledged_measured += 1;
                let micros = (arrived - sent_at[slot]).as_micros() as u64;
                tally.latencies_us.saturating_record(micros);
            }
            Ok(())
        })?;
    }
}

/// One request and its answer on a connection of its own.
pub(crate) fn call(target: SocketAddr, mut request: Command) -> Result<Command> {
    let mut stream = connect(target)?;
    request.opaque = OPAQUE_BASE;
    let mut out = BytesMut::new();
    request.encode(&mut out);
    stream.write_all(&out)?;
    let mut input = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "{target} closed the connection without an answer");
        input.extend_from_slice(&chunk[..read]);
        if let Some((frame, _)) = frame::split(&input, frame::FRAME_BYTES_MAX)? {
            return Ok(Command::decode(&frame)?);
        }
    }
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target)
        .with_context(|| format!("no server accepts connections at {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

/// Answers as they arrive: whole frames are taken from the front, the rest waits for more bytes.
struct Input {
    buffer: Vec<u8>,
    filled: usize,
}

impl Input {
    fn new() -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            filled: 0,
        }
    }

    fn fill(&mut self, stream: &mut TcpStream) -> Result<()> {
        let read = stream
            .read(&mut self.buffer[self.filled..])
            .context("the server is silent")?;
        if read == 0 {
            bail!("the server closed the connection");
        }
        self.filled += read;
        Ok(())
    }

    fn each(&mut self, mut take: impl FnMut(Header<'_>) -> Result<()>) -> Result<()> {
        let mut start = 0;
        while let Some((frame, length)) =
            frame::split(&self.buffer[start..self.filled], frame::FRAME_BYTES_MAX)?
        {
            take(Header::decode(frame.codec, frame.header)?)?;
            start += length;
        }
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        ensure!(
            self.filled < self.buffer.len(),
            "an answer is larger than {READ_BYTES} bytes"
        );
        Ok(())
    }
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}
