// Newlines that end statements, and comments that nest.
//
// The parser asks for a newline only where a statement may end. It does not end where the next line begins with what
// cannot begin a statement: `.`, a binary operator other than `-`, `and`, `or`, `as`, or `else`.

#include "tree_sitter/parser.h"

#include <stdbool.h>
#include <string.h>

enum TokenType { NEWLINE, BLOCK_COMMENT, ERROR_SENTINEL };

void *tree_sitter_tl_external_scanner_create(void) { return NULL; }
void tree_sitter_tl_external_scanner_destroy(void *payload) { (void)payload; }
unsigned tree_sitter_tl_external_scanner_serialize(void *payload, char *buffer) {
    (void)payload;
    (void)buffer;
    return 0;
}
void tree_sitter_tl_external_scanner_deserialize(void *payload, const char *buffer, unsigned length) {
    (void)payload;
    (void)buffer;
    (void)length;
}

static void advance(TSLexer *lexer) { lexer->advance(lexer, false); }
static void skip(TSLexer *lexer) { lexer->advance(lexer, true); }

static bool is_blank(int32_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == 0xFEFF; }

static bool is_word(int32_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

// The rest of a comment behind its `/*`; false if it is never closed.
static bool scan_block_comment(TSLexer *lexer) {
    unsigned depth = 1;
    while (depth > 0) {
        if (lexer->eof(lexer)) return false;
        int32_t c = lexer->lookahead;
        advance(lexer);
        if (c == '*' && lexer->lookahead == '/') {
            advance(lexer);
            depth--;
        } else if (c == '/' && lexer->lookahead == '*') {
            advance(lexer);
            depth++;
        }
    }
    return true;
}

// Whether the line that begins here continues the last one. Blanks and comments are passed over.
static bool continues(TSLexer *lexer) {
    for (;;) {
        while (is_blank(lexer->lookahead) || lexer->lookahead == '\n') advance(lexer);
        if (lexer->eof(lexer)) return false;
        int32_t c = lexer->lookahead;
        if (c == '/') {
            advance(lexer);
            if (lexer->lookahead == '/') {
                while (!lexer->eof(lexer) && lexer->lookahead != '\n') advance(lexer);
                continue;
            }
            if (lexer->lookahead == '*') {
                advance(lexer);
                if (!scan_block_comment(lexer)) return false;
                continue;
            }
            return true;
        }
        if (c == '!') {
            advance(lexer);
            return lexer->lookahead == '=';
        }
        if (c == '-') {
            advance(lexer);
            return lexer->lookahead == '=';
        }
        if (strchr(".+*%@=<>", (int)c) != NULL && c < 0x80) return true;
        char word[6] = {0};
        unsigned length = 0;
        while (is_word(lexer->lookahead)) {
            if (length < sizeof(word) - 1) word[length] = lexer->lookahead < 0x80 ? (char)lexer->lookahead : '?';
            length++;
            advance(lexer);
        }
        return length < sizeof(word) && (strcmp(word, "and") == 0 || strcmp(word, "or") == 0 || strcmp(word, "as") == 0 || strcmp(word, "else") == 0);
    }
}

bool tree_sitter_tl_external_scanner_scan(void *payload, TSLexer *lexer, const bool *valid_symbols) {
    (void)payload;
    // While it recovers from an error the parser asks for everything.
    bool wants_newline = valid_symbols[NEWLINE] && !valid_symbols[ERROR_SENTINEL];
    while (is_blank(lexer->lookahead) || (lexer->lookahead == '\n' && !wants_newline)) skip(lexer);
    if (lexer->lookahead == '\n') {
        advance(lexer);
        lexer->mark_end(lexer);
        lexer->result_symbol = NEWLINE;
        return !continues(lexer);
    }
    if (lexer->lookahead == '/' && valid_symbols[BLOCK_COMMENT]) {
        advance(lexer);
        if (lexer->lookahead != '*') return false;
        advance(lexer);
        if (!scan_block_comment(lexer)) return false;
        lexer->mark_end(lexer);
        lexer->result_symbol = BLOCK_COMMENT;
        return true;
    }
    return false;
}
