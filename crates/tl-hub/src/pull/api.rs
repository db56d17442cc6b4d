//! A hub's description of a repository: its commit, its files, their sizes and digests.

use super::http::Client;
use crate::error::{HubError, Result};
use crate::name::{HubName, check_part};
use crate::ollama::is_hex;

/// Maximum number of files read from a repository's list.
const MAX_FILES: usize = 50_000;

/// A repository at one commit.
pub(super) struct Repository {
    /// Its name, in the hub's case.
    pub(super) name: HubName,
    pub(super) commit: String,
    pub(super) files: Vec<File>,
    /// The URL of the answer.
    pub(super) url: String,
}

pub(super) struct File {
    /// Plain names with `/` between them.
    pub(super) name: String,
    size: Option<u64>,
    digest: Option<Digest>,
}

/// The expected digest of a file's content. Its hexadecimal digits name the blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// SHA-256 of the content: files in large file storage.
    Sha256(String),
    /// SHA-1 as git computes it over a blob: small files.
    GitSha1(String),
}

impl Digest {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Entity tags are quoted, and weak ones have a `W/` prefix.
        let text = text.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if is_hex(&text, 64) {
            Some(Self::Sha256(text))
        } else if is_hex(&text, 40) {
            Some(Self::GitSha1(text))
        } else {
            None
        }
    }

    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitSha1(hex) => hex,
        }
    }
}

/// A file to download.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) file: String,
    pub(super) url: String,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(serde::Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(rename = "blobId", default)]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(serde::Deserialize)]
struct Lfs {
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

/// Checks that `revision` is a valid branch, tag or commit name and a valid file name.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    for part in revision.split('/') {
        check_part(part).map_err(|reason| HubError::BadSetting {
            what: "the revision",
            reason: format!("{revision:?} is no branch, tag or commit: {reason}"),
        })?;
    }
    Ok(())
}

impl Repository {
    pub(super) fn fetch(client: &Client, name: &HubName, revision: &str) -> Result<Self> {
        let revision = revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", client.endpoint(), name.path());
        let answer: Answer = client.json(&url)?;
        let bad = |reason: String| HubError::BadAnswer { url: url.clone(), reason };
        if !is_hex(&answer.sha, 40) {
            return Err(bad(format!("the commit {:?} is not 40 hexadecimal digits", shown(&answer.sha))));
        }
        if answer.siblings.len() > MAX_FILES {
            return Err(bad(format!("{} files, more than the {MAX_FILES} that are read", answer.siblings.len())));
        }
        let mut files = Vec::new();
        for sibling in answer.siblings {
            // A name that leads out of the folder is an attack; one with unusual characters is a file that no model
            // needs.
            if leads_out(&sibling.rfilename) {
                return Err(bad(format!("the file name {:?} leads out of the repository", shown(&sibling.rfilename))));
            }
            if sibling.rfilename.split('/').any(|part| check_part(part).is_err()) {
                continue;
            }
            let lfs = sibling.lfs.as_ref();
            files.push(File {
                size: lfs.and_then(|lfs| lfs.size).or(sibling.size),
                digest: match lfs {
                    Some(lfs) => lfs.sha256.as_deref().and_then(Digest::parse),
                    None => sibling.blob_id.as_deref().and_then(Digest::parse),
                },
                name: sibling.rfilename,
            });
        }
        // The hub writes the name in its own case; the name of another model would misplace files.
        let hub_name = answer.id.as_deref().and_then(|id| HubName::parse(id).ok());
        let hub_name = hub_name.filter(|found| found.path().eq_ignore_ascii_case(&name.path()));
        Ok(Self { name: hub_name.unwrap_or_else(|| name.clone()), commit: answer.sha, files, url })
    }

    /// A file's address, size and digest. The file's own headers supply those that the list of files lacks.
    pub(super) fn remote(&self, client: &Client, file: &str) -> Result<Remote> {
        let url = format!("{}/{}/resolve/{}/{file}", client.endpoint(), self.name.path(), self.commit);
        let listed = self.files.iter().find(|listed| listed.name == file);
        let mut size = listed.and_then(|listed| listed.size);
        let mut digest = listed.and_then(|listed| listed.digest.clone());
        if size.is_none() || digest.is_none() {
            let answer = client.head(&url)?;
            digest = digest.or_else(|| Digest::parse(answer.header("x-linked-etag").or(answer.header("etag"))?));
            size = size.or_else(|| answer.header("x-linked-size").or(answer.header("content-length"))?.parse().ok());
        }
        match (size, digest) {
            (Some(size), Some(digest)) => Ok(Remote { file: file.to_owned(), url, size, digest }),
            _ => Err(HubError::BadAnswer {
                url,
                reason: "the hub states no size and no digest (SHA-256, or git's SHA-1) of the file".to_owned(),
            }),
        }
    }
}

fn leads_out(name: &str) -> bool {
    name.starts_with('/')
        || name.contains(['\\', '\0'])
        || name.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        || name.as_bytes().get(1) == Some(&b':')
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
