//! Answers taken apart at every length, ranges cut without a hole, and journals that are not believed blindly.

use std::path::PathBuf;

use http::HeaderMap;
use serde_json::json;

use super::ask::{Every, Range};
use super::journal::Journal;
use super::parcels::{Content, Parcel, Parcels};
use super::parts::{Part, Stretch, Taken, of_instants, of_range};
use super::place::Place;

const BODY: &str = "--b\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\nkinora-time: 2026-05-01T08:00:00.000000Z\r\n\
    kinora-exact: true\r\nkinora-width: 64\r\n\r\n--b\r\n\r\n\r\n--b\r\nContent-Type: application/json\r\nContent-Length: 39\r\n\
    kinora-asked: 2026-05-01T09:00:00.000000Z\r\n\r\n{\"error\":{\"code\":\"no_media\",\"next\":null}}\r\n--b--\r\n";

fn several() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "multipart/mixed; boundary=b".parse().expect("a value"));
    headers
}

fn all(headers: &HeaderMap, body: &[u8]) -> std::io::Result<Vec<Parcel>> {
    let mut parcels = Parcels::new(headers, body)?;
    let mut found = Vec::new();
    while let Some(parcel) = parcels.next()? {
        found.push(parcel);
    }
    Ok(found)
}

#[test]
fn parts_are_cut_by_their_lengths() {
    let body = BODY.replace("Content-Length: 39", "Content-Length: 41");
    let found = all(&several(), body.as_bytes()).expect("parcels");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].content, Content::Picture(b"--b\r\n\r\n".to_vec()), "a picture may look like a boundary");
    assert_eq!(found[0].caption["time"], "2026-05-01T08:00:00.000000Z");
    assert_eq!((&found[0].caption["exact"], &found[0].caption["width"]), (&json!(true), &json!(64)));
    assert_eq!(found[1].content, Content::Missing(json!({"code": "no_media", "next": null})));
    for end in 0..body.len() - 2 {
        assert!(all(&several(), &body.as_bytes()[..end]).is_err(), "cut off at {end}");
    }
}

#[test]
fn one_picture_by_itself_is_whole_or_an_error() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "image/png".parse().expect("a value"));
    assert!(all(&headers, b"picture").is_err(), "nothing says how long it is");
    headers.insert("content-length", "7".parse().expect("a value"));
    headers.insert("kinora-damaged", "false".parse().expect("a value"));
    let found = all(&headers, b"picture").expect("a parcel");
    assert_eq!((found.len(), &found[0].content), (1, &Content::Picture(b"picture".to_vec())));
    assert_eq!(found[0].caption["damaged"], json!(false));
    assert!(all(&headers, b"pictur").is_err(), "cut off");
}

#[test]
fn what_a_server_says_is_bounded() {
    let check = |body: String| assert!(all(&several(), body.as_bytes()).is_err(), "{}", &body[..body.len().min(99)]);
    check(format!("--b\r\nContent-Length: {}\r\n\r\n", u64::MAX));
    check(format!("--b\r\nContent-Length: {}\r\n\r\n", 113 << 20));
    check(format!("--b\r\nx: {}\r\n\r\n", "y".repeat(20_000)));
    check(format!("--b\r\n{}\r\n", "x: y\r\n".repeat(5_000)));
    check("y".repeat(100_000));
    check("--b\r\nContent-Length: 3\r\n\r\nmore than that\r\n".to_owned());
    check("--b\r\nContent-Length: -3\r\n\r\n".to_owned());
    check("--c\r\n".to_owned());
    let mut headers = several();
    headers.insert("content-type", "multipart/mixed".parse().expect("a value"));
    assert!(all(&headers, b"").is_err(), "no boundary");
}

const SECOND: i64 = 1_000_000;

