//! The memory that we share with a decoder process: coded pictures go in, finished ones come out.
//!
//! A file without a name. Its first part is mapped on both sides for as long as the process lives: pages that are there need
//! neither be made nor looked for again. What does not fit into it is written and read by calls. Nobody can make the file
//! shorter, so what is mapped is always there; and bytes are copied out before anybody looks at them, so what a decoder
//! taken over by a stranger's bytes does to them meanwhile makes a picture wrong and nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use media::decoding::MAPPED_BYTES;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Memory shared with a decoder process.
pub(super) struct Memory {
    file: File,
    mapped: MmapRegion,
}

impl Memory {
    pub fn new() -> io::Result<Memory> {
        let file = rustix::fs::memfd_create("kinora-pictures", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file = File::from(file);
        file.set_len(MAPPED_BYTES)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
        let mapped = MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), MAPPED_BYTES as usize);
        Ok(Memory { file, mapped: mapped.map_err(io::Error::other)? })
    }

    /// The file, for the other side.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self.slice(at, bytes.len()) {
            Some(slice) => {
                slice.copy_from(bytes);
                Ok(())
            }
            None => self.file.write_all_at(bytes, at),
        }
    }

    /// Fills `bytes` with those from `at` on.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.slice(at, bytes.len()) {
            Some(slice) => {
                slice.copy_to(bytes);
                Ok(())
            }
            None => self.file.read_exact_at(bytes, at),
        }
    }

    /// Gives the pages behind the mapped part back to the system.
    pub fn trim(&self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        if len <= MAPPED_BYTES {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, hole, MAPPED_BYTES, len - MAPPED_BYTES)?)
    }

    /// A part that is mapped; none where it is not, or not as a whole.
    fn slice(&self, at: u64, len: usize) -> Option<VolatileSlice<'_>> {
        self.mapped.get_slice(usize::try_from(at).ok()?, len).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn read(memory: &Memory, at: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        memory.read(at, &mut bytes).expect("read");
        bytes
    }

    #[test]
    fn what_is_mapped_and_what_is_not_are_one_file() {
        let memory = Memory::new().expect("memory");
        let other = memory.file().expect("another handle");
        for at in [0, MAPPED_BYTES - 8, MAPPED_BYTES - 4, MAPPED_BYTES, 3 * MAPPED_BYTES] {
            let bytes = (at + 0x0102_0304).to_be_bytes();
            memory.write(at, &bytes).expect("written");
            assert_eq!(read(&memory, at), bytes, "at {at}");
            let mut seen = [0; 8];
            other.read_exact_at(&mut seen, at).expect("read by the other side");
            assert_eq!(seen, bytes, "at {at}");
            let answer = (!at).to_be_bytes();
            other.write_all_at(&answer, at).expect("written by the other side");
            assert_eq!(read(&memory, at), answer, "at {at}");
        }
        assert!(memory.read(4 * MAPPED_BYTES, &mut [0]).is_err(), "behind the end");
    }

    #[test]
    fn the_other_side_cannot_take_away_what_is_mapped() {
        let memory = Memory::new().expect("memory");
        let other = memory.file().expect("another handle");
        assert!(other.set_len(0).is_err());
        assert!(other.set_len(2 * MAPPED_BYTES).is_ok());
        assert!(other.set_len(MAPPED_BYTES).is_err());
    }

    #[test]
    fn what_is_behind_the_mapped_part_is_given_back() {
        let memory = Memory::new().expect("memory");
        memory.trim().expect("nothing to do");
        memory.write(0, &[7; 8]).expect("written");
        memory.write(MAPPED_BYTES, &vec![7; 1 << 20]).expect("written");
        let blocks = || memory.file.metadata().expect("known").blocks();
        assert!(blocks() * 512 > 1 << 20);
        memory.trim().expect("trimmed");
        assert!(blocks() * 512 < 1 << 16);
        assert_eq!(read(&memory, 0), [7; 8], "what is mapped stays");
        assert_eq!(read(&memory, MAPPED_BYTES), [0; 8]);
    }
}
