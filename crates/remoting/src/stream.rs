//! A socket, plaintext or TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// The two kinds of byte stream a connection can run over.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Boxed: the TLS state is two orders of magnitude larger than a socket.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Reads what is there into `buffer`; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match self {
            Stream::Plain(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer))?,
            Stream::Tls(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer))?,
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Bytes that the kernel has received and nobody has read. Those of TLS are encrypted, and say little about requests: 0.
    pub(crate) fn unread_bytes(&self) -> usize {
        match self {
            Stream::Plain(stream) => rustix::io::ioctl_fionread(stream)
                .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            Stream::Tls(_) => 0,
        }
    }

    /// Writes as much of `bytes` as fits.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Writes as much of all `slices` as fits. TLS takes them one by one.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Pushes out what TLS has encrypted and the socket has not taken. Nothing to do for plaintext.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says goodbye: a close alert under TLS, then the end of the stream.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