#[test]
fn ranges_are_cut_without_holes_and_on_their_steps() {
    let check = |to_s: i64, every: Every, recorded: Option<(i64, i64)>, connections: usize, at_least: usize| {
        let range = Range { from_us: 7, to_us: 7 + to_s * SECOND, every };
        let stretches = of_range(&range, recorded.map(|(from, to)| (from * SECOND, to * SECOND)), connections);
        assert_eq!((stretches[0].from_us, stretches[stretches.len() - 1].to_us), (range.from_us, range.to_us));
        assert!(stretches.windows(2).all(|pair| pair[0].to_us == pair[1].from_us), "no hole and no overlap");
        assert!(stretches.iter().all(|stretch| stretch.from_us < stretch.to_us), "none is empty");
        if let Every::Step(step_us) = every {
            assert!(stretches.iter().all(|stretch| (stretch.from_us - range.from_us) % step_us == 0), "on its steps");
        }
        assert!((at_least..=1_002).contains(&stretches.len()), "{} stretches", stretches.len());
    };
    let day = 86_400;
    check(day, Every::All, Some((0, day)), 2, 100);
    check(day, Every::Step(7 * SECOND), Some((0, day)), 2, 100);
    check(day, Every::Step(3_600 * SECOND), Some((0, day)), 2, 10);
    check(day, Every::Key, Some((day - 60, 2 * day)), 4, 4);
    check(1, Every::All, Some((0, day)), 4, 1);
    check(3_650 * day, Every::All, Some((0, 3_650 * day)), 16, 500);
    check(130 * 366 * day, Every::Step(1), None, 16, 1);
    check(day, Every::Step(200 * 366 * day * SECOND), Some((0, day)), 2, 1);
}

#[test]
fn instants_are_split_and_bounded() {
    let instants: Vec<i64> = (0..1_000).collect();
    let parts = of_instants(&instants, 2);
    assert_eq!(parts.len(), 5);
    let longest = parts.iter().filter_map(|part| part.query(None)).map(|query| query.len()).max();
    assert!(longest.is_some_and(|length| length < 8_000), "it fits a head: {longest:?}");
    assert_eq!(of_instants(&[5_000, 6_001], 4), [Part::At(vec![5_000]), Part::At(vec![6_001])]);
    assert_eq!(Part::At(vec![5_000, 6_001]).query(None).as_deref(), Some("at=5,1970-01-01T00:00:00.006001Z"));
    assert_eq!(of_instants(&[], 2), []);
}

#[test]
fn a_part_goes_on_behind_its_last_picture() {
    let stretch = |last: Option<i64>| {
        let last = last.map(|time_us| Taken { time_us, file: "x.jpg".into() });
        Stretch { last, ..Stretch::new(10 * SECOND, 20 * SECOND) }
    };
    let check = |every: Every, last: Option<i64>, expected: Option<&str>| {
        let range = Range { from_us: 0, to_us: 99 * SECOND, every };
        let part = Part::Range { number: 0, stretch: stretch(last) };
        assert_eq!(part.query(Some(&range)).as_deref(), expected);
    };
    check(Every::Key, None, Some("from=10000&to=20000&every=key"));
    check(Every::All, Some(12 * SECOND), Some("from=1970-01-01T00:00:12.000001Z&to=20000"));
    let step = Every::Step(2 * SECOND);
    check(step, None, Some("from=10000&to=20000&every=2000000us"));
    // The picture of an instant may be older than the instant, and than the part.
    check(step, Some(9_900_000), Some("from=10000&to=20000&every=2000000us"));
    check(step, Some(13_900_000), Some("from=14000&to=20000&every=2000000us"));
    check(step, Some(14_000_000), Some("from=16000&to=20000&every=2000000us"));
    check(step, Some(18_000_000), None);
}

#[test]
fn a_journal_is_of_one_question_and_of_files_that_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder { path: folder.path().to_owned(), stream: "gate".into() };
    let range = Range { from_us: 0, to_us: 20, every: Every::All };
    let open = |form: &str, anew: bool| Journal::of(&place, &range, form, anew).expect("a folder has a journal");
    let (journal, found) = open("all", false);
    assert_eq!(found, []);
    let stretch = |from_us: i64| Stretch::new(from_us, from_us + 10);
    journal.begin(&[stretch(0), stretch(10)]);
    journal.end().expect("written");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing taken, nothing left behind");
    let taken = |time_us: i64, file: &str| Taken { time_us, file: file.to_owned() };
    journal.take(0, taken(4, "a.jpg")).expect("taken");
    journal.take(1, taken(14, "b.jpg")).expect("taken");
    journal.end().expect("written");
    std::fs::write(folder.path().join("b.jpg"), b"").expect("written");
    let (_, found) = open("all", false);
    assert_eq!(found, [stretch(0), Stretch { last: Some(taken(14, "b.jpg")), ..stretch(10) }], "a.jpg is gone");
    assert_eq!(open("other", false).1, []);
    assert_eq!(open("all", true).1, []);
    std::fs::write(folder.path().join(".gate.frames.json"), b"{\"asked\": 7").expect("written");
    assert_eq!(open("all", false).1, []);
}

