/**
 * TL for tree-sitter: highlighting, folding, selection. `scanner.c` finds the newlines that end statements.
 */

/// <reference types="tree-sitter-cli/dsl" />

const PREC = {
  or: 1,
  and: 2,
  not: 3,
  comparison: 4,
  range: 5,
  sum: 6,
  product: 7,
  matmul: 8,
  as: 9,
  negate: 10,
  power: 11,
  postfix: 12,
};

const commaList = (rule) => optional(seq(rule, repeat(seq(",", rule)), optional(",")));

module.exports = grammar({
  name: "tl",

  externals: ($) => [$._newline, $.block_comment, $._error_sentinel],

  extras: ($) => [/[\s\uFEFF]/, $.line_comment, $.block_comment],

  word: ($) => $.identifier,

  supertypes: ($) => [$._expression, $._type],

  conflicts: ($) => [
    [$.block, $.map],
    [$._expression, $._struct_name],
    [$.query],
    [$.query, $._expression],
    [$.elements, $.block, $.map],
    [$.elements, $._expression],
  ],

  rules: {
    source_file: ($) => seq(repeat($._end), optional(seq($._item, repeat(seq(repeat1($._end), $._item)), repeat($._end)))),

    _end: ($) => choice($._newline, ";"),

    _item: ($) =>
      choice(
        $.import,
        $.function,
        $.struct,
        $.impl,
        $.main,
        $.test,
        $.entity,
        $.relation,
        $.fact,
        $.rule,
        $.soft_rule,
        $._statement,
      ),

    import: ($) => seq("import", field("path", $.string), optional(seq("as", field("alias", $.identifier)))),

    function: ($) =>
      seq(
        "fn",
        field("name", $.identifier),
        field("parameters", $.parameters),
        optional(seq("->", field("result", $._type))),
        field("body", $.block),
      ),

    parameters: ($) => seq("(", commaList($.parameter), ")"),

    parameter: ($) => seq(field("name", $.identifier), optional(seq(":", field("type", $._type)))),

    struct: ($) => seq("struct", field("name", $.identifier), "{", commaList($.parameter), "}"),

    impl: ($) =>
      seq(
        "impl",
        field("name", $.identifier),
        "{",
        repeat($._end),
        optional(seq($.function, repeat(seq(repeat($._end), $.function)), repeat($._end))),
        "}",
      ),

    main: ($) => seq("main", field("body", $.block)),

    test: ($) => seq("test", field("name", $.string), field("body", $.block)),

    entity: ($) =>
      seq("entity", field("name", $.identifier), "=", choice($.elements, field("size", $._expression))),

    elements: ($) => prec.dynamic(1, seq("{", commaList($.identifier), "}")),

    relation: ($) =>
      seq(
        "relation",
        field("name", $.identifier),
        "(",
        commaList(field("entity", $.identifier)),
        ")",
        optional(seq("=", field("value", $._expression))),
      ),

    fact: ($) => seq("fact", $.atom),

    rule: ($) => seq("rule", field("head", $.atom), $.arrow, $._body),

    soft_rule: ($) =>
      seq(
        "rule",
        field("name", $.identifier),
        "[",
        commaList(seq(field("index", $.identifier), optional("."))),
        "]",
        $.arrow,
        $._factor,
        repeat(seq("*", $._factor)),
        optional(seq("/", field("temperature", $._expression))),
      ),

    arrow: () => token(prec(1, "<-")),

    _body: ($) => prec.right(seq($._literal, repeat(seq(",", $._literal)))),

    _literal: ($) => choice($.atom, seq("not", $.atom), $.comparison),

    comparison: ($) =>
      seq(field("left", $._term), field("operator", choice("==", "!=", "<", "<=", ">", ">=")), field("right", $._term)),

    atom: ($) => prec(PREC.postfix + 1, seq(field("relation", $.identifier), "(", commaList($._term), ")")),

    _factor: ($) => choice($.atom, $.indexed),

    indexed: ($) => seq(field("tensor", $.identifier), "[", commaList($._term), "]"),

    _term: ($) => choice($.identifier, $.integer, $.parenthesized),

    // In a list of arguments the comma is the list's.
    query: ($) =>
      choice(
        seq("query", choice($.atom, seq("not", $.atom))),
        prec.dynamic(-1, seq("query", choice($.atom, seq("not", $.atom)), repeat1(seq(",", $._literal)))),
      ),

    block: ($) =>
      seq("{", repeat($._end), optional(seq($._statement, repeat(seq(repeat1($._end), $._statement)), repeat($._end))), "}"),

    _statement: ($) =>
      choice(
        $.let,
        $.tensor,
        $.assignment,
        $.for,
        $.while,
        $.loop,
        $.break,
        $.continue,
        $.return,
        $.expression_statement,
      ),

    expression_statement: ($) => $._expression,

    let: ($) =>
      seq("let", optional("mut"), field("name", $.identifier), optional(seq(":", field("type", $._type))), "=", field("value", $._expression)),

    tensor: ($) =>
      seq(
        "tensor",
        field("name", $.identifier),
        ":",
        field("type", $._type),
        optional(choice("learnable", "frozen")),
        optional(seq("=", field("value", $._expression))),
      ),

    assignment: ($) =>
      seq(
        field("target", $._expression),
        field("operator", choice("=", ":=", "+=", "-=", "*=", "/=", "%=", "**=", "@=")),
        field("value", $._expression),
      ),

    for: ($) => seq("for", field("variable", $.identifier), "in", field("iterable", $._expression), field("body", $.block)),
    while: ($) => seq("while", field("condition", $._expression), field("body", $.block)),
    loop: ($) => seq("loop", field("body", $.block)),
    break: () => "break",
    continue: () => "continue",
    return: ($) => prec.right(seq("return", optional($._expression))),

    _expression: ($) =>
      choice(
        $.identifier,
        // A name, unless a condition follows.
        alias("query", $.identifier),
        $.integer,
        $.float,
        $.string,
        $.format_string,
        $.boolean,
        $.unit,
        $.list,
        $.map,
        $.struct_literal,
        $.parenthesized,
        $.unary,
        $.binary,
        $.conversion,
        $.range,
        $.call,
        $.method_call,
        $.field,
        $.optional,
        $.index,
        $.if,
        $.with,
        $.trace,
        $.query,
        $.block,
      ),

    unit: () => seq("(", ")"),
    parenthesized: ($) => seq("(", $._expression, ")"),
    list: ($) => seq("[", commaList($._expression), "]"),
    map: ($) => seq("{", commaList(seq(field("key", $._expression), ":", field("value", $._expression))), "}"),

    _struct_name: ($) => seq(optional(seq(field("module", $.identifier), ".")), field("name", $.identifier)),

    struct_literal: ($) =>
      prec.dynamic(-1, seq($._struct_name, "{", commaList($.field_value), "}")),

    field_value: ($) => seq(field("name", $.identifier), ":", field("value", $._expression)),

    unary: ($) =>
      choice(
        prec(PREC.negate, seq(field("operator", "-"), field("operand", $._expression))),
        prec(PREC.not, seq(field("operator", "not"), field("operand", $._expression))),
      ),

    binary: ($) => {
      const left = (precedence, operator) =>
        prec.left(precedence, seq(field("left", $._expression), field("operator", operator), field("right", $._expression)));
      return choice(
        left(PREC.or, "or"),
        left(PREC.and, "and"),
        left(PREC.comparison, choice("==", "!=", "<", "<=", ">", ">=", "in", seq("not", "in"))),
        left(PREC.sum, choice("+", "-")),
        left(PREC.product, choice("*", "/", "%")),
        left(PREC.matmul, "@"),
        prec.right(PREC.power, seq(field("left", $._expression), field("operator", "**"), field("right", $._expression))),
      );
    },

    conversion: ($) => prec.left(PREC.as, seq(field("operand", $._expression), "as", field("type", $._type))),

    range: ($) => prec.left(PREC.range, seq(field("start", $._expression), "..", field("end", $._expression))),

    call: ($) =>
      prec(
        PREC.postfix,
        seq(optional(seq(field("owner", choice($.identifier, $.field)), "::")), field("function", $.identifier), field("arguments", $.arguments)),
      ),

    method_call: ($) =>
      prec(PREC.postfix, seq(field("receiver", $._expression), ".", field("method", $.identifier), field("arguments", $.arguments))),

    arguments: ($) => seq("(", commaList(choice($.named_argument, $._expression)), ")"),

    named_argument: ($) => seq(field("name", $.identifier), ":", field("value", $._expression)),

    field: ($) => prec(PREC.postfix, seq(field("receiver", $._expression), ".", field("name", $.identifier))),

    optional: ($) => prec(PREC.postfix, seq($.field, "?")),

    index: ($) => prec(PREC.postfix, seq(field("receiver", $._expression), "[", commaList(choice($.slice, $._expression)), "]")),

    slice: ($) =>
      prec(
        1,
        choice(
          "..",
          seq("..", field("end", $._expression)),
          seq(field("start", $._expression), ".."),
        ),
      ),

    if: ($) =>
      prec.right(
        seq(
          "if",
          choice(field("condition", $._expression), seq("let", field("name", $.identifier), "=", field("value", $._expression))),
          field("then", $.block),
          optional(seq("else", field("else", choice($.block, $.if)))),
        ),
      ),

    with: ($) => seq("with", field("buffer", $._expression), field("body", $.block)),
    trace: ($) => seq("buffer_trace", field("body", $.block)),

    _type: ($) => choice($.type_name, $.tensor_type, $.list_type, $.map_type, $.optional_type, $.unit_type),

    type_name: ($) => prec.left(seq(optional(seq(field("module", $.identifier), ".")), field("name", $.identifier))),
    tensor_type: ($) => prec(1, seq(field("dtype", $.identifier), "[", commaList($._size), "]")),
    _size: ($) => choice($.any_size, $._size_expression),
    any_size: () => "?",
    _size_expression: ($) => choice($.integer, $.identifier, $.size_sum),
    size_sum: ($) => prec.left(seq($._size_expression, choice("+", "-", "*", "/", "%"), $._size_expression)),
    list_type: ($) => seq("[", $._type, "]"),
    map_type: ($) => seq("{", $._type, ":", $._type, "}"),
    optional_type: ($) => seq($.tensor_type, "?"),
    unit_type: () => seq("(", ")"),

    identifier: () => /[\p{XID_Start}_]\p{XID_Continue}*/,
    integer: () => token(choice(/[0-9][0-9_]*/, /0x[0-9a-fA-F_]+/)),
    float: () => token(choice(/[0-9][0-9_]*\.[0-9][0-9_]*([eE][+-]?[0-9]+)?/, /[0-9][0-9_]*[eE][+-]?[0-9]+/)),
    boolean: () => choice("true", "false"),

    string: ($) => seq('"', repeat(choice($._text, $.escape)), token.immediate('"')),
    _text: () => token.immediate(prec(1, /[^"\\\n]+/)),
    escape: () => token.immediate(/\\(u\{[0-9a-fA-F]*\}|[^\n])/),

    format_string: ($) => seq('f"', repeat(choice($._format_text, $.escape, $.interpolation)), token.immediate('"')),
    _format_text: () => token.immediate(prec(1, /([^"\\\n{}]|\{\{|\}\})+/)),
    interpolation: ($) => seq(token.immediate("{"), $._expression, optional($.format), "}"),
    format: () => token(seq(":", /[<>^]?[0-9]*(\.[0-9]+)?/)),

    line_comment: () => token(seq("//", /[^\n]*/)),
  },
});
