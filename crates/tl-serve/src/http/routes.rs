//! Which request goes where.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    AUTHORIZATION, CONNECTION, CONTENT_SECURITY_POLICY, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::app::App;
use super::record::Record;
use super::reply::{self, Reply};
use super::{completions, metrics};
use crate::api::{ApiError, ApiResult, Fields, Kind, object, tokens};

/// The page for a browser.
const PAGE: &str = include_str!("page.html");

/// What the page may do: nothing but talk to this server.
const PAGE_POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Page,
    Health,
    Ready,
    Metrics,
    Stats,
    Models,
    Model,
    Completion(Kind),
    Quote,
    Tokenize,
    Detokenize,
    Unknown,
}

const MODEL_PREFIX: &str = "/v1/models/";

impl Route {
    fn of(path: &str) -> Route {
        match path {
            "/" => Route::Page,
            "/health" => Route::Health,
            "/ready" => Route::Ready,
            "/metrics" => Route::Metrics,
            "/stats" => Route::Stats,
            "/v1/models" => Route::Models,
            "/v1/chat/completions" => Route::Completion(Kind::Chat),
            "/v1/completions" => Route::Completion(Kind::Text),
            "/v1/quote" => Route::Quote,
            "/tokenize" => Route::Tokenize,
            "/detokenize" => Route::Detokenize,
            path if path.starts_with(MODEL_PREFIX) => Route::Model,
            _ => Route::Unknown,
        }
    }

    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Route::Page => "/",
            Route::Health => "/health",
            Route::Ready => "/ready",
            Route::Metrics => "/metrics",
            Route::Stats => "/stats",
            Route::Models => "/v1/models",
            Route::Model => "/v1/models/*",
            Route::Completion(Kind::Chat) => "/v1/chat/completions",
            Route::Completion(Kind::Text) => "/v1/completions",
            Route::Quote => "/v1/quote",
            Route::Tokenize => "/tokenize",
            Route::Detokenize => "/detokenize",
            Route::Unknown => "unknown",
        }
    }

    /// Its method; `None` for no path of the server.
    fn method(self) -> Option<Method> {
        match self {
            Route::Unknown => None,
            Route::Completion(_) | Route::Quote | Route::Tokenize | Route::Detokenize => Some(Method::POST),
            _ => Some(Method::GET),
        }
    }

    /// Whether everybody may ask for it. The page has nothing of the model; what it asks for needs a key.
    fn is_open(self) -> bool {
        matches!(self, Route::Page | Route::Health | Route::Ready)
    }
}

/// Answers a request.
pub(super) async fn answer(app: Arc<App>, client: SocketAddr, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let route = Route::of(request.uri().path());
    let record = Record::new(app.options.log.clone(), app.counts.clone(), client, name(request.method()), route.name());
    let origin = allowed_origin(&app, &request);
    let mut reply = match (request.method(), &app.options.cors_origin) {
        (&Method::OPTIONS, Some(_)) => noted(record, preflight()),
        _ => checked(&app, route, request, record).await,
    };
    let headers = reply.headers_mut();
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    if app.engine.stats().is_stopping {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply)
}

/// Methods by name; the log has no other text of a client.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

fn noted(mut record: Record, reply: Reply) -> Reply {
    record.set_status(reply.status().as_u16());
    reply
}

/// The origin of the request, if pages from there may read the response.
fn allowed_origin(app: &App, request: &Request<Incoming>) -> Option<HeaderValue> {
    let allowed = app.options.cors_origin.as_deref()?;
    let origin = request.headers().get(ORIGIN)?;
    (allowed == "*" || origin.as_bytes() == allowed.as_bytes()).then(|| origin.clone())
}

fn preflight() -> Reply {
    let mut reply = reply::whole(StatusCode::NO_CONTENT, "text/plain", "");
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    reply
}

