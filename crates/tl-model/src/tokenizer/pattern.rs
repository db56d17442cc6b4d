//! Regular expressions of tokenizers, which split texts: parsed here, run in `matcher`.
//!
//! Owns the syntax: alternatives, groups, repetitions (greedy, lazy, possessive), classes with Unicode's categories,
//! `(?i:…)`, lookahead, ends of lines. Unsupported syntax (back references, lookbehind) is an error that names it.
//! Classes are parsed by `regex-syntax`, which has Unicode's tables. An expression is bounded in length, in depth and
//! in the size of its program, and repetition of an expression that may match nothing is refused, so that no loop runs
//! in place.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::matcher::{Alternative, Classes, Op, Pattern};

const MAX_LEN_BYTES: usize = 16 << 10;
const MAX_DEPTH: usize = 32;
const MAX_OPS: usize = 4096;
const MAX_REPEAT: u32 = 1024;
/// Classes are bits of one word.
const MAX_CLASSES: usize = 64;

/// The mode of a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As often as possible, less often if the rest fails.
    Greedy,
    /// As seldom as possible, more often if the rest fails.
    Lazy,
    /// As often as possible, never less often.
    Possessive,
}

#[derive(Clone, Debug)]
enum Node {
    Class(u8),
    Sequence(Vec<Node>),
    Alternatives(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        mode: Mode,
    },
    Look {
        negative: bool,
        node: Box<Node>,
    },
    Atomic(Box<Node>),
    /// The beginning or the end of a line.
    Line {
        end: bool,
    },
}

impl Node {
    fn may_be_empty(&self) -> bool {
        match self {
            Node::Class(_) => false,
            Node::Sequence(nodes) => nodes.iter().all(Node::may_be_empty),
            Node::Alternatives(nodes) => nodes.iter().any(Node::may_be_empty),
            Node::Repeat { node, min, .. } => *min == 0 || node.may_be_empty(),
            Node::Look { .. } | Node::Line { .. } => true,
            Node::Atomic(node) => node.may_be_empty(),
        }
    }

    /// The classes that the first character may be in, as bits; all bits if any character may begin a match.
    fn first(&self) -> u64 {
        match self {
            Node::Class(class) => 1 << class,
            Node::Sequence(nodes) => {
                let mut first = 0;
                for node in nodes {
                    // Lookahead only narrows what follows.
                    if !matches!(node, Node::Look { .. } | Node::Line { .. }) {
                        first |= node.first();
                    }
                    if !node.may_be_empty() {
                        return first;
                    }
                }
                u64::MAX
            }
            Node::Alternatives(nodes) => nodes.iter().fold(0, |first, node| first | node.first()),
            Node::Repeat { node, .. } => node.first(),
            Node::Look { .. } | Node::Line { .. } => u64::MAX,
            Node::Atomic(node) => node.first(),
        }
    }
}

type Parsed<T> = Result<T, String>;

