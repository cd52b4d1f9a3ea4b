//! Which pages may call: the `Origin` of a request against its `Host` and the list of the configuration
//! (RFC 6454, Fetch standard).

use hyper::Request;
use hyper::header::{self, HeaderValue};

use super::Shared;
use super::reply::{Failure, Reply};

/// What a request says of the page it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller<'a> {
    /// No `Origin`: no page, or a plain GET of one.
    Unsaid,
    /// A page of this server.
    Same,
    /// A page whose origin is on the list. To be told so by CORS headers.
    Listed(&'a HeaderValue),
    /// Another page.
    Stranger,
}

impl<'a> Caller<'a> {
    pub(super) fn of<B>(request: &'a Request<B>, list: &[String]) -> Self {
        // Behind a proxy `Host` may be another; what the browser says of the page is true anyway.
        if site(request).is_some_and(|site| site == "same-origin") {
            return Self::Same;
        }
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Self::Unsaid };
        let Ok(text) = origin.to_str() else { return Self::Stranger };
        if authority(request).is_some_and(|authority| is_same(text, authority)) {
            return Self::Same;
        }
        let listed = list.iter().any(|l| l == "*" || l.eq_ignore_ascii_case(text));
        if listed { Self::Listed(origin) } else { Self::Stranger }
    }
}

impl Caller<'_> {
    /// May it come into the rooms, as far as its origin says?
    ///
    /// # Errors
    /// 403, with the key of the configuration.
    pub(super) fn may_join(self, shared: &Shared) -> Result<(), Failure> {
        match self {
            Self::Stranger => Err(Failure::forbidden(
                "Pages of this origin may not come into the rooms; ice.origins lists those that may",
            )),
            Self::Unsaid if !shared.live().rooms.native_clients => Err(Failure::forbidden(
                "Programs without an Origin may not come into the rooms (rooms.native-clients)",
            )),
            _ => Ok(()),
        }
    }
}

/// Does the browser say that a page of this very origin asks? Whoever has no browser can say so, too: behind it
/// there is a rate limit.
pub(super) fn is_own_page<B>(request: &Request<B>, caller: Caller<'_>) -> bool {
    caller == Caller::Same && site(request).is_none_or(|site| site == "same-origin")
}

/// Pages can't forge this header; old browsers don't send it.
fn site<B>(request: &Request<B>) -> Option<&HeaderValue> {
    request.headers().get("sec-fetch-site")
}

/// What the client calls this server: `:authority`, or else `Host`.
pub(super) fn authority<B>(request: &Request<B>) -> Option<&str> {
    let host = || request.headers().get(header::HOST)?.to_str().ok();
    request.uri().authority().map(|a| a.as_str()).or_else(host)
}

/// The scheme is not compared: a proxy in front may have taken TLS off.
fn is_same(origin: &str, authority: &str) -> bool {
    let (default, rest) = if let Some(rest) = origin.strip_prefix("https://") {
        (":443", rest)
    } else if let Some(rest) = origin.strip_prefix("http://") {
        (":80", rest)
    } else {
        return false;
    };
    let bare = |text: &str| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    !rest.is_empty() && bare(rest) == bare(authority)
}

/// Tells a page's browser that the page may see the answer.
pub(super) fn allow(reply: &mut Reply, caller: Caller<'_>, list: &[String]) {
    let headers = reply.headers_mut();
    if !list.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Caller::Listed(origin) = caller {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_means_host_and_port() {
        for (origin, authority, same) in [
            ("https://h.example", "h.example", true),
            ("https://h.example", "H.example:443", true),
            ("https://h.example:443", "h.example", true),
            ("http://h.example", "h.example:80", true),
            ("https://h.example:8443", "h.example:8443", true),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", true),
            ("https://h.example", "h.example:8443", false),
            ("https://h.example:8443", "h.example", false),
            ("https://h.example.evil", "h.example", false),
            ("https://evil", "h.example", false),
            ("null", "null", false),
            ("https://", "", false),
            ("h.example", "h.example", false),
        ] {
            assert_eq!(is_same(origin, authority), same, "{origin} at {authority}");
        }
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("/v1/ice").header("host", "h.example");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn own_pages_are_told_by_the_browser_first_and_by_the_origin_else() {
        for (headers, own) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://h.example")], true),
            (&[("origin", "https://h.example")], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://h.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://behind.a.proxy")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")], false),
            (&[("origin", "https://app.example")], false),
            (&[], false),
        ] {
            let request = request(headers);
            let caller = Caller::of(&request, &["https://app.example".into()]);
            assert_eq!(is_own_page(&request, caller), own, "{headers:?}");
        }
    }

    #[test]
    fn strangers_are_not_on_the_list() {
        let list = ["https://app.example".to_owned()];
        let stranger = request(&[("origin", "https://app.example.evil")]);
        assert_eq!(Caller::of(&stranger, &list), Caller::Stranger);
        let listed = request(&[("origin", "https://APP.example")]);
        assert!(matches!(Caller::of(&listed, &list), Caller::Listed(_)));
        assert!(matches!(Caller::of(&stranger, &["*".into()]), Caller::Listed(_)));
        assert_eq!(Caller::of(&request(&[]), &list), Caller::Unsaid);
    }
}
