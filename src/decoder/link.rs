//! The socket and the shared memory that the server gave us.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use media::decoding::{FailureKind, MAPPED_BYTES, MESSAGE_MAX, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::Failure;
use crate::context::Stopped;

/// The socket to the server.
pub(crate) struct Link(UnixStream);

/// The memory shared with the server: a file without a name, whose first part is mapped. Pages that are there need neither be made nor
/// looked for again, which for a large picture takes longer than copying it.
pub(crate) struct Memory {
    file: File,
    mapped: MmapRegion,
}

/// Standard input as the socket and standard output as the memory. Whatever a library prints goes to standard error.
///
/// # Errors
/// When they are not there.
pub(crate) fn take_standard_streams() -> io::Result<(Link, File)> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A pipe or a terminal is no socket: somebody started us by hand.
    socket.peer_addr().map_err(|_| io::Error::other("standard input is not the server's socket"))?;
    let memory = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((Link(socket), memory))
}

impl Link {
    /// The next request; none when the server hung up.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Request>> {
        let Some(bytes) = self.receive_bytes(MESSAGE_MAX)? else { return Ok(None) };
        Request::decode(&bytes).map(Some).map_err(io::Error::other)
    }

    /// The next message, of at most `most` bytes; none when the server hung up.
    pub(crate) fn receive_bytes(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > most {
            return Err(io::Error::other("message of the server is too long"));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Whether the server wants the job that runs to end: it says so, or is gone.
    pub(crate) fn is_cancelled(&mut self) -> io::Result<bool> {
        let mut sockets = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut sockets, Some(&now))? == 0 {
            return Ok(false);
        }
        match self.receive()? {
            Some(Request::Cancel) | None => Ok(true),
            Some(Request::Decode(_)) => Err(io::Error::other("a job was sent before the last one ended")),
        }
    }

    pub(crate) fn send(&mut self, reply: &Reply) -> io::Result<()> {
        self.send_bytes(&reply.encode())
    }

    /// Sends a message.
    pub(crate) fn send_bytes(&mut self, message: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(message.len() + 4);
        bytes.extend((message.len() as u32).to_le_bytes());
        bytes.extend(message);
        self.0.write_all(&bytes)
    }
}

impl Memory {
    /// Maps what the server promises of the file.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn map(file: File) -> io::Result<Memory> {
        let mapped = MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), MAPPED_BYTES as usize);
        Ok(Memory { file, mapped: mapped.map_err(io::Error::other)? })
    }

    /// The bytes at an offset.
    ///
    /// # Errors
    /// When they are not all there.
    pub(crate) fn read(&self, at: u64, len: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match usize::try_from(at).map(|at| self.mapped.get_slice(at, bytes.len())) {
            Ok(Ok(slice)) => {
                slice.copy_from(bytes);
                Ok(())
            }
            _ => self.file.write_all_at(bytes, at),
        }
    }

    /// The part from `at` to `end`, for one picture.
    pub(crate) fn paper(&self, at: u64, end: u64) -> Paper<'_> {
        Paper { memory: self, at, most: end }
    }
}

/// A part of the shared memory that a picture is written to, from its start on.
pub(crate) struct Paper<'a> {
    memory: &'a Memory,
    at: u64,
    /// Where it must end.
    most: u64,
}

impl Paper<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let end = self.at.checked_add(bytes.len() as u64).filter(|end| *end <= self.most);
        let end = end.ok_or_else(|| Failure::new(FailureKind::Job, "no room for the pictures"))?;
        self.memory.write(self.at, bytes)?;
        self.at = end;
        Ok(())
    }

    /// Where what was written ends.
    pub(crate) fn end(&self) -> u64 {
        self.at
    }
}

#[cfg(test)]
impl Link {
    /// A link, and the server's end of it.
    pub(crate) fn pair() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (Link(ours), theirs)
    }
}

#[cfg(test)]
impl Memory {
    pub(crate) fn with(bytes: &[u8]) -> Memory {
        let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
        let file = File::from(memory);
        file.set_len(MAPPED_BYTES).expect("as long as is mapped");
        file.write_all_at(bytes, 0).expect("written");
        Memory::map(file).expect("mapped")
    }
}
