//! What a grammar may cost, so that a hostile one ends in an error, in bounded time and memory.
//!
//! The units of work are llguidance's: a unit of fuel is a node of a regular expression that is made or derived, some 20 to 70
//! nanoseconds; an item is a place in a rule that the parser is at.

use std::time::Duration;

use llguidance::api::ParserLimits;

/// The longest source of a grammar: 1 MiB.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// The most definitions of a Lark grammar: what is compiled of one is compiled by a call within that of another, and copies it.
pub const MAX_DEFINITIONS: usize = 2_000;

/// How long a grammar is compiled: where it takes longer, that is an error. What takes time and no memory is bounded by nothing else.
pub const MAX_COMPILE_TIME: Duration = Duration::from_secs(30);

/// The stack of the thread that compiles; only what is used of it takes memory.
pub(crate) const COMPILER_STACK_BYTES: usize = 512 << 20;

/// The most tokens of a vocabulary, and the most nodes of its tree: what a node's 32 bits have room for.
pub(crate) const MAX_TOKENS: usize = (1 << 24) - 2;
pub(crate) const MAX_TREE_NODES: usize = (1 << 22) - 2;

/// Longer tokens have no place in the tree and are never allowed; the longest of known vocabularies has 1024 bytes, all spaces.
pub(crate) const MAX_TOKEN_BYTES: usize = 1000;

/// The limits of llguidance.
pub(crate) fn parser_limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // Of one to two kilobytes each.
        max_lexer_states: 50_000,
        max_grammar_size: 50_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}
