//! The parameters of the endpoint as callers write them.
//!
//! ```text
//! query, form, JSON object  ─►  Parameters  ─►  Asked: user, time to live, transport, format
//!                                   │
//! headers  ─►  shown_key  ──────────┴─►  the key, if one was shown
//! ```

use std::time::Duration;

use form_urlencoded::parse;
use serde_json::Value;

use super::{Error, Format, Transport};

/// What was asked for, as text. Empty is as good as absent; what is unknown is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    service: Option<String>,
    username: Option<String>,
    ttl: Option<String>,
    key: Option<String>,
    transport: Option<String>,
    format: Option<String>,
}

/// What was asked for, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Whom the credential shall be for, if the caller may say so.
    pub user: Option<&'a str>,
    /// How long it shall be good for.
    pub ttl: Option<Duration>,
    /// Only URLs of this transport.
    pub transport: Option<Transport>,
    /// The shape of the answer.
    pub format: Format,
}

impl Parameters {
    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "service" => &mut self.service,
            "username" => &mut self.username,
            "ttl" => &mut self.ttl,
            "key" | "api" => &mut self.key,
            "transport" => &mut self.transport,
            "format" => &mut self.format,
            _ => return None,
        })
    }

    fn set(&mut self, name: &str, value: String) {
        if let Some(field) = self.field(name) {
            *field = Some(value).filter(|value| !value.is_empty());
        }
    }

    /// Reads a query or a form. Any bytes are one.
    pub fn read_form(&mut self, text: &[u8]) {
        parse(text).for_each(|(name, value)| self.set(&name, value.into_owned()));
    }

    /// Reads a body, which wins over what was read before.
    ///
    /// # Errors
    /// [`Error::ContentType`], [`Error::NoObject`] or [`Error::Value`].
    pub fn read_body(&mut self, content_type: Option<&str>, body: &[u8]) -> Result<(), Error> {
        if body.is_empty() {
            return Ok(());
        }
        let kind = content_type.unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => self.read_form(body),
            "application/json" => self.read_json(body)?,
            _ => return Err(Error::ContentType),
        }
        Ok(())
    }

    fn read_json(&mut self, body: &[u8]) -> Result<(), Error> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return Err(Error::NoObject) };
        for (name, value) in fields {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ if self.field(&name).is_none() => continue,
                _ => return Err(Error::Value(name)),
            };
            self.set(&name, text);
        }
        Ok(())
    }

    /// The key among them.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What they mean.
    ///
    /// # Errors
    /// [`Error::Service`], [`Error::Ttl`], [`Error::Transport`] or [`Error::Format`].
    pub fn understand(&self) -> Result<Asked<'_>, Error> {
        if self.service.as_deref().is_some_and(|service| service != "turn") {
            return Err(Error::Service);
        }
        let seconds = self.ttl.as_deref().map(str::parse).transpose().map_err(|_| Error::Ttl)?;
        Ok(Asked {
            user: self.username.as_deref(),
            ttl: seconds.map(Duration::from_secs),
            transport: self.transport.as_deref().map(str::parse).transpose()?,
            format: self.format.as_deref().unwrap_or_default().parse()?,
        })
    }
}

/// The key that the headers `Authorization` (scheme Bearer, RFC 6750 section 2.1) or `X-API-Key` show.
pub fn shown_key<'a>(authorization: Option<&'a str>, x_api_key: Option<&'a str>) -> Option<&'a str> {
    let bearer = authorization.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or(x_api_key)
}
