//! Executes the table of rooms in `src/README.md`, and finds test files that nobody runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The table: room to the rooms it may use.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("src/README.md")).expect("src/README.md");
    let row = |line: &str| -> Option<(String, BTreeSet<String>)> {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let room = cells.next()?.trim().trim_end_matches('`').trim_end_matches('/').to_owned();
        let uses = cells.nth(1)?;
        let uses = uses.split(',').map(|word| word.trim().trim_matches('`').to_owned());
        Some((room, uses.filter(|word| !word.is_empty() && word != "nothing of ours").collect()))
    };
    let rooms = text.split("\n## ").find(|section| section.starts_with("Rooms")).expect("a section on rooms");
    rooms.lines().filter_map(row).collect()
}

/// Names that follow `prefix` in `text`, comments left out.
fn names_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(move |line| {
        line.match_indices(prefix).filter_map(move |(at, _)| {
            let before = line[..at].chars().next_back();
            let alone = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '.');
            let rest = &line[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            alone.then_some(&rest[..end])
        })
    })
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let table = table();
    let everybody: BTreeSet<String> = ["config", "telemetry"].map(str::to_owned).into();
    let rooms: BTreeSet<&str> = table.keys().map(String::as_str).collect();
    assert!(rooms.contains("live") && rooms.contains("store"), "the table is read: {rooms:?}");
    let mut wrong = Vec::new();
    for (room, allowed) in &table {
        for file in files(&root().join("src").join(room), "rs") {
            let text = std::fs::read_to_string(&file).expect("read a source file");
            let mut used: BTreeSet<&str> = names_after(&text, "crate::").filter(|name| rooms.contains(name)).collect();
            for leaf in ["media", "store"] {
                if names_after(&text, &format!("{leaf}::")).next().is_some() {
                    used.insert(leaf);
                }
            }
            for name in used {
                let is_leaf = ["media", "store", "decoder"].contains(&room.as_str());
                // A leaf crate knows no other crate of ours; what it calls `store` is a module of its own.
                let own = name == room || (is_leaf && name == "store");
                let shared = everybody.contains(name) && !is_leaf;
                if !own && !shared && !allowed.contains(name) {
                    wrong.push(format!("{} uses {name}", file.strip_prefix(root()).expect("inside").display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not in the table of src/README.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    let table = table();
    for entry in std::fs::read_dir(root().join("src")).expect("list src") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!path.is_dir() || name == "cli" || table.contains_key(&name), "src/{name} is not in the table");
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).expect("tests/it/main.rs");
    for file in files(&root().join("tests/it"), "rs") {
        let name = file.file_stem().expect("a stem").to_string_lossy().into_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "tests/it/{name}.rs is not run");
    }
    let golden = files(&root().join("tests/data"), "m3u8");
    let sources: String = files(&root().join("src"), "rs")
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("read a source file"))
        .collect();
    for file in golden {
        let name = file.file_stem().expect("a stem").to_string_lossy().into_owned();
        assert!(sources.contains(&name), "{} is read by no test", file.display());
    }
}

#[test]
fn every_fuzz_target_has_inputs_and_every_input_a_target() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let listed = std::fs::read_dir(folder).expect("list a folder");
        listed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let mut targets = BTreeSet::new();
    for room in ["src/fuzz.rs", "src/media/fuzz.rs", "src/store/fuzz.rs"] {
        let text = std::fs::read_to_string(root().join(room)).expect("read a source file");
        let table = text.split("pub const TARGETS").nth(1).and_then(|rest| rest.split("];").next());
        let rows = table.unwrap_or_else(|| panic!("no TARGETS in {room}")).split("(\"").skip(1);
        targets.extend(rows.filter_map(|row| row.split('"').next()).map(str::to_owned));
    }
    assert_eq!(names(root().join("tests/fuzz/corpus")), targets);
    let folders = targets.iter().map(|target| root().join("tests/fuzz/corpus").join(target));
    let inputs = folders.flat_map(|folder| std::fs::read_dir(folder).expect("list inputs"));
    let bytes: u64 = inputs.map(|input| input.expect("an entry").metadata().expect("a file").len()).sum();
    assert!(bytes < 100_000, "{bytes} bytes of inputs are more than a repository should carry");
}
