//! The line to a process that transcodes: messages go out and come in without either waiting for the other.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use media::transcoding::{MESSAGE_MAX, Reply, Request};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::TranscodeSettings;
use crate::workers::program::{self, Broken, Child, Started};

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// A process, and what is on its way to it and from it.
pub(super) struct Line {
    /// Held: the process ends with it.
    child: Child,
    socket: UnixStream,
    unsent: BytesMut,
    unread: BytesMut,
}

impl Line {
    /// Starts a process.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn open(settings: &TranscodeSettings) -> Result<Line, Broken> {
        let (path, registry) = (settings.program.clone(), settings.registry.clone());
        let started = tokio::task::spawn_blocking(move || program::start(&path, &registry, Some("transcode")));
        let started = started.await.map_err(|error| Broken::NoProgram(error.to_string()))??;
        let Started { child, socket, .. } = started;
        socket.set_nonblocking(true)?;
        tracing::debug!(pid = child.pid(), "a process that transcodes is started");
        Ok(Line { child, socket: UnixStream::from_std(socket)?, unsent: BytesMut::new(), unread: BytesMut::new() })
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether the process holds more memory than it should.
    pub fn is_bloated(&self) -> bool {
        self.child.is_bloated()
    }

    /// Puts a message on its way; [`Line::next`] sends it.
    pub fn say(&mut self, request: &Request) {
        let message = request.encode();
        self.unsent.put_u32_le(message.len() as u32);
        self.unsent.put_slice(&message);
    }

    /// The next answer. Sends meanwhile what is on its way. May be dropped and called again.
    ///
    /// # Errors
    /// When the process is gone or does not keep to the messages.
    pub async fn next(&mut self) -> Result<Reply, Broken> {
        loop {
            if let Some(reply) = self.parse()? {
                return Ok(reply);
            }
            let interest =
                if self.unsent.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let ready = self.socket.ready(interest).await?;
            if ready.is_writable() && !self.unsent.is_empty() {
                let sent = would_wait(self.socket.try_write(&self.unsent))?;
                self.unsent.advance(sent.unwrap_or(0));
            }
            if ready.is_readable() {
                self.unread.reserve(READ);
                if would_wait(self.socket.try_read_buf(&mut self.unread))? == Some(0) {
                    return Err(Broken::Died("it ended unexpectedly"));
                }
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Reply>, Broken> {
        let Some(head) = self.unread.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MESSAGE_MAX {
            return Err(Broken::Died("it does not keep to the messages"));
        }
        let Some(message) = self.unread.get(4..4 + length) else { return Ok(None) };
        let reply = Reply::decode(message).map_err(|_| Broken::Died("it does not keep to the messages"))?;
        self.unread.advance(4 + length);
        Ok(Some(reply))
    }
}

/// None where the socket has to be waited for.
fn would_wait(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
