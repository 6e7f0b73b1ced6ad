//! The server's side of a session that records (RFC 2326 appendix A.2): which request may come when, and what it means.

use std::fmt::Write as _;

use media::StreamName;
use media::track::MAX_TRACKS;
use rtsp_types::{HeaderName, Response, StatusCode, Version, headers};

use super::transport::{self, Lower, Offer};
use super::wire::Request;
use crate::protocol::sdp::{self, Description, Format, Media};

/// Seconds without a sign of life after which a session ends.
pub(crate) const TIMEOUT_SECONDS: u64 = 60;

const METHODS: &str = "OPTIONS, ANNOUNCE, SETUP, RECORD, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN";

/// An answer, ready for the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// 200, or why not.
    pub status: u16,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What a request asks of the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// Send this.
    Reply(Reply),
    /// May this client publish this stream? Then [`Session::announce`], else [`Session::refuse`].
    Announce(StreamName),
    /// Make ready for packets of this media section. Then [`Session::set_up`], else [`Session::refuse`].
    SetUp { media: usize, lower: Lower },
    /// Take the stream. Then [`Session::record`], else [`Session::refuse`].
    Record,
    /// Send this and end the session; the connection stays, and may announce another.
    Teardown(Reply),
}

/// A media section that was set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SetUp {
    /// Its index in the description.
    pub media: usize,
    /// How its packets travel.
    pub lower: Lower,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Start,
    Announced,
    Recording,
}

/// One connection's session: it has at most one, which no other connection can name.
#[derive(Debug)]
pub(crate) struct Session {
    /// Minted by the driver: random, 128 bits.
    id: String,
    /// Over TLS packets stay inside the connection.
    datagrams_allowed: bool,
    /// What may stand before a stream's name in a path, without slashes at its ends; may be empty.
    path_prefix: String,
    state: State,
    uri: String,
    media: Vec<Media>,
    set_up: Vec<SetUp>,
}

impl Session {
    /// A session called `id`, before its first request. `path_prefix` may stand before names of streams (`rtsp.path_prefix`).
    pub(crate) fn new(id: String, datagrams_allowed: bool, path_prefix: &str) -> Session {
        Session {
            id,
            datagrams_allowed,
            path_prefix: path_prefix.trim_matches('/').to_owned(),
            state: State::Start,
            uri: String::new(),
            media: Vec::new(),
            set_up: Vec::new(),
        }
    }

    /// The session is over; another may begin.
    pub(crate) fn reset(&mut self) {
        self.state = State::Start;
        self.uri.clear();
        self.media.clear();
        self.set_up.clear();
    }

    /// What was set up, in the order of SETUP.
    pub(crate) fn tracks(&self) -> &[SetUp] {
        &self.set_up
    }

    /// The announced media sections.
    pub(crate) fn media(&self) -> &[Media] {
        &self.media
    }

