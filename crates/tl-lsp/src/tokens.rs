//! Semantic tokens: the colours of names by what they mean.

use lsp_types::{SemanticToken, SemanticTokenModifier, SemanticTokenType, SemanticTokensLegend};
use tl_lang::{Mention, MentionKind, members_of_type};
use tl_syntax::{FileId, TokenClass, classify};

use crate::documents::Document;
use crate::places::Encoding;

/// The types of tokens, by their numbers.
const TYPES: [SemanticTokenType; 11] = [
    SemanticTokenType::KEYWORD,
    SemanticTokenType::VARIABLE,
    SemanticTokenType::PARAMETER,
    SemanticTokenType::FUNCTION,
    SemanticTokenType::PROPERTY,
    SemanticTokenType::TYPE,
    SemanticTokenType::NUMBER,
    SemanticTokenType::STRING,
    SemanticTokenType::COMMENT,
    SemanticTokenType::OPERATOR,
    SemanticTokenType::ENUM_MEMBER,
];

/// Bits of the modifiers.
const DECLARATION: u32 = 1;
const DEFAULT_LIBRARY: u32 = 2;

/// The types that can be written, besides handles.
const TYPE_NAMES: &[&str] = &["int", "float", "bool", "string", "float16", "float32", "int32"];

/// What the numbers in tokens mean.
pub(crate) fn legend() -> SemanticTokensLegend {
    SemanticTokensLegend {
        token_types: TYPES.to_vec(),
        token_modifiers: vec![SemanticTokenModifier::DECLARATION, SemanticTokenModifier::DEFAULT_LIBRARY],
    }
}

/// The tokens of a document, each relative to the one before.
pub(crate) fn tokens(document: &Document, encoding: Encoding) -> Vec<SemanticToken> {
    let text = &document.text;
    let mut mentions = document.mentions().peekable();
    let mut tokens = Vec::new();
    // The byte that was reached, with its line and column; line and column of the last token.
    let (mut reached, mut line, mut column, mut last) = (0, 0, 0, (0, 0));
    for (span, class) in classify(FileId(0), text) {
        while mentions.next_if(|mention| mention.span.start < span.start).is_some() {}
        let mention = mentions.peek().copied().filter(|mention| mention.span == span);
        let whole = text.get(span.start as usize..span.end as usize).unwrap_or("");
        let Some((kind, modifiers)) = meaning(class, whole, mention) else { continue };
        let Some(token_type) = TYPES.iter().position(|other| *other == kind) else { continue };
        // A token lies within a line.
        let mut start = span.start as usize;
        for part in whole.split('\n') {
            let between = text.get(reached..start).unwrap_or("");
            match between.rfind('\n') {
                Some(newline) => {
                    line += between.matches('\n').count() as u32;
                    column = encoding.width(between.get(newline + 1..).unwrap_or(""));
                }
                None => column += encoding.width(between),
            }
            reached = start;
            start += part.len() + 1;
            let delta_line = line - last.0;
            let delta_start = if delta_line == 0 { column - last.1 } else { column };
            let length = encoding.width(part.trim_end_matches('\r'));
            if length == 0 {
                continue;
            }
            let (token_type, token_modifiers_bitset) = (token_type as u32, modifiers);
            tokens.push(SemanticToken { delta_line, delta_start, length, token_type, token_modifiers_bitset });
            last = (line, column);
        }
    }
    tokens
}

fn meaning(class: TokenClass, text: &str, mention: Option<&Mention>) -> Option<(SemanticTokenType, u32)> {
    Some(match class {
        TokenClass::Keyword => (SemanticTokenType::KEYWORD, 0),
        TokenClass::Number => (SemanticTokenType::NUMBER, 0),
        TokenClass::Text => (SemanticTokenType::STRING, 0),
        TokenClass::Comment => (SemanticTokenType::COMMENT, 0),
        TokenClass::Sign => return None,
        TokenClass::Name => {
            let Some(mention) = mention else {
                let is_type = TYPE_NAMES.contains(&text) || !members_of_type(text).is_empty();
                return is_type.then_some((SemanticTokenType::TYPE, DEFAULT_LIBRARY));
            };
            let declares = if mention.definition == Some(mention.span) { DECLARATION } else { 0 };
            match mention.kind {
                MentionKind::Parameter => (SemanticTokenType::PARAMETER, declares),
                MentionKind::Size => (SemanticTokenType::PARAMETER, 0),
                MentionKind::Struct => (SemanticTokenType::TYPE, declares),
                MentionKind::Function => (SemanticTokenType::FUNCTION, declares),
                MentionKind::Builtin => (SemanticTokenType::FUNCTION, DEFAULT_LIBRARY),
                MentionKind::Field => (SemanticTokenType::PROPERTY, 0),
                MentionKind::Entity => (SemanticTokenType::TYPE, declares),
                MentionKind::Element => (SemanticTokenType::ENUM_MEMBER, declares),
                MentionKind::Relation => (SemanticTokenType::FUNCTION, declares),
                MentionKind::Variable | MentionKind::InferredVariable => (SemanticTokenType::VARIABLE, declares),
            }
        }
    })
}
