//! What the server and a process that transcodes one track say to each other, in messages on the socket between them.
//!
//! ```text
//!   message = length u32, kind u8, fields; all numbers little-endian; at most MESSAGE_MAX bytes
//!   server  -> process   Start, then Unit and KeyFrame in any order, then End
//!   process -> server    Ready; Started; Made* and Took for each Unit; Made* and Ended after End; Failed at any time, the last
//! ```
//!
//! `Took` says that a unit was worked on and nothing will come of it before the next one: so the server knows how far
//! behind the process is, and gives it no more than it can take. Units are in the messages, since one is small and passes
//! once. Both readers take what they read as hostile.
//!
//! Not here: pictures at instants ([`crate::decoding`]), who wants the outcome (`workers`), the work (`decoder`).

use crate::codec::MAX_ACCESS_UNIT_BYTES;
use crate::decoding::{self, FailureKind};
pub use crate::message::MessageError;
use crate::message::{Reader, Writer};

/// Most bytes of a message, its length not counted: a unit and the fields beside it.
pub const MESSAGE_MAX: usize = MAX_ACCESS_UNIT_BYTES + 1024;

/// Samples of every Opus packet that is made: 20 ms.
pub const OPUS_PACKET_SAMPLES: u32 = 960;

/// Longest distance of two key frames that are made, in seconds of the stream's time.
pub const KEY_FRAME_SECONDS: u32 = 2;

/// What is to become of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Setup {
    /// AAC becomes Opus at 48 kHz, in packets of [`OPUS_PACKET_SAMPLES`].
    Sound {
        /// An AudioSpecificConfig.
        config: Vec<u8>,
        /// Ticks per second of the units that go in. What comes out has 48,000.
        timescale: u32,
        /// Channels of what comes out: 1 or 2.
        channels: u8,
    },
    /// Pictures become H.264 constrained baseline without B pictures, a key frame each [`KEY_FRAME_SECONDS`] and on request.
    Pictures {
        /// What goes in.
        source: decoding::Setup,
        /// Ticks per second of what goes in and of what comes out.
        timescale: u32,
        /// Pictures per second in thousandths, for the control of the bit rate; 0 when not known.
        frame_rate_millis: u32,
    },
}

/// A coded unit on its way in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// When it is shown or heard, in ticks of the source.
    pub pts: i64,
    /// Something before it is missing.
    pub after_gap: bool,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A coded unit that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// When it is shown or heard: see [`Setup`] for the ticks.
    pub pts: i64,
    /// An Opus packet, or an access unit of H.264 with start codes.
    pub data: Vec<u8>,
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The first of all: the work.
    Start(Setup),
    /// The next unit, in decode order.
    Unit(Unit),
    /// The next picture that is made is to be a key frame.
    KeyFrame,
    /// No more units: let out what is inside.
    End,
}

/// What the process says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It has loaded its codecs and is locked in.
    Ready,
    /// The work can be done.
    Started,
    /// A unit that was made.
    Made(Made),
    /// A unit was worked on.
    Took,
    /// Everything was let out.
    Ended,
    /// The work cannot be done, or not any more.
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// More, for people.
        text: String,
    },
}

impl Request {
    /// The message, without its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Request::Start(Setup::Sound { config, timescale, channels }) => {
                out.u8(1);
                out.u32(*timescale);
                out.u8(*channels);
                out.bytes(config);
            }
            Request::Start(Setup::Pictures { source, timescale, frame_rate_millis }) => {
                out.u8(2);
                out.u32(*timescale);
                out.u32(*frame_rate_millis);
                out.setup(source);
            }
            Request::Unit(Unit { pts, after_gap, data }) => {
                out.u8(3);
                out.i64(*pts);
                out.u8((*after_gap).into());
                out.bytes(data);
            }
            Request::KeyFrame => out.u8(4),
            Request::End => out.u8(5),
        }
        out.into_bytes()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Request, MessageError> {
        let mut input = Reader::new(bytes);
        let request = match input.u8()? {
            1 => {
                let (timescale, channels) = (timescale(&mut input)?, input.u8()?);
                if !(1..=2).contains(&channels) {
                    return Err(MessageError::Value("count of channels"));
                }
                Request::Start(Setup::Sound { timescale, channels, config: input.bytes()?.to_vec() })
            }
            2 => {
                let (timescale, frame_rate_millis) = (timescale(&mut input)?, input.u32()?);
                Request::Start(Setup::Pictures { timescale, frame_rate_millis, source: input.setup()? })
            }
            3 => Request::Unit(Unit { pts: input.i64()?, after_gap: input.flag()?, data: input.bytes()?.to_vec() }),
            4 => Request::KeyFrame,
            5 => Request::End,
            _ => return Err(MessageError::Value("kind of request")),
        };
        input.end(request)
    }
}

