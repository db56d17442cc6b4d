//! The options of a download.

use std::path::PathBuf;
use std::time::Duration;

/// The options of a download, other than the name of the model.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The hub: `https://huggingface.co`, or the value of `HF_ENDPOINT`.
    pub endpoint: String,
    /// The value of `HF_TOKEN`. Sent only to the endpoint.
    pub token: Option<String>,
    /// Branch, tag or commit.
    pub revision: String,
    /// The folder that holds `models--org--repo`.
    pub cache: PathBuf,
    /// A proxy, as `http://host:port`.
    pub proxy: Option<String>,
    /// Timeout for the connection, and for the next bytes.
    pub timeout: Duration,
    /// Maximum bytes of one model.
    pub max_bytes: u64,
}

impl PullOptions {
    /// The branch `main` of Hugging Face's hub, into `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            revision: "main".to_owned(),
            cache: cache.into(),
            proxy: None,
            timeout: Duration::from_secs(60),
            max_bytes: 4 << 40,
        }
    }
}
