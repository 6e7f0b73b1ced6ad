//! What WebRTC publishers send is what is recorded, picture by picture and tick by tick, on good ways and bad ones; and what
//! viewers get is what there is.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp::raw_packet::RawPacket;

use crate::clips::clip;
use crate::dice::Dice;
use crate::media_files::{packets, pictures};
use crate::peer::{Make, Peer, Unit, Way, units};
use crate::server::{Server, wait_for};
use crate::witness::Witness;

/// Between pictures: as quickly as a camera would ten times.
const PACE: Duration = Duration::from_millis(4);

/// Presentation times of what a stream holds, in ticks of RTP after the first.
fn recorded_ticks(server: &Server, stream: &str) -> Vec<i64> {
    let blocks = server.blocks_of(stream);
    assert_eq!(blocks.len(), 1, "{stream}: some seconds are one block");
    let packets = packets(blocks[0].to_str().expect("UTF-8"), 'v');
    packets.iter().map(|packet| ((packet.pts - packets[0].pts) * 90_000.0).round() as i64).collect()
}

fn ticks(units: &[Unit]) -> Vec<i64> {
    units.iter().map(|unit| i64::from(unit.timestamp.wrapping_sub(units[0].timestamp))).collect()
}

/// The same pictures, at the same times.
fn check_ticks(server: &Server, stream: &str, sent: &[Unit]) {
    let (recorded, sent) = (recorded_ticks(server, stream), ticks(sent));
    let missing: Vec<_> = sent.iter().enumerate().filter(|(_, tick)| !recorded.contains(tick)).collect();
    assert!(recorded == sent, "{stream}: {} recorded, {} sent, not recorded: {missing:?}", recorded.len(), sent.len());
}

fn hashes(file: &str) -> Vec<String> {
    pictures(file).into_iter().map(|(_, hash)| hash).collect()
}

/// Sends all of it and lets what is missing be asked for.
fn publish(server: &Server, stream: &str, units: &[Unit], make: Make, pace: Duration) -> Peer {
    let mut peer = Peer::publisher(server, &server.admin, stream, make);
    for unit in units {
        peer.send(unit, |_| true);
        peer.drive(pace, |_| false);
    }
    peer.drive(Duration::from_millis(1_000), |_| false);
    peer
}

#[test]
fn what_is_sent_is_recorded_with_its_times_and_nothing_else() {
    let server = Server::start();
    let file = clip("gop2.mp4");
    let units = units(&file);
    assert_eq!(units.len(), 200);
    let ways = [
        ("plain", Way::default()),
        ("random", Way { loss: 50, ..Way::default() }),
        ("bursts", Way { loss: 20, burst: 600, ..Way::default() }),
        ("swapped", Way { swap: 50, double: 50, ..Way::default() }),
        // What was lost comes again after more packets than SRTP must take out of order (64).
        ("far", Way { loss: 50, swap: 30, double: 30, delay: Duration::from_millis(80), ..Way::default() }),
    ];
    std::thread::scope(|scope| {
        for (seed, (stream, way)) in ways.into_iter().enumerate() {
            let (server, units, file) = (&server, &units, &file);
            scope.spawn(move || {
                let make = Make { way, seed: 1 + seed as u64, repairs: true };
                let peer = publish(server, stream, units, make, PACE);
                println!("{stream}: lost {:?} datagrams out and back", peer.lost());
                assert!(way.loss == 0 || peer.lost().0 > 20, "{stream}: {:?} were lost", peer.lost());
                peer.close();
                server.wait_idle(stream);
                check_ticks(server, stream, units);
                let block = server.blocks_of(stream).remove(0);
                let (sent, stored) = (hashes(file.to_str().expect("UTF-8")), hashes(block.to_str().expect("UTF-8")));
                assert!(sent == stored, "{stream}: {} pictures sent, {} stored", sent.len(), stored.len());
                let fragments = server.fragments(stream);
                assert!(fragments.iter().all(|fragment| fragment["damaged"] == false), "{stream}: {fragments:?}");
            });
        }
    });
}

