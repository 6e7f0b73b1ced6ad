//! Writing answers: JSON for programs, columns for people.

use serde_json::Value;

use super::Common;

/// Prints `value` as JSON when that was asked for, else as `rows` under `heads`.
pub(super) fn answer(common: &Common, value: &Value, heads: &[&str], rows: &[Vec<String>]) {
    if common.json {
        println!("{}", serde_json::to_string_pretty(value).expect("a value is JSON"));
        return;
    }
    print!("{}", columns(heads, rows));
}

/// Rows under their heads, each column as wide as its widest cell.
fn columns(heads: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| rows.iter().map(|row| cell(row, column)).max().unwrap_or(0).max(head.len()))
        .collect();
    let mut out = String::new();
    let heads: Vec<String> = heads.iter().map(|head| head.to_uppercase()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (column, text) in row.iter().enumerate() {
            let pad = widths.get(column).copied().unwrap_or(0).saturating_sub(text.chars().count());
            line.push_str(text);
            line.extend(std::iter::repeat_n(' ', pad + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A text of the answer; `-` where there is none. What could steer a terminal is left out.
pub(super) fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A count of bytes for people.
pub(super) fn bytes(value: &Value) -> String {
    let Some(count) = value.as_u64() else { return text(value) };
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_terminals_are_not_steered() {
        let rows = [vec!["gate".into(), "live".into()], vec!["a-long-name".into(), "idle".into()]];
        assert_eq!(columns(&["name", "state"], &rows), "NAME         STATE\ngate         live\na-long-name  idle\n");
        assert_eq!(text(&Value::String("a\u{1b}[2Jb".into())), "a[2Jb");
    }
}
