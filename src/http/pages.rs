//! The files of `web/`, which are part of the program.

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::reply::{Failure, Reply, empty, with_type};

/// What the page may do. It has no inline script or style, loads nothing from elsewhere, and talks to nobody but
/// this server and, by WebRTC, to the other side.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PERMISSIONS: &str =
    "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=(), usb=()";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The module that pages of other origins may import.
const CLIENT: &str = "/ternd.js";

/// Path, type, content.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("../../web/index.html")),
    ("/app.js", SCRIPT, include_bytes!("../../web/app.js")),
    ("/devices.js", SCRIPT, include_bytes!("../../web/devices.js")),
    ("/plot.js", SCRIPT, include_bytes!("../../web/plot.js")),
    ("/words.js", SCRIPT, include_bytes!("../../web/words.js")),
    ("/diagnostics", HTML, include_bytes!("../../web/diagnostics.html")),
    ("/diagnostics.js", SCRIPT, include_bytes!("../../web/diagnostics.js")),
    ("/probe.js", SCRIPT, include_bytes!("../../web/probe.js")),
    (CLIENT, SCRIPT, include_bytes!("../../web/ternd.js")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("../../web/style.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../../web/icon.svg")),
];

/// The files with their validators.
#[derive(Debug)]
pub(super) struct Pages {
    tags: Vec<HeaderValue>,
}

impl Pages {
    pub(super) fn new() -> Self {
        let tags = FILES.iter().map(|(_, _, content)| tag(content)).collect();
        Self { tags }
    }

    /// `None`: there is no such page.
    pub(super) fn get(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Result<Reply, Failure>> {
        // A room's link shows the same page; the script reads the room from the address.
        let path = if is_room(path) { "/" } else { path };
        let at = FILES.iter().position(|(p, _, _)| *p == path)?;
        if method != Method::GET && method != Method::HEAD {
            return Some(Err(Failure::method_not_allowed("GET, HEAD")));
        }
        let ((_, kind, content), tag) = (FILES[at], &self.tags[at]);
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|sent| matches(sent, tag));
        let mut reply = if known {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            with_type(StatusCode::OK, kind, Bytes::from_static(content))
        };
        let to = reply.headers_mut();
        to.insert(header::ETAG, tag.clone());
        if path == CLIENT {
            to.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        let embedders = if path == CLIENT { "cross-origin" } else { "same-origin" };
        for (name, value) in [
            (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (header::HeaderName::from_static("cross-origin-resource-policy"), embedders),
            // Kept, but asked for again: an upgrade of the server shows at once.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::HeaderName::from_static("permissions-policy"), PERMISSIONS),
        ] {
            to.insert(name, HeaderValue::from_static(value));
        }
        Some(Ok(reply))
    }
}

fn is_room(path: &str) -> bool {
    path.strip_prefix("/r/").is_some_and(|room| !room.is_empty() && !room.contains('/'))
}

pub(super) fn tag(content: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(content);
    let hex: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    // Hexadecimal digits in quotes are a header value.
    HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// RFC 9110 section 13.1.2: a list of tags, compared weakly, or `*`.
pub(super) fn matches(sent: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(sent), Ok(tag)) = (sent.to_str(), tag.to_str()) else { return false };
    sent.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}
