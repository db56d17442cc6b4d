//! What editors' grammars know of TL's words.

mod common;

use common::root;

#[test]
fn grammars_know_all_keywords() {
    for file in ["editors/vscode/syntaxes/tl.tmLanguage.json", "editors/tree-sitter-tl/grammar.js"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        // `learn` is reserved for later, and nothing is written with it.
        let keywords = tl_syntax::KEYWORDS.iter().chain(tl_syntax::CONTEXTUAL_WORDS);
        for keyword in keywords.filter(|keyword| **keyword != "learn") {
            assert!(words.contains(keyword), "{file} does not know `{keyword}`");
        }
    }
}

#[test]
fn files_of_editors_are_json() {
    for file in ["package.json", "language-configuration.json", "syntaxes/tl.tmLanguage.json"] {
        let text = std::fs::read_to_string(root().join("editors/vscode").join(file)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}
