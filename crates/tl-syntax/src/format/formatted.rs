//! The entry to the formatter.

use crate::format::layout::layout;
use crate::format::pieces::pieces;
use crate::lexer::tokenize;
use crate::{Diagnostic, FileId, parse};

/// The text in TL's style. Formatting it again changes nothing.
///
/// # Errors
/// The errors in the text, if it cannot be parsed.
pub fn format(file: FileId, text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut diagnostics = parse(file, text).diagnostics;
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    let lexed = tokenize(file, text, &mut diagnostics);
    Ok(layout(&pieces(text, &lexed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(format(FileId(0), text).as_deref(), Ok(expected), "{text:?}");
        assert_eq!(format(FileId(0), expected).as_deref(), Ok(expected), "{text:?}, formatted twice");
    }

    #[test]
    fn within_a_line() {
        for (text, expected) in [
            ("", ""),
            ("\n \n", ""),
            ("let  x=1+2 *-3", "let x = 1 + 2 * -3\n"),
            ("x:=a@b**-c", "x := a @ b ** -c\n"),
            ("print ( a ,b,end : \"\" )", "print(a, b, end: \"\")\n"),
            ("x [0 .. 4 ,..] . y ( )", "x[0..4, ..].y()\n"),
            ("x[ .. , 3]; x[1 ..]; x[..-1]", "x[.., 3]; x[1..]; x[..-1]\n"),
            ("fn f(x:float16[?,n],b : float[n] ?)->[int]{x}", "fn f(x: float16[?, n], b: float[n]?) -> [int] { x }\n"),
            ("if not(a)and(b){c}else{-d}", "if not (a) and (b) { c } else { -d }\n"),
            ("let b = w.attn_q.bias ?", "let b = w.attn_q.bias?\n"),
            ("let buf=TensorBuffer :: new ( )", "let buf = TensorBuffer::new()\n"),
            ("for i in 0..n{ }", "for i in 0..n {}\n"),
            ("a - -b; f(- - c)", "a - -b; f(--c)\n"),
            ("return\n", "return\n"),
            ("f(/* a */x ,y/* b */)// c", "f(/* a */ x, y /* b */)  // c\n"),
            ("[[1,2],[3,4,],]", "[[1, 2], [3, 4,],]\n"),
            ("x as float32 [n]", "x as float32[n]\n"),
            ("x+=1;y [0]-=2", "x += 1; y[0] -= 2\n"),
            ("let m:{string:int}={ \"a\" :1,\"b\":-2 }", "let m: {string: int} = {\"a\": 1, \"b\": -2}\n"),
            ("f({\"a\":[1]},{ })", "f({\"a\": [1]}, {})\n"),
            ("if x not  in{\"a\":1}{y}", "if x not in {\"a\": 1} { y }\n"),
            ("print(f\"{ x+1 } {y :>8.3}\" [0..2])", "print(f\"{ x+1 } {y :>8.3}\"[0..2])\n"),
            ("let l=Layer{w:1,eps:2}", "let l = Layer { w: 1, eps: 2 }\n"),
            ("struct A{x:int,y:float16 [n]}", "struct A { x: int, y: float16[n] }\n"),
            ("impl A{fn new(self:A)->A{self}}", "impl A { fn new(self: A) -> A { self } }\n"),
            ("import\"a.tl\"as a", "import \"a.tl\" as a\n"),
            ("{{1}}[0]", "{ { 1 } }[0]\n"),
            ("entity  P={ann , bob}", "entity P = {ann, bob}\n"),
            ("entity P={ ann }", "entity P = {ann}\n"),
            (
                "entity N=2*5; relation R(N ,N)= eye(10)as bool",
                "entity N = 2 * 5; relation R(N, N) = eye(10) as bool\n",
            ),
            ("fact R( 1 ,_ )", "fact R(1, _)\n"),
            ("rule A(x,z)<-B(x,y),not  A(y,z),x!=z", "rule A(x, z) <- B(x, y), not A(y, z), x != z\n"),
            ("rule A [x,y .]<-E [x,d]*E[y,d]/-t", "rule A[x, y.] <- E[x, d] * E[y, d] / -t\n"),
            ("let rule=f(x)<-1", "let rule = f(x) < -1\n"),
            ("print( query A(x) ,1)", "print(query A(x), 1)\n"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn lines() {
        for (text, expected) in [
            ("\n\n a\n\n\n\nb\n\n", "a\n\nb\n"),
            ("a\t \r\nb  ", "a\nb\n"),
            ("main {\n\n  a\n\n\n  b\n\n}", "main {\n    a\n\n    b\n}\n"),
            ("f(\na,\n  g(1,\n2),\n\n)", "f(\n    a,\n    g(1,\n        2),\n)\n"),
            ("f(g(\n1,\n), h([\n2\n]))", "f(g(\n    1,\n), h([\n    2\n]))\n"),
            ("let x =\n1 +\n2\n* 3", "let x =\n    1 +\n    2\n    * 3\n"),
            ("x\n.f(\n1\n)\n.g()", "x\n    .f(\n        1\n    )\n    .g()\n"),
            ("if a\nand b {\nc\n}\nelse {\nd\n}", "if a\n    and b {\n    c\n}\nelse {\n    d\n}\n"),
            (
                "let x = a +\nif b {\n1\n} else {\n2\n}",
                "let x = a +\n    if b {\n        1\n    } else {\n        2\n    }\n",
            ),
            ("fn f(\na: int,\n) -> int {\na\n}", "fn f(\n    a: int,\n) -> int {\n    a\n}\n"),
            ("rule A(x)\n<-\nB(x),\nC(x)", "rule A(x)\n    <-\n    B(x),\n    C(x)\n"),
            ("entity P={\na,\nb\n}", "entity P = {\n    a,\n    b\n}\n"),
            ("f({\na\n})", "f({\n    a\n})\n"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn comments() {
        for (text, expected) in [
            ("// a\n\n\n//b \nx", "// a\n\n//b\nx\n"),
            ("main {\n// a\nx // b\n// c\n}", "main {\n    // a\n    x  // b\n    // c\n}\n"),
            ("a // 1\nbcd   // 2\n\ne // 3", "a    // 1\nbcd  // 2\n\ne  // 3\n"),
            ("a +\n// why\nb", "a +\n    // why\n    b\n"),
            ("f(a\n// why\n)", "f(a\n    // why\n)\n"),
            ("f( // why\na)", "f(  // why\n    a)\n"),
            ("if a { b }\n// why\nelse { c }", "if a { b }\n// why\nelse { c }\n"),
            ("x /* a \n  b */\ny", "x /* a\n  b */\ny\n"),
            ("x\n\n/* a */ /* b */ y", "x\n\n/* a */ /* b */ y\n"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn errors() {
        let diagnostics = format(FileId(0), "let = 1\n/* x").unwrap_err();
        assert_eq!(diagnostics.len(), 2, "{diagnostics:?}");
    }
}
