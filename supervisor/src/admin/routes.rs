//! Answers the admin server's paths.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page; `/page.css`, `/page.js` and `/live.json` are its parts |
//! | `/metrics` | Prometheus' text format |
//! | `/status.json` | what `ostler status --json` prints |
//! | `/healthz`, `/readyz` | 200, or 503 with the reason; with `?pool=NAME` of one pool |

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};
use ostler_shared::scoreboard::Content;
use ostler_shared::sys::clock::monotonic_ns;

use super::history::History;
use super::readiness::{self, Verdict};
use super::source::Source;
use super::{live, metrics};
use crate::presence::{self, Presence};
use crate::status::{Freshness, Status};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page has nothing from elsewhere, and is part of nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// On every answer: nothing is kept anywhere, guessed at, or told to others.
const ALWAYS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

type Answer = Response<Full<Bytes>>;

/// What of a request matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) has_body: bool,
}

pub(super) fn answer(asked: Asked<'_>, source: &Source, history: &History) -> Answer {
    if !matches!(*asked.method, Method::GET | Method::HEAD) {
        return with(plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD, please\n"), ALLOW, "GET, HEAD");
    }
    if asked.has_body {
        // It is not read, so nothing can follow it.
        return with(plain(StatusCode::PAYLOAD_TOO_LARGE, "no body, please\n"), CONNECTION, "close");
    }
    match asked.path {
        "/" => typed(StatusCode::OK, HTML, include_str!("page.html")),
        "/page.css" => typed(StatusCode::OK, CSS, include_str!("page.css")),
        "/page.js" => typed(StatusCode::OK, JAVASCRIPT, include_str!("page.js")),
        "/metrics" => {
            told(source, |content, _| typed(StatusCode::OK, PROMETHEUS, metrics::text(content, monotonic_ns())))
        }
        "/status.json" => told(source, |content, presence| {
            typed(StatusCode::OK, JSON, Status::of(content, freshness(presence)).to_json() + "\n")
        }),
        "/live.json" => told(source, |content, presence| {
            typed(StatusCode::OK, JSON, live::json(content, freshness(presence), presence, history))
        }),
        "/healthz" => judged(source, asked, readiness::health),
        "/readyz" => judged(source, asked, readiness::readiness),
        _ => plain(StatusCode::NOT_FOUND, "try / /metrics /status.json /healthz /readyz\n"),
    }
}

/// With what is published and how its supervisor is; without, an answer that says why.
fn told(source: &Source, answer: impl FnOnce(&Content, Presence) -> Answer) -> Answer {
    match source.read() {
        Ok(content) => answer(&content, presence::of(&content.supervisor)),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn judged(
    source: &Source,
    asked: Asked<'_>,
    judge: impl FnOnce(&Content, Presence, Option<&str>) -> Verdict,
) -> Answer {
    let pool = match pool_of(asked.query) {
        Ok(pool) => pool,
        Err(why) => return plain(StatusCode::BAD_REQUEST, why),
    };
    told(source, |content, presence| match judge(content, presence, pool) {
        Verdict::Well => plain(StatusCode::OK, "ok\n"),
        Verdict::NotWell(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Verdict::NoSuchPool => plain(StatusCode::NOT_FOUND, "there is no such pool\n"),
    })
}

/// `pool=NAME`, which needs no escapes: names of pools have letters, digits, `_` and `-`.
fn pool_of(query: Option<&str>) -> Result<Option<&str>, &'static str> {
    match query.map(|query| query.strip_prefix("pool=").filter(|name| !name.contains(['&', '=']))) {
        None => Ok(None),
        Some(Some(name)) => Ok(Some(name)),
        Some(None) => Err("?pool=NAME and nothing else, please\n"),
    }
}

fn freshness(presence: Presence) -> Freshness {
    match presence {
        Presence::Running | Presence::Stopped | Presence::Traced | Presence::Unknown => Freshness::Published,
        Presence::Ended => Freshness::Left,
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(status, TEXT, text)
}

fn typed(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    for (name, value) in ALWAYS.into_iter().chain([(CONTENT_TYPE, kind)]) {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_pool_or_is_refused() {
        assert_eq!(pool_of(None), Ok(None));
        assert_eq!(pool_of(Some("pool=web")), Ok(Some("web")));
        for odd in ["", "pool", "name=web", "pool=a&pool=b", "pool=a=b"] {
            assert!(pool_of(Some(odd)).is_err(), "{odd:?}");
        }
    }
}
