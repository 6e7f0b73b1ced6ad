//! The program `kinora-decoder`: started with nothing of our surroundings, and killed when nobody holds it any more.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

/// Time to start, with every plug-in looked at for the first time.
pub(super) const START_MAX: Duration = Duration::from_secs(60);
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
}

impl Drop for Child {
    fn drop(&mut self) {
        // It keeps nothing: there is no reason to ask nicely.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that was started, our end of its socket, and the memory that it shares with us.
pub(super) struct Started {
    pub child: Child,
    pub socket: UnixStream,
    pub memory: File,
}

/// Starts `program`, with `word` when it is to do other work than pictures.
///
/// # Errors
/// When it cannot be.
pub(super) fn start(program: &Path, registry: &Path, word: Option<&str>) -> Result<Started, Broken> {
    let no_program = |error: io::Error| Broken::NoProgram(format!("{}: {error}", program.display()));
    let (socket, theirs) = UnixStream::pair().map_err(no_program)?;
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create("kinora-pictures", flags).map_err(|error| no_program(error.into()))?;
    let memory = File::from(memory);
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
        .stdout(Stdio::from(memory.try_clone().map_err(no_program)?))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_program)?;
    let mut child = Child(child);
    if let Some(stderr) = child.0.stderr.take() {
        let logged = std::thread::Builder::new().name("decoder-log".into()).spawn(move || log_complaints(stderr));
        logged.map_err(no_program)?;
    }
    Ok(Started { child, socket, memory })
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
