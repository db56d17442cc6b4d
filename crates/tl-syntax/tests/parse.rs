//! What texts parse to, what is said about wrong ones, and that no text whatsoever upsets the parser.

use std::fmt::Write;

use proptest::prelude::*;
use tl_syntax::ast::*;
use tl_syntax::{KEYWORDS, Parsed, SourceMap, parse};

/// A tree as nested parentheses, short enough to write by hand.
struct Printer(String);

fn print(tree: &File) -> String {
    let mut printer = Printer(String::new());
    for item in &tree.items {
        if !printer.0.is_empty() {
            printer.0.push(' ');
        }
        match item {
            Item::Import(import) => {
                let alias = import.alias.as_ref().map_or(String::new(), |alias| format!(" as {}", alias.text));
                write!(printer.0, "(import {}{alias})", import.path).unwrap();
            }
            Item::Struct(written) => printer.list(&format!("struct {}", written.name.text), |p| {
                written.fields.iter().for_each(|field| p.word(format!("{}:{}", field.name.text, ty(&field.ty))));
            }),
            Item::Impl(written) => printer.list(&format!("impl {}", written.name.text), |p| {
                for function in &written.functions {
                    p.0.push(' ');
                    p.function(function);
                }
            }),
            Item::Main(main) => printer.list("main", |p| p.block(&main.body)),
            Item::Test(test) => printer.list(&format!("test {:?}", test.name.text), |p| p.block(&test.body)),
            Item::Function(function) => printer.function(function),
            Item::Entity(Entity { name, elements, .. }) => {
                printer.list(&format!("entity {}", name.text), |p| match elements {
                    Elements::Named(names) => names.iter().for_each(|name| p.word(&name.text)),
                    Elements::Numbered(size) => p.child(size),
                });
            }
            Item::Relation(relation) => printer.list(&format!("relation {}", relation.name.text), |p| {
                relation.sets.iter().for_each(|set| p.word(&set.text));
                relation.value.iter().for_each(|value| p.child(value));
            }),
            Item::Fact(fact) => printer.list("fact", |p| p.atom(&fact.atom)),
            Item::Rule(rule) => printer.list("rule", |p| {
                p.atom(&rule.head);
                rule.body.iter().for_each(|literal| p.literal(literal));
            }),
            Item::SoftRule(rule) => printer.list(&format!("soft {}", rule.name.text), |p| {
                for index in &rule.indices {
                    p.word(format!("{}{}", index.name.text, if index.is_normalized { "." } else { "" }));
                }
                rule.factors.iter().for_each(|factor| p.atom(&factor.atom));
                rule.temperature.iter().for_each(|temperature| p.child(temperature));
            }),
            Item::Statement(statement) => printer.statement(statement),
        }
    }
    printer.0
}

impl Printer {
    fn list(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push('(');
        self.0.push_str(head);
        inside(self);
        self.0.push(')');
    }

    fn word(&mut self, word: impl std::fmt::Display) {
        write!(self.0, " {word}").unwrap();
    }

    fn child(&mut self, expr: &Expr) {
        self.0.push(' ');
        self.expr(expr);
    }

    fn atom(&mut self, atom: &Atom) {
        self.0.push(' ');
        self.list(&atom.name.text, |p| atom.terms.iter().for_each(|term| p.term(term)));
    }

    fn term(&mut self, term: &Term) {
        match &term.kind {
            TermKind::Name(name) => self.word(name),
            TermKind::Any => self.word("_"),
            TermKind::Value(value) => self.child(value),
        }
    }

    fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::Atom { atom, is_negated } => {
                if *is_negated {
                    self.word("not");
                }
                self.atom(atom);
            }
            Literal::Comparison { operator, left, right } => {
                self.0.push(' ');
                self.list(operator.symbol(), |p| [left, right].into_iter().for_each(|term| p.term(term)));
            }
        }
    }

    fn function(&mut self, function: &Function) {
        self.list(&format!("fn {}", function.name.text), |p| {
            for parameter in &function.parameters {
                p.word(format!("{}:{}", parameter.name.text, ty(&parameter.ty)));
            }
            if let Some(result) = &function.result {
                p.word(format!("->{}", ty(result)));
            }
            p.block(&function.body);
        });
    }

    fn block(&mut self, block: &Block) {
        self.0.push_str(" {");
        for (index, statement) in block.statements.iter().enumerate() {
            if index > 0 {
                self.0.push(' ');
            }
            self.statement(statement);
        }
        self.0.push('}');
    }

    fn statement(&mut self, statement: &Statement) {
        match &statement.kind {
            StatementKind::Let { name, ty: written, value } => self.list("let", |p| {
                let written = written.as_ref().map(|written| format!(":{}", ty(written)));
                p.word(format!("{}{}", name.text, written.unwrap_or_default()));
                p.child(value);
            }),
            StatementKind::Assign { target, declares, operator, value } => {
                let operator = operator.map_or("", BinaryOperator::symbol);
                self.list(&format!("{operator}{}", if *declares { ":=" } else { "=" }), |p| {
                    p.word(&target.name.text);
                    for step in &target.steps {
                        match step {
                            PlaceStep::Field(name) => write!(p.0, ".{}", name.text).unwrap(),
                            PlaceStep::Index(at) => {
                                p.0.push('[');
                                p.expr(at);
                                p.0.push(']');
                            }
                        }
                    }
                    p.child(value);
                })
            }
            StatementKind::Tensor(declaration) => self.list("tensor", |p| {
                p.word(format!("{}:{}", declaration.name.text, ty(&declaration.ty)));
                match declaration.storage {
                    TensorStorage::Ordinary => {}
                    TensorStorage::Learnable => p.word("learnable"),
                    TensorStorage::Frozen => p.word("frozen"),
                }
                declaration.value.iter().for_each(|value| p.child(value));
            }),
            StatementKind::For { variable, iterable, body } => self.list("for", |p| {
                p.word(&variable.text);
                p.child(iterable);
                p.block(body);
            }),
            StatementKind::While { condition, body } => self.list("while", |p| {
                p.child(condition);
                p.block(body);
            }),
            StatementKind::Loop { body } => self.list("loop", |p| p.block(body)),
            StatementKind::Break => self.0.push_str("break"),
            StatementKind::Continue => self.0.push_str("continue"),
            StatementKind::Return(value) => self.list("return", |p| value.iter().for_each(|value| p.child(value))),
            StatementKind::Expr(expr) => self.expr(expr),
        }
    }

    fn arguments(&mut self, arguments: &[Argument]) {
        for argument in arguments {
            self.0.push(' ');
            if let Some(name) = &argument.name {
                write!(self.0, "{}:", name.text).unwrap();
            }
            self.expr(&argument.value);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Int(value) => write!(self.0, "{value}").unwrap(),
            ExprKind::Float(value) => write!(self.0, "{value:?}").unwrap(),
            ExprKind::Bool(value) => write!(self.0, "{value}").unwrap(),
            ExprKind::Str(value) => write!(self.0, "{value:?}").unwrap(),
            ExprKind::Unit => self.0.push_str("()"),
            ExprKind::Name(name) => self.0.push_str(name),
            ExprKind::Format(pieces) => self.list("format", |p| {
                for piece in pieces {
                    match piece {
                        FormatPiece::Text(text) => p.word(format!("{text:?}")),
                        FormatPiece::Value { value, format } => {
                            p.child(value);
                            if *format != Format::default() {
                                let align = format.align.map_or("", |align| match align {
                                    Align::Left => "<",
                                    Align::Right => ">",
                                    Align::Middle => "^",
                                });
                                write!(p.0, ":{align}{}", format.width).unwrap();
                                format.precision.iter().for_each(|digits| write!(p.0, ".{digits}").unwrap());
                            }
                        }
                    }
                }
            }),
            ExprKind::Map(entries) => self.list("map", |p| {
                for (key, value) in entries {
                    p.child(key);
                    p.child(value);
                }
            }),
            ExprKind::Struct { module, name, fields } => {
                let module = module.as_ref().map_or(String::new(), |module| format!("{}.", module.text));
                self.list(&format!("new {module}{}", name.text), |p| {
                    for (name, value) in fields {
                        write!(p.0, " {}:", name.text).unwrap();
                        p.expr(value);
                    }
                });
            }
            ExprKind::List(elements) => self.list("list", |p| elements.iter().for_each(|element| p.child(element))),
            ExprKind::Unary { operator, operand } => self.list(operator.symbol(), |p| p.child(operand)),
            ExprKind::Binary { operator, left, right, .. } => self.list(operator.symbol(), |p| {
                p.child(left);
                p.child(right);
            }),
            ExprKind::As { operand, ty: written } => self.list("as", |p| {
                p.child(operand);
                p.word(ty(written));
            }),
            ExprKind::Range { start, end } => self.list("..", |p| {
                p.child(start);
                p.child(end);
            }),
            ExprKind::Call { module, qualifier, name, arguments } => {
                let module = module.as_ref().map_or(String::new(), |module| format!("{}.", module.text));
                let qualifier = qualifier.as_ref().map(|qualifier| format!("{module}{}::", qualifier.text));
                self.list(&format!("{}{}", qualifier.unwrap_or_default(), name.text), |p| p.arguments(arguments));
            }
            ExprKind::Method { receiver, name, arguments } => self.list(&format!(".{}", name.text), |p| {
                p.child(receiver);
                p.arguments(arguments);
            }),
            ExprKind::Field { receiver, name } => self.list("field", |p| {
                p.child(receiver);
                p.word(&name.text);
            }),
            ExprKind::Index { receiver, indices } => self.list("index", |p| {
                p.child(receiver);
                indices.iter().for_each(|index| p.index(index));
            }),
            ExprKind::If { branches, otherwise } => self.list("if", |p| {
                for (condition, block) in branches {
                    p.child(condition);
                    p.block(block);
                }
                otherwise.iter().for_each(|block| p.block(block));
            }),
            ExprKind::Optional(path) => self.list("optional", |p| p.child(path)),
            ExprKind::IfLet { name, value, then, otherwise } => self.list("if-let", |p| {
                p.word(&name.text);
                p.child(value);
                p.block(then);
                otherwise.iter().for_each(|block| p.block(block));
            }),
            ExprKind::Query(query) => {
                self.list("query", |p| query.body.iter().for_each(|literal| p.literal(literal)));
            }
            ExprKind::Block(block) => self.list("do", |p| p.block(block)),
            ExprKind::With { buffer, body } => self.list("with", |p| {
                p.child(buffer);
                p.block(body);
            }),
            ExprKind::Trace { body } => self.list("trace", |p| p.block(body)),
            ExprKind::Error => self.0.push_str("<error>"),
        }
    }

    fn index(&mut self, index: &Index) {
        match index {
            Index::At(at) => self.child(at),
            Index::Slice { start, end, .. } => {
                self.0.push(' ');
                start.iter().for_each(|start| self.expr(start));
                self.0.push_str("..");
                end.iter().for_each(|end| self.expr(end));
            }
        }
    }
}

