//! Chooses the files of a repository or a folder that make a model.
//!
//! Works on names alone, so that cache and hub follow the same rule.

/// A GGUF model among the files of a repository: one file, or all parts of a split one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GgufModel {
    /// The files in order, with `/` between folders.
    pub(crate) files: Vec<String>,
    /// The quantization in the name, else the name without `.gguf`.
    pub(crate) label: String,
}

/// A part of a split GGUF file: `NAME-00001-of-00003.gguf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// The name before the numbers.
    pub(crate) stem: &'a str,
    /// Counted from 1.
    pub(crate) number: u32,
    pub(crate) count: u32,
}

impl<'a> Part<'a> {
    /// Reads the numbers in a name that ends with `extension`.
    pub(crate) fn parse(name: &'a str, extension: &str) -> Option<Self> {
        let stem = strip_suffix_ignoring_case(name, extension)?;
        let (stem, count) = split_number(stem, "-of-")?;
        let (stem, number) = split_number(stem, "-")?;
        (number >= 1 && number <= count).then_some(Self { stem, number, count })
    }

    /// The name of part `number`.
    pub(crate) fn sibling(&self, number: u32, extension: &str) -> String {
        format!("{}-{number:05}-of-{:05}{extension}", self.stem, self.count)
    }
}

/// Cuts `separator` and five digits off the end.
fn split_number<'a>(text: &'a str, separator: &str) -> Option<(&'a str, u32)> {
    let at = text.len().checked_sub(5)?;
    let digits = text.get(at..)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((text.get(..at)?.strip_suffix(separator)?, digits.parse().ok()?))
}

pub(crate) fn strip_suffix_ignoring_case<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(suffix.len())?;
    name.get(at..).filter(|end| end.eq_ignore_ascii_case(suffix)).and(name.get(..at))
}

pub(crate) fn is_gguf(name: &str) -> bool {
    strip_suffix_ignoring_case(name, ".gguf").is_some()
}

/// The GGUF models among `names`, sorted by name. Split files count only when complete; image projectors and
/// importance matrices are no models.
pub(crate) fn gguf_models<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<GgufModel> {
    let mut names: Vec<&str> = names.into_iter().filter(|name| is_gguf(name)).collect();
    names.sort_unstable();
    names.dedup();
    let mut models = Vec::new();
    for name in &names {
        let file_name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        if file_name.starts_with("mmproj") || file_name.contains("imatrix") {
            continue;
        }
        let files = match Part::parse(name, ".gguf") {
            None => vec![(*name).to_owned()],
            Some(part) if part.number == 1 => {
                // No more parts than there are files: a name may claim 99999.
                if part.count as usize > names.len() {
                    continue;
                }
                let extension = &name[name.len() - ".gguf".len()..];
                let files: Vec<String> = (1..=part.count).map(|number| part.sibling(number, extension)).collect();
                if files.iter().any(|file| names.binary_search(&file.as_str()).is_err()) {
                    continue;
                }
                files
            }
            Some(_) => continue,
        };
        models.push(GgufModel { label: label(name), files });
    }
    models
}

/// The quantization in a name: the last word that is one, else the name without its ending.
fn label(name: &str) -> String {
    let stem = match Part::parse(name, ".gguf") {
        Some(part) => part.stem,
        None => strip_suffix_ignoring_case(name, ".gguf").unwrap_or(name),
    };
    let mut label = None;
    for (begin, word) in words(stem) {
        if is_quantization(word) {
            let is_dynamic = stem[..begin].to_ascii_uppercase().ends_with("UD-");
            label = Some(if is_dynamic { format!("UD-{word}") } else { word.to_owned() });
        }
    }
    label.unwrap_or_else(|| stem.to_owned())
}

/// Words between `-`, `.` and `/`, with their offsets.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut begin = 0;
    text.split(['-', '.', '/']).map(move |word| {
        let at = begin;
        begin += word.len() + 1;
        (at, word)
    })
}

fn is_quantization(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    if matches!(word.as_str(), "F16" | "BF16" | "F32" | "FP16" | "MXFP4" | "MXFP4_MOE") {
        return true;
    }
    let digits = ["IQ", "TQ", "Q"].iter().find_map(|prefix| word.strip_prefix(prefix));
    digits.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Whether `wanted` names the model: its label, a word or words of its name, or its file.
fn is_called(model: &GgufModel, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    let name = model.files[0].to_ascii_lowercase();
    if model.label.eq_ignore_ascii_case(&wanted) || name == wanted {
        return true;
    }
    let mut from = 0;
    while let Some(at) = name[from..].find(&wanted).map(|at| from + at) {
        let is_edge = |c: Option<char>| c.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_'));
        if is_edge(name[..at].chars().next_back()) && is_edge(name[at + wanted.len()..].chars().next()) {
            return true;
        }
        from = at + name[at..].chars().next().map_or(1, char::len_utf8);
    }
    false
}

/// The model called `quant`, or without one `Q4_K_M`, `Q8_0`, or the first.
pub(crate) fn choose<'a>(models: &'a [GgufModel], quant: Option<&str>) -> Option<&'a GgufModel> {
    let called = |wanted: &str| {
        let by_label = models.iter().find(|model| model.label.eq_ignore_ascii_case(wanted));
        // Of several names that contain the word, the shortest is the closest match.
        by_label
            .or_else(|| models.iter().filter(|model| is_called(model, wanted)).min_by_key(|model| model.files[0].len()))
    };
    match quant {
        Some(quant) => called(quant),
        None => called("Q4_K_M").or_else(|| called("Q8_0")).or_else(|| models.first()),
    }
}

