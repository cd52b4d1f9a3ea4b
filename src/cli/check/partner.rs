//! Who is at the other end of the relay: a plain socket, or another allocation of the same server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::stun::message::{METHOD_CREATE_PERMISSION, METHOD_REFRESH};
use ::turn::client::{Client, ClientConfig};
use ::turn::proto::lifetime::Lifetime;
use ::turn::proto::peeraddr::PeerAddress;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use webrtc_util::Conn;

use super::advice;
use super::leg::{Leg, relayed_address};
use super::login::Login;
use super::nat;
use super::session::{Answer, Relayed, Session};
use super::wire::any;

/// The other end.
pub(super) enum Partner {
    /// A socket of this machine.
    Socket(UdpSocket),
    /// An allocation of `turn::client`: all of a client that is not ours.
    Client { client: Client, relay: Box<dyn Conn + Send + Sync>, relayed: SocketAddr },
    /// An allocation for what `turn::client` can't ask for: an IPv6 relay.
    Session { session: Box<Session>, relayed: SocketAddr },
}

impl Partner {
    /// A socket that can hear `relayed`, and its address as a server sees it. `None` where no server tells it.
    pub(super) async fn socket(leg: &Leg<'_>, relayed: SocketAddr) -> Option<(Self, SocketAddr)> {
        let socket = UdpSocket::bind(any(relayed)).await.ok()?;
        let server = leg.address;
        if server.is_ipv4() == relayed.is_ipv4() {
            // The standard port, where the URI's is for TCP or TLS alone.
            let mut ports = vec![server.port()];
            if server.port() != 3478 {
                ports.push(3478);
            }
            for port in ports {
                let server = SocketAddr::new(server.ip(), port);
                if let Some(mapped) = nat::mapped(&socket, server, leg.ctx.patience).await {
                    return Some((Self::Socket(socket), mapped));
                }
            }
        }
        // On the server's own machine there is nothing between.
        let ip = nat::local_ip(relayed).await.filter(|ip| ip.is_loopback())?;
        let mapped = SocketAddr::new(ip, socket.local_addr().ok()?.port());
        Some((Self::Socket(socket), mapped))
    }

    /// Another allocation, of the family of `relayed`, that may send there.
    ///
    /// # Errors
    /// What the server or the crate says.
    pub(super) async fn allocation(
        leg: &Leg<'_>,
        login: Option<&Login>,
        relayed: SocketAddr,
    ) -> Result<Self, String> {
        let in_time = async {
            match login {
                Some(login) if relayed.is_ipv4() && leg.address.is_ipv4() => Self::by_crate(leg, login).await,
                _ => Self::by_session(leg, login, relayed).await,
            }
        };
        // Several requests, and the crate's own patience is a minute.
        timeout(leg.ctx.patience * 3, in_time).await.unwrap_or_else(|_| Err("no answer".into()))
    }

    async fn by_crate(leg: &Leg<'_>, login: &Login) -> Result<Self, String> {
        let conn = leg.another().await.map_err(|error| error.to_string())?;
        let client = Client::new(ClientConfig {
            stun_serv_addr: String::new(),
            turn_serv_addr: leg.address.to_string(),
            username: login.username.clone(),
            password: login.password.0.clone(),
            realm: String::new(),
            software: String::new(),
            rto_in_ms: 0,
            conn,
            vnet: None,
        });
        let client = client.await.map_err(|error| error.to_string())?;
        client.listen().await.map_err(|error| error.to_string())?;
        let relay = client.allocate().await.map_err(|error| error.to_string())?;
        let relayed = relay.local_addr().map_err(|error| error.to_string())?;
        Ok(Self::Client { client, relay: Box::new(relay), relayed })
    }

    async fn by_session(leg: &Leg<'_>, login: Option<&Login>, relayed: SocketAddr) -> Result<Self, String> {
        let refusal = |answer: &Answer| match answer {
            Answer::Success(_) => "it makes no sense".to_owned(),
            Answer::Error { code, reason, .. } => advice::code_in_words(*code, reason),
        };
        let wire = leg.another().await.map_err(|error| error.to_string())?;
        let lost = |trouble| advice::of_trouble(&trouble, leg.uri.transport, leg.address).0;
        let mut session = Box::new(Session::over(wire, leg.ctx.patience));
        let mut answer = leg.allocate(&mut session).await.map_err(lost)?;
        if let (Answer::Error { code: 401, message, .. }, Some(login)) = (&answer, login) {
            session.sign_as(login, message).map_err(|missing| format!("a 401 without {missing}"))?;
            answer = leg.allocate(&mut session).await.map_err(lost)?;
        }
        let Answer::Success(response) = &answer else { return Err(refusal(&answer)) };
        let own = relayed_address(response).ok_or("no relayed address")?;
        let permission = || -> super::session::Setters {
            vec![Box::new(PeerAddress { ip: relayed.ip(), port: relayed.port() })]
        };
        match session.ask(METHOD_CREATE_PERMISSION, permission).await.map_err(lost)? {
            Answer::Success(_) => Ok(Self::Session { session, relayed: own }),
            answer => Err(refusal(&answer)),
        }
    }

    /// Its relayed address, if it is an allocation.
    pub(super) const fn relayed(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(_) => None,
            Self::Client { relayed, .. } | Self::Session { relayed, .. } => Some(*relayed),
        }
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// Only an allocation knows: the server refuses the address.
    pub(super) async fn send(&self, to: SocketAddr, data: &[u8]) -> Result<(), String> {
        match self {
            Self::Socket(socket) => {
                // An error is that of an earlier datagram (ICMP).
                let _ = socket.send_to(data, to).await;
                Ok(())
            }
            Self::Client { relay, .. } => {
                relay.send_to(data, to).await.map(drop).map_err(|error| error.to_string())
            }
            Self::Session { session, .. } => {
                session.send(to, data).await;
                Ok(())
            }
        }
    }

    /// The next datagram, and where it came from. Waits for ever when there is none.
    pub(super) async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buf = vec![0; 2_048];
        loop {
            let received: io::Result<_> = match self {
                Self::Socket(socket) => socket.recv_from(&mut buf).await,
                Self::Client { relay, .. } => relay.recv_from(&mut buf).await.map_err(io::Error::other),
                Self::Session { session, .. } => match session.receive().await {
                    Relayed::ByIndication(from, data) => return (data, from),
                    Relayed::ByChannel(..) => continue,
                },
            };
            match received {
                Ok((n, from)) => return (buf[..n].to_vec(), from),
                Err(error) if error.kind() == io::ErrorKind::Other => std::future::pending().await,
                Err(_) => {}
            }
        }
    }

    /// Gives its allocation back.
    pub(super) async fn close(self) {
        match self {
            Self::Socket(_) => {}
            Self::Client { client, relay, .. } => {
                let _ = relay.close().await;
                // The crate sends its Refresh and does not wait for the answer.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = client.close().await;
            }
            Self::Session { mut session, .. } => {
                let _ = session.ask(METHOD_REFRESH, || vec![Box::new(Lifetime(Duration::ZERO))]).await;
            }
        }
    }
}
