//! The least that any broker must do for a send: cut frames, check the body, build the record, append it, answer.
//!
//! No topics, no queues, no index, no registry, no error handling beyond closing the connection. What a broker costs
//! more than this is what its features cost, or waste.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};
use bytes::BytesMut;
use protocol::frame::{self, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// The file is filled around and around below this size, so that a long run does not fill the disk.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Bytes of a store record besides body, topic and properties.
const RECORD_FIXED_BYTES: usize = 91;
/// Answer as long as a broker's: ids, queue offset.
const ANSWER_BYTES: usize = 140;

/// A running floor program.
pub struct Floor {
    runtime: Runtime,
    listener: TcpListener,
    log: Arc<Log>,
}

struct Log {
    file: File,
    tail: Mutex<Tail>,
    /// Appended and flushed positions; the flusher follows the first and moves the second.
    appended: watch::Sender<u64>,
    flushed: watch::Sender<u64>,
    sync: bool,
}

#[derive(Default)]
struct Tail {
    position: u64,
    queue_offsets: [u64; 8],
    entries: Vec<[u8; 20]>,
}

impl Floor {
    /// Binds the port on loopback and opens the file.
    ///
    /// # Errors
    /// When the port is taken or the file cannot be created.
    pub fn start(port: u16, file: &Path, sync: bool) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_io()
            .build()?;
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", port)))
            .with_context(|| format!("port {port} is taken"))?;
        let file =
            File::create(file).with_context(|| format!("{} cannot be created", file.display()))?;
        let log = Arc::new(Log {
            file,
            tail: Mutex::default(),
            appended: watch::Sender::new(0),
            flushed: watch::Sender::new(0),
            sync,
        });
        Ok(Self {
            runtime,
            listener,
            log,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    /// Serves until the process is stopped.
    ///
    /// # Errors
    /// When accepting fails.
    pub fn serve(self) -> Result<()> {
        if self.log.sync {
            let log = Arc::clone(&self.log);
            thread::spawn(move || log.flush_loop());
        }
        self.runtime.block_on(async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(serve_connection(stream, Arc::clone(&self.log)));
            }
        })
    }
}

async fn serve_connection(mut stream: TcpStream, log: Arc<Log>) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(256 << 10);
    let mut records = Vec::with_capacity(256 << 10);
    let mut answers = Vec::with_capacity(64 << 10);
    let mut flushed = log.flushed.subscribe();
    loop {
        input.reserve(64 << 10);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut taken = 0;
        while let Ok(Some((frame, length))) = frame::split(&input[taken..], frame::FRAME_BYTES_MAX)
        {
            append_record(&frame, &mut records);
            append_answer(&frame, &mut answers);
            taken += length;
        }
        if taken == 0 {
            continue;
        }
        let _ = input.split_to(taken);
        let end = log.append(&mut records)?;
        if log.sync {
            let passed = flushed.wait_for(|flushed| *flushed >= end).await;
            passed.map_err(|_| io::Error::other("the flusher stopped"))?;
        }
        stream.write_all(&answers).await?;
        answers.clear();
    }
}

impl Log {
    /// One write for all records of a read; a queue entry for each.
    fn append(&self, records: &mut Vec<u8>) -> io::Result<u64> {
        let mut tail = self.tail.lock().expect("no holder panics");
        let mut at = 0;
        while at < records.len() {
            let size = u32::from_be_bytes(records[at..at + 4].try_into().expect("four bytes"));
            let position = tail.position + at as u64;
            let queue = (position / 1024 % 8) as usize;
            let offset = tail.queue_offsets[queue];
            tail.queue_offsets[queue] = offset + 1;
            records[at + 20..at + 28].copy_from_slice(&offset.to_be_bytes());
            records[at + 28..at + 36].copy_from_slice(&position.to_be_bytes());
            let mut entry = [0; 20];
            entry[..8].copy_from_slice(&position.to_be_bytes());
            entry[8..12].copy_from_slice(&size.to_be_bytes());
            tail.entries.push(entry);
            at += size as usize;
        }
        self.file
            .write_all_at(records, tail.position % FILE_BYTES_MAX)?;
        tail.position += records.len() as u64;
        if tail.entries.len() > 4096 {
            tail.entries.clear();
        }
        let end = tail.position;
        drop(tail);
        records.clear();
        if self.sync {
            self.appended.send_replace(end);
        }
        Ok(end)
    }

    fn flush_loop(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without drivers needs nothing");
        let mut appended = self.appended.subscribe();
        while runtime.block_on(appended.changed()).is_ok() {
            let end = *appended.borrow_and_update();
            if let Err(error) = self.file.sync_data() {
                eprintln!("floor: fdatasync failed: {error}");
                return;
            }
            self.flushed.send_replace(end);
        }
    }
}

fn append_record(frame: &Frame<'_>, records: &mut Vec<u8>) {
    let size = RECORD_FIXED_BYTES + frame.body.len() + 40;
    let start = records.len();
    records.extend_from_slice(&(size as u32).to_be_bytes());
    records.extend_from_slice(&0xDAA3_20A7_u32.to_be_bytes());
    records.extend_from_slice(&crc32fast::hash(frame.body).to_be_bytes());
    records.resize(start + 84, 0);
    records.extend_from_slice(&(frame.body.len() as u32).to_be_bytes());
    records.extend_from_slice(frame.body);
    records.resize(start + size, 0);
}

/// Echoes the opaque in a binary answer with a payload as long as a real one.
fn append_answer(frame: &Frame<'_>, answers: &mut Vec<u8>) {
    let opaque = opaque_of(frame).unwrap_or(0);
    let remark = [b'0'; ANSWER_BYTES];
    let header_bytes = 21 + remark.len();
    answers.extend_from_slice(&(4 + header_bytes as u32).to_be_bytes());
    answers.extend_from_slice(&(1 << 24 | header_bytes as u32).to_be_bytes());
    answers.extend_from_slice(&[0, 0, 0, 1, 0xDF]);
    answers.extend_from_slice(&opaque.to_be_bytes());
    answers.extend_from_slice(&1_u32.to_be_bytes());
    answers.extend_from_slice(&(remark.len() as u32).to_be_bytes());
    answers.extend_from_slice(&remark);
    answers.extend_from_slice(&0_u32.to_be_bytes());
}

fn opaque_of(frame: &Frame<'_>) -> Option<u32> {
    match frame.codec {
        frame::Codec::Rocketmq => {
            let bytes = frame.header.get(5..9)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        }
        frame::Codec::Json => {
            let key = b"\"opaque\":";
            let at = frame
                .header
                .windows(key.len())
                .rposition(|window| window == key)?;
            let digits = frame.header[at + key.len()..]
                .iter()
                .take_while(|b| b.is_ascii_digit());
            Some(digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
        }
    }
}
