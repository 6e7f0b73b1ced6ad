use super::*;
use crate::protocol::sdp::tests::{FFMPEG, GSTREAMER};

fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let mut all = vec![("CSeq".to_owned(), "7".to_owned())];
    all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Request { method: method.into(), uri: uri.into(), headers: all, body: body.into() }
}

fn status(ask: Ask) -> u16 {
    match ask {
        Ask::Reply(reply) | Ask::Teardown(reply) => reply.status,
        other => panic!("{other:?}"),
    }
}

const URI: &str = "rtsp://h:8554/gate";
const TCP: (&str, &str) = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record");

fn announced(uri: &str, sdp: &str) -> Session {
    let mut session = Session::new("id1".into(), true, "");
    let announce = request("ANNOUNCE", uri, &[("Content-Type", "application/sdp")], sdp);
    assert!(matches!(session.request(&announce), Ask::Announce(_)));
    assert_eq!(session.announce(&announce).status, 200);
    session
}

#[test]
fn a_push_from_announce_to_teardown() {
    let mut session = announced(URI, FFMPEG);
    for (media, control) in [(0, "streamid=0"), (1, "streamid=1")] {
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={}-{};mode=record", media * 2, media * 2 + 1);
        let set_up =
            request("SETUP", &format!("{URI}/{control}"), &[("Transport", &transport), ("Session", "id1")], "");
        let Ask::SetUp { media: found, lower } = session.request(&set_up) else { panic!("set up") };
        assert_eq!(found, media);
        let reply = String::from_utf8(session.set_up(&set_up, found, lower, None).bytes).expect("text");
        assert!(reply.contains(&format!("interleaved={}-{}", media * 2, media * 2 + 1)), "{reply}");
        assert!(reply.contains("Session: id1;timeout=60\r\n") && reply.contains("CSeq: 7\r\n"), "{reply}");
    }
    let record = request("RECORD", URI, &[("Session", "id1")], "");
    assert_eq!(session.request(&record), Ask::Record);
    assert_eq!(session.record(&record).status, 200);
    assert_eq!(status(session.request(&request("GET_PARAMETER", URI, &[("Session", "id1")], ""))), 200);
    assert!(matches!(session.request(&request("TEARDOWN", URI, &[("Session", "id1")], "")), Ask::Teardown(_)));
}

