//! The program as somebody who starts it by hand sees it.

use std::process::{Command, Stdio};

fn check(arguments: &[&str], said: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_kinora-decoder"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .expect("run it");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(said), "{arguments:?}: {text}");
}

#[test]
fn started_by_hand_it_says_who_starts_it() {
    check(&["--help"], "this program is started by kinora");
    check(&["transcode", "more"], "this program is started by kinora");
    check(&["transcode"], "standard input is not the server's socket");
    check(&[], "standard input is not the server's socket");
}