    /// What `request` asks.
    pub(crate) fn request(&self, request: &Request) -> Ask {
        if sequence(request).is_none() {
            return self.no(request, 400, "no CSeq");
        }
        if let Some(options) = request.header("Require") {
            // RFC 2326 section 12.43: the answer lists what is not supported, so that the client can do without.
            let unsupported = [(headers::UNSUPPORTED, options)];
            return Ask::Reply(self.reply(request, 551, "Option not supported", &unsupported));
        }
        if let Some(session) = request.header("Session") {
            let id = session.split(';').next().unwrap_or_default().trim();
            if self.state == State::Start || id != self.id {
                return self.no(request, 454, "Session Not Found");
            }
        }
        match (request.method.as_str(), self.state) {
            ("OPTIONS", _) => Ask::Reply(self.reply(request, 200, "OK", &[(headers::PUBLIC, METHODS)])),
            ("GET_PARAMETER" | "SET_PARAMETER", _) => Ask::Reply(self.ok(request)),
            ("ANNOUNCE", State::Start | State::Announced) => match stream_name(&request.uri, &self.path_prefix) {
                Ok(name) => Ask::Announce(name),
                Err(why) => self.no(request, 400, &why),
            },
            ("SETUP", State::Announced) => self.offer(request),
            ("RECORD", State::Announced) if !self.set_up.iter().any(|track| self.is_known(track.media)) => {
                self.no(request, 455, "no track is set up that this server can store")
            }
            ("RECORD", State::Announced) => Ask::Record,
            ("RECORD", State::Recording) => Ask::Reply(self.ok(request)),
            ("TEARDOWN", State::Announced | State::Recording) => Ask::Teardown(self.ok(request)),
            ("DESCRIBE" | "PLAY", _) => self.no(
                request,
                405,
                "playing over RTSP is not supported: this server takes streams in by ANNOUNCE and RECORD",
            ),
            ("SETUP", State::Start) => {
                self.no(request, 455, "ANNOUNCE comes first: playing over RTSP is not supported")
            }
            // Harmless: a client that sends nothing for a while leaves a gap, and RECORD is answered at any time.
            ("PAUSE", State::Announced | State::Recording) => Ask::Reply(self.ok(request)),
            ("ANNOUNCE" | "SETUP" | "RECORD" | "PAUSE" | "TEARDOWN", _) => {
                self.no(request, 455, "Method Not Valid In This State")
            }
            _ => self.no(request, 501, "Not Implemented"),
        }
    }

    /// The client may publish: reads what it announces.
    pub(crate) fn announce(&mut self, request: &Request) -> Reply {
        let sdp_type =
            |value: &str| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/sdp");
        if request.header("Content-Type").is_some_and(|value| !sdp_type(value)) {
            return self.refuse(request, 415, "the description must be application/sdp");
        }
        let description = match sdp::parse(&request.body) {
            Ok(description) => description,
            Err(sdp::SdpError::Long) => return self.refuse(request, 413, "sdp is longer than 64 KiB"),
            Err(error) => return self.refuse(request, 400, &error.to_string()),
        };
        if let Err(why) = playable(&description) {
            return self.refuse(request, 415, &why);
        }
        self.reset();
        self.media = description.media;
        self.uri = request.uri.clone();
        self.state = State::Announced;
        self.ok(request)
    }

    /// The driver is ready for packets of this section; `server` are its ports for datagrams.
    pub(crate) fn set_up(
        &mut self,
        request: &Request,
        media: usize,
        lower: Lower,
        server: Option<(u16, u16)>,
    ) -> Reply {
        self.set_up.push(SetUp { media, lower });
        self.reply(request, 200, "OK", &[(headers::TRANSPORT, &transport::answer(lower, server))])
    }

    /// The stream is taken: packets may come.
    pub(crate) fn record(&mut self, request: &Request) -> Reply {
        self.state = State::Recording;
        self.ok(request)
    }

    /// An answer that says no, in words.
    pub(crate) fn refuse(&self, request: &Request, status: u16, why: &str) -> Reply {
        self.reply(request, status, why, &[])
    }

    /// An answer that asks for a credential; one header for each challenge, in this order.
    pub(crate) fn challenge(&self, request: &Request, challenges: &[String]) -> Reply {
        let headers: Vec<_> =
            challenges.iter().map(|challenge| (headers::WWW_AUTHENTICATE, challenge.as_str())).collect();
        self.reply(request, 401, "Unauthorized", &headers)
    }

    fn no(&self, request: &Request, status: u16, why: &str) -> Ask {
        Ask::Reply(self.refuse(request, status, why))
    }

    fn ok(&self, request: &Request) -> Reply {
        self.reply(request, 200, "OK", &[])
    }

