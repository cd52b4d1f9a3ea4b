//! Plain Binding requests from one socket to several places, and what they tell of the NAT between (RFC 5780).
//!
//! ```text
//!                      ┌─ primary address ─┐    mapping     same mapped address wherever the request goes?
//!  socket ── NAT ──────┤                   │    filtering   does an answer come in from where nothing was sent to?
//!                      └─ OTHER-ADDRESS ───┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use ::stun::addr::MappedAddress;
use ::stun::agent::TransactionId;
use ::stun::attributes::{
    ATTR_ALTERNATE_SERVER, ATTR_CHANGE_REQUEST, ATTR_MAPPED_ADDRESS, ATTR_OTHER_ADDRESS,
};
use ::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, is_message};
use ::stun::xoraddr::XorMappedAddress;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::connect::Context;
use super::report::{Advice, Row};
use super::wire::any;

const STEP: &str = "NAT behaviour";

/// Waits for what may never come by design, so not for long.
const SHORT: Duration = Duration::from_millis(1_500);
const AGAIN: Duration = Duration::from_millis(300);

/// From where the server is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Port,
    AddressAndPort,
}

/// The mapped address in a Binding response.
pub(super) fn mapped_address(response: &Message) -> Option<SocketAddr> {
    let mut masked = XorMappedAddress::default();
    if masked.get_from(response).is_ok() {
        return Some(SocketAddr::new(masked.ip, masked.port));
    }
    address(response, ATTR_MAPPED_ADDRESS)
}

/// OTHER-ADDRESS: the server can do RFC 5780.
pub(super) fn other_address(response: &Message) -> Option<SocketAddr> {
    address(response, ATTR_OTHER_ADDRESS)
}

/// ALTERNATE-SERVER: where to go instead.
pub(super) fn alternate_server(response: &Message) -> Option<SocketAddr> {
    address(response, ATTR_ALTERNATE_SERVER)
}

fn address(response: &Message, kind: ::stun::attributes::AttrType) -> Option<SocketAddr> {
    let mut plain = MappedAddress::default();
    plain.get_from_as(response, kind).ok()?;
    Some(SocketAddr::new(plain.ip, plain.port))
}

/// The address that `server` sees `socket` at.
pub(super) async fn mapped(socket: &UdpSocket, server: SocketAddr, patience: Duration) -> Option<SocketAddr> {
    mapped_address(&binding(socket, server, Change::Nothing, patience.min(SHORT)).await?)
}

async fn binding(socket: &UdpSocket, to: SocketAddr, change: Change, patience: Duration) -> Option<Message> {
    let mut request = Message::new();
    request.build(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)]).ok()?;
    match change {
        Change::Nothing => {}
        Change::Port => request.add(ATTR_CHANGE_REQUEST, &[0, 0, 0, 2]),
        Change::AddressAndPort => request.add(ATTR_CHANGE_REQUEST, &[0, 0, 0, 6]),
    }
    let send = async {
        loop {
            let _ = socket.send_to(&request.raw, to).await;
            sleep(AGAIN).await;
        }
    };
    let receive = async {
        let mut buf = [0; 2_048];
        loop {
            // Errors are those of earlier datagrams (ICMP).
            let Ok((n, _)) = socket.recv_from(&mut buf).await else { continue };
            let mut response = Message::new();
            if is_message(&buf[..n])
                && response.unmarshal_binary(&buf[..n]).is_ok()
                && response.typ == BINDING_SUCCESS
                && response.transaction_id == request.transaction_id
            {
                return response;
            }
        }
    };
    let either = async {
        tokio::select! {
            response = receive => Some(response),
            () = send => None,
        }
    };
    timeout(patience, either).await.ok().flatten()
}

/// On what an answer of the NAT depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depends {
    /// There is no NAT.
    NoNat,
    OnNothing,
    OnAddress,
    OnAddressAndPort,
}

impl Depends {
    const fn name(self) -> &'static str {
        match self {
            Self::NoNat => "none",
            Self::OnNothing => "endpoint-independent",
            Self::OnAddress => "address-dependent",
            Self::OnAddressAndPort => "address-and-port-dependent",
        }
    }
}

/// The row about the NAT between this machine and `server`, whose OTHER-ADDRESS is `other`.
pub(super) async fn row(ctx: &Context, server: SocketAddr, other: SocketAddr) -> Row {
    let (found, took) = ctx.time(discover(server, other, ctx.patience.min(SHORT))).await;
    match found {
        Ok((mapping, filtering)) => Row::ok(STEP, in_words(mapping, filtering))
            .with("mapping", mapping.name())
            .with("filtering", filtering.name()),
        Err(silent) => Row::warn(
            STEP,
            format!("the server offers its other address {other}, and {silent} does not answer"),
            Advice::new(
                "a firewall closes the server's second address or port, or a wrong one is announced",
                "open UDP for it, or switch NAT behaviour discovery off: no-rfc5780 (coturn)",
            ),
        ),
    }
    .took(took)
    .with("other_address", other.to_string())
}

async fn discover(
    server: SocketAddr,
    other: SocketAddr,
    patience: Duration,
) -> Result<(Depends, Depends), SocketAddr> {
    let socket = UdpSocket::bind(any(server)).await.map_err(|_| server)?;
    let filtering = filtering(&socket, server, patience).await;

    let at = async |place: SocketAddr| mapped(&socket, place, patience).await.ok_or(place);
    let first = at(server).await?;
    let second = at(SocketAddr::new(other.ip(), server.port())).await?;
    let same_place = local_ip(server).await == Some(first.ip())
        && socket.local_addr().is_ok_and(|local| local.port() == first.port());
    let mapping = if same_place {
        Depends::NoNat
    } else if first == second {
        Depends::OnNothing
    } else if second == at(other).await? {
        Depends::OnAddress
    } else {
        Depends::OnAddressAndPort
    };
    Ok((mapping, filtering))
}

/// Before anything is sent to the other address: that would let its answers in.
async fn filtering(socket: &UdpSocket, server: SocketAddr, patience: Duration) -> Depends {
    if binding(socket, server, Change::AddressAndPort, patience).await.is_some() {
        Depends::OnNothing
    } else if binding(socket, server, Change::Port, patience).await.is_some() {
        Depends::OnAddress
    } else {
        Depends::OnAddressAndPort
    }
}

/// The address this machine uses towards `server`.
pub(super) async fn local_ip(server: SocketAddr) -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind(any(server)).await.ok()?;
    socket.connect(server).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn in_words(mapping: Depends, filtering: Depends) -> String {
    let mapping = match mapping {
        Depends::NoNat => "no NAT",
        Depends::OnNothing => "one mapping for all peers: direct connections are likely",
        Depends::OnAddress | Depends::OnAddressAndPort => {
            "another mapping for each peer (\"symmetric\"): many connections need the relay"
        }
    };
    let filtering = match filtering {
        Depends::NoNat | Depends::OnNothing => "packets come in from anywhere",
        Depends::OnAddress => "packets come in only from addresses that were sent to",
        Depends::OnAddressAndPort => "packets come in only from where some were sent to",
    };
    format!("{mapping}; {filtering}")
}
