//! Offers as clients send them (`tests/data/webrtc`), and what is made of them.

use std::time::Instant;

use super::*;

const OFFERS: [(&str, &[u8]); 7] = [
    ("chromium-publish", include_bytes!("../../../tests/data/webrtc/chromium-publish.sdp")),
    ("chromium-layers", include_bytes!("../../../tests/data/webrtc/chromium-layers.sdp")),
    ("chromium-view", include_bytes!("../../../tests/data/webrtc/chromium-view.sdp")),
    ("aiortc-publish", include_bytes!("../../../tests/data/webrtc/aiortc-publish.sdp")),
    ("aiortc-unbundled", include_bytes!("../../../tests/data/webrtc/aiortc-unbundled.sdp")),
    ("firefox-like-view", include_bytes!("../../../tests/data/webrtc/firefox-like-view.sdp")),
    ("obs-like-publish", include_bytes!("../../../tests/data/webrtc/obs-like-publish.sdp")),
];

fn offer(name: &str) -> Result<Offer, OfferError> {
    let (_, bytes) = OFFERS.iter().find(|(known, _)| *known == name).expect("a file of that name");
    Offer::read(bytes)
}

/// What is agreed on of each section, in the order of the offer: `H264 102 rtx 103`.
fn check(name: &str, sends: bool, expected: &[(Kind, &str)]) {
    let offer = offer(name).expect("an offer that can be answered");
    let wanted: Vec<_> = expected.iter().map(|(kind, wanted)| (*kind, wanted.split(' ').collect::<Vec<_>>())).collect();
    let section = |kind| match sends {
        true => offer.sending(kind).expect("one of each"),
        false => offer.receiving(kind),
    };
    let mut chosen = Vec::new();
    for (kind, words) in &wanted {
        let section = section(*kind).unwrap_or_else(|| panic!("{name}: no section of {kind:?}"));
        let codec = section.codecs.iter().find(|codec| codec.name().eq_ignore_ascii_case(words[0]));
        let codec = codec.unwrap_or_else(|| panic!("{name}: no {} in {}", words[0], section.names()));
        assert_eq!(codec.payload_type.to_string(), words[1], "{name}");
        assert_eq!(codec.repair.map(|number| number.to_string()).as_deref(), words.get(3).copied(), "{name}");
        chosen.push((*kind, codec.clone()));
    }
    let identity = Identity::generate().expect("random numbers");
    let now = Instant::now();
    let peer = match sends {
        true => Peer::publisher(&offer, &chosen, &identity, now),
        false => Peer::viewer(&offer, &chosen, &identity, now),
    };
    let here = ["192.0.2.1:9".parse().expect("an address")];
    let answer =
        peer.and_then(|mut peer| peer.answer(&here, now)).unwrap_or_else(|error| panic!("{name}: {error}")).sdp;
    let count = |line: &str| answer.lines().filter(|found| *found == line).count();
    assert_eq!(count("a=setup:passive"), expected.len(), "{answer}");
    assert_eq!(count(if sends { "a=recvonly" } else { "a=sendonly" }), expected.len(), "{answer}");
    assert_eq!(count("a=ice-lite"), 1, "{answer}");
    assert!(answer.lines().any(|line| line == "a=candidate:1 1 udp 2130706431 192.0.2.1 9 typ host"), "{answer}");
    for (_, words) in &wanted {
        let mapping = format!("a=rtpmap:{} {}/", words[1], words[0]);
        assert!(answer.lines().any(|line| line.starts_with(&mapping)), "{mapping} in {answer}");
    }
}

#[test]
fn offers_of_clients_are_answered_under_their_own_payload_types() {
    check("chromium-publish", true, &[(Kind::Audio, "opus 111"), (Kind::Video, "VP8 96 rtx 97")]);
    check("chromium-view", false, &[(Kind::Video, "VP8 96 rtx 97"), (Kind::Audio, "opus 111")]);
    check("aiortc-publish", true, &[(Kind::Video, "H264 99 rtx 100"), (Kind::Audio, "opus 96")]);
    check("aiortc-unbundled", true, &[(Kind::Video, "VP8 97 rtx 98"), (Kind::Audio, "opus 96")]);
    check("firefox-like-view", false, &[(Kind::Video, "H264 126 rtx 127"), (Kind::Audio, "opus 109")]);
    check("obs-like-publish", true, &[(Kind::Audio, "opus 111"), (Kind::Video, "H264 96")]);
}

#[test]
fn sections_with_transports_of_their_own_are_refused() {
    let (_, bytes) = OFFERS[3];
    let text = std::str::from_utf8(bytes).expect("text");
    let (first, second) = text.split_once("m=audio").expect("two sections");
    let ufrag = second.lines().find(|line| line.starts_with("a=ice-ufrag:")).expect("one in each");
    let apart = format!("{first}m=audio{}", second.replace(ufrag, "a=ice-ufrag:another"));
    assert_eq!(Offer::read(apart.as_bytes()), Err(OfferError::Unbundled));
}

#[test]
fn sections_whose_packets_cannot_be_told_apart_are_refused() {
    let layers = offer("chromium-layers").expect("an offer");
    let section = layers.sending(Kind::Video).expect("layers name themselves").expect("it sends");
    assert!(section.codecs.iter().all(|codec| codec.repair.is_none()), "what repairs a layer is not named");

    let (_, bytes) = OFFERS.iter().find(|(name, _)| *name == "chromium-layers").expect("it is there");
    let text = std::str::from_utf8(bytes).expect("text");
    let nameless: String =
        text.lines().filter(|line| !line.starts_with("a=rid:")).flat_map(|line| [line, "\r\n"]).collect();
    let nameless = Offer::read(nameless.as_bytes()).expect("an offer");
    assert_eq!(nameless.sending(Kind::Video), Err(OfferError::Sources));
    let alone = Offer { sections: nameless.sections[1..].to_vec(), ..nameless };
    assert!(alone.sending(Kind::Video).is_ok(), "whatever comes is of the only section");
}

#[test]
fn a_panic_of_the_library_ends_its_session_only() {
    let offer = offer("chromium-publish").expect("an offer");
    let codec = offer.sending(Kind::Video).expect("one of each").expect("video").codecs[0].clone();
    let identity = Identity::generate().expect("random numbers");
    let now = Instant::now();
    let make = || Peer::publisher(&offer, &[(Kind::Video, codec.clone())], &identity, now).expect("a peer");
    let (mut broken, mut whole) = (make(), make());
    broken.fail();
    assert_eq!((broken.state(), whole.state()), (State::Over, State::Connecting));
    // Whatever is asked of it then is answered, and is no second panic.
    broken.tick(now);
    broken.close();
    assert!(broken.due().is_none() && broken.next_outgoing().is_none() && broken.next_arrived().is_none());
    assert!(broken.ask_for_key_picture(1, now).is_err());
    assert!(whole.answer(&["192.0.2.1:9".parse().expect("an address")], now).is_ok());
}
