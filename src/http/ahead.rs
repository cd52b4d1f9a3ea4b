//! A stream of which some bytes were read ahead: those that showed what it speaks, or those that one reading of much has
//! brought.
//!
//! Thousands of WebSockets wait most of the time. What they wait with is 16 KiB for each thread, not for each of them, and
//! no buffer of their own while there is nothing to read.

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
pub(super) struct Ahead<S> {
    stream: S,
    /// What comes before the rest of the stream, and how much of it was taken.
    ahead: Vec<u8>,
    taken: usize,
    /// Is much read at a time, however little is asked for?
    scoops: bool,
}

impl<S> Ahead<S> {
    /// First these bytes, then the stream.
    pub(super) fn new(ahead: Vec<u8>, stream: S) -> Self {
        Self { stream, ahead, taken: 0, scoops: false }
    }

    /// Reads [`SCOOP`] bytes at a time.
    pub(super) fn scooping(stream: S) -> Self {
        Self { stream, ahead: Vec::new(), taken: 0, scoops: true }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, ahead, taken, scoops } = &mut *self;
        if *taken < ahead.len() {
            let end = ahead.len().min(*taken + buf.remaining());
            buf.put_slice(&ahead[*taken..end]);
            *taken = end;
            if end == ahead.len() {
                (*ahead, *taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        if !*scoops {
            return Pin::new(stream).poll_read(cx, buf);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut all = ReadBuf::new(scratch);
            ready!(Pin::new(stream).poll_read(cx, &mut all))?;
            let (now, later) = all.filled().split_at(all.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            ahead.extend_from_slice(later);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
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
        let mut stream = Ahead::scooping(near);
        let mut got = Vec::new();
        let mut part = [0; 700];
        while got.len() < sent.len() {
            let n = stream.read(&mut part).await.unwrap();
            got.extend_from_slice(&part[..n]);
        }
        assert!(got == sent);
        assert_eq!((stream.ahead.capacity(), stream.taken), (0, 0), "nothing is kept");
        drop(far);
        assert_eq!(stream.read(&mut part).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut far, near) = tokio::io::duplex(1024);
        far.write_all(b"lo").await.unwrap();
        drop(far);
        let mut stream = Ahead::new(b"hel".to_vec(), near);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), stream.ahead.capacity()), ("hello", 0));
    }
}