    fn reply(&self, request: &Request, status: u16, reason: &str, headers: &[(HeaderName, &str)]) -> Reply {
        let session = format!("{};timeout={TIMEOUT_SECONDS}", self.id);
        let mut all = Vec::with_capacity(headers.len() + 2);
        if let Some(sequence) = sequence(request) {
            all.push((headers::CSEQ, sequence));
        }
        if self.state != State::Start && status == 200 {
            all.push((headers::SESSION, session.as_str()));
        }
        if status == 405 || status == 501 {
            all.push((headers::ALLOW, METHODS));
        }
        all.extend_from_slice(headers);
        write(status, reason, &all)
    }

    fn offer(&self, request: &Request) -> Ask {
        let Some(media) = self.find(&request.uri) else {
            return self.no(request, 404, "no media section has this control URL");
        };
        if self.set_up.iter().any(|track| track.media == media) {
            return self.no(request, 455, "this media section is set up already");
        }
        let offers = transport::offers(request.header("Transport").unwrap_or_default());
        match offers.iter().find_map(|offer| self.accept(*offer)) {
            Some(lower) => Ask::SetUp { media, lower },
            None if offers.is_empty() => {
                self.no(request, 461, "Unsupported Transport: use RTP/AVP/TCP interleaved, or RTP/AVP over UDP")
            }
            None => self.no(
                request,
                461,
                "Unsupported Transport: channels in use, another kind than the first track's, or UDP under RTSPS",
            ),
        }
    }

    /// How packets of an offer would travel; none when it does not fit what was set up before.
    fn accept(&self, offer: Offer) -> Option<Lower> {
        let used = |channel: u8| {
            self.set_up.iter().any(
                |track| matches!(track.lower, Lower::Interleaved { rtp, rtcp } if rtp == channel || rtcp == channel),
            )
        };
        let first_is = |wanted: fn(Lower) -> bool| self.set_up.first().is_none_or(|track| wanted(track.lower));
        match offer {
            Offer::Interleaved(_) if !first_is(|lower| matches!(lower, Lower::Interleaved { .. })) => None,
            Offer::Interleaved(Some((rtp, rtcp))) => {
                (!used(rtp) && !used(rtcp)).then_some(Lower::Interleaved { rtp, rtcp })
            }
            Offer::Interleaved(None) => {
                let rtp = (0..=254u8).step_by(2).find(|rtp| !used(*rtp) && !used(rtp + 1))?;
                Some(Lower::Interleaved { rtp, rtcp: rtp + 1 })
            }
            Offer::Datagrams(rtp, rtcp) => {
                let fits = self.datagrams_allowed && first_is(|lower| matches!(lower, Lower::Datagrams { .. }));
                fits.then_some(Lower::Datagrams { rtp, rtcp })
            }
        }
    }

    /// Whether the format of a media section is one that we store. Of others packets are taken, and left out.
    fn is_known(&self, media: usize) -> bool {
        self.media.get(media).is_some_and(|media| !matches!(media.format, Format::Unknown { .. }))
    }

    /// The media section of a control URL: absolute, or relative to the announced URL (RFC 2326 appendix C.1.1).
    fn find(&self, uri: &str) -> Option<usize> {
        let plain = without_query(uri);
        self.find_as(uri, &self.uri)
            // A query belongs to no control URL; GStreamer writes that of the announced URL behind the control.
            .or_else(|| (plain != uri).then(|| self.find_as(&plain, &without_query(&self.uri))).flatten())
    }

    fn find_as(&self, uri: &str, announced: &str) -> Option<usize> {
        let given = |media: &Media| media.control.as_deref().unwrap_or("*").to_owned();
        let exact = self.media.iter().position(|media| given(media) == uri);
        let relative = |control: &str| {
            let base = announced.trim_end_matches('/');
            uri.strip_prefix(base).is_some_and(|rest| rest.strip_prefix('/') == Some(control))
        };
        let exact = exact.or_else(|| self.media.iter().position(|media| relative(&given(media))));
        // The client may know us by another name than the one in its control URLs: the last part decides if only one has it.
        let by_last_part = || {
            let last = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
            let wanted = last(uri);
            let mut alike = self.media.iter().enumerate().filter(|(_, media)| last(&given(media)) == wanted);
            match (alike.next(), alike.next()) {
                (Some((at, _)), None) => Some(at),
                _ => None,
            }
        };
        // `*` or nothing, and one section: the session's own URL.
        let alone =
            || (self.media.len() == 1 && uri.trim_end_matches('/') == announced.trim_end_matches('/')).then_some(0);
        exact.or_else(by_last_part).or_else(alone)
    }
}

