//! WebRTC: what comes in a POST, and what comes in datagrams.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::protocol::webrtc::{Identity, Kind, Offer, Offered, Peer, State, stun};

const CHROMIUM: &[u8] = include_bytes!("../../../tests/data/webrtc/chromium-publish.sdp");

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().expect("random numbers"))
}

/// An offer is within the limits or refused; what is left of it is read as what it was; and it is answered, or refused, by
/// the library too.
pub(crate) fn webrtc_offer(data: &[u8]) {
    let Ok(offer) = Offer::read(data) else { return };
    assert!(offer.sections.len() <= 16);
    assert!(offer.sections.iter().all(|section| section.names().len() <= 16 * 34));
    let gone = ["a=candidate:", "a=end-of-candidates"];
    assert!(!gone.iter().any(|gone| offer.plain.lines().any(|line| line.starts_with(gone))));
    let again = Offer::read(offer.plain.as_bytes()).unwrap_or_else(|error| panic!("{error}: {}", offer.plain));
    assert_eq!((&again.plain, &again.ice), (&offer.plain, &offer.ice));
    assert_eq!(again.sections, offer.sections);
    let first = |kind| -> Option<(Kind, Offered)> { Some((kind, offer.sending(kind).ok()??.codecs.first()?.clone())) };
    let sent: Vec<_> = [Kind::Video, Kind::Audio].into_iter().filter_map(first).collect();
    let watched = [Kind::Video, Kind::Audio].into_iter();
    let watched = watched.filter_map(|kind| Some((kind, offer.receiving(kind)?.codecs.first()?.clone())));
    let watched: Vec<_> = watched.collect();
    let (now, here) = (Instant::now(), ["192.0.2.1:9".parse().expect("an address")]);
    let publisher = (!sent.is_empty()).then(|| Peer::publisher(&offer, &sent, identity(), now));
    let viewer = (!watched.is_empty()).then(|| Peer::viewer(&offer, &watched, identity(), now));
    for mut peer in [publisher, viewer].into_iter().flatten().flatten() {
        let _ = peer.answer(&here, now);
    }
}

/// A binding request names itself within its bytes, and is nobody's whose password it was not made with.
pub(crate) fn webrtc_stun(data: &[u8]) {
    let Some(request) = stun::request(data) else { return };
    assert!(stun::is_stun(data) && !stun::is_response(data));
    assert!(request.ufrag.len() + 20 <= data.len());
    assert!(!request.is_from(&stun::key("nobody's password at all")));
}

/// Datagrams, each after its length in two bytes, reach a peer that waits for its client: STUN, DTLS, RTP and RTCP as the
/// library reads them. Nobody without the password and the keys is connected, and answers are in proportion.
pub(crate) fn webrtc_datagrams(data: &[u8]) {
    let offer = Offer::read(CHROMIUM).expect("a client's offer");
    let codecs = [Kind::Video, Kind::Audio].map(|kind| {
        let section = offer.sending(kind).expect("one of each").expect("one");
        (kind, section.codecs[0].clone())
    });
    let mut now = Instant::now();
    let mut peer = Peer::publisher(&offer, &codecs, identity(), now).expect("a peer");
    peer.answer(&["192.0.2.1:9".parse().expect("an address")], now).expect("an answer");
    let from = "192.0.2.7:7".parse().expect("an address");
    let (mut rest, mut answers) = (data, 0);
    for _ in 0..64 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len()).min(2_048);
        let (datagram, after) = after.split_at(length);
        peer.receive(from, BytesMut::from(datagram), now);
        rest = after;
        now += Duration::from_millis(20);
        peer.tick(now);
        while peer.next_outgoing().is_some() {
            answers += 1;
        }
        while peer.next_arrived().is_some() {}
        while peer.next_report().is_some() {}
    }
    assert!(answers <= 64 * 16, "{answers} datagrams go out");
    assert_ne!(peer.state(), State::Connected);
}
