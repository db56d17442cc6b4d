//! The options of a download.

use std::path::PathBuf;
use std::time::Duration;

/// The options of a download, beside the name of the model.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The hub: `https://huggingface.co`, or what `HF_ENDPOINT` says.
    pub endpoint: String,
    /// What `HF_TOKEN` says. It is sent to the endpoint alone.
    pub token: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The folder that holds `models--org--repo`.
    pub cache: PathBuf,
    /// A proxy, as `http://host:port`.
    pub proxy: Option<String>,
    /// How long to wait for a connection, and for the next bytes.
    pub timeout: Duration,
    /// The most bytes that one model may have.
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
