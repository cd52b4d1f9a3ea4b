//! The demo page and its files, and the two probes.

use super::*;

#[tokio::test]
async fn pages_have_their_types_and_the_strict_policy() {
    let world = World::new().await;
    for (target, kind, begin) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/r/demo", "text/html; charset=utf-8", "<!doctype html>"),
        ("/r/caf%C3%A9?relay=1", "text/html; charset=utf-8", "<!doctype html>"),
        ("/app.js", "text/javascript; charset=utf-8", "/"),
        ("/ternd.js", "text/javascript; charset=utf-8", "/"),
        ("/diagnostics", "text/html; charset=utf-8", "<!doctype html>"),
        ("/words.js", "text/javascript; charset=utf-8", "/"),
        ("/style.css", "text/css; charset=utf-8", ""),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let answer = world.get(target, &[]).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.header("content-type"), Some(kind));
        assert!(answer.text().starts_with(begin));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert!(answer.header("permissions-policy").unwrap().starts_with("camera=(self), microphone=(self)"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
        let shared = target == "/ternd.js";
        let embedders = if shared { "cross-origin" } else { "same-origin" };
        assert_eq!(answer.header("cross-origin-resource-policy"), Some(embedders));
        assert_eq!(answer.header("access-control-allow-origin"), shared.then_some("*"), "{target}");
    }
    for target in ["/r/", "/r/a/b", "/index.html", "/web/app.js", "/favicon.ico"] {
        world.get(target, &[]).await.assert_error(404, "not_found");
    }
    let refused = world.ask(request(Method::POST, "/", &[], "")).await;
    refused.assert_error(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
}

/// What the pages load, and what that loads, has to be there.
#[tokio::test]
async fn every_file_that_the_pages_name_is_served() {
    let world = World::new().await;
    let mut found = vec!["/".to_owned(), "/diagnostics".to_owned()];
    let mut at = 0;
    while at < found.len() {
        let answer = world.get(&found[at], &[]).await;
        assert_eq!(answer.status, 200, "{}", found[at]);
        for begin in ["src=\"/", "href=\"/", " from \"./"] {
            for (place, _) in answer.text().match_indices(begin) {
                let name =
                    answer.text()[place..].split('"').nth(1).unwrap().trim_start_matches('.').to_owned();
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        at += 1;
    }
    assert!(found.len() >= 10, "{found:?}");
}

#[tokio::test]
async fn a_page_that_is_known_is_not_sent_again() {
    let world = World::new().await;
    let tag = world.get("/app.js", &[]).await.header("etag").unwrap().to_owned();
    for sent in [tag.clone(), format!("\"x\", W/{tag}"), "*".into()] {
        let answer = world.get("/app.js", &[("if-none-match", &sent)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0), "{sent}");
        assert_eq!(answer.header("etag"), Some(&*tag));
    }
    assert_eq!(world.get("/style.css", &[("if-none-match", &tag)]).await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let world = World::new().await;
    let length = world.get("/app.js", &[]).await.body.len().to_string();
    let answer = world.ask(request(Method::HEAD, "/app.js", &[], "")).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), Some(&*length));
}

#[tokio::test]
async fn probes_are_answered() {
    let world = World::new().await;
    for target in ["/healthz", "/readyz"] {
        let answer = world.get(target, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok\n"));
        world.ask(request(Method::POST, target, &[], "")).await.assert_error(405, "method_not_allowed");
    }
}
