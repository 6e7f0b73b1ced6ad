//! Pictures that cannot be had, among others that can: damaged by who sent them, or on the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::clips::clip;
use crate::frames::{ALL, Part, frames, parts, record};
use crate::push::{Client, push};
use crate::server::{Answer, Server, later};

/// A copy of a clip of H.264 in which the slices of these pictures (counted in decode order) are no slices.
fn damage(from: &Path, to: &Path, pictures: &[usize]) {
    let mut bytes = std::fs::read(from).expect("a clip");
    let asked = "-v error -select_streams v -show_packets -show_entries packet=size,pos -of csv=p=0";
    let probed = Command::new("ffprobe").args(asked.split(' ')).arg(from).stdin(Stdio::null()).output();
    let text = String::from_utf8(probed.expect("run ffprobe").stdout).expect("text");
    let numbers = |row: &str| row.split(',').map(|number| number.parse().expect("a number")).collect::<Vec<usize>>();
    let rows: Vec<Vec<usize>> = text.lines().map(numbers).collect();
    for picture in pictures {
        let (size, mut at) = (rows[*picture][0], rows[*picture][1]);
        let end = at + size;
        while at < end {
            let length = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
            let unit = &mut bytes[at + 4..at + 4 + length];
            if matches!(unit[0] & 31, 1 | 5) {
                // It begins with the first macroblock, as it should, and has no type.
                unit[1..].fill(0);
                unit[1] = 0x80;
            }
            at += 4 + length;
        }
    }
    std::fs::write(to, bytes).expect("written");
}

