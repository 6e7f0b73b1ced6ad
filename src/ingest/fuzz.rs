//! A fuzz target: all that a client sends over a connection, see `crate::fuzz`.

use std::time::{Duration, Instant};

use media::{ServerTime, TrackId};

use super::{Feed, Order};
use crate::protocol::rtp::receive::{Moment, Receiver};
use crate::protocol::rtsp::session::{Ask, Reply, Session};
use crate::protocol::rtsp::transport::Lower;
use crate::protocol::rtsp::wire::{self, Item, Request};
use crate::protocol::rtsp_client::{self, Incoming};

/// A client that nobody refuses: requests to units. Every answer is one that a client can read.
pub(crate) fn rtsp_push(data: &[u8]) {
    let mut door = Door { session: Session::new("0123456789abcdef".into(), true, "live"), feed: None, ended: false };
    let (mut rest, start, mut millis) = (data, Instant::now(), 0);
    while let Ok(Some((item, taken))) = wire::next(rest) {
        rest = &rest[taken..];
        millis += 1;
        let wall = ServerTime::from_micros(1_700_000_000_000_000 + millis * 1_000);
        let at = Moment { now: start + Duration::from_millis(millis.unsigned_abs()), wall };
        match item {
            Item::Data { channel, payload } => door.packet(channel, payload, at),
            Item::Request(request) => door.request(&request, at),
            Item::OtherVersion(_) | Item::Response => {}
        }
        if door.ended {
            break;
        }
    }
    let at = Moment { now: start + Duration::from_secs(60), wall: ServerTime::from_micros(1_700_000_060_000_000) };
    let Some(mut feed) = door.feed else { return };
    feed.finish(at);
    let mut bytes_out = 0;
    while let Some(order) = feed.pop() {
        if let Order::Unit(unit) = order {
            bytes_out += unit.data.len();
        }
    }
    assert!(bytes_out <= data.len() * 3, "not more out than in");
}

struct Door {
    session: Session,
    feed: Option<Feed>,
    ended: bool,
}

impl Door {
    fn packet(&mut self, channel: u8, payload: &[u8], at: Moment) {
        let Some(feed) = &mut self.feed else { return };
        for (track, set_up) in self.session.tracks().iter().enumerate() {
            match set_up.lower {
                Lower::Interleaved { rtp, .. } if rtp == channel => feed.rtp(track, payload, at),
                Lower::Interleaved { rtcp, .. } if rtcp == channel => feed.rtcp(track, payload, at),
                Lower::Interleaved { .. } | Lower::Datagrams { .. } => {}
            }
        }
        let _ = feed.reports(at.now);
    }

    fn request(&mut self, request: &Request, at: Moment) {
        let reply = match self.session.request(request) {
            Ask::Reply(reply) => reply,
            Ask::Announce(_) => self.session.announce(request),
            Ask::SetUp { media, lower } => self.session.set_up(request, media, lower, Some((5_000, 5_001))),
            Ask::Record => {
                let media = self.session.media();
                // Formats that nobody here knows are set up and left out.
                let receivers = self.session.tracks().iter().zip(1..).filter_map(|(set_up, id)| {
                    let datagrams = matches!(set_up.lower, Lower::Datagrams { .. });
                    Receiver::new(TrackId(id), &media[set_up.media], datagrams, 1)
                });
                self.feed = Some(Feed::new(receivers.collect(), at.now));
                self.session.record(request)
            }
            Ask::Teardown(reply) => {
                self.ended = true;
                reply
            }
        };
        check(&reply);
    }
}

/// The answer is one message, with the status it should have.
fn check(reply: &Reply) {
    match rtsp_client::parse(&reply.bytes) {
        Ok(Some((Incoming::Reply(read), taken))) => {
            assert_eq!((read.status, taken), (reply.status, reply.bytes.len()));
        }
        other => panic!("{other:?} of {}", reply.bytes.escape_ascii()),
    }
}
