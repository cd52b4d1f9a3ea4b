//! A connection to the server, as the `turn` crate wants it: one `recv`, one message.
//!
//! ```text
//! UDP                  ─┐
//! TCP ──► frame() ──►   ├─ Wire: impl Conn ──► Session, or `turn::client`
//! TLS ──► frame() ──►  ─┘
//! ```
//! The crate knows datagrams only, so the cutting of a stream is the codec's of the server, [`frame`].

use std::any::Any;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use webrtc_util::Conn;

use crate::stun::{Frame, frame, padded};

/// TCP, or TLS over TCP.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// A connection to the server.
pub(super) struct Wire {
    io: Io,
    pub(super) local: SocketAddr,
    pub(super) server: SocketAddr,
}

enum Io {
    /// Connected, so that ICMP errors are heard.
    Datagrams(UdpSocket),
    Stream {
        read: Mutex<Reader>,
        write: Mutex<WriteHalf<Box<dyn Stream>>>,
    },
}

struct Reader {
    half: ReadHalf<Box<dyn Stream>>,
    /// Read, and not yet taken: less than two messages.
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) async fn udp(server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(any(server)).await?;
        socket.connect(server).await?;
        Ok(Self { local: socket.local_addr()?, server, io: Io::Datagrams(socket) })
    }

    pub(super) fn stream(stream: Box<dyn Stream>, local: SocketAddr, server: SocketAddr) -> Self {
        let (half, write) = tokio::io::split(stream);
        let read = Mutex::new(Reader { half, buffer: Vec::new() });
        Self { io: Io::Stream { read, write: Mutex::new(write) }, local, server }
    }

    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.io, Io::Stream { .. })
    }

    /// The next message. No harm is done when it is not waited for to the end.
    pub(super) async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.io {
            Io::Datagrams(socket) => socket.recv(buf).await,
            Io::Stream { read, .. } => read.lock().await.message(buf).await,
        }
    }

    /// Sends one message.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.io {
            Io::Datagrams(socket) => socket.send(bytes).await,
            Io::Stream { write, .. } => {
                let mut write = write.lock().await;
                write.write_all(bytes).await?;
                // ChannelData of any length; STUN messages are multiples of four.
                write.write_all(&[0; 3][..padded(bytes.len()) - bytes.len()]).await?;
                write.flush().await?;
                Ok(bytes.len())
            }
        }
    }
}

impl Reader {
    async fn message(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
            match frame(&self.buffer) {
                Ok(Frame::Complete { message, consumed }) => {
                    let into = buf.get_mut(..message).ok_or_else(|| invalid("a message too long to take"))?;
                    into.copy_from_slice(&self.buffer[..message]);
                    self.buffer.drain(..consumed);
                    return Ok(message);
                }
                Ok(Frame::Incomplete { .. }) => {
                    if self.half.read_buf(&mut self.buffer).await? == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"));
                    }
                }
                Err(_) => {
                    return Err(invalid("what came is neither STUN nor TURN: another service answers here"));
                }
            }
        }
    }
}

/// Where to bind a socket that talks to `server`.
pub(super) fn any(server: SocketAddr) -> SocketAddr {
    if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}

#[async_trait]
impl Conn for Wire {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buf: &mut [u8]) -> webrtc_util::Result<usize> {
        Ok(self.read(buf).await?)
    }

    async fn recv_from(&self, buf: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        Ok((self.read(buf).await?, self.server))
    }

    async fn send(&self, buf: &[u8]) -> webrtc_util::Result<usize> {
        Ok(self.write(buf).await?)
    }

    async fn send_to(&self, buf: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        Ok(self.write(buf).await?)
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.server)
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        if let Io::Stream { write, .. } = &self.io {
            let _ = write.lock().await.shutdown().await;
        }
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What ended a connection.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: io::ErrorKind,
    pub(super) text: String,
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        Self { kind: error.kind(), text: error.to_string() }
    }
}
