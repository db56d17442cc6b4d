//! Requests to a hub: redirects, credentials, limits and statuses.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode, Uri};

use super::options::PullOptions;
use crate::error::{HubError, Result};

/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 8;

/// Maximum length of a JSON answer in bytes.
const MAX_JSON: u64 = 16 << 20;

/// Purpose of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Json,
    /// A file's bytes from `from` on.
    File {
        from: u64,
    },
    Head,
}

impl Want {
    fn from(self) -> u64 {
        match self {
            Self::File { from } => from,
            Self::Json | Self::Head => 0,
        }
    }
}

pub(super) struct Client {
    agent: Agent,
    timeout: Duration,
    endpoint: String,
    token: Option<String>,
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) url: String,
    pub(super) status: u16,
    response: Response<ureq::Body>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn reader(self) -> impl Read {
        // The reader counts the bytes.
        self.response.into_body().into_with_config().limit(u64::MAX).reader()
    }
}

impl Client {
    pub(super) fn new(options: &PullOptions) -> Result<Self> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let is_http = endpoint.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !is_http || endpoint.contains(['?', '#']) {
            let reason = format!("{endpoint:?} is no address like https://huggingface.co");
            return Err(HubError::BadSetting { what: "the hub's endpoint", reason });
        }
        if options.token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            let reason = "it has characters that no token has".to_owned();
            return Err(HubError::BadSetting { what: "the hub's token", reason });
        }
        let proxy =
            match &options.proxy {
                None => None,
                Some(proxy) => Some(ureq::Proxy::new(proxy).map_err(|error| HubError::BadSetting {
                    what: "the proxy",
                    reason: format!("{proxy:?}: {error}"),
                })?),
            };
        let timeout = Some(options.timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_send_request(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .user_agent(concat!("tensorlogic/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build();
        let token = options.token.clone().filter(|token| !token.is_empty());
        Ok(Self { agent: config.new_agent(), timeout: options.timeout, endpoint, token })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The answer to a request for `url`, from byte `from` on, after redirects. The token is sent only to the origin of
    /// `url`: not to another host, another port, or from HTTPS to HTTP.
    pub(super) fn get(&self, url: &str, from: u64) -> Result<Answer> {
        self.request(url, Want::File { from })
    }

    /// The headers of the first answer, from the hub itself: only redirects within it are followed.
    pub(super) fn head(&self, url: &str) -> Result<Answer> {
        self.request(url, Want::Head)
    }

    fn request(&self, url: &str, want: Want) -> Result<Answer> {
        let bad = |url: &str, reason: String| HubError::BadAnswer { url: url.to_owned(), reason };
        let first = parse_url(url).ok_or_else(|| bad(url, "no address".to_owned()))?;
        let mut current = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let shown = shown_url(&current);
            let network = |error: ureq::Error| HubError::Network { url: shown.clone(), reason: error.to_string() };
            let mut request = match want {
                Want::Head => self.agent.head(current.clone()),
                _ => self.agent.get(current.clone()),
            };
            if want == Want::Json {
                // A short text has a time limit in all. A file may take any time, as long as bytes arrive.
                request = request.config().timeout_recv_body(Some(self.timeout * 2)).build();
            }
            if let Some(token) = self.token.as_ref().filter(|_| same_origin(&first, &current)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let from = want.from();
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(network)?;
            let status = response.status();
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            match location {
                Some(location) if status.is_redirection() => {
                    let Some(next) = join(&current, location) else {
                        return Err(bad(&shown, format!("it points to {location:?}, which is no address")));
                    };
                    if current.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                        return Err(bad(&shown, "it points from HTTPS to an address without it".to_owned()));
                    }
                    // The answer that redirects to a file's storage has the file's size and digest in its headers.
                    if want == Want::Head && !same_origin(&current, &next) {
                        return Ok(Answer { url: shown, status: status.as_u16(), response });
                    }
                    current = next;
                }
                _ if status.is_success() => return Ok(Answer { url: shown, status: status.as_u16(), response }),
                // The range begins past the end: left to the caller, who knows the expected size.
                _ if status == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 => {
                    return Ok(Answer { url: shown, status: status.as_u16(), response });
                }
                _ => {
                    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                    let retry_after = retry_after
                        .filter(|text| text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit()))
                        .map(str::to_owned);
                    return Err(HubError::Status { url: shown, status: status.as_u16(), retry_after });
                }
            }
        }
        Err(bad(url, format!("it points elsewhere more than {MAX_REDIRECTS} times")))
    }

    /// A JSON answer.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T> {
        let answer = self.request(url, Want::Json)?;
        let url = answer.url.clone();
        let is_html = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        let mut text = Vec::new();
        let read = answer.reader().take(MAX_JSON + 1).read_to_end(&mut text);
        read.map_err(|error| HubError::Network { url: url.clone(), reason: error.to_string() })?;
        let bad = |reason: String| HubError::BadAnswer { url: url.clone(), reason };
        if text.len() as u64 > MAX_JSON {
            return Err(bad(format!("the answer has more than {MAX_JSON} bytes")));
        }
        serde_json::from_slice(&text).map_err(|error| {
            if is_html || text.trim_ascii_start().starts_with(b"<") {
                bad("the answer is a web page, not JSON: is the endpoint a hub, and is there a login before it?"
                    .to_owned())
            } else {
                bad(format!("the answer is not what a hub says of a model: {error}"))
            }
        })
    }
}

fn parse_url(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority()?;
    // Addresses with a user name and password are refused.
    (is_http && !authority.host().is_empty() && !authority.as_str().contains('@')).then_some(uri)
}

/// An address relative to another.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or(location);
    if location.contains("://") && !location.starts_with('/') {
        return parse_url(location);
    }
    let origin = format!("{}://{}", base.scheme_str()?, base.authority()?);
    if location.starts_with("//") {
        return parse_url(&format!("{}:{location}", base.scheme_str()?));
    }
    if location.starts_with('/') {
        return parse_url(&(origin + location));
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    parse_url(&format!("{origin}{folder}/{location}"))
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// A URL for messages: without the query, which may be secret, and long.
fn shown_url(uri: &Uri) -> String {
    let text = uri.to_string();
    text.split('?').next().unwrap_or(&text).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined() {
        for (base, location, expected) in [
            ("https://a/b/c", "https://d/e", Some("https://d/e")),
            ("https://a/b/c", "/e?x=1#y", Some("https://a/e?x=1")),
            ("http://a:8/b/c", "e", Some("http://a:8/b/e")),
            ("https://a/b/c", "//d/e", Some("https://d/e")),
            ("https://a/b/c", "ftp://d/e", None),
            ("https://a/b/c", "file:///etc/passwd", None),
            ("https://a/b", "https://u:p@d/e", None),
            ("https://a/b", "https://", None),
        ] {
            let joined = join(&base.parse().unwrap(), location).map(|uri| uri.to_string());
            assert_eq!(joined.as_deref(), expected, "{base} {location}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        for (a, b, expected) in [
            ("https://a/x", "https://A:443/y", true),
            ("https://a/x", "http://a/x", false),
            ("https://a/x", "https://a:444/x", false),
            ("https://a/x", "https://a.b/x", false),
        ] {
            assert_eq!(same_origin(&a.parse().unwrap(), &b.parse().unwrap()), expected, "{a} {b}");
        }
    }
}