fn lines(server: &Server, stream: &str, query: &str) -> Vec<Value> {
    let request = ureq::get(format!("{}/v1/streams/{stream}/frames?{query}", server.http));
    let request = request.header("authorization", format!("Bearer {}", server.admin));
    let mut answer = request.header("accept", "application/x-ndjson").call().expect("an answer");
    let text = answer.body_mut().with_config().limit(256 << 20).read_to_string().expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn code(part: &Part) -> Option<String> {
    let is_error = part.headers["content-type"] == "application/json";
    let error: Value = is_error.then(|| serde_json::from_slice(&part.body).expect("JSON"))?;
    Some(error["error"]["code"].as_str().expect("a code").to_owned())
}

fn codes(answer: &Answer) -> Vec<Option<String>> {
    parts(answer).iter().map(code).collect()
}

/// Where the record of a fragment begins in a block.
fn record_of(block: &[u8], fragment: usize) -> usize {
    let mark = b"kinora.recordbox";
    let records = (0..block.len() - mark.len()).filter(|at| block[*at..].starts_with(mark));
    records.map(|at| at - 8).nth(fragment).expect("as many fragments")
}

/// Runs `kinora frames`.
fn kinora(server: &Server, folder: &Path, line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.arg("frames").args(line).arg("-o").arg(folder);
    command.env("KINORA_URL", &server.http).env("KINORA_TOKEN", &server.admin);
    command.stdin(Stdio::null()).output().expect("run kinora")
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry"));
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named
        .filter(|(name, _)| !name.starts_with('.'))
        .map(|(name, path)| (name, std::fs::read(path).expect("read")))
        .collect()
}

/// In decode order: a picture that no other needs, and a key frame; both as they are counted in the order of their times.
const DISPOSABLE: (usize, usize) = (53, 51);
const KEY: (usize, usize) = (100, 100);

#[test]
fn a_picture_that_cannot_be_decoded_costs_only_itself_and_what_depends_on_it() {
    let server = Server::start();
    record(&server, &["bframes.mp4"]);
    let whole = parts(&frames(&server, "bframes", &format!("{ALL}&format=i420")));
    let temporary = tempfile::tempdir().expect("a folder");
    let file = temporary.path().join("broken.mp4");
    damage(&clip("bframes.mp4"), &file, &[DISPOSABLE.0, KEY.0]);
    let secret = server.publish_secret();
    push(Client::Kinora, "tcp", &file, &server.push_url(&secret, "broken"), &secret);
    server.wait_idle("broken");

    // Every picture has its part, in the order of their times.
    let given = parts(&frames(&server, "broken", &format!("{ALL}&format=i420")));
    assert_eq!(given.len(), whole.len());
    assert!(given.windows(2).all(|pair| pair[0].time() < pair[1].time()), "in time order");
    let lost: Vec<usize> = (0..given.len()).filter(|at| code(&given[*at]).is_some()).collect();
    assert!(lost.contains(&DISPOSABLE.1) && lost.contains(&KEY.1), "{lost:?}");
    // A second is between key frames.
    let may_be_lost = |at: &usize| *at == DISPOSABLE.1 || (KEY.1..KEY.1 + 25).contains(at);
    assert!(lost.iter().all(may_be_lost), "{lost:?}");
    for (at, (given, whole)) in given.iter().zip(&whole).enumerate() {
        match code(given) {
            Some(code) => assert_eq!(code, "decoder_failed", "picture {at}"),
            None if may_be_lost(&at) => {}
            None => assert!(given.body == whole.body, "picture {at} is what it was"),
        }
    }
    // As lines, as steps of a range, as key frames, as instants.
    let told = lines(&server, "broken", &format!("{ALL}&width=16"));
    let missing = |line: &Value| (line["error"]["code"] == "decoder_failed").then(|| line["time"].clone());
    let expected: Vec<Value> = lost.iter().map(|at| given[*at].time().into()).collect();
    assert_eq!(told.iter().filter_map(missing).collect::<Vec<_>>(), expected);
    assert_eq!(told.len(), whole.len());
    let failed = || Some("decoder_failed".to_owned());
    let keys = frames(&server, "broken", &format!("{ALL}&every=key&width=16"));
    let expected = |at: usize| (at * 25 == KEY.1).then(failed).flatten();
    assert_eq!(codes(&keys), (0..8).map(expected).collect::<Vec<_>>());
    let time = |at: usize| given[at].time();
    let (lost_at, next) = (time(DISPOSABLE.1), time(DISPOSABLE.1 + 1));
    let instants = parts(&frames(&server, "broken", &format!("at={lost_at},{next}&width=16")));
    assert_eq!(instants.iter().map(code).collect::<Vec<_>>(), [failed(), None]);
    assert_eq!((instants[0].headers["kinora-asked"].as_str(), instants[0].time()), (lost_at, lost_at));
    let steps = frames(&server, "broken", &format!("from={lost_at}&to={}&every=1s&width=16", later(lost_at, 1)));
    assert_eq!(codes(&steps), [failed()], "the only one is missing, and nothing is wrong with the request");
    let alone = frames(&server, "broken", &format!("at={lost_at}"));
    assert_eq!((alone.status, alone.json()["error"]["code"].as_str()), (500, Some("decoder_failed")));
    let cut = frames(&server, "broken", &format!("{ALL}&crop=9000,0,1,1"));
    assert_eq!((cut.status, cut.json()["error"]["code"].as_str()), (400, Some("bad_request")), "it is of all of them");

    // As files: what there is, and what is missing by name.
    let folder = temporary.path().join("pictures");
    let end = later(time(given.len() - 1), 1);
    let line = ["broken", "--from", time(0), "--to", &end, "--width", "16"];
    let output = kinora(&server, &folder, &line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(files(&folder).len(), given.len() - lost.len());
    assert!(lost.iter().all(|at| said.contains(time(*at))), "{said}");
    assert!(said.contains("cannot be decoded"), "{said}");
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(summary.contains(&format!("{} times there was none", lost.len())), "{summary}");
    // Once more: those alone are asked for, and are missing still.
    let output = kinora(&server, &folder, &[&line[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut again: Vec<&str> =
        told.iter().filter_map(|line| line["error"].as_object().and(line["time"].as_str())).collect();
    again.sort_unstable();
    assert_eq!(again, lost.iter().map(|at| time(*at)).collect::<Vec<_>>());
    assert_eq!(told.len(), lost.len(), "nothing else: {text}");
}

#[test]
fn stored_bytes_that_are_damaged_cost_their_fragment_until_they_are_whole_again() {
    let temporary = tempfile::tempdir().expect("a folder");
    let data = temporary.path().join("data");
    let mut server = Server::start_in(&data, "");
    record(&server, &["bframes.mp4"]);
    let query = format!("{ALL}&width=16");
    let all = parts(&frames(&server, "bframes", &query));
    let fragments = server.fragments("bframes");
    assert!(server.stop());
    // The header of a fragment in the middle of a block says another checksum.
    let block = server.blocks_of("bframes").swap_remove(0);
    let whole = std::fs::read(&block).expect("a block");
    let third = record_of(&whole, 2);
    let mut torn = whole.clone();
    torn[third + 136] ^= 1;
    std::fs::write(&block, &torn).expect("written");

    let server_of = |server: Server| {
        drop(server);
        Server::start_in(&data, "")
    };
    server = server_of(server);
    let given = parts(&frames(&server, "bframes", &query));
    let (lost, rest): (Vec<&Part>, Vec<&Part>) = given.iter().partition(|part| code(part).is_some());
    assert_eq!(lost.len(), 1, "nobody can tell how many pictures are in it");
    assert_eq!(code(lost[0]).as_deref(), Some("media_damaged"));
    let (from, until) = (lost[0].time(), lost[0].headers["kinora-until"].as_str());
    assert_eq!(from, fragments[2]["producer_time"]);
    let is_outside = |part: &&Part| part.time() < from || part.time() >= until;
    let expected: Vec<&str> = all.iter().filter(is_outside).map(Part::time).collect();
    assert_eq!(rest.iter().map(|part| part.time()).collect::<Vec<_>>(), expected);
    assert_eq!(expected.len(), 175, "a second of pictures is missing");

    let folder = temporary.path().join("pictures");
    let end = later(all[all.len() - 1].time(), 1);
    let line = ["bframes", "--from", all[0].time(), "--to", &end, "--width", "16"];
    let output = kinora(&server, &folder, &line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("no pictures from {from} to {until}: ")) && said.contains("damaged"), "{said}");
    assert_eq!(files(&folder).len(), 175);

    // From a copy that is whole the same command has the others, and them alone.
    assert!(server.stop());
    std::fs::write(&block, &whole).expect("written");
    server = server_of(server);
    let output = kinora(&server, &folder, &[&line[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 25);
    let expected: Vec<&[u8]> = all.iter().map(|part| &part.body[..]).collect();
    assert!(files(&folder).values().map(Vec::as_slice).eq(expected), "all pictures are there, in their order");
    let output = kinora(&server, &folder, &[&line[..], &["--json"]].concat());
    assert!(output.status.success() && output.stdout.is_empty(), "nothing is left to do");
}

#[test]
fn a_bit_that_fell_over_on_the_disk_makes_no_picture_that_is_wrong() {
    let temporary = tempfile::tempdir().expect("a folder");
    let data = temporary.path().join("data");
    let mut server = Server::start_in(&data, "");
    // Open GOPs: the first pictures of a fragment are made of the one before, too.
    record(&server, &["leading.mp4"]);
    let query = format!("{ALL}&format=i420");
    let all = parts(&frames(&server, "leading", &query));
    let fragment = all[60].headers["kinora-fragment"].clone();
    let numbers = server.fragments("leading");
    let third = numbers.iter().position(|one| one["number"].as_str() == Some(&fragment)).expect("it is listed");
    assert!(server.stop());
    let block = server.blocks_of("leading").swap_remove(0);
    let mut bytes = std::fs::read(&block).expect("a block");
    let at = record_of(&bytes, third);
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    // The pictures are first in a body, and most of it.
    let middle = at + number(at) + number(at + 132) / 2;
    bytes[middle] ^= 4;
    std::fs::write(&block, &bytes).expect("written");

    drop(server);
    server = Server::start_in(&data, "");
    // The key frame is the first of the fragment: other bytes are damaged, and nothing is made of it nevertheless.
    let is_key = |part: &&Part| part.headers["kinora-key"] == "true" && part.headers["kinora-fragment"] == fragment;
    let key = all.iter().find(is_key).expect("a key frame").time();
    let alone = frames(&server, "leading", &format!("at={key}&pick=key"));
    assert_eq!((alone.status, alone.json()["error"]["code"].as_str()), (500, Some("media_damaged")));
    drop(server);
    server = Server::start_in(&data, "");
    let given = parts(&frames(&server, "leading", &query));
    assert_eq!(given.len(), all.len(), "each has its part");
    let mut lost_after = 0;
    for (given, whole) in given.iter().zip(&all) {
        assert_eq!(given.time(), whole.time());
        match code(given) {
            Some(code) => assert_eq!(code, "media_damaged"),
            None => {
                assert!(given.body == whole.body && given.headers == whole.headers, "{} is what it was", whole.time())
            }
        }
        let is_of_it = whole.headers["kinora-fragment"] == fragment;
        assert!(code(given).is_some() || !is_of_it, "{} is of the damaged fragment", whole.time());
        lost_after += usize::from(code(given).is_some() && !is_of_it);
    }
    assert!((1..=3).contains(&lost_after), "those before the next key frame, and no others: {lost_after}");
}
