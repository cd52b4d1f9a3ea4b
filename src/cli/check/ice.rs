//! What an endpoint hands out: `iceServers`, in the forms there are.
//!
//! ```text
//! {"iceServers": [{"urls": [...], "username", "credential"}]}    browsers, ternd, Cloudflare (also as one object)
//! {"ice_servers": [{"url", "urls", "username", "credential"}]}   Twilio
//! {"username", "password", "ttl", "uris": [...]}                 draft-uberti-behave-turn-rest-00, coturn
//! {"v": {"iceServers": {...}}}                                   Xirsys
//! [{"urls": ...}]                                                the bare list
//! ```

use serde_json::Value;

use super::connect::Context;
use super::http::Endpoint;
use super::login::{Login, time_in_words};
use super::report::{Advice, Report, Row, printable};
use super::uri::Uri;

const STEP: &str = "iceServers";
/// A browser warns at five.
const MOST: usize = 50;

/// Asks the endpoint; the URLs it names, each with its login.
pub(super) async fn ask(
    ctx: &Context,
    endpoint: &Endpoint,
    key: Option<&str>,
    report: &mut Report,
) -> Vec<(String, Option<Login>)> {
    report.section(&endpoint.to_string(), None);
    let Some(body) = endpoint.fetch(ctx, report, key).await else { return Vec::new() };
    let offered = match serde_json::from_slice::<Value>(&body) {
        Ok(json) => offered(&json),
        Err(error) => {
            let advice = Advice::new("the answer is no JSON", "is the URL right? Look at it with curl");
            report.push(Row::fail(STEP, printable(&error.to_string()), advice));
            return Vec::new();
        }
    };
    if offered.is_empty() {
        let advice = Advice::new(
            "the answer names no servers in any form that is known",
            "it should be {\"iceServers\":[{\"urls\":[...],\"username\":\"...\",\"credential\":\"...\"}]}",
        );
        report.push(Row::fail(STEP, "none", advice));
        return Vec::new();
    }
    let now = ctx.clock.now().unix;
    let expires = offered.iter().find_map(|(_, login)| login.as_ref()?.expires());
    let term = match expires {
        Some(at) if at >= now => format!("; the credential ends in {}", time_in_words(at - now)),
        _ => String::new(),
    };
    let urls = offered.iter().map(|(url, _)| url.clone()).collect::<Vec<_>>();
    let detail = format!("{} URL{}{term}", urls.len(), if urls.len() == 1 { "" } else { "s" });
    report.push(Row::ok(STEP, detail).with("urls", urls));
    offered
}

/// The URI, if a browser would take it.
///
/// # Errors
/// The row that says why not.
pub(super) fn usable(text: &str, login: Option<&Login>) -> Result<Uri, Box<Row>> {
    let refused = |detail: String, fix: &str| {
        let advice =
            Advice::new("new RTCPeerConnection() throws on this entry, so that nothing connects at all", fix);
        Box::new(Row::fail("URL", detail, advice))
    };
    let uri = Uri::parse(text).map_err(|error| refused(error, "mend what the endpoint hands out"))?;
    if uri.relays && login.is_none() {
        let detail = "turn: without user name and credential".into();
        return Err(refused(detail, "let the endpoint give both with each turn: and turns: URL"));
    }
    Ok(uri)
}

/// All URLs in an answer, in its order, each once.
fn offered(json: &Value) -> Vec<(String, Option<Login>)> {
    let lists = [
        json.get("iceServers"),
        json.get("ice_servers"),
        json.get("v").and_then(|v| v.get("iceServers")),
        json.get("d").and_then(|d| d.get("iceServers")),
        json.as_array().map(|_| json),
        json.get("uris").map(|_| json),
        json.get("urls").map(|_| json),
    ];
    let entries: Vec<&Value> = match lists.into_iter().flatten().next() {
        Some(Value::Array(entries)) => entries.iter().collect(),
        Some(entry) => vec![entry],
        None => Vec::new(),
    };
    let mut all: Vec<(String, Option<Login>)> = Vec::new();
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        let login = text("username").zip(text("credential").or_else(|| text("password")));
        let login = login.map(|(username, password)| Login::from_endpoint(username, password));
        let urls: Vec<String> = match ["urls", "url", "uris"].into_iter().find_map(|key| entry.get(key)) {
            Some(Value::Array(urls)) => urls.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(url)) => vec![url.clone()],
            _ => Vec::new(),
        };
        for url in urls {
            if all.len() < MOST && !all.iter().any(|(known, _)| *known == url) {
                all.push((url, login.clone()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(json: Value) -> String {
        let shown = |(url, login): (String, Option<Login>)| match login {
            Some(login) => format!("{url}={}:{}", login.username, login.password.0),
            None => url,
        };
        offered(&json).into_iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_forms_of_answers() {
        let superset = json!({
            "iceServers": [
                {"urls": ["stun:h:3478"]},
                {"urls": ["turn:h:3478?transport=udp", "turns:h:443?transport=tcp"], "username": "u", "credential": "c"},
            ],
            "iceTransportPolicy": "all", "username": "u", "password": "c", "ttl": 600,
            "uris": ["turn:h:3478?transport=udp"], "lifetimeDuration": "600s",
        });
        assert_eq!(seen(superset), "stun:h:3478 turn:h:3478?transport=udp=u:c turns:h:443?transport=tcp=u:c");
        let twilio = json!({
            "username": "u", "password": "c", "ttl": "86400", "account_sid": "x",
            "ice_servers": [
                {"url": "stun:t:3478", "urls": "stun:t:3478"},
                {"url": "turn:t:3478?transport=udp", "username": "u", "urls": "turn:t:3478?transport=udp", "credential": "c"},
            ],
        });
        assert_eq!(seen(twilio), "stun:t:3478 turn:t:3478?transport=udp=u:c");
        let cloudflare =
            json!({"iceServers": {"urls": ["stun:c", "turn:c"], "username": "u", "credential": "c"}});
        assert_eq!(seen(cloudflare), "stun:c=u:c turn:c=u:c");
        let rest = json!({"username": "u", "password": "c", "ttl": 600, "uris": ["turn:r:1", "turn:r:1"]});
        assert_eq!(seen(rest), "turn:r:1=u:c");
        let xirsys =
            json!({"s": "ok", "v": {"iceServers": {"urls": ["turn:x"], "username": "u", "credential": "c"}}});
        assert_eq!(seen(xirsys), "turn:x=u:c");
        assert_eq!(seen(json!([{"urls": "stun:b"}])), "stun:b");
        for nothing in [json!({}), json!({"error": "no"}), json!(3), json!({"iceServers": [{"urls": 3}, 4]})]
        {
            assert_eq!(seen(nothing), "");
        }
    }

    #[test]
    fn entries_that_a_browser_throws_on() {
        let login = Login::from_endpoint("u".into(), "c".into());
        assert!(usable("turn:h", Some(&login)).is_ok());
        assert!(usable("stun:h", None).is_ok());
        for (url, login) in [("turn:h", None), ("stun:h?transport=udp", None), ("turn://h", Some(&login))] {
            assert!(usable(url, login).unwrap_err().advice.unwrap().cause.contains("throws"), "{url}");
        }
    }
}
