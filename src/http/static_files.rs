//! An operator's own pages, from a directory.
//!
//! In: the path of a request. Out: a file that lies in the directory, really: links that lead out of it, hidden files
//! and `..` are not found. There is no listing. What was served is kept until the file changes, so that many slow
//! readers of one file share its bytes; together, what is kept has a bound.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;

use super::pages::{matches, tag};
use super::reply::{Failure, Reply, empty, with_type};

/// Bytes of one file, and of all that are served.
const MAX_FILE: u64 = 16 * 1024 * 1024;
const MAX_TOTAL: u64 = 64 * 1024 * 1024;
/// Looks at the disk at the same time.
const MAX_LOOKS: usize = 16;

pub(super) struct StaticFiles {
    inner: Arc<Inner>,
    looks: Semaphore,
    policy: Option<HeaderValue>,
}

struct Inner {
    directory: PathBuf,
    kept: Mutex<HashMap<PathBuf, Kept>>,
}

#[derive(Clone)]
struct Kept {
    length: u64,
    modified: Option<SystemTime>,
    content: Bytes,
    tag: HeaderValue,
}

/// What is at a path.
enum Found {
    Nothing,
    /// To be asked for with a slash at the end.
    Directory,
    TooMuch,
    File(&'static str, Kept),
}

impl StaticFiles {
    pub(super) fn new(directory: &Path, policy: &str) -> Self {
        let policy = HeaderValue::try_from(policy).ok().filter(|policy| !policy.is_empty());
        let inner = Inner { directory: directory.to_owned(), kept: Mutex::default() };
        Self { inner: Arc::new(inner), looks: Semaphore::new(MAX_LOOKS), policy }
    }

