//! Names of models: `org/repo[:quant]` on a hub, `name[:tag]` in ollama. Each part is one plain file name.

use crate::error::{HubError, Result};

/// Maximum length of a part of a name in bytes. The hub's own limit is 96.
const MAX_PART: usize = 128;

/// A model on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubName {
    pub(crate) organization: String,
    pub(crate) repository: String,
    /// The part after the colon: a quantization (`Q4_K_M`) or the name of a file.
    pub(crate) quant: Option<String>,
}

impl HubName {
    /// Parses a name; no model with this name need exist.
    pub(crate) fn parse(spec: &str) -> Result<Self> {
        let malformed = |reason: String| HubError::MalformedName { spec: spec.to_owned(), reason };
        let (path, quant) = match spec.split_once(':') {
            Some((path, quant)) => (path, Some(quant)),
            None => (spec, None),
        };
        let Some((organization, repository)) = path.split_once('/') else {
            return Err(malformed("it has no `/`".to_owned()));
        };
        for part in [organization, repository] {
            check_part(part).map_err(malformed)?;
            // The cache writes `--` between the two.
            if part.contains("--") {
                return Err(malformed(format!("{part:?} has `--` in it")));
            }
        }
        if let Some(quant) = quant {
            // A file's name may have folders before it.
            for part in quant.split('/') {
                check_part(part).map_err(malformed)?;
            }
        }
        Ok(Self {
            organization: organization.to_owned(),
            repository: repository.to_owned(),
            quant: quant.map(str::to_owned),
        })
    }

    /// `org/repo`
    #[cfg(feature = "pull")]
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.organization, self.repository)
    }

    /// The folder of the model in Hugging Face's cache.
    pub(crate) fn folder_name(&self) -> String {
        format!("models--{}--{}", self.organization, self.repository)
    }
}

/// A model in ollama's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OllamaName {
    /// Registry, namespace, name and tag: the folders and the file of its manifest.
    pub(crate) parts: [String; 4],
}

impl OllamaName {
    /// Parses the part after `ollama:`: `[[host/]namespace/]name[:tag]`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let malformed = |reason: String| HubError::MalformedName { spec: format!("ollama:{name}"), reason };
        let after_slash = name.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match name[after_slash..].find(':') {
            Some(at) => (&name[..after_slash + at], &name[after_slash + at + 1..]),
            None => (name, "latest"),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (host, namespace, model) = match parts[..] {
            [model] => ("registry.ollama.ai", "library", model),
            [namespace, model] => ("registry.ollama.ai", namespace, model),
            [host, namespace, model] => (host, namespace, model),
            _ => return Err(malformed("it has more than three parts between `/`".to_owned())),
        };
        let parts = [host, namespace, model, tag];
        for part in parts {
            check_part(part).map_err(malformed)?;
        }
        Ok(Self { parts: parts.map(str::to_owned) })
    }
}

/// Checks that `part` is one plain file name.
pub(crate) fn check_part(part: &str) -> std::result::Result<(), String> {
    if part.is_empty() {
        return Err("a part of it is empty".to_owned());
    }
    if part.len() > MAX_PART {
        return Err(format!("a part of it has {} bytes, more than {MAX_PART}", part.len()));
    }
    if part.starts_with('.') || part.contains("..") {
        return Err(format!("{part:?} begins with a dot, or has two of them"));
    }
    match part.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(other) => Err(format!("{part:?} has the character {other:?}; letters, digits and `-_.` are allowed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names() {
        for (spec, expected) in [
            ("a/b", Some(("a", "b", None))),
            ("Qwen/Qwen3-0.6B-GGUF:Q8_0", Some(("Qwen", "Qwen3-0.6B-GGUF", Some("Q8_0")))),
            ("a/b:dir/x.gguf", Some(("a", "b", Some("dir/x.gguf")))),
            ("a", None),
            ("a/", None),
            ("/b", None),
            ("a/b/c", None),
            ("../b", None),
            ("a/..", None),
            ("a/.b", None),
            ("a/b:", None),
            ("a/b:../x", None),
            ("a/b:/x", None),
            ("a/b\\c", None),
            ("a/b c", None),
            ("a--b/c", None),
            ("a/b\0", None),
            ("é/b", None),
        ] {
            let parsed = HubName::parse(spec).ok();
            let parsed = parsed.as_ref().map(|n| (n.organization.as_str(), n.repository.as_str(), n.quant.as_deref()));
            assert_eq!(parsed, expected, "{spec}");
        }
        assert!(HubName::parse(&format!("a/{}", "b".repeat(129))).is_err());
    }

    #[test]
    fn ollama_names() {
        for (name, expected) in [
            ("llama3.2", Some(["registry.ollama.ai", "library", "llama3.2", "latest"])),
            ("llama3.2:1b", Some(["registry.ollama.ai", "library", "llama3.2", "1b"])),
            ("me/mine:x", Some(["registry.ollama.ai", "me", "mine", "x"])),
            ("hf.co/a/b:Q4_K_M", Some(["hf.co", "a", "b", "Q4_K_M"])),
            ("", None),
            (":x", None),
            ("a:", None),
            ("a/b/c/d", None),
            ("../x", None),
            ("a:..", None),
            ("a:b/c", None),
            ("a:b:c", None),
        ] {
            let parsed = OllamaName::parse(name).ok().map(|name| name.parts);
            assert_eq!(parsed, expected.map(|parts| parts.map(str::to_owned)), "{name}");
        }
    }
}