#[test]
fn what_was_missing_is_asked_for_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder { path: folder.path().to_owned(), stream: "gate".into() };
    let range = Range { from_us: 0, to_us: 100, every: Every::All };
    let open = || Journal::of(&place, &range, "", false).expect("a folder has a journal");
    let taken = |time_us: i64| {
        let file = format!("{time_us}.jpg");
        std::fs::write(folder.path().join(&file), b"").expect("written");
        Taken { time_us, file }
    };
    let again = |from_us: i64, to_us: i64| Stretch { again: true, ..Stretch::new(from_us, to_us) };
    let (journal, _) = open();
    journal.begin(&[Stretch::new(0, 50), Stretch::new(50, 100)]);
    journal.miss(0, 0, 1).expect("noted");
    journal.miss(0, 4, 9).expect("noted");
    journal.take(1, taken(60)).expect("taken");
    journal.take(0, taken(10)).expect("taken");
    journal.miss(0, 20, 21).expect("noted");
    journal.miss(1, 70, 71).expect("noted");
    journal.end().expect("written");
    let (journal, found) = open();
    let first = Stretch { last: Some(taken(10)), passed_us: Some(20), ..Stretch::new(0, 50) };
    let second = Stretch { last: Some(taken(60)), passed_us: Some(70), ..Stretch::new(50, 100) };
    assert_eq!(found, [first.clone(), second.clone(), again(0, 9), again(20, 21), again(70, 71)]);
    let rest = |stretch: &Stretch| stretch.rest_us(&range);
    assert_eq!(found.iter().map(rest).collect::<Vec<_>>(), [21, 71, 0, 20, 70], "and not the same twice");
    // One comes, one is missing still, one is not reached.
    journal.begin(&found);
    journal.take(3, taken(20)).expect("taken");
    journal.miss(2, 0, 1).expect("noted");
    journal.take(2, taken(4)).expect("taken");
    journal.miss(2, 8, 9).expect("noted");
    journal.end().expect("written");
    assert_eq!(open().1, [first.clone(), second, again(70, 71), again(0, 1), again(8, 9)]);
    // The file of one is gone: all behind it is asked for.
    std::fs::remove_file(folder.path().join("60.jpg")).expect("removed");
    assert_eq!(open().1[..2], [first, Stretch::new(50, 100)]);
}

#[test]
fn a_journal_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder { path: folder.path().to_owned(), stream: "gate".into() };
    let range = Range { from_us: 0, to_us: 1_000_000, every: Every::All };
    let open = || Journal::of(&place, &range, "", false).expect("a folder has a journal");
    let (journal, _) = open();
    journal.begin(&[Stretch::new(0, 1_000_000)]);
    std::fs::write(folder.path().join("x.jpg"), b"").expect("written");
    for time_us in 0..20_000 {
        journal.miss(0, 2 * time_us, 2 * time_us + 1).expect("noted");
        journal.take(0, Taken { time_us: 2 * time_us + 1, file: "x.jpg".into() }).expect("taken");
    }
    journal.end().expect("written");
    let (_, found) = open();
    assert_eq!(found.len(), 10_000);
    assert_eq!(found.last().map(|last| last.to_us), Some(39_999), "the last has all that is more");
}

#[test]
fn an_output_is_a_file_a_folder_or_standard_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("now.jpg");
    std::fs::write(&file, b"").expect("written");
    let of = |path: PathBuf, is_one: bool| match Place::new("gate/../x", &path, is_one) {
        Ok(Place::StandardOutput) => "standard output".to_owned(),
        Ok(Place::File(_)) => "file".to_owned(),
        Ok(Place::Folder { stream, .. }) => stream,
        Err(error) => error.to_string(),
    };
    assert_eq!(of("-".into(), true), "standard output");
    assert_eq!(of(file.clone(), true), "file");
    assert_eq!(of(folder.path().to_owned(), true), "gate_.._x");
    assert_eq!(of(folder.path().join("new"), false), "gate_.._x");
    assert!(of("-".into(), false).contains("folder"));
    assert!(of(file, false).contains("is a file"));
}
