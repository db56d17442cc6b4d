//! Results of tests as JUnit XML.

use std::fmt::Write;
use std::time::Duration;

/// A test that was run.
pub(crate) struct Case {
    /// The name of its file.
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) time: Duration,
    /// Why it failed; `None`: it passed.
    pub(crate) failure: Option<String>,
}

/// The cases as one document, a suite for each file.
pub(crate) fn text(cases: &[Case]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in cases.chunk_by(|a, b| a.file == b.file) {
        let file = suite.first().map_or("", |case| &case.file);
        let failures = suite.iter().filter(|case| case.failure.is_some()).count();
        let seconds: f64 = suite.iter().map(|case| case.time.as_secs_f64()).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" time=\"{seconds:.6}\">",
            escaped(file),
            suite.len()
        );
        for case in suite {
            let (name, seconds) = (escaped(&case.name), case.time.as_secs_f64());
            let _ = write!(text, "    <testcase classname=\"{}\" name=\"{name}\" time=\"{seconds:.6}\"", escaped(file));
            let _ = match &case.failure {
                None => writeln!(text, "/>"),
                Some(failure) => {
                    let message = escaped(failure.lines().next().unwrap_or(""));
                    writeln!(
                        text,
                        ">\n      <failure message=\"{message}\">{}</failure>\n    </testcase>",
                        escaped(failure)
                    )
                }
            };
        }
        text.push_str("  </testsuite>\n");
    }
    text + "</testsuites>\n"
}

/// The text with what XML reserves written as entities. What XML cannot hold becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let case = |file: &str, name: &str, failure: Option<&str>| Case {
            file: file.to_owned(),
            name: name.to_owned(),
            time: Duration::from_millis(1500),
            failure: failure.map(str::to_owned),
        };
        let text =
            text(&[case("a.tl", "1 < 2", None), case("a.tl", "b", Some("no\u{1b}\n\"&\"")), case("c.tl", "d", None)]);
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
             <testsuite name=\"a.tl\" tests=\"2\" failures=\"1\" time=\"3.000000\">\n    \
             <testcase classname=\"a.tl\" name=\"1 &lt; 2\" time=\"1.500000\"/>\n    \
             <testcase classname=\"a.tl\" name=\"b\" time=\"1.500000\">\n      \
             <failure message=\"no\u{fffd}\">no\u{fffd}\n&quot;&amp;&quot;</failure>\n    </testcase>\n  </testsuite>\n  \
             <testsuite name=\"c.tl\" tests=\"1\" failures=\"0\" time=\"1.500000\">\n    \
             <testcase classname=\"c.tl\" name=\"d\" time=\"1.500000\"/>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