#[test]
fn control_urls_of_all_kinds() {
    let sdp = |control: &str| FFMPEG.replace("streamid=1", control);
    let check = |uri: &str, sdp: &str, set_up: &str, expected: Option<usize>| {
        let session = announced(uri, sdp);
        let found = match session.request(&request("SETUP", set_up, &[TCP], "")) {
            Ask::SetUp { media, .. } => Some(media),
            Ask::Reply(reply) if reply.status == 404 => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{set_up}");
    };
    check(URI, FFMPEG, "rtsp://h:8554/gate/streamid=1", Some(1));
    // A query may stand at the end, or where GStreamer leaves that of the announced URL.
    check("rtsp://h:8554/gate?key=1", FFMPEG, "rtsp://h:8554/gate?key=1/streamid=1", Some(1));
    check("rtsp://h:8554/gate?key=1", FFMPEG, "rtsp://h:8554/gate/streamid=1?key=1", Some(1));
    check("rtsp://h:8554/gate?key=1", FFMPEG, "rtsp://h:8554/gate/streamid=1", Some(1));
    check("rtsp://h:8554/gate/", FFMPEG, "rtsp://h:8554/gate/streamid=1", Some(1));
    check("rtsp://h:8554/gate?a=b", FFMPEG, "rtsp://h:8554/gate?a=b/streamid=1", Some(1));
    check(URI, &sdp("rtsp://other/x/trackID=2"), "rtsp://other/x/trackID=2", Some(1));
    check(URI, &sdp("trackID=2"), "rtsp://10.0.0.1/gate/trackID=2", Some(1));
    check(URI, GSTREAMER, "rtsp://h:8554/gate/stream=0", Some(1));
    check(URI, FFMPEG, "rtsp://h:8554/gate/streamid=2", None);
    check(URI, FFMPEG, "rtsp://h:8554/gate", None);
    let one = &FFMPEG[..FFMPEG.find("m=audio").expect("audio")];
    check(URI, &one.replace("streamid=0", "*"), "rtsp://h:8554/gate", Some(0));
    check(URI, &one.replace("a=control:streamid=0\r\n", ""), "rtsp://h:8554/gate/", Some(0));
}

#[test]
fn requests_out_of_turn_and_of_others_get_their_status() {
    let fresh = Session::new("id1".into(), true, "");
    let check = |session: &Session, method: &str, headers: &[(&str, &str)], expected: u16| {
        assert_eq!(status(session.request(&request(method, URI, headers, ""))), expected, "{method}");
    };
    check(&fresh, "OPTIONS", &[], 200);
    for (method, expected) in [("SETUP", 455), ("RECORD", 455), ("TEARDOWN", 455), ("PAUSE", 455)] {
        check(&fresh, method, &[], expected);
    }
    for (method, expected) in [("DESCRIBE", 405), ("PLAY", 405), ("REDIRECT", 501), ("X", 501)] {
        check(&fresh, method, &[], expected);
    }
    check(&fresh, "TEARDOWN", &[("Session", "id1")], 454);
    check(&fresh, "OPTIONS", &[("Require", "onvif-replay")], 551);
    let announced = announced(URI, FFMPEG);
    for method in ["SETUP", "RECORD", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER", "PLAY"] {
        check(&announced, method, &[("Session", "id2")], 454);
    }
    check(&announced, "PAUSE", &[("Session", "id1")], 200);
    check(&announced, "RECORD", &[("Session", "id1;timeout=60")], 455);
    let mut no_number = request("OPTIONS", "*", &[], "");
    no_number.headers.clear();
    assert_eq!(status(fresh.request(&no_number)), 400);
    no_number.headers.push(("CSeq".into(), "1\u{7f}".into()));
    assert_eq!(status(fresh.request(&no_number)), 400);
}

#[test]
fn a_required_option_is_named_in_the_refusal() {
    let session = Session::new("id1".into(), true, "");
    let Ask::Reply(reply) = session.request(&request("ANNOUNCE", URI, &[("Require", "onvif-replay")], "")) else {
        panic!("it is refused")
    };
    let text = String::from_utf8(reply.bytes).expect("text");
    assert!(text.starts_with("RTSP/1.0 551 ") && text.contains("\r\nUnsupported: onvif-replay\r\n"), "{text}");
}

#[test]
fn a_connection_announces_again_after_teardown_and_before_recording() {
    let mut session = announced(URI, FFMPEG);
    let set_up = request("SETUP", &format!("{URI}/streamid=0"), &[TCP], "");
    let Ask::SetUp { media, lower } = session.request(&set_up) else { panic!("set up") };
    session.set_up(&set_up, media, lower, None);
    let again = request("ANNOUNCE", URI, &[], GSTREAMER);
    assert!(matches!(session.request(&again), Ask::Announce(_)));
    assert_eq!(session.announce(&again).status, 200);
    assert_eq!((session.tracks().len(), session.media().len()), (0, 2));
    session.reset();
    assert!(matches!(session.request(&again), Ask::Announce(_)));
}

#[test]
fn a_track_that_we_do_not_take_is_set_up_and_refuses_no_other() {
    let sdp = format!(
        "{FFMPEG}m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:streamid=2\r\n"
    );
    let mut session = announced(URI, &sdp);
    let metadata = request("SETUP", &format!("{URI}/streamid=2"), &[TCP], "");
    let Ask::SetUp { media: 2, lower } = session.request(&metadata) else { panic!("set up") };
    assert_eq!(session.set_up(&metadata, 2, lower, None).status, 200);
    assert_eq!(status(session.request(&request("RECORD", URI, &[], ""))), 455, "nothing is set up that can be stored");
    let other = ("Transport", "RTP/AVP/TCP;unicast;interleaved=2-3;mode=record");
    let video = request("SETUP", &format!("{URI}/streamid=0"), &[other], "");
    let Ask::SetUp { media: 0, lower } = session.request(&video) else { panic!("set up") };
    session.set_up(&video, 0, lower, None);
    assert_eq!(session.request(&request("RECORD", URI, &[], "")), Ask::Record);
}

#[test]
fn a_prefix_of_paths_may_be_set() {
    for prefix in ["live", "/live/"] {
        let session = Session::new("id1".into(), true, prefix);
        for uri in ["rtsp://h/live/gate", "rtsp://h/gate", "rtsp://h/live/gate/?key=1"] {
            let ask = session.request(&request("ANNOUNCE", uri, &[], ""));
            assert!(matches!(ask, Ask::Announce(ref name) if name.as_str() == "gate"), "{uri}: {ask:?}");
        }
        assert_eq!(status(session.request(&request("ANNOUNCE", "rtsp://h/app/gate", &[], ""))), 400);
    }
}

#[test]
fn bad_names_are_refused_with_a_hint() {
    let session = Session::new("id1".into(), true, "");
    let refusal = |uri: &str| match session.request(&request("ANNOUNCE", uri, &[], "")) {
        Ask::Reply(reply) => {
            String::from_utf8(reply.bytes).expect("text").lines().next().unwrap_or_default().to_owned()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refusal("rtsp://h/a/b"),
        "RTSP/1.0 400 a stream name has no '/': use '-', '_' or '.' to group streams, as in site-gate; publish to /NAME, or \
         set rtsp.path_prefix = \"a\" to accept /a/NAME for it"
    );
    for uri in ["rtsp://h", "rtsp://h/", "rtsp://h/..", "rtsp://h/a%2fb", "http://h/x", "*", "rtsp://h/<img>"] {
        assert!(refusal(uri).starts_with("RTSP/1.0 400 "), "{uri}");
    }
    for uri in ["rtsp://u:p@h:1/gate", "RTSP://h/gate/", "rtsps://h/gate?x=/y"] {
        assert!(
            matches!(session.request(&request("ANNOUNCE", uri, &[], "")), Ask::Announce(name) if name.as_str() == "gate")
        );
    }
}

#[test]
fn descriptions_that_cannot_be_taken_are_refused_in_words() {
    let announce = |sdp: &str, content_type: &str| {
        let mut session = Session::new("id1".into(), true, "");
        let reply = session.announce(&request("ANNOUNCE", URI, &[("Content-Type", content_type)], sdp));
        (reply.status, String::from_utf8(reply.bytes).expect("text"))
    };
    assert_eq!(announce(FFMPEG, "text/plain").0, 415);
    assert_eq!(announce("hello", "application/sdp").0, 400);
    assert_eq!(announce("v=0\r\n", "application/sdp").0, 415);
    let (status, text) = announce("v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H263/90000\r\n", "application/sdp");
    assert!(status == 415 && text.contains("no supported track: H263/90000/1"), "{text}");
}

#[test]
fn transports_that_do_not_fit_are_refused() {
    let check = |session: &Session, control: &str, transport: &str, expected: Option<Lower>| {
        let ask = session.request(&request("SETUP", &format!("{URI}/{control}"), &[("Transport", transport)], ""));
        match expected {
            Some(lower) => assert!(matches!(ask, Ask::SetUp { lower: found, .. } if found == lower), "{transport}"),
            None => assert_eq!(status(ask), 461, "{transport}"),
        }
    };
    let mut session = announced(URI, FFMPEG);
    check(&session, "streamid=0", "RTP/AVP;unicast", None);
    check(
        &session,
        "streamid=0",
        "RTP/AVP;unicast;client_port=6000-6001",
        Some(Lower::Datagrams { rtp: 6000, rtcp: 6001 }),
    );
    let first = request("SETUP", &format!("{URI}/streamid=0"), &[TCP], "");
    session.set_up(&first, 0, Lower::Interleaved { rtp: 0, rtcp: 1 }, None);
    check(&session, "streamid=1", "RTP/AVP/TCP;interleaved=1-2", None);
    check(&session, "streamid=1", "RTP/AVP;unicast;client_port=6000-6001", None);
    check(&session, "streamid=1", "RTP/AVP/TCP;unicast", Some(Lower::Interleaved { rtp: 2, rtcp: 3 }));
    assert_eq!(status(session.request(&first)), 455);
    session.datagrams_allowed = false;
    session.set_up.clear();
    check(&session, "streamid=0", "RTP/AVP;unicast;client_port=6000-6001", None);
}

#[test]
fn challenges_keep_their_order() {
    let session = Session::new("id1".into(), true, "");
    let reply = session.challenge(&request("ANNOUNCE", URI, &[], ""), &["Digest a".into(), "Digest b".into()]);
    let text = String::from_utf8(reply.bytes).expect("text");
    assert!(text.starts_with("RTSP/1.0 401 Unauthorized\r\n"), "{text}");
    assert!(text.contains("WWW-Authenticate: Digest a\r\nWWW-Authenticate: Digest b\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n") && !text.contains("\r\n\r\n\r\n"), "{text}");
}
