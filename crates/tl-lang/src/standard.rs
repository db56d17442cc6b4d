//! The standard library: TL files that are part of the program. `import "std/transformer"` reads one.

/// The prefix of its files' names.
pub(crate) const PREFIX: &str = "std/";

/// The prefix of the names of architectures' files.
pub(crate) const ARCHITECTURES: &str = "std/arch/";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$((concat!("std/", $name), include_str!(concat!("../std/", $name, ".tl")))),*]
    };
}

static FILES: &[(&str, &str)] = files![
    "nn",
    "transformer",
    "delta_net",
    "arch/cohere2",
    "arch/deepseek2",
    "arch/ernie4_5",
    "arch/exaone4",
    "arch/gemma",
    "arch/gemma2",
    "arch/gemma3",
    "arch/gemma4",
    "arch/glm4",
    "arch/glm4moe",
    "arch/gpt-oss",
    "arch/granite",
    "arch/lfm2",
    "arch/llama",
    "arch/mistral3",
    "arch/olmo2",
    "arch/phi3",
    "arch/qwen2",
    "arch/qwen2moe",
    "arch/qwen3",
    "arch/qwen35",
    "arch/qwen35moe",
    "arch/qwen3moe",
    "arch/qwen3next",
    "arch/seed_oss",
    "arch/smollm3",
];

/// The text of the file of that name, with or without `.tl`.
pub(crate) fn source(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".tl").unwrap_or(name);
    FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text)
}

/// The names of all files.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}
