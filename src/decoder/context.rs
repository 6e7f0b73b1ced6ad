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

/// Most pictures that came out early and are kept for a later job: there are as many as a stream reorders.
const KEPT_MAX: usize = 8;

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
    contexts: HashMap<u8, Context>,
    encoder: Encoder,
}

/// A decoder and what it has left.
struct Context {
    pipeline: Pipeline,
    /// Pictures that came out before they were wanted, and the last wanted one, which may be wanted in another size;
    /// ascending in time.
    kept: Vec<Decoded>,
    /// Nothing is inside any more, and no unit can be given.
    drained: bool,
}

impl Contexts {
    /// Lets go of a decoder.
    pub(crate) fn forget(&mut self, context: u8) {
        self.contexts.remove(&context);
    }

    /// Does a job: sends its pictures, and returns what ends it.
    pub(crate) fn run(&mut self, job: Job, link: &mut Link, memory: &Memory) -> Result<Reply, Stopped> {
        if job.context >= CONTEXTS_MAX {
            return Err(Failure::new(FailureKind::Job, "no such context").into());
        }
        if let Some(setup) = &job.start {
            let fits = self.contexts.get(&job.context).is_some_and(|context| context.pipeline.setup() == setup);
            match self.contexts.get_mut(&job.context).filter(|_| fits) {
                Some(context) => {
                    context.pipeline.restart()?;
                    context.kept.clear();
                    context.drained = false;
                }
                None => {
                    let context = Context { pipeline: Pipeline::new(setup)?, kept: Vec::new(), drained: false };
                    self.contexts.insert(job.context, context);
                }
            }
        }
        let context = self.contexts.get_mut(&job.context);
        let context = context.ok_or_else(|| Failure::new(FailureKind::Job, "nothing to go on with"))?;
        if context.drained && !job.units.is_empty() {
            return Err(Failure::new(FailureKind::Job, "nothing can follow the end").into());
        }
        let mut run =
            Run { job: &job, missing: job.wanted.len(), next_at: job.pictures_at, gone_ns: None, kept: Vec::new() };
        run.hand_out(std::mem::take(&mut context.kept), &mut self.encoder, link, memory)?;
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
            let out = context.pipeline.feed(data, unit.shown_ns)?;
            fed += 1;
            run.hand_out(out, &mut self.encoder, link, memory)?;
        }
        if run.missing > 0 && !context.drained {
            context.drained = true;
            let out = context.pipeline.drain()?;
            run.hand_out(out, &mut self.encoder, link, memory)?;
        }
        let Run { kept, gone_ns, .. } = run;
        context.kept = kept;
        Ok(Reply::Done { fed, gone_ns, drained: context.drained })
    }
}

/// A job on its way.
struct Run<'a> {
    job: &'a Job,
    /// Wanted pictures that have not come out.
    missing: usize,
    /// Where the next picture goes in the shared memory.
    next_at: u64,
    /// Time of the last picture that was let go.
    gone_ns: Option<u64>,
    kept: Vec<Decoded>,
}

impl Run<'_> {
    /// Makes files of those pictures that are wanted, and keeps those that may be wanted later.
    fn hand_out(
        &mut self,
        pictures: Vec<Decoded>,
        encoder: &mut Encoder,
        link: &mut Link,
        memory: &Memory,
    ) -> Result<(), Stopped> {
        for decoded in pictures {
            let Some(shown_ns) = decoded.shown_ns() else { continue };
            if self.job.wanted.binary_search(&shown_ns).is_ok() {
                self.send(&decoded, shown_ns, encoder, link, memory)?;
            }
            if self.job.wanted.last().is_some_and(|last| shown_ns < *last) {
                self.gone_ns = self.gone_ns.max(Some(shown_ns));
                continue;
            }
            self.kept.push(decoded);
            if self.kept.len() > KEPT_MAX {
                self.gone_ns = self.gone_ns.max(self.kept.remove(0).shown_ns());
            }
        }
        Ok(())
    }

    /// Makes a file of a picture.
    fn send(
        &mut self,
        decoded: &Decoded,
        shown_ns: u64,
        encoder: &mut Encoder,
        link: &mut Link,
        memory: &Memory,
    ) -> Result<(), Stopped> {
        let mut paper = memory.paper(self.next_at, self.job.pictures_end);
        let (width, height) = encoder.make(decoded, &self.job.output, &mut paper)?;
        let end = paper.end();
        let reply = Reply::Picture(Picture {
            shown_ns,
            at: self.next_at,
            len: (end - self.next_at) as u32,
            width,
            height,
            colours: decoded.colours(),
            corrupt: decoded.is_corrupt(),
        });
        link.send(&reply)?;
        self.next_at = end;
        self.missing = self.missing.saturating_sub(1);
        Ok(())
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
