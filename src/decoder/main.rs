//! `kinora-decoder`: pictures out of coded video, and tracks in another codec, in a process of its own.
//!
//! The server starts it with a socket as standard input and a shared memory file as standard output. It loads its codecs,
//! locks itself in (no files, no network, no more processes, little memory), says that it is ready, and then does the
//! jobs of [`media::decoding`] one after another until the socket closes. It keeps nothing and knows no stream: a picture
//! is what the units before it make of it. Started with the word `transcode` it does one piece of work instead, that of
//! [`media::transcoding`], for as long as units come.
//!
//! Here, and nowhere else, GStreamer is linked. Not here: which units to decode (`frames`), who waits for which job and
//! what becomes of a decoder that dies (`workers`).

mod colour;
mod context;
mod encode;
mod link;
mod picture;
mod pipeline;
mod sandbox;
mod stage;
mod transcode;

use std::process::ExitCode;

use media::decoding::{FailureKind, PICTURE_CODECS, PictureCodec, Reply, Request};

use context::Contexts;
use link::{Link, Memory};

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    kind: FailureKind,
    text: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into() }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kinora-decoder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let transcodes = match (arguments.next(), arguments.next()) {
        (None, _) => false,
        (Some(word), None) if word == "transcode" => true,
        _ => return Err("this program is started by kinora, and takes no arguments".into()),
    };
    let (mut link, memory) = link::take_standard_streams()?;
    sandbox::lower_priority();
    gstreamer::init()?;
    if transcodes {
        transcode::load();
        sandbox::lock()?;
        return transcode::serve(&mut link);
    }
    let codecs: Vec<PictureCodec> = PICTURE_CODECS.into_iter().filter(|codec| pipeline::load(*codec)).collect();
    encode::warm_up()?;
    let memory = Memory::map(memory)?;
    sandbox::lock()?;
    link.send(&Reply::Ready(codecs))?;
    serve(&mut link, &memory)
}

/// Does jobs until the server hangs up.
fn serve(link: &mut Link, memory: &Memory) -> Result<(), Box<dyn std::error::Error>> {
    let mut contexts = Contexts::default();
    while let Some(request) = link.receive()? {
        let Request::Decode(job) = request else {
            // Of a job that ended meanwhile.
            continue;
        };
        let context = job.context;
        match contexts.run(job, link, memory) {
            Ok(done) => link.send(&done)?,
            Err(context::Stopped::Failed(failure)) => {
                contexts.forget(context);
                link.send(&Reply::Failed { kind: failure.kind, text: failure.text })?;
            }
            Err(context::Stopped::Link(error)) => return Err(error.into()),
        }
    }
    Ok(())
}