/// The number that pairs an answer with its request: digits, echoed as they came.
fn sequence(request: &Request) -> Option<&str> {
    let value = request.header("CSeq")?;
    (!value.is_empty() && value.len() <= 10 && value.bytes().all(|byte| byte.is_ascii_digit())).then_some(value)
}

/// An answer without a session.
pub(crate) fn write(status: u16, reason: &str, headers: &[(HeaderName, &str)]) -> Reply {
    let mut builder = Response::builder(Version::V1_0, StatusCode::from(status)).reason_phrase(one_line(reason));
    builder = builder.header(headers::SERVER, "Kinora");
    let mut bytes = Vec::with_capacity(256);
    // The builder keeps one header of a name: challenges are several, so all are written here.
    let response = builder.build(rtsp_types::Empty);
    response.write(&mut bytes).expect("a vector takes all bytes");
    bytes.truncate(bytes.len() - 2);
    let mut lines = String::new();
    for (name, value) in headers {
        write!(lines, "{}: {}\r\n", name.as_str(), one_line(value)).expect("a string takes all text");
    }
    bytes.extend_from_slice(lines.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    Reply { status, bytes }
}

/// Printable and short enough for a line of the wire or of a log.
fn one_line(text: &str) -> String {
    text.chars().take(1_024).map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).collect()
}

/// `rtsp://host/name?query/streamid=0` or `rtsp://host/name/streamid=0?query`, without the query.
fn without_query(uri: &str) -> String {
    let Some((before, query)) = uri.split_once('?') else { return uri.to_owned() };
    match query.split_once('/') {
        Some((_, control)) => format!("{}/{control}", before.trim_end_matches('/')),
        None => before.to_owned(),
    }
}

/// `rtsp://host:8554/name` or `rtsp://host:8554/prefix/name`, a query ignored.
fn stream_name(uri: &str, prefix: &str) -> Result<StreamName, String> {
    let lower = uri.get(..8).unwrap_or(uri).to_ascii_lowercase();
    let rest = match (lower.strip_prefix("rtsp://"), lower.strip_prefix("rtsps://")) {
        (Some(_), _) => &uri[7..],
        (_, Some(_)) => &uri[8..],
        _ => return Err("the URL is rtsp://host:port/stream".into()),
    };
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_matches('/');
    let name = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path);
    StreamName::new(name).map_err(|error| match name.split_once('/') {
        // Many programs publish to /live/NAME unless they are told otherwise.
        Some((first, _)) => {
            format!("{error}; publish to /NAME, or set rtsp.path_prefix = \"{first}\" to accept /{first}/NAME for it")
        }
        None => error.to_string(),
    })
}

/// Refuses descriptions without any track that we can take.
fn playable(description: &Description) -> Result<(), String> {
    let known = description.media.iter().filter(|media| !matches!(media.format, Format::Unknown { .. })).count();
    if known > MAX_TRACKS {
        return Err(format!("a stream has at most {MAX_TRACKS} tracks"));
    }
    if known > 0 {
        return Ok(());
    }
    let names: Vec<_> = description
        .media
        .iter()
        .filter_map(|media| match &media.format {
            Format::Unknown { what } => Some(what.as_str()),
            _ => None,
        })
        .collect();
    match names.as_slice() {
        [] => Err("nothing is announced".into()),
        names => Err(format!(
            "no supported track: {}; send H264, H265, VP8, VP9 or AV1 video, or AAC, Opus or G.711 audio",
            names.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests;
