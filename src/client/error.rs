//! What can go wrong, and whether there is a way back.

use std::time::Duration;

use tokio_tungstenite::tungstenite;

use crate::signal::close;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL or another option can't be used.
    #[error("{0}")]
    Options(String),
    /// There is no connection, or no more.
    #[error("no connection: {0}")]
    Lost(String),
    /// The server closed the connection.
    #[error("the server closed the connection: {code} {reason}")]
    Closed {
        /// The WebSocket close code: see the specification.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The server refused a request.
    #[error("refused: {message} ({code})")]
    Refused {
        /// For programs: `room_full`, `bad_pin`, ...
        code: String,
        /// For people.
        message: String,
        /// After how many milliseconds to try again, if that makes a difference.
        retry_ms: Option<u64>,
    },
    /// The server does not speak `ternd.v1`.
    #[error("the server does not speak ternd.v1: {0}")]
    Protocol(String),
}

impl Error {
    /// Is the connection gone, and may [`Client::resume`](super::Client::resume) bring it back?
    pub fn may_resume(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Closed { code, .. } => {
                let for_good = [close::NORMAL, close::TOO_BIG, close::REPLACED, close::KICKED];
                let at_fault = [close::PROTOCOL, close::AUTH, close::VERSION, close::RATE];
                !for_good.contains(code) && !at_fault.contains(code)
            }
            // A server that is about to stop; the next one may take the client.
            Self::Refused { code, .. } => code == "draining",
            Self::Options(_) | Self::Protocol(_) => false,
        }
    }

    pub(super) fn gone() -> Self {
        Self::Lost("it has ended".into())
    }

    pub(super) fn silent(time: Duration) -> Self {
        Self::Lost(format!("nothing came for {} ms", time.as_millis()))
    }
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Url(_) | tungstenite::Error::HttpFormat(_) => {
                Self::Options(error.to_string())
            }
            // A proxy without its ternd for now, or a limit that time lifts.
            tungstenite::Error::Http(answer)
                if answer.status().is_server_error() || answer.status().as_u16() == 429 =>
            {
                Self::Lost(format!("HTTP {}", answer.status()))
            }
            // Whoever answers there is no ternd, or does not want this client.
            tungstenite::Error::Http(answer) => Self::Protocol(format!("HTTP {}", answer.status())),
            other => Self::Lost(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::http::Response;

    use super::*;

    #[test]
    fn a_server_that_can_t_for_now_is_asked_again() {
        for (status, again) in
            [(429, true), (502, true), (503, true), (403, false), (404, false), (301, false)]
        {
            let answer = Response::builder().status(status).body(None).unwrap();
            let error = Error::from(tungstenite::Error::Http(answer.into()));
            assert_eq!(error.may_resume(), again, "{error}");
        }
    }
}