fn ty(written: &Type) -> String {
    match &written.kind {
        TypeKind::Int => "int".into(),
        TypeKind::Float => "float".into(),
        TypeKind::Bool => "bool".into(),
        TypeKind::String => "string".into(),
        TypeKind::Unit => "()".into(),
        TypeKind::Dtype(dtype) => dtype.name().into(),
        TypeKind::List(element) => format!("[{}]", ty(element)),
        TypeKind::Optional(tensor) => format!("{}?", ty(tensor)),
        TypeKind::Named(name) => name.text.to_string(),
        TypeKind::Imported { module, name } => format!("{}.{}", module.text, name.text),
        TypeKind::Map(key, value) => format!("{{{}:{}}}", ty(key), ty(value)),
        TypeKind::Error => "<error>".into(),
        TypeKind::Tensor { dtype, dims } => {
            let dims: Vec<String> = dims
                .iter()
                .map(|dim| match &dim.kind {
                    DimKind::Known(size) => size.to_string(),
                    DimKind::Any => "?".into(),
                    DimKind::Named(name) => name.to_string(),
                })
                .collect();
            format!("{}[{}]", dtype.name(), dims.join(","))
        }
    }
}

fn parse_text(text: &str) -> (Parsed, SourceMap) {
    let mut sources = SourceMap::new();
    let file = sources.add("t", text);
    (parse(file, text), sources)
}