    /// `None`: there is no such file.
    pub(super) async fn get(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Result<Reply, Failure>> {
        let name = relative(path)?;
        let inner = self.inner.clone();
        let _turn = self.looks.acquire().await.ok()?;
        let found = tokio::task::spawn_blocking(move || inner.find(&name)).await.ok()?;
        let (kind, file) = match found {
            Found::Nothing => return None,
            Found::TooMuch => {
                let message = "The files here are too large: 16 MiB each and 64 MiB together can be served";
                return Some(Err(Failure::unavailable(message)));
            }
            Found::Directory => {
                let mut reply = empty(StatusCode::PERMANENT_REDIRECT);
                let to = HeaderValue::try_from(format!("{path}/")).ok()?;
                reply.headers_mut().insert(header::LOCATION, to);
                return Some(Ok(reply));
            }
            Found::File(kind, file) => (kind, file),
        };
        if method != Method::GET && method != Method::HEAD {
            return Some(Err(Failure::method_not_allowed("GET, HEAD")));
        }
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|sent| matches(sent, &file.tag));
        let mut reply = if known {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            with_type(StatusCode::OK, kind, file.content)
        };
        let to = reply.headers_mut();
        to.insert(header::ETAG, file.tag);
        to.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        to.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        if let Some(policy) = &self.policy {
            to.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        Some(Ok(reply))
    }
}

/// The file that a path names, relative to the directory. `None`: it names none.
fn relative(path: &str) -> Option<PathBuf> {
    let decoded = percent_decoded(path.strip_prefix('/')?)?;
    let (folders, file) = decoded.rsplit_once('/').map_or(("", decoded.as_str()), |(f, last)| (f, last));
    let mut name = PathBuf::new();
    if !folders.is_empty() || decoded.starts_with('/') {
        for folder in folders.split('/') {
            name.push(plain(folder)?);
        }
    }
    name.push(if file.is_empty() { "index.html" } else { plain(file)? });
    Some(name)
}

/// Neither empty, nor hidden, nor a way up.
fn plain(segment: &str) -> Option<&str> {
    let odd = |c: char| c.is_control() || c == '\\';
    (!segment.is_empty() && !segment.starts_with('.') && !segment.contains(odd)).then_some(segment)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let hex =
                std::str::from_utf8(&digits).ok().filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
            // A slash in disguise is part of no file's name.
            decoded.push(u8::from_str_radix(hex, 16).ok().filter(|byte| *byte != b'/')?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

impl Inner {
    fn find(&self, name: &Path) -> Found {
        // Links are followed, and only then it is looked where they have led.
        let Ok(root) = self.directory.canonicalize() else { return Found::Nothing };
        let Ok(place) = root.join(name).canonicalize() else { return Found::Nothing };
        if !place.starts_with(&root) {
            return Found::Nothing;
        }
        let Ok(about) = place.metadata() else { return Found::Nothing };
        if about.is_dir() {
            let index = place.join("index.html").is_file();
            return if index { Found::Directory } else { Found::Nothing };
        }
        if !about.is_file() {
            return Found::Nothing;
        }
        let (length, modified) = (about.len(), about.modified().ok());
        let kind = kind(&place);
        if let Some(kept) = self.kept().get(&place)
            && kept.length == length
            && kept.modified == modified
        {
            return Found::File(kind, kept.clone());
        }
        self.read(place, kind, length, modified)
    }

    fn read(&self, place: PathBuf, kind: &'static str, length: u64, modified: Option<SystemTime>) -> Found {
        let mut kept = self.kept();
        // What is no longer there makes room.
        kept.retain(|path, _| *path != place && path.is_file());
        let others: u64 = kept.values().map(|kept| kept.length).sum();
        if length > MAX_FILE || others + length > MAX_TOTAL {
            log::warn!(file:% = place.display(), length; "not served: files may have 16 MiB each, and 64 MiB together");
            return Found::TooMuch;
        }
        let mut content = Vec::new();
        let file = fs::File::open(&place).and_then(|file| file.take(length).read_to_end(&mut content));
        if let Err(error) = file {
            log::warn!(file:% = place.display(); "cannot be read: {error}");
            return Found::Nothing;
        }
        let file = Kept { length, modified, tag: tag(&content), content: content.into() };
        kept.insert(place, file.clone());
        Found::File(kind, file)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The type by the name's ending; what is not known is to be saved, not shown.
fn kind(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_files_inside_or_nothing() {
        for (path, name) in [
            ("/", "index.html"),
            ("/app.js", "app.js"),
            ("/a/b/c.css", "a/b/c.css"),
            ("/a/", "a/index.html"),
            ("/with%20space.txt", "with space.txt"),
            ("/%E4%BC%9A.html", "会.html"),
        ] {
            assert_eq!(relative(path), Some(PathBuf::from(name)), "{path}");
        }
        for path in [
            "",
            "app.js",
            "//",
            "//etc/passwd",
            "/..",
            "/../x",
            "/a/../x",
            "/a//b",
            "/.env",
            "/.git/config",
            "/a/.hidden",
            "/%2e%2e/x",
            "/%2E%2E%2Fx",
            "/a%2Fb",
            "/a%00b",
            "/a%5Cb",
            "/a\\b",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/%ff",
        ] {
            assert_eq!(relative(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn files_are_served_and_links_out_are_not() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        fs::create_dir(inside.path().join("sub")).unwrap();
        fs::create_dir(inside.path().join("empty")).unwrap();
        fs::write(inside.path().join("sub/index.html"), "<p>").unwrap();
        fs::write(inside.path().join("app.js"), "1").unwrap();
        for (link, to) in
            [("out.txt", outside.path().join("secret.txt")), ("in.js", inside.path().join("app.js"))]
        {
            std::os::unix::fs::symlink(to, inside.path().join(link)).unwrap();
        }
        std::os::unix::fs::symlink(outside.path(), inside.path().join("door")).unwrap();

        let files = StaticFiles::new(inside.path(), "default-src 'self'");
        let get =
            async |path: &str| files.get(&Method::GET, path, &HeaderMap::new()).await.map(Result::unwrap);
        for (path, kind) in [
            ("/app.js", "text/javascript; charset=utf-8"),
            ("/sub/", "text/html; charset=utf-8"),
            ("/in.js", "text/javascript; charset=utf-8"),
        ] {
            let reply = get(path).await.unwrap();
            assert_eq!(reply.status(), StatusCode::OK, "{path}");
            assert_eq!(reply.headers()[header::CONTENT_TYPE], kind);
            assert_eq!(reply.headers()[header::CONTENT_SECURITY_POLICY], "default-src 'self'");
        }
        let moved = get("/sub").await.unwrap();
        assert_eq!(
            (moved.status(), &moved.headers()[header::LOCATION]),
            (StatusCode::PERMANENT_REDIRECT, &HeaderValue::from_static("/sub/"))
        );
        for path in ["/out.txt", "/door/secret.txt", "/empty", "/empty/", "/", "/nothing.js", "/app.js/x"] {
            assert!(get(path).await.is_none(), "{path}");
        }
        let tag = get("/app.js").await.unwrap().headers()[header::ETAG].clone();
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        let reply = files.get(&Method::GET, "/app.js", &known).await.unwrap().unwrap();
        assert_eq!(reply.status(), StatusCode::NOT_MODIFIED);
        let posted = files.get(&Method::POST, "/app.js", &HeaderMap::new()).await.unwrap();
        assert_eq!(posted.unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_what_is_too_large_is_refused() {
        let inside = tempfile::tempdir().unwrap();
        let file = inside.path().join("a.txt");
        let files = StaticFiles::new(inside.path(), "");
        let length = async || {
            let reply = files.get(&Method::GET, "/a.txt", &HeaderMap::new()).await.unwrap();
            reply.map(|reply| hyper::body::Body::size_hint(reply.body()).exact())
        };
        fs::write(&file, "one").unwrap();
        assert_eq!(length().await, Ok(Some(3)));
        fs::write(&file, "longer").unwrap();
        assert_eq!(length().await, Ok(Some(6)));
        fs::File::create(&file).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert_eq!(length().await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
