//! Patterns of stream names: literal text, and `*` for any run of characters.

/// Longest pattern.
const LENGTH_MAX: usize = 256;

/// Whether `pattern` is one: 1 to 256 of the characters of stream names, and `*`.
pub(super) fn is_valid(pattern: &str) -> bool {
    (1..=LENGTH_MAX).contains(&pattern.len())
        && pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte))
}

/// Whether `name` fits. At most `pattern * name` steps, whatever the two are.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut from) = (0, 0);
    // The last star, and where in the name the rest after it is tried.
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, from));
            at += 1;
        } else if pattern.get(at) == Some(&name[from]) {
            at += 1;
            from += 1;
        } else if let Some((after, tried)) = star {
            star = Some((after, tried + 1));
            (at, from) = (after, tried + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run_and_nothing_else_does() {
        let check = |pattern, yes: &[&str], no: &[&str]| {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        };
        check("gate", &["gate"], &["Gate", "gate-2", "", "gat"]);
        check("gate-*", &["gate-", "gate-2", "gate-2-north"], &["gate", "xgate-2"]);
        check("*", &["", "a"], &[]);
        check("*-north", &["gate-north", "-north", "a-north-north"], &["gate-north2"]);
        check("a*b*c", &["abc", "axxbxxc", "abcbc"], &["ab", "acb", "abcd"]);
        check("a.c", &["a.c"], &["abc"]);
        let hostile = "a*".repeat(127) + "b";
        assert!(is_valid(&hostile) && !matches(&hostile, &"a".repeat(256)));
        assert!(matches(&hostile, &("a".repeat(255) + "b")));
    }

    #[test]
    fn patterns_have_the_characters_of_names() {
        assert!(is_valid("gate-*") && is_valid("*") && is_valid("a"));
        assert!(!is_valid("") && !is_valid("a/b") && !is_valid("a b") && !is_valid("é") && !is_valid(&"a".repeat(257)));
    }
}
