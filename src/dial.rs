//! Where this program itself is the client: TCP to the first address that answers, whom TLS trusts, and what errors say.
//!
//! A name may have several addresses: one that swallows what is sent to it must not use up the time of the others.

#[cfg(feature = "daemon")]
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// For one address, while others are left.
const ATTEMPT: Duration = Duration::from_secs(2);

/// To the first of these that answers, in this order; if `from` is given, from this address of the machine, and to none
/// of another family. The caller bounds the whole by `patience`: each address has its share of it, up to [`ATTEMPT`], and
/// the last all that is left. The error tells of each.
pub(crate) async fn connect(
    addresses: impl IntoIterator<Item = SocketAddr>,
    from: Option<IpAddr>,
    patience: Duration,
) -> io::Result<TcpStream> {
    let fits = |to: &SocketAddr| from.is_none_or(|from| from.is_ipv4() == to.is_ipv4());
    let addresses: Vec<_> = addresses.into_iter().filter(fits).collect();
    let Some((last, others)) = addresses.split_last() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address to go to"));
    };
    let share = ATTEMPT.min(patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX));
    let mut failures = Vec::new();
    for address in others {
        let attempt = timeout(share, reach(*address, from)).await;
        match attempt.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    reach(*last, from).await.map_err(|error| {
        failures.push(format!("{last}: {error}"));
        io::Error::new(error.kind(), format!("no connection to {}", failures.join(", ")))
    })
}

async fn reach(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A configuration of TLS that trusts the certificates in `ca` (PEM); without it, those that this machine trusts: then it
/// reads files. The error is for people.
pub(crate) fn trusting(ca: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let trusted = match ca {
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("not certificates in PEM: {error}"))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.add_parsable_certificates(trusted).0 == 0 && ca.is_some() {
        return Err("there is no certificate in it".into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// An error with all that led to it: hyper's tell nothing by themselves.
#[cfg(feature = "daemon")]
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tokio::net::TcpListener;

    /// A listener with no room left: the kernel drops what comes.
    async fn black_hole() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let (address, mut filling) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            filling.push(stream.unwrap());
        }
        (listener, filling)
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_leaves_time_for_the_next() {
        let (hole, _filling) = black_hole().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (hole, good) = (hole.local_addr().unwrap(), good.local_addr().unwrap());
        let patience = Duration::from_secs(3);
        let stream = timeout(patience, connect([hole, hole, good], None, patience)).await;
        assert_eq!(stream.expect("in time").unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn the_error_tells_of_each_address() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (hole, _filling) = black_hole().await;
        let hole = hole.local_addr().unwrap();
        let error = connect([hole, closed], None, Duration::from_millis(400)).await.unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains(&format!("{hole}: no answer, {closed}: ")) && told.contains("refused"),
            "{told}"
        );
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let none = connect([], None, Duration::from_secs(1)).await.unwrap_err();
        assert!(none.to_string().contains("no address"), "{none}");
    }

    #[tokio::test]
    async fn an_address_that_is_dead_or_silent_or_of_another_family_hides_no_other() {
        let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let dead = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let (silent, _filling) = black_hole().await;
        let foreign = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        let all = [foreign, dead, silent.local_addr().unwrap(), good.local_addr().unwrap()];
        let patience = Duration::from_secs(10);
        for from in [None, Some(Ipv4Addr::LOCALHOST.into())] {
            let stream = connect(all, from, patience).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
        }
        let none = connect([foreign], Some(Ipv4Addr::LOCALHOST.into()), patience).await;
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn roots_are_those_named() {
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        assert!(trusting(Some(made.cert.pem().as_bytes())).is_ok());
        assert!(trusting(None).is_ok());
        for wrong in ["", "nothing", "-----BEGIN CERTIFICATE-----\nMIIB!!\n-----END CERTIFICATE-----\n"] {
            assert!(trusting(Some(wrong.as_bytes())).is_err(), "{wrong:?}");
        }
    }
}