fn timescale(input: &mut Reader<'_>) -> Result<u32, MessageError> {
    match input.u32()? {
        0 => Err(MessageError::Value("timescale")),
        hz => Ok(hz),
    }
}

impl Reply {
    /// The message, without its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Reply::Ready => out.u8(1),
            Reply::Started => out.u8(2),
            Reply::Made(Made { pts, data }) => {
                out.u8(3);
                out.i64(*pts);
                out.bytes(data);
            }
            Reply::Took => out.u8(4),
            Reply::Ended => out.u8(5),
            Reply::Failed { kind, text } => {
                out.u8(6);
                out.failure(*kind, text);
            }
        }
        out.into_bytes()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Reply, MessageError> {
        let mut input = Reader::new(bytes);
        let reply = match input.u8()? {
            1 => Reply::Ready,
            2 => Reply::Started,
            3 => Reply::Made(Made { pts: input.i64()?, data: input.bytes()?.to_vec() }),
            4 => Reply::Took,
            5 => Reply::Ended,
            6 => {
                let (kind, text) = input.failure()?;
                Reply::Failed { kind, text }
            }
            _ => return Err(MessageError::Value("kind of reply")),
        };
        input.end(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoding::PictureCodec;

    fn requests() -> Vec<Request> {
        let source = decoding::Setup {
            stream: 0,
            codec: PictureCodec::H264,
            config: vec![1, 2],
            width: 640,
            height: 360,
            has_holes: false,
        };
        vec![
            Request::Start(Setup::Sound { config: vec![0x11, 0x90], timescale: 48_000, channels: 2 }),
            Request::Start(Setup::Pictures { source, timescale: 90_000, frame_rate_millis: 25_000 }),
            Request::Unit(Unit { pts: -1024, after_gap: true, data: vec![1, 2, 3] }),
            Request::KeyFrame,
            Request::End,
        ]
    }

    fn replies() -> Vec<Reply> {
        vec![
            Reply::Ready,
            Reply::Started,
            Reply::Made(Made { pts: i64::MIN, data: vec![0xfc; 3] }),
            Reply::Took,
            Reply::Ended,
            Reply::Failed { kind: FailureKind::NoDecoder, text: "no encoder".to_owned() },
        ]
    }

    #[test]
    fn messages_come_back_and_no_part_of_one_is_taken_for_it() {
        for request in requests() {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            for end in 0..bytes.len() {
                assert_eq!(Request::decode(&bytes[..end]), Err(MessageError::Length), "cut at {end}");
            }
        }
        for reply in replies() {
            let bytes = reply.encode();
            assert_eq!(Reply::decode(&bytes), Ok(reply));
            assert_eq!(Reply::decode(&[&bytes[..], &[0]].concat()), Err(MessageError::Length));
        }
    }

    #[test]
    fn work_that_cannot_be_is_refused() {
        let sound = |timescale, channels| {
            Request::decode(&Request::Start(Setup::Sound { config: Vec::new(), timescale, channels }).encode())
        };
        assert_eq!(sound(0, 1), Err(MessageError::Value("timescale")));
        assert_eq!(sound(48_000, 0), Err(MessageError::Value("count of channels")));
        assert_eq!(sound(48_000, 3), Err(MessageError::Value("count of channels")));
    }
}
