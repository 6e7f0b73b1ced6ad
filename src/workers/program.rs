//! The program `kinora-decoder`: started with nothing of our surroundings, and killed when nobody holds it any more.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::memory::Memory;

/// Time to start, with every plug-in looked at for the first time.
pub(super) const START_MAX: Duration = Duration::from_secs(60);
/// Memory beyond which a process is replaced: it leaks, or was given giants.
const RESIDENT_MAX: u64 = 3 << 29;
/// Longest line of a decoder's complaints that is logged, and most of them.
const COMPLAINT_BYTES: u64 = 1024;
const COMPLAINTS: usize = 100;

/// Why a process is of no more use.
#[derive(Debug)]
pub(super) enum Broken {
    /// It cannot be started.
    NoProgram(String),
    /// It died, hung, or does not keep to the messages.
    Died(&'static str),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        tracing::debug!(%error, "lost a decoder");
        Broken::Died("it ended unexpectedly")
    }
}

/// A process that is killed, and waited for, when this is dropped.
pub(super) struct Child(std::process::Child);

impl Child {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it holds more memory than it should.
    pub fn is_bloated(&self) -> bool {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()));
        let resident = pages.ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        resident.is_some_and(|pages| pages * rustix::param::page_size() as u64 > RESIDENT_MAX)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.0.try_wait() {
            tracing::debug!(pid = self.pid(), %status, "a decoder ended by itself");
        }
        // It keeps nothing: there is no reason to ask nicely.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that was started, our end of its socket, and the memory that it shares with us.
pub(super) struct Started {
    pub child: Child,
    pub socket: UnixStream,
    pub memory: Memory,
}

/// Starts `program`, with `word` when it is to do other work than pictures.
///
/// A decoder asks the kernel to be killed when its parent is gone, and to the kernel the parent is the thread that
/// started it (prctl(2), PR_SET_PDEATHSIG): so that is one which stays, to log what the decoder complains of.
///
/// # Errors
/// When it cannot be.
pub(super) fn start(program: &Path, registry: &Path, word: Option<&'static str>) -> Result<Started, Broken> {
    let no_program = |error: io::Error| Broken::NoProgram(format!("{}: {error}", program.display()));
    let (answer, started) = sync_channel(1);
    let (path, registry) = (program.to_owned(), registry.to_owned());
    let stays = std::thread::Builder::new().name("decoder-log".into()).spawn(move || {
        let mut outcome = spawn(&path, &registry, word);
        let stderr = outcome.as_mut().ok().and_then(|started| started.child.0.stderr.take());
        // Who asked waits for it.
        let _ = answer.send(outcome);
        stderr.into_iter().for_each(log_complaints);
    });
    stays.map_err(no_program)?;
    match started.recv() {
        Ok(outcome) => outcome.map_err(no_program),
        Err(_) => Err(Broken::Died("it could not be started")),
    }
}

fn spawn(program: &Path, registry: &Path, word: Option<&str>) -> io::Result<Started> {
    let (socket, theirs) = UnixStream::pair()?;
    let memory = Memory::new()?;
    let mut command = Command::new(program);
    command.args(word).env_clear().env("GST_REGISTRY", registry);
    // What says where libraries and hardware drivers are; nothing else of our surroundings is a decoder's business.
    for name in ["LD_LIBRARY_PATH", "GST_PLUGIN_PATH", "GST_PLUGIN_SYSTEM_PATH", "LIBVA_DRIVER_NAME", "PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let child = command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(memory.file()?))
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Started { child: Child(child), socket, memory })
}

/// Passes on what libraries in a decoder say, as far as it is sane to.
fn log_complaints(stderr: ChildStderr) {
    let mut input = BufReader::new(stderr);
    let mut said = 0;
    loop {
        let mut line = Vec::new();
        match (&mut input).take(COMPLAINT_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if said < COMPLAINTS => {
                said += 1;
                tracing::debug!(said = %String::from_utf8_lossy(&line).trim_end().escape_debug(), "a decoder complains");
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use media::transcoding::{Reply, Request, Setup};

    use super::*;
    use crate::workers::transcode::tests::program;

    fn receive(socket: &mut UnixStream) -> Reply {
        let mut length = [0; 4];
        socket.read_exact(&mut length).expect("a length");
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        socket.read_exact(&mut message).expect("a message");
        Reply::decode(&message).expect("an answer")
    }

    #[test]
    fn a_process_outlives_the_thread_that_wanted_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("registry");
        let wants = std::thread::spawn(move || {
            let mut started = start(&program(), &registry, Some("transcode")).expect("started");
            assert_eq!(receive(&mut started.socket), Reply::Ready);
            (started, std::fs::read_link("/proc/thread-self").expect("this thread"))
        });
        let (mut started, thread) = wants.join().expect("it ends");
        while Path::new("/proc").join(&thread).exists() {
            std::thread::yield_now();
        }
        let work = Request::Start(Setup::Sound { config: vec![0x11, 0x90], timescale: 48_000, channels: 2 }).encode();
        started.socket.write_all(&(work.len() as u32).to_le_bytes()).expect("sent");
        started.socket.write_all(&work).expect("sent");
        assert_eq!(receive(&mut started.socket), Reply::Started);
    }
}