/// Checks path, key and method, and answers.
async fn checked(app: &Arc<App>, route: Route, request: Request<Incoming>, record: Record) -> Reply {
    let key = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if !route.is_open() && !app.options.api_keys.allow(key) {
        let message = "expected the header Authorization: Bearer KEY with one of this server's keys";
        return noted(record, reply::error(&ApiError::new(401, Some("invalid_api_key"), message)));
    }
    match route.method() {
        None => return noted(record, reply::error(&ApiError::new(404, Some("unknown_url"), "there is no such path"))),
        Some(method) if method != *request.method() => {
            return noted(record, reply::wrong_method(if method == Method::GET { "GET" } else { "POST" }));
        }
        Some(_) => {}
    }
    let result = match route {
        Route::Completion(kind) => return completions::run(app, kind, request, record).await,
        Route::Page => return noted(record, page()),
        Route::Metrics => {
            let text = metrics::text(&app.engine.stats(), &app.counts);
            return noted(record, reply::whole(StatusCode::OK, "text/plain; version=0.0.4", text));
        }
        // An engine that has failed ends the server.
        Route::Health => Ok(json!({"status": "ok"})),
        Route::Ready => ready(app),
        Route::Stats => Ok(metrics::json(&app.engine.stats(), &app.counts)),
        Route::Models => Ok(json!({"object": "list", "data": [model(app)]})),
        Route::Model => named_model(app, request.uri().path()),
        Route::Quote => completions::quote(app, request).await,
        Route::Tokenize => with_body(app, request, tokenize).await,
        Route::Detokenize => with_body(app, request, detokenize).await,
        Route::Unknown => Err(ApiError::new(404, Some("unknown_url"), "there is no such path")),
    };
    noted(record, result.map_or_else(|error| reply::error(&error), |value| reply::json(&value)))
}

fn page() -> Reply {
    let mut reply = reply::whole(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    reply
}

/// Whether the server takes requests.
fn ready(app: &App) -> ApiResult<Value> {
    match app.engine.stats().is_stopping {
        true => Err(ApiError::new(503, Some("stopping"), "the server is stopping and takes no more requests")),
        false => Ok(json!({"status": "ready"})),
    }
}

fn model(app: &App) -> Value {
    let served = &app.served;
    json!({
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "tensorlogic",
        "context_length": served.context,
    })
}

/// The model whose name ends the path. A name may have slashes; other characters that a path cannot have are not decoded.
fn named_model(app: &App, path: &str) -> ApiResult<Value> {
    match path.strip_prefix(MODEL_PREFIX) == Some(&app.served.name) {
        true => Ok(model(app)),
        false => Err(ApiError::new(404, Some("model_not_found"), format!("this server has {:?}", app.served.name))),
    }
}

/// Runs a function over a body's fields, on another thread than that of the connections.
async fn with_body(
    app: &Arc<App>,
    request: Request<Incoming>,
    run: fn(&App, Fields) -> ApiResult<Value>,
) -> ApiResult<Value> {
    let body = app.bodies.read(request).await?;
    let app = app.clone();
    let work = move || run(&app, Fields::new(object(&body.bytes)?));
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::failed("the request could not be answered"))?
}

fn tokenize(app: &App, mut fields: Fields) -> ApiResult<Value> {
    let text = fields.required_text("text")?;
    let adds = fields.truth("add_special")?.unwrap_or(true);
    let parses = fields.truth("parse_special")?.unwrap_or(false);
    fields.end()?;
    let options = tl_model::EncodeOptions::default().with_add_special(adds).with_parse_special(parses);
    let tokens = app.served.tokenizer.encode_with(&text, &options);
    Ok(json!({"count": tokens.len(), "tokens": tokens}))
}

fn detokenize(app: &App, mut fields: Fields) -> ApiResult<Value> {
    let list = fields.list("tokens")?.ok_or_else(|| fields.missing("tokens"))?;
    fields.end()?;
    let ids = tokens(&list, "tokens")?;
    let text = app.served.tokenizer.decode(&ids).map_err(|error| ApiError::param("tokens", error))?;
    Ok(json!({"text": text}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, expected: Route| assert_eq!(Route::of(path), expected, "{path}");
        check("/", Route::Page);
        check("/v1/chat/completions", Route::Completion(Kind::Chat));
        check("/v1/models/org/repo", Route::Model);
        check("/v1/chat/completions/", Route::Unknown);
        check("", Route::Unknown);
        check("//", Route::Unknown);
    }

    #[test]
    fn only_the_page_and_the_state_of_health_are_open() {
        let paths = ["/metrics", "/stats", "/v1/models", "/v1/models/a", "/v1/quote", "/tokenize", "/detokenize", "/x"];
        assert!(paths.iter().all(|path| !Route::of(path).is_open()));
        assert!(["/", "/health", "/ready"].iter().all(|path| Route::of(path).is_open()));
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://") && !PAGE.contains(" src="));
    }
}