/// Each diagnostic as `line:column message`.
fn shown(text: &str) -> Vec<String> {
    let (parsed, sources) = parse_text(text);
    let show = |diagnostic: &tl_syntax::Diagnostic| {
        let place = sources.describe(diagnostic.span());
        format!("{} {}", place.trim_start_matches("t:"), diagnostic.message)
    };
    parsed.diagnostics.iter().map(show).collect()
}

#[test]
fn trees() {
    for (text, expected) in [
        ("", ""),
        ("a + b * c", "(+ a (* b c))"),
        ("a - b - c", "(- (- a b) c)"),
        ("entity P = {ann,\nbob,\n}\nentity N = 2 * n", "(entity P ann bob) (entity N (* 2 n))"),
        ("relation R(P, N)\nrelation E(N, N) = e", "(relation R P N) (relation E N N e)"),
        ("fact R(ann, 3)\nfact R(bob, (n + 1))", "(fact (R ann 3)) (fact (R bob (+ n 1)))"),
        ("rule A(x, z) <- P(x, y), not A(_, z),\nx != z", "(rule (A x z) (P x y) not (A _ z) (!= x z))"),
        ("rule A(x)\n<-\nP(x, 3)", "(rule (A x) (P x 3))"),
        ("rule N[x, y.] <- E[x, d] * R(x, y) / t", "(soft N x y. (E x d) (R x y) t)"),
        ("let q = query P(x, y), x < y", "(let q (query (P x y) (< x y)))"),
        ("f(query P(x), 1)\nf((query P(x), Q(x)), 1)", "(f (query (P x)) 1) (f (query (P x) (Q x)) 1)"),
        ("if query not P(a) { query P(x), Q(x) }", "(if (query not (P a)) {(query (P x) (Q x))})"),
        // The words are names.
        ("let rule = fact(x) <-1\nquery(rule) + entity", "(let rule (< (fact x) (- 1))) (+ (query rule) entity)"),
        ("query not in l\nrelation", "(not (in query l)) relation"),
        ("a ** b ** c", "(** a (** b c))"),
        ("-a ** 2", "(- (** a 2))"),
        ("2 ** -x ** 2", "(** 2 (- (** x 2)))"),
        ("2 ** -x @ y", "(@ (** 2 (- x)) y)"),
        ("-a as float", "(as (- a) float)"),
        ("a as int as float", "(as (as a int) float)"),
        ("a @ b as float32 * c", "(* (@ a (as b float32)) c)"),
        ("x as float16[?, 3]", "(as x float16[?,3])"),
        ("a @ b @ c * d % e", "(% (* (@ (@ a b) c) d) e)"),
        ("not a == b and c or d", "(or (and (not (== a b)) c) d)"),
        ("not not a", "(not (not a))"),
        ("0..n + 1", "(.. 0 (+ n 1))"),
        ("a < b + 1", "(< a (+ b 1))"),
        ("(a < b) == (c < (d))", "(== (< a b) (< c d))"),
        ("f(a, key: b + 1,)", "(f a key:(+ b 1))"),
        ("f()", "(f)"),
        ("TensorBuffer::new()", "(TensorBuffer::new)"),
        ("a.b.c(d).e[0].f", "(field (index (field (.c (field a b) d) e) 0) f)"),
        ("-x[0]", "(- (index x 0))"),
        ("x[-1]", "(index x (- 1))"),
        ("x[0..4, ..]", "(index x 0..4 ..)"),
        ("x[.., 3]", "(index x .. 3)"),
        ("x[a + 1.., ..b]", "(index x (+ a 1).. ..b)"),
        ("[1, 2.5, [true, \"a\\n\\u{3c0}\"],]", "(list 1 2.5 (list true \"a\\nπ\"))"),
        ("[]", "(list)"),
        ("()", "()"),
        ("1_000 0x_ff\n1e-5", "1000 1e-5"),
        ("0xff\n1.5e3\n0x7fff_ffff_ffff_ffff", "255 1500.0 9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("let x = 1\nlet mut y: [int] = [x]", "(let x 1) (let y:[int] (list x))"),
        ("x = 1; y := 2", "(= x 1) (:= y 2)"),
        ("x\n= 1", "(= x 1)"),
        ("a\n.b()\n+ c", "(+ (.b a) c)"),
        ("a\n\n// note\n/* and */ @ b", "(@ a b)"),
        ("a\n(b)\n[c]", "a b (list c)"),
        ("x = a -\n b", "(= x (- a b))"),
        ("f(a\n-b)", "(f (- a b))"),
        ("fn f(x: int) -> int {\n-x\n}", "(fn f x:int ->int {(- x)})"),
        ("fn f() -> int {\nlet y = 2\n-y\n}", "(fn f ->int {(let y 2) (- y)})"),
        ("fn f() -> int {\nif a { b() }\n-y\n}", "(fn f ->int {(if a {(b)}) (- y)})"),
        ("w.a.bias? + 1", "(+ (optional (field (field w a) bias)) 1)"),
        ("if let b = w.b? { b } else { c }", "(if-let b (optional (field w b)) {b} {c})"),
        ("if let b = w.b? { b } else if c { d }", "(if-let b (optional (field w b)) {b} {(if c {d})})"),
        ("if a { b } else if let c = d.e? { c }", "(if a {b} {(if-let c (optional (field d e)) {c})})"),
        ("fn f(x: float[n], b: float32[?]?) {}", "(fn f x:float[n] b:float32[?]? {})"),
        ("if a { b } else if c { d } else { e }", "(if a {b} c {d} {e})"),
        ("if a {\nb\n}\nelse {\nc\n}\nd", "(if a {b} {c}) d"),
        ("let x = if a { 1 } else { 2 } + 3", "(let x (+ (if a {1} {2}) 3))"),
        ("f(if a {\n1\n2\n} else { 3 })", "(f (if a {1 2} {3}))"),
        ("for i in 0..n { f(i) }", "(for i (.. 0 n) {(f i)})"),
        ("while a { break }\nloop { continue; }", "(while a {break}) (loop {continue})"),
        ("with buf { a }\n{ b }", "(with buf {a}) (do {b})"),
        ("with TensorBuffer::new() { a }", "(with (TensorBuffer::new) {a})"),
        ("main { return }", "(main {(return)})"),
        ("fn f() { return 1 + 2 }", "(fn f {(return (+ 1 2))})"),
        ("import \"a/b.tl\"", "(import a/b.tl)"),
        ("import \"a/b.tl\" as b", "(import a/b.tl as b)"),
        ("x += 1; y **= 2\nz @= w", "(+= x 1) (**= y 2) (@= z w)"),
        ("a[0] = 1; a.b[i].c -= 2", "(= a[0] 1) (-= a.b[i].c 2)"),
        ("a in b and c not in d", "(and (in a b) (not (in c d)))"),
        ("not a in b", "(not (in a b))"),
        ("let m = {\"a\": 1, b: [2],}\nlet e = {}", "(let m (map \"a\" 1 b (list 2))) (let e (map))"),
        ("let m = {\n1: 2,\n-3: 4\n}", "(let m (map 1 2 (- 3) 4))"),
        (
            "struct A { x: int, y: [A], }\nstruct B {\nx: int,\ny: {string: A}\n}",
            "(struct A x:int y:[A]) (struct B x:int y:{string:A})",
        ),
        (
            "impl A {\nfn new() -> A { A { x: 1 } }\nfn f(self, y: int) { }\n}",
            "(impl A (fn new ->A {(new A x:1)}) (fn f self:A y:int {}))",
        ),
        ("let a = nn.Linear { w: w, b: nn.f(b) }", "(let a (new nn.Linear w:w b:(.f nn b)))"),
        ("nn.Linear::new(1)", "(nn.Linear::new 1)"),
        ("fn f(x: nn.Linear) {}", "(fn f x:nn.Linear {})"),
        ("if (A { x: 1 }).ok { b }", "(if (field (new A x:1) ok) {b})"),
        ("f\"a\"", "(format \"a\")"),
        ("f\"{a + 1} of {{b}} {x:.3}{y:<8}\\n\"", "(format (+ a 1) \" of {b} \" x:0.3 y:<8 \"\\n\")"),
        ("f\"{m[\"a}\"]:>4.1}\"", "(format (index m \"a}\"):>4.1)"),
        ("f\"{f\"{x}\"}\" + \"b\"", "(+ (format (format x)) \"b\")"),
        ("f\"\\u{3c0}{x}\"", "(format \"π\" x)"),
        (
            "tensor W: float16[512, 128] learnable = randn([512, 128]) * 0.02",
            "(tensor W:float16[512,128] learnable (* (randn (list 512 128)) 0.02))",
        ),
        ("tensor b: float32[] frozen\ntensor c: bool[2]", "(tensor b:float32[] frozen) (tensor c:bool[2])"),
        (
            "fn f(q: float16[n, h, d], m: Model, b: bool, u: ()) ->\n [string] { q }",
            "(fn f q:float16[n,h,d] m:Model b:bool u:() ->[string] {q})",
        ),
        ("größe = π2 + _a", "(= größe (+ π2 _a))"),
        ("if a { b } c()", "(if a {b}) (c)"),
        ("\u{feff}a\r\nb\r\n", "a b"),
    ] {
        let (parsed, _) = parse_text(text);
        let wrong = ["1_000 0x_ff\n1e-5"].contains(&text);
        assert_eq!(parsed.diagnostics.is_empty(), !wrong, "{text:?}: {:?}", shown(text));
        assert_eq!(print(&parsed.tree), expected, "{text:?}");
    }
}

#[test]
fn diagnostics() {
    for (text, expected) in [
        ("let = 3", &["1:5 expected the variable's name, found `=`"][..]),
        ("let for = 3\nlet y = 1", &["1:5 expected the variable's name, found the keyword `for`"]),
        (
            "let x\ny +",
            &[
                "1:6 expected `=` and the variable's value, found the end of the line",
                "2:4 expected an expression, found the end of the file",
            ],
        ),
        (
            "a b\nc d",
            &["1:3 expected the end of the statement, found `b`", "2:3 expected the end of the statement, found `d`"],
        ),
        ("f(a b)\nc", &["1:5 expected `,` or `)`, found `b`"]),
        (
            "f(a\nlet y = 1\nz z",
            &["1:4 expected `,` or `)`, found the end of the line", "3:3 expected the end of the statement, found `z`"],
        ),
        ("a\n- b", &["2:1 a line that begins with `-` is a statement of its own, and the value before it is not used"]),
        (
            "main {\nx + 1\n  -2\n}",
            &["3:3 a line that begins with `-` is a statement of its own, and the value before it is not used"],
        ),
        ("a < b < c", &["1:7 comparisons cannot be chained"]),
        ("f(a) == f(b) == f(c)", &["1:14 comparisons cannot be chained"]),
        ("a == not b", &["1:6 `not` cannot stand behind this operator"]),
        ("a < b in c", &["1:7 comparisons cannot be chained"]),
        ("x[0..2] = 1", &["1:1 only a variable or a part of one can be assigned to"]),
        ("f(x) += 1", &["1:1 only a variable or a part of one can be assigned to"]),
        ("x[0] := 1", &["1:1 `:=` declares a variable, and this is a part of one"]),
        ("# a\nb # c", &["1:1 `#` does not begin a comment"]),
        ("a && !b || c", &["1:3 `&&` is not an operator", "1:6 `!` is not an operator", "1:9 `||` is not an operator"]),
        ("def f(x):\n  x\nconst y = 1", &["1:1 `def` is not a keyword", "3:1 `const` is not a keyword"]),
        ("let x = 1.2.3\na b", &["1:9 `1.2.3` is not a number", "2:3 expected the end of the statement, found `b`"]),
        ("f(x, axis=0)", &["1:10 an argument's name stands before a `:`, not before a `=`"]),
        ("f\"{a\"", &["1:3 this `{` is never closed"]),
        ("f\"a}\"", &["1:4 this `}` closes nothing"]),
        ("f\"{}\"", &["1:3 an expression is missing between these braces"]),
        ("f\"{x:y}\"", &["1:5 this format means nothing"]),
        ("f\"{a b}\"", &["1:6 expected the `}` behind the value, found `b`"]),
        (
            "f\"{a}\nb c",
            &["1:1 this string is not closed on its line", "2:3 expected the end of the statement, found `c`"],
        ),
        (
            "fn f() {\nif a {\n  b\nfn g() { c }\nmain { d e }",
            &["2:6 this `{` is never closed", "5:10 expected the end of the statement, found `e`"],
        ),
        ("struct A { x }", &["1:14 expected `:` and a type, found `}`"]),
        ("impl A { let x = 1\nfn f() {} }", &["1:10 expected `fn` or `}`, found the keyword `let`"]),
        ("let x = 9223372036854775808", &["1:9 this number is too large for an `int` (at most 9223372036854775807)"]),
        ("1e999", &["1:1 this number is too large for a `float` (at most 1.8e308)"]),
        ("let x = 3px", &["1:9 `3px` is not a number"]),
        ("0x_", &["1:1 there are no digits behind `0x`"]),
        ("print(\"abc)\nx y", &["1:7 this string is not closed on its line"]),
        ("\"a\\qb\"", &["1:3 this escape means nothing"]),
        ("\"\\u{110000}\"", &["1:2 this escape means nothing"]),
        ("a $ b", &["1:3 expected the end of the statement, found `$`"]),
        ("a\n/* b /* c */", &["2:1 this comment is never closed"]),
        ("main {\na", &["1:6 this `{` is never closed"]),
        ("}\na", &["1:1 this `}` closes nothing"]),
        ("fn f(x) { x }", &["1:7 expected `:` and a type, found `)`"]),
        ("fn f(x: float16) { }", &["1:9 `float16` is a dtype: a tensor's type also tells its dimensions"]),
        ("fn f(x: float64[2]) { }", &["1:9 `float64` has no dimensions"]),
        ("fn f(x: float16[-1]) { }", &["1:17 expected a dimension: a number, a name or `?`, found `-`"]),
        ("fn f()\n{ a }", &["1:7 expected `{` and the block of the function, found the end of the line"]),
        (
            "if a b { c d }",
            &["1:6 expected `{` and the block of `if`, found `b`", "1:12 expected the end of the statement, found `d`"],
        ),
        (
            "learn { objective: e,\nepochs: 3 }\na b",
            &["1:1 `learn` is not available in this version", "3:3 expected the end of the statement, found `b`"],
        ),
        ("let p = buffer_trace f()", &["1:22 expected `{` and the block of `buffer_trace`, found `f`"]),
        (
            "main { fn f() { } }\na b",
            &[
                "1:8 `fn` stands at the top level of a file, not inside a block",
                "2:3 expected the end of the statement, found `b`",
            ],
        ),
        ("f(a: 1, 2)", &["1:9 an argument without a name stands behind one with a name"]),
        ("(a, b)", &["1:3 there are no tuples"]),
        ("x[]", &["1:2 an index is missing"]),
        ("for i in 0.. { }", &["1:11 this range has no end"]),
        ("f(x)(y)", &["1:1 only a function's name can be called"]),
        ("A::b", &["1:1 `A::b` is a function: call it with `(…)`"]),
        ("import a", &["1:8 expected a path in quotes, found `a`"]),
    ] {
        assert_eq!(shown(text), expected, "{text:?}");
    }
}

#[test]
fn depth_is_limited() {
    let many = 100_000;
    for text in [
        "(".repeat(many),
        "[".repeat(many),
        "{".repeat(many),
        "-".repeat(many),
        "not ".repeat(many),
        "f(".repeat(many),
        "a[".repeat(many),
        "if a { ".repeat(many),
        "fn f(x: ".to_string() + &"[".repeat(many),
        "1".to_string() + &"+1".repeat(many),
        "1".to_string() + &"**1".repeat(many),
        "a".to_string() + &".b".repeat(many),
        "a".to_string() + &"[0]".repeat(many),
        "a".to_string() + &".b()".repeat(many),
        "a".to_string() + &" as int".repeat(many),
        "/*".repeat(many),
        // Long chains in nested brackets, whose heights add up.
        (0..150).fold("a".to_string(), |inner, _| format!("({inner}{})", "+a".repeat(40))),
    ] {
        let (parsed, _) = parse_text(&text);
        assert!(!parsed.diagnostics.is_empty(), "{}…", &text[..20]);
    }
    let long = "if a { b }".to_string() + &" else if a { b }".repeat(many) + &"\nx = 1".repeat(many);
    assert!(parse_text(&long).0.diagnostics.is_empty());
    let chain = "1".to_string() + &"+1".repeat(500);
    assert!(parse_text(&chain).0.diagnostics.is_empty());
}

fn token_soup() -> impl Strategy<Value = String> {
    let signs = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ";",
        ":",
        "::",
        ":=",
        "=",
        "->",
        ".",
        "..",
        "?",
        "+",
        "-",
        "*",
        "**",
        "/",
        "%",
        "@",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "\n",
        "\n",
        "x",
        "y",
        "f(",
        "1",
        "2.5",
        "0xff",
        "\"s\"",
        "\"",
        "/*",
        "*/",
        "//",
        "float16",
        "int",
        "π",
        "\u{0}",
        "9999999999999999999",
        "\\",
    ];
    let words: Vec<&'static str> = signs.into_iter().chain(KEYWORDS.iter().copied()).collect();
    proptest::collection::vec(proptest::sample::select(words), 0..120).prop_map(|words| words.join(" "))
}

/// Spans lie inside the text, on its character boundaries.
fn check_any(text: &str) {
    let (parsed, _) = parse_text(text);
    for diagnostic in &parsed.diagnostics {
        for label in &diagnostic.labels {
            assert!(text.get(label.span.start as usize..label.span.end as usize).is_some(), "{diagnostic:?}");
        }
    }
    print(&parsed.tree);
}

proptest! {
    #[test]
    fn token_soups_parse(text in token_soup()) {
        check_any(&text);
    }

    #[test]
    fn random_bytes_parse(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_any(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_texts_parse(text in "\\PC{0,80}") {
        check_any(&text);
    }
}
