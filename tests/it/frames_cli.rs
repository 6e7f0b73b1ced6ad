//! `kinora frames` against a live server: the files it leaves, what it says, and how it goes on after an interruption.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::frames::{ALL, Part, frames, header, parts, record};
use crate::server::{Server, later};

/// Runs `kinora frames STREAM ...` as a person with the admin token would.
fn kinora(url: &str, server: &Server, line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.arg("frames").args(line).env("KINORA_URL", url).env("KINORA_TOKEN", &server.admin);
    command.stdin(Stdio::null()).output().expect("run kinora")
}

/// Its lines of JSON.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it and expects success; its lines of JSON, if they were asked for.
fn fetched(server: &Server, line: &[&str]) -> Vec<Value> {
    let output = kinora(&server.http, server, line);
    assert!(output.status.success(), "{line:?}: {}", said(&output));
    if line.contains(&"--json") { lines(&output) } else { Vec::new() }
}

/// Runs it and expects failure with these words.
fn refused(server: &Server, line: &[&str], words: &[&str]) {
    let output = kinora(&server.http, server, line);
    assert!(!output.status.success(), "{line:?}");
    for word in words {
        assert!(said(&output).contains(word), "{line:?} says {word}: {}", said(&output));
    }
}

/// Pictures of a folder by their names.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry"));
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let pictures = named.filter(|(name, _)| !name.starts_with('.'));
    pictures.map(|(name, path)| (name, std::fs::read(path).expect("read"))).collect()
}

