//! One track transcoded: units in, units of another codec out, in order, as soon as they can be.
//!
//! What comes out of a unit is sent before the next is read, so the process holds no queue: the server has it, and decides
//! what is left out when we are behind.
//!
//! Not here: what a process may still do (`sandbox`), who wants the outcome (`workers` of the server).

mod level;
mod pictures;
mod sound;
mod steady;

use media::decoding::FailureKind;
use media::transcoding::{MESSAGE_MAX, Made, Reply, Request, Setup, Unit};

use crate::Failure;
use crate::link::Link;
use pictures::Pictures;
use sound::Sound;

/// Loads everything that either kind of work needs, while files can be opened.
///
/// What is not installed is said when work that needs it is asked for.
pub(crate) fn load() {
    sound::load();
    pictures::load();
}

/// Units one after another that cannot be worked on, even by codecs that start anew with each: beyond it the source is of no use.
const REFUSED_MAX: u32 = 100;

/// The work of this process.
struct Work {
    setup: Setup,
    codecs: Codecs,
    /// Units that were refused since the last one that was not.
    refused: u32,
}

impl Work {
    fn new(setup: Setup) -> Result<Work, Failure> {
        let codecs = Codecs::new(&setup)?;
        Ok(Work { setup, codecs, refused: 0 })
    }

    /// What comes of a unit: nothing when it is one that codecs refuse, also when they start anew with it.
    fn feed(&mut self, unit: Unit) -> Result<Vec<Made>, Failure> {
        let made = match self.codecs.feed(unit.clone()) {
            Err(failure) if failure.kind == FailureKind::Damaged => {
                // Those that gave up do so for good.
                self.codecs = Codecs::new(&self.setup)?;
                self.codecs.feed(unit)
            }
            outcome => outcome,
        };
        match made {
            Ok(made) => {
                self.refused = 0;
                Ok(made)
            }
            Err(failure) if failure.kind == FailureKind::Damaged && self.refused < REFUSED_MAX => {
                self.refused += 1;
                self.codecs = Codecs::new(&self.setup)?;
                Ok(Vec::new())
            }
            Err(failure) => Err(failure),
        }
    }
}

/// A decoder and an encoder.
enum Codecs {
    Sound(Box<Sound>),
    Pictures(Box<Pictures>),
}

impl Codecs {
    fn new(setup: &Setup) -> Result<Codecs, Failure> {
        match setup {
            Setup::Sound { config, timescale, channels } => {
                Ok(Codecs::Sound(Box::new(Sound::new(config, *timescale, *channels)?)))
            }
            Setup::Pictures { source, timescale, frame_rate_millis } => {
                Ok(Codecs::Pictures(Box::new(Pictures::new(source, *timescale, *frame_rate_millis)?)))
            }
        }
    }

    fn feed(&mut self, unit: Unit) -> Result<Vec<Made>, Failure> {
        match self {
            Codecs::Sound(sound) => sound.feed(unit),
            Codecs::Pictures(pictures) => pictures.feed(unit),
        }
    }

    fn drain(&mut self) -> Result<Vec<Made>, Failure> {
        match self {
            Codecs::Sound(sound) => sound.drain(),
            Codecs::Pictures(pictures) => pictures.drain(),
        }
    }
}

/// Does the work that the server asks for, until it has no more units or hangs up.
///
/// # Errors
/// When the server cannot be talked to or does not keep to the messages.
pub(crate) fn serve(link: &mut Link) -> Result<(), Box<dyn std::error::Error>> {
    send(link, &Reply::Ready)?;
    let mut work: Option<Work> = None;
    while let Some(bytes) = link.receive_bytes(MESSAGE_MAX)? {
        let request = Request::decode(&bytes)?;
        let is_end = request == Request::End;
        match apply(&mut work, request) {
            Ok((made, last)) => {
                for made in made {
                    send(link, &Reply::Made(made))?;
                }
                if let Some(last) = last {
                    send(link, &last)?;
                }
                if is_end {
                    return Ok(());
                }
            }
            Err(Failure { kind, text }) => {
                send(link, &Reply::Failed { kind, text })?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What comes of a request: units, and what is said after them.
fn apply(work: &mut Option<Work>, request: Request) -> Result<(Vec<Made>, Option<Reply>), Failure> {
    match (work.as_mut(), request) {
        (None, Request::Start(setup)) => {
            *work = Some(Work::new(setup)?);
            Ok((Vec::new(), Some(Reply::Started)))
        }
        (Some(work), Request::Unit(unit)) => Ok((work.feed(unit)?, Some(Reply::Took))),
        (Some(work), Request::End) => Ok((work.codecs.drain()?, Some(Reply::Ended))),
        (Some(work), Request::KeyFrame) => {
            // Sound can be taken up anywhere.
            if let Codecs::Pictures(pictures) = &mut work.codecs {
                pictures.want_key_frame();
            }
            Ok((Vec::new(), None))
        }
        (None, _) | (Some(_), Request::Start(_)) => {
            Err(Failure::new(FailureKind::Job, "work is started once, and first"))
        }
    }
}

fn send(link: &mut Link, reply: &Reply) -> std::io::Result<()> {
    link.send_bytes(&reply.encode())
}
