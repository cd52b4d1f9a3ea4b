//! A stream that reads much at a time, and has no buffer while there is nothing to read.
//!
//! Thousands of WebSockets wait most of the time. What they wait with is 16 KiB for each thread, not for each of them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at a time: a whole offer, with candidates behind it.
const SCOOP: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCOOP].into_boxed_slice());
}

#[derive(Debug)]
pub(super) struct Lean<S> {
    stream: S,
    /// What was read and did not fit where it was to go.
    unread: Vec<u8>,
    taken: usize,
}

impl<S> Lean<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new(), taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lean<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, unread, taken } = &mut *self;
        if *taken < unread.len() {
            let left = &unread[*taken..];
            let fits = left.len().min(buf.remaining());
            buf.put_slice(&left[..fits]);
            *taken += fits;
            if *taken == unread.len() {
                (*unread, *taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut all = ReadBuf::new(scratch);
            ready!(Pin::new(stream).poll_read(cx, &mut all))?;
            let (now, later) = all.filled().split_at(all.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            unread.extend_from_slice(later);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lean<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn everything_comes_in_its_order_whatever_it_is_read_into() {
        let (mut far, near) = tokio::io::duplex(64 * 1024);
        let sent: Vec<u8> = (0..40_000_u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
        far.write_all(&sent).await.unwrap();
        let mut lean = Lean::new(near);
        let mut got = Vec::new();
        let mut part = [0; 700];
        while got.len() < sent.len() {
            let n = lean.read(&mut part).await.unwrap();
            got.extend_from_slice(&part[..n]);
        }
        assert!(got == sent);
        assert_eq!((lean.unread.capacity(), lean.taken), (0, 0), "nothing is kept");
        drop(far);
        assert_eq!(lean.read(&mut part).await.unwrap(), 0);
    }
}
