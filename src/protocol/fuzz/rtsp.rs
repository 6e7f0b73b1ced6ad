//! RTSP, both sides.

use crate::protocol::rtsp::transport::{Lower, Offer, answer, offers};
use crate::protocol::rtsp::wire::{self, Item, WireError};
use crate::protocol::rtsp_client::{self, Client, Credentials, Incoming};

/// Most bytes that may lie in a buffer without making a message: a head, a body, or a packet.
const MAX_WAITING: usize = wire::MAX_HEAD + wire::MAX_BODY + 4;

/// Places to cut `data`, up to four ways: in one piece, in two, in bytes, in pieces whose lengths are taken from it.
fn cuts(data: &[u8]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![], vec![data.len() / 2]];
    // The parser looks at a head from its start each time: bytes one by one are for short inputs.
    if data.len() <= 512 {
        all.push((0..data.len()).collect());
    }
    let mut at = 0;
    let lengths = data.iter().map(|byte| 1 + usize::from(*byte) * (1 + data.len() / 4096));
    all.push(
        lengths
            .map_while(|length| Some(at + length).filter(|end| *end < data.len()).inspect(|end| at = *end))
            .collect(),
    );
    all
}

/// The pieces of `data` between `cuts`.
fn pieces<'a>(data: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(data.len()));
    starts.zip(ends).map(|(start, end)| &data[start..end])
}

/// What an item says, owned.
fn owned(item: &Item<'_>) -> String {
    format!("{item:?}")
}

/// Requests and packets of a connection: the same items whatever the cuts, and a request written again is read alike.
pub(crate) fn rtsp_wire(data: &[u8]) {
    let mut first = None;
    for cuts in cuts(data) {
        let found = items(data, &cuts);
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "the same items whatever the cuts");
    }
    let mut rest = data;
    while let Ok(Some((item, taken))) = wire::next(rest) {
        rest = &rest[taken..];
        if let Item::Request(request) = item {
            assert!(request.body.len() <= wire::MAX_BODY && request.headers.len() <= 100);
            let mut text = format!("{} {} RTSP/1.0\r\n", request.method, request.uri);
            for (name, value) in &request.headers {
                text += &format!("{name}: {value}\r\n");
            }
            let bytes = [text.as_bytes(), b"\r\n", &request.body].concat();
            // A head at a limit may grow over it: a space after each colon.
            match wire::next(&bytes) {
                Ok(again) => assert_eq!(again, Some((Item::Request(request), bytes.len()))),
                Err(error) => assert_eq!(error, WireError::LongHead),
            }
        }
    }
}

fn items(data: &[u8], cuts: &[usize]) -> (Vec<String>, Option<WireError>) {
    let (mut found, mut buffer) = (Vec::new(), Vec::new());
    for piece in pieces(data, cuts) {
        buffer.extend_from_slice(piece);
        loop {
            match wire::next(&buffer) {
                Ok(Some((item, taken))) => {
                    assert!(taken > 0 && taken <= buffer.len());
                    found.push(owned(&item));
                    buffer.drain(..taken);
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(buffer.len() < MAX_WAITING, "what waits is bounded");
    }
    (found, None)
}

/// The Transport header: an offer that is accepted is answered in a way that reads as the same offer.
pub(crate) fn rtsp_transport(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let found = offers(text);
    assert!(found.len() <= 16);
    for offer in found {
        let lower = match offer {
            Offer::Interleaved(None) => continue,
            Offer::Interleaved(Some((rtp, rtcp))) => Lower::Interleaved { rtp, rtcp },
            Offer::Datagrams(rtp, rtcp) => Lower::Datagrams { rtp, rtcp },
        };
        assert_eq!(offers(&answer(lower, Some((5_000, 5_001)))), [offer]);
    }
}

/// What a server answers: the same messages whatever the cuts, and whatever it says, our next request is one request.
pub(crate) fn rtsp_client(data: &[u8]) {
    let mut first = None;
    for cuts in cuts(data) {
        let found = incoming(data, &cuts);
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "the same messages whatever the cuts");
    }
    let mut client = Client::new(Some(Credentials { user: "camera \"1\"".into(), password: "secret".into() }));
    for message in first.unwrap_or_default().0 {
        let Incoming::Reply(reply) = message else { continue };
        client.take(&reply);
        assert!((1..=30).contains(&client.keep_alive_seconds()));
        let request = client.request("ANNOUNCE", "rtsp://server/stream", &["Content-Type: application/sdp"], "v=0\r\n");
        match wire::next(&request) {
            Ok(Some((Item::Request(request), taken))) => {
                assert_eq!((request.method.as_str(), request.body.as_slice()), ("ANNOUNCE", &b"v=0\r\n"[..]));
                assert!(taken > 0);
                let names = ["CSeq", "User-Agent", "Session", "Authorization", "Content-Type", "Content-Length"];
                let ours = |(name, _): &(String, String)| names.iter().any(|known| name.eq_ignore_ascii_case(known));
                assert!(request.headers.iter().all(ours), "a server puts no header into our requests");
            }
            // Its challenge was long, and the answer repeats it.
            Err(WireError::LongHead) => {}
            other => panic!("{other:?} of {}", request.escape_ascii()),
        }
    }
}

fn incoming(data: &[u8], cuts: &[usize]) -> (Vec<Incoming>, bool) {
    let (mut found, mut buffer) = (Vec::new(), Vec::new());
    for piece in pieces(data, cuts) {
        buffer.extend_from_slice(piece);
        loop {
            match rtsp_client::parse(&buffer) {
                Ok(Some((message, taken))) => {
                    assert!(taken > 0 && taken <= buffer.len());
                    found.push(message);
                    buffer.drain(..taken);
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
        assert!(buffer.len() < MAX_WAITING, "what waits is bounded");
    }
    (found, false)
}
