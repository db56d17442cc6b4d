//! The folders searched for models.

use std::ffi::OsString;
use std::path::PathBuf;

/// The caches to search; `None` is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// Hugging Face's cache: the folder that holds `models--org--repo`.
    pub hub_cache: Option<PathBuf>,
    /// ollama's: the folder that holds `manifests` and `blobs`.
    pub ollama: Option<PathBuf>,
}

impl Locations {
    /// The default places of Hugging Face's and ollama's own programs: `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`; and `$OLLAMA_MODELS`, else
    /// `~/.ollama/models`.
    ///
    /// `variable` gives the value of an environment variable, `home` is the user's home folder.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let in_home = |below: &str| home.as_ref().map(|home| home.join(below));
        let hub_cache = path("HF_HUB_CACHE")
            .or_else(|| path("HF_HOME").map(|folder| folder.join("hub")))
            .or_else(|| path("XDG_CACHE_HOME").map(|folder| folder.join("huggingface").join("hub")))
            .or_else(|| in_home(".cache/huggingface/hub"));
        Self { hub_cache, ollama: path("OLLAMA_MODELS").or_else(|| in_home(".ollama/models")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_wins() {
        for (variables, hub, ollama) in [
            (&[][..], Some("/home/u/.cache/huggingface/hub"), Some("/home/u/.ollama/models")),
            (&[("XDG_CACHE_HOME", "/x")], Some("/x/huggingface/hub"), Some("/home/u/.ollama/models")),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], Some("/h/hub"), Some("/home/u/.ollama/models")),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], Some("/c"), Some("/home/u/.ollama/models")),
            (&[("HF_HUB_CACHE", ""), ("OLLAMA_MODELS", "/o")], Some("/home/u/.cache/huggingface/hub"), Some("/o")),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(found, _)| *found == name).map(|(_, value)| OsString::from(value));
            let found = Locations::from_variables(variable, Some(PathBuf::from("/home/u")));
            let expected = Locations { hub_cache: hub.map(PathBuf::from), ollama: ollama.map(PathBuf::from) };
            assert_eq!(found, expected, "{variables:?}");
        }
        assert_eq!(Locations::from_variables(|_| None, None), Locations::default());
    }
}
