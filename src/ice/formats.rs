//! The shapes of an answer: the superset object, and what callers of other services expect.
//!
//! ```text
//! object  {"iceServers": [..], ..}                  browsers, and whoever is named in the superset
//! array   [{"urls": [..]}, ..]                      RTCConfiguration.iceServers as it is
//! twilio  {"ice_servers": [{"url", "urls"}, ..]}    Twilio's Network Traversal Service: a URL for each server
//! xirsys  {"v": {"iceServers": {..}}, "s": "ok"}    Xirsys: one server with all URLs
//! link    Link: <turn:..>; rel="ice-server"; ..     WHIP and WHEP (RFC 9725 section 4.6), as headers
//! curl    turn:.. username credential               text for a terminal or a shell's `read`: a line for each URL
//! ```

use std::fmt::Write;
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Error, IceServer, Issued, excerpt};

/// The shape of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The superset object.
    #[default]
    Object,
    /// The bare list of `iceServers`.
    Array,
    /// As Twilio's tokens: a server for each URL, `ttl` as text.
    Twilio,
    /// As Xirsys's answers: one server in an envelope.
    Xirsys,
    /// Headers `Link` of relation `ice-server` (RFC 9725 section 4.6); the body is the superset object.
    Link,
    /// A line for each URL, with name and password where it needs them.
    Curl,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "" | "object" => Ok(Self::Object),
            "array" => Ok(Self::Array),
            "twilio" => Ok(Self::Twilio),
            "xirsys" => Ok(Self::Xirsys),
            "link" => Ok(Self::Link),
            "curl" => Ok(Self::Curl),
            other => Err(Error::Format(excerpt(other))),
        }
    }
}

impl Format {
    /// Is the body JSON? Else it is plain text.
    pub fn is_json(self) -> bool {
        self != Self::Curl
    }
}

impl Issued {
    /// The body of an answer.
    pub fn body(&self, format: Format) -> String {
        let json = match format {
            Format::Object | Format::Link => serde_json::to_string(self),
            Format::Array => serde_json::to_string(&self.ice_servers),
            Format::Twilio => serde_json::to_string(&self.twilio()),
            Format::Xirsys => serde_json::to_string(&self.xirsys()),
            Format::Curl => return self.lines(),
        };
        // Text and numbers only: there is nothing in it that JSON lacks.
        json.unwrap_or_default()
    }

    /// The values of the headers `Link`; of other formats there are none.
    pub fn links(&self, format: Format) -> Vec<String> {
        let links = (format == Format::Link).then(|| self.each_url());
        links.into_iter().flatten().map(|(url, server)| link(url, server)).collect()
    }

    fn each_url(&self) -> impl Iterator<Item = (&str, &IceServer)> {
        self.ice_servers.iter().flat_map(|server| server.urls.iter().map(move |url| (url.as_str(), server)))
    }

    fn twilio(&self) -> Value {
        let servers: Vec<Value> = self
            .each_url()
            .map(|(url, server)| match (&server.username, &server.credential) {
                (Some(name), Some(password)) => {
                    json!({"url": url, "urls": url, "username": name, "credential": password})
                }
                _ => json!({"url": url, "urls": url}),
            })
            .collect();
        json!({
            "username": self.username, "password": self.password, "ttl": self.ttl.to_string(),
            "ice_servers": servers,
        })
    }

    fn xirsys(&self) -> Value {
        let urls: Vec<&str> = self.each_url().map(|(url, _)| url).collect();
        let server = json!({"urls": urls, "username": self.username, "credential": self.password});
        json!({"v": {"iceServers": server}, "s": "ok"})
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        for (url, server) in self.each_url() {
            text.push_str(url);
            for word in [&server.username, &server.credential].into_iter().flatten() {
                text.push(' ');
                text.push_str(word);
            }
            text.push('\n');
        }
        text
    }
}

fn link(url: &str, server: &IceServer) -> String {
    let mut link = format!("<{url}>; rel=\"ice-server\"");
    if let (Some(name), Some(password)) = (&server.username, &server.credential) {
        let (name, password) = (quoted(name), quoted(password));
        // Writing to a String does not fail.
        let _ = write!(link, "; username={name}; credential={password}; credential-type=\"password\"");
    }
    link
}

/// A quoted-string (RFC 9110 section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
