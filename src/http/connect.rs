//! TCP to a name that may have several addresses: one that swallows what is sent to it must not use up the time of the
//! others.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one address, while others are left.
const ATTEMPT: Duration = Duration::from_secs(2);

/// To the first of these that answers, in this order. The caller bounds the whole by `patience`: each address has its
/// share of it, up to [`ATTEMPT`], and the last all that is left. The error tells of each.
pub(crate) async fn connect(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to go to"));
    };
    let share = ATTEMPT.min(patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX));
    let mut failures = Vec::new();
    for address in others {
        let attempt = timeout(share, TcpStream::connect(address)).await;
        match attempt.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    TcpStream::connect(last).await.map_err(|error| {
        failures.push(format!("{last}: {error}"));
        io::Error::new(error.kind(), format!("no connection to {}", failures.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

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
        let stream = timeout(patience, connect(&[hole, hole, good], patience)).await;
        assert_eq!(stream.expect("in time").unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn the_error_tells_of_each_address() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (hole, _filling) = black_hole().await;
        let hole = hole.local_addr().unwrap();
        let error = connect(&[hole, closed], Duration::from_millis(400)).await.unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains(&format!("{hole}: no answer, {closed}: ")) && told.contains("refused"),
            "{told}"
        );
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let none = connect(&[], Duration::from_secs(1)).await.unwrap_err();
        assert!(none.to_string().contains("no address"), "{none}");
    }
}
