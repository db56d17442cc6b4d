//! llguidance's errors for people: one line without its internals, of bounded length, the place in words.

/// Maximum length of a message.
const MAX_CHARS: usize = 320;

/// Start of the part that draws a regular expression; the line with the problem comes later.
const DRAWN: &str = "regex parse error:";

/// Separator between a regular expression, which may be long, and its problem.
const QUOTED: &str = "(in regex): ";

/// Start of the message for a reference out of the schema; the reference follows.
const OUTSIDE: &str = "Only absolute $ref's (#/...) are supported without 'referencing' feature; ref ";

/// The message in one line, without llguidance's details for developers, cut if it is long.
pub(crate) fn clean(message: &str) -> String {
    let end = ["\n<non-verbose/>", "\n<backtrace>", "\n<state>"].iter().filter_map(|mark| message.find(mark)).min();
    let message = message.get(..end.unwrap_or(message.len())).unwrap_or_default().trim();
    if let Some(panic) = message.strip_prefix("panic: ") {
        return short(&format!("it is more than the parser can handle ({})", panic.lines().next().unwrap_or_default()));
    }
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    let wrong = first.strip_suffix(DRAWN).and_then(|before| {
        let wrong = lines.find_map(|line| line.strip_prefix("error: "))?;
        Some(format!("{before}{wrong}"))
    });
    let line = wrong.unwrap_or_else(|| first.to_owned());
    if let Some(reference) = line.strip_prefix(OUTSIDE) {
        return short(&format!("`$ref` to {reference}: only references within the schema (#/…) can be followed"));
    }
    short(&match place(&line) {
        Some((line, column, problem)) => {
            let problem = problem.rsplit_once(QUOTED).map_or(problem, |(_, problem)| problem);
            format!("line {line}, column {column}: {problem}")
        }
        None => line,
    })
}

/// The message without its place, which says nothing for an expression inside a grammar of one line.
pub(crate) fn without_place(message: &str) -> &str {
    let rest = message.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    rest.map_or(message, |(_, problem)| problem)
}

/// The line, the column and the rest of a message that begins with `at 3(5): ` or `3(5): `.
fn place(message: &str) -> Option<(usize, usize, &str)> {
    let (place, problem) = message.strip_prefix("at ").unwrap_or(message).split_once("): ")?;
    let (line, column) = place.split_once('(')?;
    Some((line.parse().ok()?, column.parse().ok()?, problem))
}

fn short(line: &str) -> String {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_for_people() {
        let check = |message: &str, expected: &str| assert_eq!(clean(message), expected);
        check("no such rule\n<non-verbose/>", "no such rule");
        check("panic: index\n<backtrace>\n 0: f\n</backtrace>", "it is more than the parser can handle (index)");
        check("1(2): what\n   1 | x\n      ^\n", "line 1, column 2: what");
        check("at 12(3): unknown name: \"a\"\n", "line 12, column 3: unknown name: \"a\"");
        check("at EOF: more", "at EOF: more");
        check("f(x): y", "f(x): y");
        check("at 1(8): regex parse error:\n    (a\n    ^\nerror: unclosed group", "line 1, column 8: unclosed group");
        check("regex parse error:\n    (a", "regex parse error:");
        check("at 1(8): invalid regex \"(a\" (in regex): regex parse error:\n (a\nerror: no\n", "line 1, column 8: no");
        let reference = "Only absolute $ref's (#/...) are supported without 'referencing' feature; ref 'a.json'";
        check(reference, "`$ref` to 'a.json': only references within the schema (#/…) can be followed");
        check(&"é".repeat(321), &format!("{}…", "é".repeat(320)));
        check("a\tb", "a b");
        assert_eq!(without_place(&clean("at 1(8): no\n")), "no");
        assert_eq!(without_place("no: place"), "no: place");
    }
}
