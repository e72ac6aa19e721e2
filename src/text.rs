//! Text from files, made safe to print: a name in a file may hold characters that a terminal obeys.
//!
//! Names are escaped where they enter (the importer, the manifest of a result), so that what is printed is what a user types
//! to choose one. Errors escape all that they quote, and the command line escapes every line once more.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// Whether a terminal or a browser obeys a character instead of showing it: control characters (C0, C1, DEL), line and
/// paragraph separators, and those that change the direction of text.
fn is_obeyed(c: char) -> bool {
    let directs = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || directs || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A text on one line: each character that a terminal obeys stands as its number, `\u{1b}`. Other texts are left as they
/// are, and no two texts become the same.
///
/// ```
/// use hessblock::internals::text::escaped;
/// assert_eq!(escaped("fc1.weight"), "fc1.weight");
/// assert_eq!(escaped("fc1\u{1b}[31m\n"), "fc1\\u{1b}[31m\\u{a}");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    // What looks like an escape already is one too, or two names would become the same.
    if !text.contains(is_obeyed) && !text.contains("\\u{") {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        match c {
            '\\' if text[at..].starts_with("\\u{") => push_number(&mut plain, c),
            c if is_obeyed(c) => push_number(&mut plain, c),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// A sentence on one line, whose names may be escaped already: what a terminal obeys is escaped, once.
pub fn line(text: &str) -> Cow<'_, str> {
    without(text, is_obeyed)
}

/// A path on one line, whatever its name holds.
pub fn path(path: &Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

/// As [`line()`], but of several lines: line ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    without(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'))
}

fn without(text: &str, obeyed: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match obeyed(c) {
            true => push_number(&mut plain, c),
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// JSON that means the same, in which all that a terminal obeys is escaped as JSON does; line ends between its values stay.
pub fn json(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| is_obeyed(c) && !matches!(c, '\n' | '\t' | '\r');
    if !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut plain = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match obeyed(c) {
            // All of them are below 2^16, and stand in strings only.
            true => _ = write!(plain, "\\u{:04x}", c as u32),
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Escapes every string in a value, not the names of its fields.
pub(crate) fn escape_strings(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => escape(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(escape_strings),
        serde_json::Value::Object(map) => map.values_mut().for_each(escape_strings),
        _ => {}
    }
}

/// Escapes a text in its place.
pub(crate) fn escape(text: &mut String) {
    if let Cow::Owned(plain) = escaped(text) {
        *text = plain;
    }
}

fn push_number(text: &mut String, c: char) {
    let _ = write!(text, "\\u{{{:x}}}", c as u32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_nothing_else() {
        for plain in [
            "",
            "fc1.weight",
            "größe 层 ∇²ℓ",
            "C:\\users\\x",
            "a\\b",
            "👩‍💻",
        ] {
            assert!(matches!(escaped(plain), Cow::Borrowed(text) if text == plain));
        }
        let hostile = "a\u{1b}]0;x\u{7}\r\n\t\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}b";
        let plain = escaped(hostile);
        assert!(!plain.contains(is_obeyed), "{plain:?}");
        assert!(
            plain.starts_with("a\\u{1b}]0;x\\u{7}\\u{d}\\u{a}\\u{9}"),
            "{plain}"
        );
        assert_eq!(
            lines("two\nlines\tof\u{1b} text"),
            "two\nlines\tof\\u{1b} text"
        );
        assert_eq!(line("named \\u{1b}\n"), "named \\u{1b}\\u{a}");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{202e}\u{1b}\n", "plain"] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let plain = super::json(&text);
        assert!(!plain.contains(|c| is_obeyed(c) && c != '\n'));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&plain).unwrap(),
            value
        );
    }

    proptest! {
        #[test]
        fn no_two_texts_become_the_same(
            texts in prop::collection::vec("[ab\\\\u{}1\u{1b}\n\u{202e}]{0,8}", 2..40),
        ) {
            let mut known: HashMap<String, &str> = HashMap::new();
            for text in &texts {
                let earlier = known.insert(escaped(text).into_owned(), text);
                prop_assert!(earlier.is_none_or(|earlier| earlier == text));
            }
        }
    }
}
