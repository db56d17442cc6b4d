//! Limits on the cost of a grammar, so that a hostile one ends in an error, in bounded time and memory.
//!
//! Units of work are llguidance's: a unit of fuel is a node of a regular expression, made or derived, some 20 to 70
//! nanoseconds; an item is a parser position in a rule.

use std::time::Duration;

use llguidance::api::ParserLimits;

/// Maximum length of a grammar's source: 1 MiB.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// Maximum definitions of a Lark grammar: compiling recurses from one into another, and copies what it compiled.
pub const MAX_DEFINITIONS: usize = 2_000;

/// Maximum time to compile a grammar; it alone bounds work that takes no memory.
pub const MAX_COMPILE_TIME: Duration = Duration::from_secs(30);

/// Stack of the compiling thread; only the part used takes memory.
pub(crate) const COMPILER_STACK_BYTES: usize = 512 << 20;

/// Maximum tokens of a vocabulary, and maximum nodes of its tree, by the 32 bits of a node.
pub(crate) const MAX_TOKENS: usize = (1 << 24) - 2;
pub(crate) const MAX_TREE_NODES: usize = (1 << 22) - 2;

/// Maximum bytes of a token in the tree; longer ones are never allowed. The longest in known vocabularies has 1024, all
/// spaces.
pub(crate) const MAX_TOKEN_BYTES: usize = 1000;

/// The limits of llguidance.
pub(crate) fn parser_limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // One to two kilobytes each.
        max_lexer_states: 50_000,
        max_grammar_size: 50_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}