/// Parses an expression and compiles its program.
///
/// # Errors
/// A description of the problem.
pub(super) fn compile(expression: &str) -> Parsed<Pattern> {
    if expression.len() > MAX_LEN_BYTES {
        return Err(format!("it has {} bytes, more than {MAX_LEN_BYTES}", expression.len()));
    }
    let mut parser = Parser { text: expression, at: 0, depth: 0, ignore_case: false, classes: Vec::new() };
    let node = parser.alternatives()?;
    if parser.at < expression.len() {
        return Err(format!("`)` at byte {} closes nothing", parser.at));
    }
    let tops = match node {
        Node::Alternatives(nodes) => nodes,
        node => vec![node],
    };
    let mut compiler = Compiler { ops: Vec::new() };
    let mut alternatives = Vec::with_capacity(tops.len());
    for node in &tops {
        let first = if node.may_be_empty() { u64::MAX } else { node.first() };
        alternatives.push(Alternative { start: compiler.ops.len(), first });
        compiler.node(node)?;
        compiler.push(Op::Match)?;
    }
    Ok(Pattern { classes: Classes::new(&parser.classes), ops: compiler.ops, alternatives })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    ignore_case: bool,
    classes: Vec<ClassUnicode>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    fn alternatives(&mut self) -> Parsed<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("its groups are nested deeper than {MAX_DEPTH}"));
        }
        let mut nodes = vec![self.sequence()?];
        while self.eat("|") {
            nodes.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Alternatives(nodes) })
    }

    fn sequence(&mut self) -> Parsed<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let start = self.at;
            let atom = self.atom(c)?;
            nodes.push(self.repeated(atom, start)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Sequence(nodes) })
    }

    fn atom(&mut self, c: char) -> Parsed<Node> {
        let start = self.at;
        match c {
            '(' => self.group(),
            '[' => {
                self.at += bracket_len(self.rest()).ok_or_else(|| format!("`[` at byte {start} is not closed"))?;
                self.class(start)
            }
            '\\' => self.escape(),
            '^' | '$' => {
                self.at += 1;
                Ok(Node::Line { end: c == '$' })
            }
            '*' | '+' | '?' => Err(format!("`{c}` at byte {start} repeats nothing")),
            // A `{` that begins no repetition is a literal.
            '{' | '}' | ']' => {
                self.at += 1;
                self.literal(c)
            }
            _ => {
                self.at += c.len_utf8();
                if c == '.' { self.class(start) } else { self.literal(c) }
            }
        }
    }

    fn group(&mut self) -> Parsed<Node> {
        let (start, outer) = (self.at, self.ignore_case);
        self.at += 1;
        let kinds = ["?:", "?i:", "?-i:", "?=", "?!", "?>"];
        let kind = kinds.into_iter().find(|kind| self.eat(kind));
        if kind.is_none() && self.rest().starts_with('?') {
            let shown: String = self.text.get(start..).unwrap_or_default().chars().take(5).collect();
            return Err(format!("the group `{shown}…` at byte {start} is not supported"));
        }
        match kind {
            Some("?i:") => self.ignore_case = true,
            Some("?-i:") => self.ignore_case = false,
            _ => {}
        }
        let node = self.alternatives()?;
        self.ignore_case = outer;
        if !self.eat(")") {
            return Err(format!("`(` at byte {start} is not closed"));
        }
        Ok(match kind {
            Some("?=") => Node::Look { negative: false, node: Box::new(node) },
            Some("?!") => Node::Look { negative: true, node: Box::new(node) },
            Some("?>") => Node::Atomic(Box::new(node)),
            _ => node,
        })
    }

    fn escape(&mut self) -> Parsed<Node> {
        let start = self.at;
        self.at += 1;
        let c = self.peek().ok_or("it ends with `\\`")?;
        self.at += c.len_utf8();
        match c {
            'r' | 'n' | 't' | 'f' | 'v' | 's' | 'S' | 'd' | 'D' | 'w' | 'W' => self.class(start),
            'p' | 'P' => {
                self.at += match self.peek() {
                    Some('{') => self.rest().find('}').ok_or_else(|| format!("`\\{c}{{` is not closed"))? + 1,
                    Some(letter) => letter.len_utf8(),
                    None => return Err(format!("it ends with `\\{c}`")),
                };
                self.class(start)
            }
            'u' | 'x' => {
                self.at += match self.peek() {
                    Some('{') => self.rest().find('}').ok_or_else(|| format!("`\\{c}{{` is not closed"))? + 1,
                    _ => if c == 'u' { 4 } else { 2 }.min(self.rest().len()),
                };
                self.class(start)
            }
            _ if c.is_ascii_punctuation() || c == ' ' => self.literal(c),
            _ => Err(format!("`\\{c}` at byte {start} is not supported")),
        }
    }

    /// A class; `regex-syntax` parses its text, from `start` to here.
    fn class(&mut self, start: usize) -> Parsed<Node> {
        let text = self.text.get(start..self.at).ok_or_else(|| format!("byte {} splits a character", self.at))?;
        let mut builder = regex_syntax::ParserBuilder::new();
        let hir = builder.case_insensitive(self.ignore_case).nest_limit(8).build().parse(text);
        let hir = hir.map_err(|_| format!("the class `{text}` at byte {start} is not understood"))?;
        let class = match hir.kind() {
            HirKind::Class(Class::Unicode(class)) => class.clone(),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).unwrap_or_default();
                ClassUnicode::new(text.chars().map(|c| ClassUnicodeRange::new(c, c)))
            }
            _ => return Err(format!("the class `{text}` at byte {start} is not understood")),
        };
        self.intern(class)
    }

    fn literal(&mut self, c: char) -> Parsed<Node> {
        let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
        if self.ignore_case {
            class.try_case_fold_simple().map_err(|error| error.to_string())?;
        }
        self.intern(class)
    }

    fn intern(&mut self, class: ClassUnicode) -> Parsed<Node> {
        let found = self.classes.iter().position(|known| *known == class);
        let at = found.unwrap_or_else(|| {
            self.classes.push(class);
            self.classes.len() - 1
        });
        if at >= MAX_CLASSES {
            return Err(format!("it has more than {MAX_CLASSES} different classes and characters"));
        }
        Ok(Node::Class(at as u8))
    }

    /// The atom with the repetitions after it.
    fn repeated(&mut self, atom: Node, start: usize) -> Parsed<Node> {
        let mut node = atom;
        while let Some((min, max)) = self.count()? {
            let braces = self.text.as_bytes().get(self.at - 1) == Some(&b'}');
            // After `{m,n}`, `+` is another repetition, not possessive.
            let mode = match self.peek() {
                Some('?') => Mode::Lazy,
                Some('+') if !braces => Mode::Possessive,
                _ => Mode::Greedy,
            };
            self.at += usize::from(mode != Mode::Greedy);
            if max.is_none_or(|max| max > 1) && node.may_be_empty() {
                return Err(format!("at byte {start} it repeats what may be empty"));
            }
            if min > max.unwrap_or(MAX_REPEAT) || max.is_some_and(|max| max > MAX_REPEAT) {
                return Err(format!("a repetition at byte {start} is not between 0 and {MAX_REPEAT}"));
            }
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(format!("its repetitions are nested deeper than {MAX_DEPTH}"));
            }
            node = Node::Repeat { node: Box::new(node), min, max, mode };
            self.depth -= 1;
        }
        Ok(node)
    }

    fn count(&mut self) -> Parsed<Option<(u32, Option<u32>)>> {
        for (sign, count) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.eat(sign) {
                return Ok(Some(count));
            }
        }
        let Some(inner) = self.rest().strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(inner, _)| inner)
        else {
            return Ok(None);
        };
        let number = |digits: &str| digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        let count = match inner.split_once(',') {
            None => number(inner).map(|n| (n, Some(n))),
            Some((min, "")) => number(min).map(|min| (min, None)),
            Some(("", max)) => number(max).map(|max| (0, Some(max))),
            Some((min, max)) => number(min).zip(number(max)).map(|(min, max)| (min, Some(max))),
        };
        if count.is_some() {
            self.at += inner.len() + 2;
        }
        Ok(count)
    }
}

