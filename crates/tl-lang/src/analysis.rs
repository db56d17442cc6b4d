//! What editors ask of a program: its errors, and what the names in its text mean.

use tl_syntax::{Diagnostic, SourceMap};

use crate::check::{Mention, check_for_editor};
use crate::host::Host;
use crate::library;
use crate::stack::{SMALL_STACK_BYTES, run_on_stack};
use crate::types::HandleKind;

/// A program as far as it could be understood.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Analysis {
    /// Errors and warnings, in the order of files and places.
    pub diagnostics: Vec<Diagnostic>,
    /// The names in all of its files, by their places.
    pub mentions: Vec<Mention>,
    /// The files; the first is the program's own.
    pub sources: SourceMap,
}

/// Checks a program with its tests, whatever is wrong with it.
pub fn analyze(name: &str, text: &str, host: &mut dyn Host) -> Analysis {
    let mut sources = SourceMap::new();
    let host = &mut *host;
    let checked = run_on_stack(&[SMALL_STACK_BYTES], &mut |_| {
        sources = SourceMap::new();
        Ok(check_for_editor(name, text, &mut *host, &mut sources))
    });
    match checked {
        Ok((diagnostics, mentions)) => Analysis { diagnostics, mentions, sources },
        Err(error) => Analysis { diagnostics: error.diagnostics, mentions: Vec::new(), sources: error.sources },
    }
}

/// The names of the fields and methods of values whose type has this name, such as `KvCache`.
pub fn members_of_type(name: &str) -> Vec<&'static str> {
    let Some(kind) = HandleKind::from_name(name) else { return Vec::new() };
    library::method_names(kind).into_iter().chain(library::field_names(kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::MentionKind;
    use crate::host::CapturedHost;

    /// Each name as `text@definition:type`; the definition as line and column.
    fn names(text: &str) -> Vec<String> {
        let analysis = analyze("a.tl", text, &mut CapturedHost::default());
        let shown = |mention: &Mention| {
            let name = text.get(mention.span.start as usize..mention.span.end as usize).unwrap();
            let at = mention.definition.map(|span| analysis.sources.describe(span)).unwrap_or_default();
            let kind = match mention.kind {
                MentionKind::Builtin => "builtin",
                MentionKind::Field => "field",
                MentionKind::Entity => "entity",
                MentionKind::Element => "element",
                MentionKind::Relation => "relation",
                MentionKind::Size => "size",
                MentionKind::Parameter => "parameter",
                MentionKind::Function => "function",
                MentionKind::Struct => "struct",
                MentionKind::InferredVariable => "let",
                MentionKind::Variable => "variable",
            };
            format!("{kind} {name}@{}:{}", at.trim_start_matches("a.tl:"), mention.ty)
        };
        analysis.mentions.iter().map(shown).collect()
    }

    #[test]
    fn names_of_relations() {
        let text = "entity P = {ann}\nrelation R(P)\nfact R(ann)\nrule S(x) <- R(x)\nprint(query S(y), R)";
        assert_eq!(
            names(text),
            [
                "entity P@1:8:",
                "element ann@1:13:",
                "relation R@2:10:bool[1]",
                "entity P@1:8:",
                "relation R@2:10:",
                "element ann@1:13:",
                "relation S@4:6:bool[1]",
                "variable x@4:16:",
                "relation R@2:10:bool[1]",
                "variable x@4:16:",
                "builtin print@:()",
                "relation S@4:6:bool[1]",
                "variable y@5:15:",
                "variable R@2:10:bool[1]"
            ]
        );
    }

    #[test]
    fn names_of_a_program() {
        let check = |text: &str, expected: &[&str]| assert_eq!(names(text), expected, "{text}");
        check(
            "let x = ones([2, 3])\nprint(x)",
            &[
                "let x@1:5:float16[2, 3]",
                "builtin ones@:float16[2, 3]",
                "builtin print@:()",
                "variable x@1:5:float16[2, 3]",
            ],
        );
        check(
            "fn f(x: float16[n, 2]) -> int { n }\nmain { f(ones([1, 2])) }",
            &[
                "function f@1:4:",
                "parameter x@1:6:float16[n, 2]",
                "size n@1:17:int",
                "variable n@1:17:int",
                "function f@1:4:int",
                "builtin ones@:float16[1, 2]",
            ],
        );
        // Once, although the loop's body is checked in several rounds; and in spite of the error.
        check(
            "let x = 1\nfor i in 0..2 { x = x + i }\nprint(y, buffer_stats().taken)",
            &[
                "let x@1:5:int",
                "variable i@2:5:int",
                "variable x@1:5:int",
                "variable x@1:5:int",
                "variable i@2:5:int",
                "builtin print@:()",
                "builtin buffer_stats@:buffer statistics",
                "field taken@:int",
            ],
        );
        check(
            "let a: int = 1\nfn f() -> int { a }\ntest \"t\" { let b = TensorBuffer::new().stats() }",
            &[
                "variable a@1:5:int",
                "function f@2:4:",
                "variable a@1:5:int",
                "let b@3:16:buffer statistics",
                "builtin new@:TensorBuffer",
                "builtin stats@:buffer statistics",
            ],
        );
    }
}