/// The files that these pictures are to be.
fn expected(stream: &str, parts: &[Part]) -> BTreeMap<String, Vec<u8>> {
    let name = |part: &Part| format!("{stream}-{}.jpg", part.time().replace(['-', ':'], ""));
    parts.iter().map(|part| (name(part), part.body.clone())).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn pictures_become_files_named_by_their_time() {
    let server = Server::start();
    record(&server, &["bframes.mp4", "gop10.mp4"]);
    let all = parts(&frames(&server, "bframes", &format!("{ALL}&width=64")));
    let (from, to) = (all[0].time(), later(all[199].time(), 1));
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = |name: &str| temporary.path().join(name);

    // One: a file, its form by its name, or standard output.
    let newest = frames(&server, "bframes", "at=latest&format=png&width=64");
    let file = folder("now.png");
    let told = fetched(&server, &["bframes", "--at", "latest", "--width", "64", "-o", text(&file), "--json"]);
    assert_eq!(std::fs::read(&file).expect("a file"), newest.body);
    assert_eq!((told.len(), &told[0]["file"]), (1, &Value::from(text(&file))));
    assert_eq!((told[0]["time"].as_str(), told[0]["width"].as_u64()), (Some(all[199].time()), Some(64)));
    let piped = kinora(&server.http, &server, &["bframes", "--at", all[7].time(), "--width", "64", "-o", "-"]);
    assert_eq!(piped.stdout, all[7].body);

    // A range, at once and over several connections; sizes that a file does not tell are in its name.
    let whole = folder("whole");
    let range = ["bframes", "--from", from, "--to", &to, "--width", "64", "-o", text(&whole)];
    let told = fetched(&server, &[&range[..], &["--json"]].concat());
    assert_eq!(files(&whole), expected("bframes", &all));
    assert_eq!(told.len(), 200);
    let long = parts(&frames(&server, "gop10", &format!("{ALL}&width=64")));
    let (start, end) = (long[0].time(), later(long[long.len() - 1].time(), 1));
    let split = folder("split");
    let line = ["gop10", "--from", start, "--to", &end, "--width", "64", "--connections", "3", "-o", text(&split)];
    fetched(&server, &line);
    assert_eq!(files(&split), expected("gop10", &long), "{} pictures", long.len());
    let journal = std::fs::read_to_string(split.join(".gop10.frames.json")).expect("a journal");
    assert!(journal.matches("from_us").count() >= 2, "it was split: {journal}");
    let steps = folder("steps");
    let line =
        ["gop10", "--from", start, "--to", &end, "--every", "700ms", "--width", "64", "-o", text(&steps), "--json"];
    let told = fetched(&server, &line);
    let every = parts(&frames(&server, "gop10", &format!("from={start}&to={end}&every=700ms&width=64")));
    assert_eq!(files(&steps), expected("gop10", &every));
    assert_eq!(told.len(), every.len(), "none twice");
    let keys = folder("keys");
    fetched(
        &server,
        &["bframes", "--last", "3s", "--every", "key", "--format", "i420", "--width", "64", "-o", text(&keys)],
    );
    let found = files(&keys);
    assert_eq!(found.len(), 3);
    assert!(found.keys().all(|name| name.ends_with("Z-64x36.i420")), "{:?}", found.keys());

    // Instants: several, some of which are there already, and one where nothing is.
    let instants = folder("instants");
    let at = format!("{},{}", all[3].time(), all[5].time());
    let line = |at: &str, more: &[&'static str]| -> Output {
        let line = ["bframes", "--at", at, "--width", "64", "-o", text(&instants)];
        kinora(&server.http, &server, &[&line[..], more].concat())
    };
    assert!(line(&at, &[]).status.success());
    let again = line(&format!("{at},{}", all[9].time()), &["--json"]);
    assert_eq!(lines(&again).iter().map(|line| line["time"].as_str()).collect::<Vec<_>>(), [Some(all[9].time())]);
    assert_eq!(lines(&line(&at, &["--json", "--force"])).len(), 2);
    let beyond = later(all[199].time(), 3600);
    let part = line(&format!("{beyond},{},{}", all[11].time(), all[12].time()), &["--json"]);
    assert_eq!(part.status.code(), Some(1), "one of them is missing");
    assert!(said(&part).contains(&beyond) && said(&part).contains(all[199].time()), "{}", said(&part));
    assert_eq!(lines(&part).iter().filter(|line| line["error"]["code"] == "no_media").count(), 1);
    assert_eq!(files(&instants).len(), 5);

    // What cannot be.
    let out = folder("none");
    refused(&server, &["bframes", "--at", &beyond, "-o", text(&out)], &["nothing is recorded", all[199].time()]);
    refused(&server, &["bframes", "--from", &beyond, "--to", &later(&beyond, 9), "-o", text(&out)], &["nothing is"]);
    refused(&server, &["nobody", "--from", from, "--to", &to, "-o", text(&out)], &["kinora stream ls"]);
    refused(&server, &["nobody", "--at", "latest", "-o", text(&out)], &["kinora stream ls"]);
    refused(&server, &["bframes", "--at", "tomorrow", "-o", text(&out)], &["tomorrow", "RFC 3339"]);
    refused(&server, &["bframes", "--from", &to, "--to", from, "-o", text(&out)], &["not before"]);
    refused(&server, &["bframes", "--from", from, "--to", &to, "-o", "-"], &["folder"]);
    refused(&server, &["bframes", "--at", from, "--last", "5m"], &["cannot be used with"]);
    refused(&server, &["bframes"], &["required"]);
    assert!(!out.exists(), "nothing is left behind by what failed");

    // An interrupted range goes on: what is there is not fetched again.
    let before = files(&whole);
    let journal = whole.join(".bframes.frames.json");
    let kept = std::fs::read_to_string(&journal).expect("a journal");
    let late: Vec<&String> = before.keys().skip(150).collect();
    late.iter().for_each(|name| std::fs::remove_file(whole.join(name)).expect("removed"));
    let newest = before.keys().nth(149).expect("a picture");
    let mut kept: Value = serde_json::from_str(&kept).expect("JSON");
    let last = &mut kept["stretches"][0]["last"];
    assert_eq!(last["file"].as_str(), before.keys().last().map(String::as_str), "it is of the last picture");
    let time: jiff::Timestamp = all[149].time().parse().expect("a time");
    *last = serde_json::json!({"time_us": time.as_microsecond(), "file": newest});
    std::fs::write(&journal, kept.to_string()).expect("written");
    let told = fetched(&server, &[&range[..], &["--json"]].concat());
    assert_eq!(told.len(), 50, "those alone that were missing");
    assert_eq!(files(&whole), before);
    assert_eq!(fetched(&server, &[&range[..], &["--json"]].concat()).len(), 0, "all is there");
    assert_eq!(fetched(&server, &[&range[..], &["--json", "--force"]].concat()).len(), 200);
    answers_that_break_off(&server, &all, &folder("torn"));
}

/// A connection that ends amid a picture costs this picture, not the range.
fn answers_that_break_off(server: &Server, all: &[Part], folder: &Path) {
    let (url, connections) = torn(&server.http, 100_000);
    let to = later(all[199].time(), 1);
    let line = ["bframes", "--from", all[0].time(), "--to", &to, "--width", "64", "-o", text(folder), "--json"];
    let output = kinora(&url, server, &line);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(files(folder), expected("bframes", all));
    assert_eq!(lines(&output).len(), 200, "none twice");
    assert!(connections.load(Ordering::Relaxed) >= 3, "it was cut off and went on");
    assert_eq!(header(&frames(server, "bframes", "at=latest&width=64"), "kinora-exact"), "true");
}

/// A way to the server on which each connection ends after so many bytes of answers; its address, and how many there were.
fn torn(server: &str, bytes: u64) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = server.strip_prefix("http://").expect("plain").to_owned();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, server) = (client.expect("a client"), server.clone());
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                let server = TcpStream::connect(server).expect("the server");
                let (mut requests, mut to) =
                    (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = requests.read(&mut buffer) {
                        if to.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
                let _ = std::io::copy(&mut server.take(bytes), &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (format!("http://{address}"), count)
}
