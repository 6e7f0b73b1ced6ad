//! Decoders that keep their place between jobs, and a job's way through one of them.

use std::collections::HashMap;
use std::io;

use media::codec::MAX_ACCESS_UNIT_BYTES;
use media::decoding::{FailureKind, Job, Picture, Reply};

use crate::Failure;
use crate::encode::Encoder;
use crate::link::{Link, Memory};
use crate::picture::Decoded;
use crate::pipeline::Pipeline;

/// Most decoders at once: each holds the reference pictures of a stream.
const CONTEXTS_MAX: u8 = 4;

/// Why a job ended early.
pub(crate) enum Stopped {
    /// The job cannot be done; others can.
    Failed(Failure),
    /// The server cannot be talked to.
    Link(io::Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failed(failure)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Link(error)
    }
}

/// The decoders by the numbers that the server gave them.
#[derive(Default)]
pub(crate) struct Contexts {
    pipelines: HashMap<u8, Pipeline>,
    encoder: Encoder,
}

impl Contexts {
    /// Lets go of a decoder.
    pub(crate) fn forget(&mut self, context: u8) {
        self.pipelines.remove(&context);
    }

    /// Does a job: sends its pictures, and returns what ends it.
    pub(crate) fn run(&mut self, job: Job, link: &mut Link, memory: &Memory) -> Result<Reply, Stopped> {
        if job.context >= CONTEXTS_MAX {
            return Err(Failure::new(FailureKind::Job, "no such context").into());
        }
        if let Some(setup) = &job.start {
            let fits = self.pipelines.get(&job.context).is_some_and(|pipeline| pipeline.setup() == setup);
            match self.pipelines.get_mut(&job.context).filter(|_| fits) {
                Some(pipeline) => pipeline.restart()?,
                None => {
                    self.pipelines.insert(job.context, Pipeline::new(setup)?);
                }
            }
        }
        let pipeline = self.pipelines.get_mut(&job.context);
        let pipeline = pipeline.ok_or_else(|| Failure::new(FailureKind::Job, "nothing to go on with"))?;
        let mut run = Run { job: &job, missing: job.wanted.len(), next_at: job.pictures_at, last_shown_ns: None };
        let mut fed = 0;
        for unit in &job.units {
            if fed >= job.required && run.missing == 0 {
                break;
            }
            if link.is_cancelled()? {
                return Err(Failure::new(FailureKind::Cancelled, "cancelled").into());
            }
            if unit.len as usize > MAX_ACCESS_UNIT_BYTES {
                return Err(Failure::new(FailureKind::Job, "a unit is too long").into());
            }
            let data = memory.read(unit.at, unit.len)?;
            let out = pipeline.feed(data, unit.shown_ns)?;
            fed += 1;
            run.hand_out(out, &mut self.encoder, link, memory)?;
        }
        let drained = run.missing > 0;
        if drained {
            let out = pipeline.drain()?;
            run.hand_out(out, &mut self.encoder, link, memory)?;
        }
        Ok(Reply::Done { fed, last_shown_ns: run.last_shown_ns, drained })
    }
}

/// A job on its way.
struct Run<'a> {
    job: &'a Job,
    /// Wanted pictures that have not come out.
    missing: usize,
    /// Where the next picture goes in the shared memory.
    next_at: u64,
    last_shown_ns: Option<u64>,
}

impl Run<'_> {
    /// Makes files of those pictures that are wanted.
    fn hand_out(
        &mut self,
        pictures: Vec<Decoded>,
        encoder: &mut Encoder,
        link: &mut Link,
        memory: &Memory,
    ) -> Result<(), Stopped> {
        for decoded in pictures {
            let Some(shown_ns) = decoded.shown_ns() else { continue };
            self.last_shown_ns = self.last_shown_ns.max(Some(shown_ns));
            if self.job.wanted.binary_search(&shown_ns).is_err() {
                continue;
            }
            let mut paper = memory.paper(self.next_at, self.job.pictures_end);
            let (width, height) = encoder.make(&decoded, &self.job.output, &mut paper)?;
            let end = paper.end()?;
            let reply = Reply::Picture(Picture {
                shown_ns,
                at: self.next_at,
                len: (end - self.next_at) as u32,
                width,
                height,
                corrupt: decoded.is_corrupt(),
            });
            link.send(&reply)?;
            self.next_at = end;
            self.missing = self.missing.saturating_sub(1);
        }
        Ok(())
    }
}