/// The weight files of a Hugging Face folder among `names`; `None` if some are missing.
pub(crate) fn safetensors_weights<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Vec<String>> {
    let mut shards: Vec<&str> = Vec::new();
    let mut has_index = false;
    for name in names {
        match name {
            "model.safetensors" => return Some(vec![name.to_owned()]),
            "model.safetensors.index.json" => has_index = true,
            _ if Part::parse(name, ".safetensors").is_some_and(|part| part.stem == "model") => shards.push(name),
            _ => {}
        }
    }
    shards.sort_unstable();
    shards.dedup();
    let count = Part::parse(shards.first()?, ".safetensors")?.count as usize;
    shards.retain(|name| Part::parse(name, ".safetensors").is_some_and(|part| part.count as usize == count));
    (has_index && shards.len() == count).then(|| shards.into_iter().map(str::to_owned).collect())
}

/// Whether a file of a repository of safetensors, other than the weights, is part of the model.
#[cfg(feature = "pull")]
pub(crate) fn is_beside_weights(name: &str) -> bool {
    matches!(name, "config.json" | "generation_config.json" | "model.safetensors.index.json")
        || (name.starts_with("tokenizer") && name.ends_with(".json"))
        || (name.starts_with("chat_template.") && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 9] = [
        "M-Q8_0.gguf",
        "M-Q4_K_M.gguf",
        "M-UD-Q4_K_XL.gguf",
        "M-BF16-00001-of-00002.gguf",
        "M-BF16-00002-of-00002.gguf",
        "IQ4_XS/M-IQ4_XS-00001-of-00002.gguf",
        "mmproj-F16.gguf",
        "M.imatrix.gguf",
        "README.md",
    ];

    #[test]
    fn models_are_grouped_and_labelled() {
        let models = gguf_models(FILES);
        let shown: Vec<(&str, usize)> = models.iter().map(|m| (m.label.as_str(), m.files.len())).collect();
        assert_eq!(shown, [("BF16", 2), ("Q4_K_M", 1), ("Q8_0", 1), ("UD-Q4_K_XL", 1)]);
        assert_eq!(models[0].files[1], "M-BF16-00002-of-00002.gguf");
        assert_eq!(gguf_models(["a-00001-of-99999.gguf"]), []);
        assert_eq!(gguf_models(["plain.GGUF"])[0].label, "plain");
        assert_eq!(gguf_models(["model.q5_k_s.gguf"])[0].label, "q5_k_s");
    }

    #[test]
    fn the_quant_decides() {
        let models = gguf_models(FILES);
        for (quant, expected) in [
            (None, Some("M-Q4_K_M.gguf")),
            (Some("q8_0"), Some("M-Q8_0.gguf")),
            (Some("bf16"), Some("M-BF16-00001-of-00002.gguf")),
            (Some("Q4_K_XL"), Some("M-UD-Q4_K_XL.gguf")),
            (Some("ud-q4_k_xl"), Some("M-UD-Q4_K_XL.gguf")),
            (Some("M-Q8_0.gguf"), Some("M-Q8_0.gguf")),
            (Some("Q4_K"), None),
            (Some("Q4"), None),
            (Some("IQ4_XS"), None),
            (Some("F16"), None),
        ] {
            assert_eq!(choose(&models, quant).map(|model| model.files[0].as_str()), expected, "{quant:?}");
        }
        let rest = gguf_models(["z-Q8_0.gguf", "a-Q2_K.gguf"]);
        assert_eq!(choose(&rest, None).map(|model| model.label.as_str()), Some("Q8_0"));
        let rest = gguf_models(["z-Q6_K.gguf", "a-Q2_K.gguf"]);
        assert_eq!(choose(&rest, None).map(|model| model.label.as_str()), Some("Q2_K"));
        assert_eq!(choose(&[], None), None);
    }

    #[test]
    fn weights_of_a_folder_are_whole_or_absent() {
        let check = |names: &[&str], n: Option<usize>| {
            assert_eq!(safetensors_weights(names.iter().copied()).map(|files| files.len()), n, "{names:?}");
        };
        check(&["config.json", "model.safetensors"], Some(1));
        check(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], None);
        let index = "model.safetensors.index.json";
        check(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", index], Some(2));
        check(&["model-00001-of-00002.safetensors", index], None);
        check(&["other.safetensors"], None);
        check(&[], None);
    }

    #[test]
    fn part_numbers() {
        for (name, expected) in [
            ("m-00001-of-00003.gguf", Some((1, 3))),
            ("m-00003-of-00003.GGUF", Some((3, 3))),
            ("m-00004-of-00003.gguf", None),
            ("m-00000-of-00003.gguf", None),
            ("m-1-of-3.gguf", None),
            ("é0001-of-00003.gguf", None),
            ("00001.gguf", None),
        ] {
            assert_eq!(Part::parse(name, ".gguf").map(|part| (part.number, part.count)), expected, "{name}");
        }
    }
}