#[test]
fn frames_that_were_not_delivered_are_those_that_are_missing() {
    let server = Server::start();
    let units = units(&clip("gop2.mp4"));
    let mut dice = Dice(0xdead);
    let mut peer = Peer::publisher(&server, &server.admin, "gaps", Make { repairs: false, ..Make::default() });
    let mut delivered = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        let before = peer.withheld.len();
        // The first picture comes whole, and so do the last ones: after them nothing would tell of a loss.
        let may_lose = at > 0 && at < units.len() - 5;
        peer.send(unit, |_| !(may_lose && dice.roll(20) == 0));
        if peer.withheld.len() == before {
            delivered.push(unit.clone());
        }
        peer.drive(PACE, |_| false);
    }
    peer.drive(Duration::from_millis(1_000), |_| false);
    let missing = units.len() - delivered.len();
    println!("{} packets withheld, {missing} pictures missing", peer.withheld.len());
    assert!(missing > 10, "{missing} pictures are missing");
    peer.close();
    server.wait_idle("gaps");
    check_ticks(&server, "gaps", &delivered);
    let fragments = server.fragments("gaps");
    assert!(fragments.iter().any(|fragment| fragment["damaged"] == true), "{fragments:?}");
    let breaks = fragments.iter().filter(|fragment| fragment["break_before"].is_string()).count();
    assert_eq!(breaks, 1, "it goes on without a break: {fragments:?}");
}

/// A camera over WHIP that films until `done`; counts the requests for key pictures.
fn camera(server: &Server, stream: &str, units: &[Unit], done: &AtomicBool, asked: &AtomicU64) {
    let mut peer = Peer::publisher(server, &server.admin, stream, Make::default());
    peer.film(units, |peer| {
        asked.store(peer.asked(), Ordering::Relaxed);
        !done.load(Ordering::Relaxed)
    });
    peer.close();
}

/// Ends what goes on until then, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until a stream can be watched.
fn wait_live(server: &Server, stream: &str) {
    wait_for(&format!("{stream} to be live"), Duration::from_secs(20), || {
        let answer = server.get(&format!("/v1/streams/{stream}"));
        (answer.status == 200 && answer.json()["tracks"].as_array().is_some_and(|tracks| !tracks.is_empty()))
            .then_some(())
    });
}

#[test]
fn a_viewer_that_asks_all_the_time_costs_the_publisher_two_requests_a_second() {
    const SECONDS: u64 = 4;
    let server = Server::start();
    let units = units(&clip("gop2.mp4"));
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = End(&done);
        scope.spawn(|| camera(&server, "asked", &units, &done, &asked));
        wait_live(&server, "asked");
        let mut other = Peer::viewer(&server, &server.admin, "asked", Make::default());
        let mut asking = Peer::viewer(&server, &server.admin, "asked", Make::default());
        assert!(asking.drive(Duration::from_secs(10), |peer| peer.pictures > 5), "it sees something");
        let (before, started) = (asked.load(Ordering::Relaxed), Instant::now());
        let storm = scope.spawn(move || {
            for _ in 0..SECONDS * 100 {
                asking.ask_for_key_pictures(10);
                asking.drive(Duration::from_millis(10), |_| false);
            }
            asking
        });
        other.drive(Duration::from_millis(500), |_| false);
        let seen = other.pictures;
        other.drive(Duration::from_secs(SECONDS - 1), |_| false);
        let seen = other.pictures - seen;
        let asking = storm.join().expect("it asks to the end");
        let asked = asked.load(Ordering::Relaxed) - before;
        let most = started.elapsed().as_millis() as u64 / 500 + 1;
        println!("{asked} requests of {most} came through, the other viewer saw {seen} pictures in {} s", SECONDS - 1);
        assert!((1..=most).contains(&asked), "{asked} requests in {:?}", started.elapsed());
        assert!(seen >= 24 * (SECONDS - 1), "the other viewer saw {seen} pictures");
        assert!(!asking.over && !other.over);
    });
}

#[test]
fn a_viewer_that_asks_a_camera_that_cannot_be_asked_gets_its_pictures_again_each_two_seconds_at_most() {
    let server = Server::start();
    let _witness = Witness::start(&server);
    let mut viewer = Peer::viewer(&server, &server.admin, "witness", Make::default());
    assert!(viewer.drive(Duration::from_secs(10), |peer| peer.pictures > 30), "it sees something");
    let (before, since) = (viewer.pictures, Instant::now());
    for _ in 0..400 {
        viewer.ask_for_key_pictures(10);
        viewer.drive(Duration::from_millis(10), |_| false);
    }
    // On a machine with much to do these rounds take longer, and more pictures come.
    let (seen, seconds) = (viewer.pictures - before, since.elapsed().as_secs_f64());
    let (live, again) = ((25.0 * seconds) as u64, (seconds / 2.0) as u64 + 1);
    println!("{seen} pictures, {live} of them live, the others sent again");
    // Each time at most the 25 pictures since the last key picture.
    assert!((live * 9 / 10..=live + again * 25 + 25).contains(&seen), "{seen} pictures in {seconds} s");
    assert!(!viewer.over);
}