/// The length of the bracketed class at the beginning of a text.
fn bracket_len(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => {
                depth += 1;
                // Directly after `[` or `[^`, `]` is a literal.
                chars.next_if(|&(_, c)| c == '^');
                chars.next_if(|&(_, c)| c == ']');
            }
            ']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

struct Compiler {
    ops: Vec<Op>,
}

impl Compiler {
    fn push(&mut self, op: Op) -> Parsed<usize> {
        if self.ops.len() >= MAX_OPS {
            return Err(format!("its program is longer than {MAX_OPS} steps"));
        }
        self.ops.push(op);
        Ok(self.ops.len() - 1)
    }

    fn node(&mut self, node: &Node) -> Parsed<()> {
        match node {
            Node::Class(class) => self.push(Op::Char(*class)).map(drop),
            Node::Line { end } => self.push(Op::Line { end: *end }).map(drop),
            Node::Sequence(nodes) => nodes.iter().try_for_each(|node| self.node(node)),
            Node::Alternatives(nodes) => self.alternatives(nodes),
            Node::Look { negative, node } => {
                let at = self.push(Op::Look { negative: *negative, end: 0 })?;
                self.node(node)?;
                self.push(Op::Match)?;
                self.ops[at] = Op::Look { negative: *negative, end: self.ops.len() };
                Ok(())
            }
            Node::Atomic(node) => {
                let at = self.push(Op::Atomic { end: 0 })?;
                self.node(node)?;
                self.push(Op::Match)?;
                self.ops[at] = Op::Atomic { end: self.ops.len() };
                Ok(())
            }
            Node::Repeat { node, min, max, mode } => match (&**node, mode) {
                (Node::Class(class), Mode::Greedy | Mode::Possessive) => {
                    let max = max.unwrap_or(u32::MAX);
                    self.push(Op::Run { class: *class, min: *min, max, possessive: *mode == Mode::Possessive })
                        .map(drop)
                }
                (node, Mode::Possessive) => {
                    let greedy =
                        Node::Repeat { node: Box::new(node.clone()), min: *min, max: *max, mode: Mode::Greedy };
                    self.node(&Node::Atomic(Box::new(greedy)))
                }
                (node, _) => self.repeat(node, *min, *max, *mode == Mode::Lazy),
            },
        }
    }

    fn alternatives(&mut self, nodes: &[Node]) -> Parsed<()> {
        let mut jumps = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            if i + 1 == nodes.len() {
                self.node(node)?;
                break;
            }
            let split = self.push(Op::Match)?;
            self.node(node)?;
            jumps.push(self.push(Op::Match)?);
            self.ops[split] = Op::Split { first: split + 1, second: self.ops.len() };
        }
        let end = self.ops.len();
        jumps.into_iter().for_each(|at| self.ops[at] = Op::Jump(end));
        Ok(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, lazy: bool) -> Parsed<()> {
        let split = |inside: usize, behind: usize| {
            if lazy { Op::Split { first: behind, second: inside } } else { Op::Split { first: inside, second: behind } }
        };
        for _ in 0..min {
            self.node(node)?;
        }
        let Some(max) = max else {
            let at = self.push(Op::Match)?;
            self.node(node)?;
            self.push(Op::Jump(at))?;
            self.ops[at] = split(at + 1, self.ops.len());
            return Ok(());
        };
        let mut splits = Vec::new();
        for _ in min..max {
            splits.push(self.push(Op::Match)?);
            self.node(node)?;
        }
        let end = self.ops.len();
        splits.into_iter().for_each(|at| self.ops[at] = split(at + 1, end));
        Ok(())
    }
}