#[test]
fn a_viewer_on_a_bad_way_gets_what_was_lost_again() {
    let server = Server::start();
    let _witness = Witness::start(&server);
    for (seed, way) in [
        Way { loss: 50, ..Way::default() },
        Way { loss: 20, burst: 600, delay: Duration::from_millis(40), ..Way::default() },
    ]
    .into_iter()
    .enumerate()
    {
        let make = Make { way, seed: 7 + seed as u64, repairs: true };
        let mut viewer = Peer::viewer(&server, &server.admin, "witness", make);
        viewer.drive(Duration::from_secs(6), |_| false);
        let (missing, lost) = (viewer.missing(), viewer.lost().1);
        println!("{way:?}: {lost} datagrams lost, {missing} packets missing of {}", viewer.packets);
        assert!(lost > 10 && viewer.pictures >= 140);
        assert_eq!(missing, 0, "{way:?}");
    }
}

#[test]
fn a_check_that_is_sent_again_from_elsewhere_moves_no_media() {
    let server = Server::start();
    let _witness = Witness::start(&server);
    let mut viewer = Peer::viewer(&server, &server.admin, "witness", Make::default());
    assert!(viewer.drive(Duration::from_secs(10), |peer| peer.pictures > 3), "it sees something");
    let recorded = viewer.nomination.clone().expect("it chose a way");
    let thief = UdpSocket::bind("127.0.0.1:0").expect("a port");
    thief.set_nonblocking(true).expect("a socket");
    let before = viewer.pictures;
    for _ in 0..10 {
        thief.send_to(&recorded, viewer.server).expect("sent");
        viewer.drive(Duration::from_millis(150), |_| false);
    }
    let (seen, mut stolen, mut buffer) = (viewer.pictures - before, 0, [0; 2_048]);
    while let Ok(length) = thief.recv(&mut buffer) {
        // Checks of the server's own, which only who has the password can answer.
        stolen += usize::from(length > 0 && buffer[0] > 3);
    }
    assert_eq!(stolen, 0, "packets of the viewer's came to the thief");
    assert!(seen >= 25, "{seen} pictures in 1.5 s");
}

#[test]
fn sessions_that_lie_in_their_reports_change_nothing() {
    let server = Server::start();
    let _witness = Witness::start(&server);
    let mut other = Peer::viewer(&server, &server.admin, "witness", Make::default());
    let mut lying = Peer::viewer(&server, &server.admin, "witness", Make::default());
    lying.drive(Duration::from_millis(500), |_| false);
    let goodbye = [&[0x81, 203, 0, 1][..], &0xdead_beef_u32.to_be_bytes()].concat();
    let blocks = [&[0x9f, 201, 0, 187][..], &[7; 4 * 187]].concat();
    let cases: [&[u8]; 9] = [
        &goodbye,
        &blocks,
        // Lengths that lie: of a report, of a compound, of report blocks that are not there.
        &[0x80, 201, 0xff, 0xff, 0, 0, 0, 1],
        &[0x9f, 201, 0, 1, 0, 0, 0, 1],
        &[&goodbye[..], &[0x81, 200, 0x7f, 0xff, 1, 2, 3, 4]].concat(),
        &[0x80, 201, 0, 0],
        // NACKs of everything, a FIR with half an entry, an unknown kind.
        &[&[0x81, 205, 0, 62][..], &[1; 4 * 62]].concat(),
        &[0x84, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4],
        &[0x8f, 219, 0, 1, 0, 0, 0, 1],
    ];
    for bytes in cases {
        for _ in 0..20 {
            lying.send_report(Box::new(RawPacket(Bytes::copy_from_slice(bytes))));
        }
        lying.drive(Duration::from_millis(50), |_| false);
    }
    let (mine, theirs) = (lying.pictures, other.pictures);
    assert!(lying.drive(Duration::from_secs(5), |peer| peer.pictures > mine + 20), "it is shown on");
    assert!(other.drive(Duration::from_secs(5), |peer| peer.pictures > theirs + 20), "so is the other");
    assert!(!server.log().contains("panicked"));
}
