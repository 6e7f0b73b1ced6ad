//! Where pictures go, and how their files are named.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::ask::{Form, micros};
use super::parcels::Parcel;
use crate::cli::CommandError;
use crate::doors::http::time::format_micros;

/// Where pictures go.
pub(super) enum Place {
    StandardOutput,
    File(PathBuf),
    /// Files named by this stream and their time.
    Folder {
        path: PathBuf,
        stream: String,
    },
}

impl Place {
    /// What a path means.
    ///
    /// # Errors
    /// When several pictures cannot go there.
    pub(super) fn new(stream: &str, path: &Path, is_one: bool) -> Result<Place, CommandError> {
        let is_folder = path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
        match (is_one, path.as_os_str() == "-", is_folder) {
            (true, true, _) => Ok(Place::StandardOutput),
            (true, false, false) => Ok(Place::File(path.to_owned())),
            (false, true, _) => Err(CommandError::Failed("several pictures go to a folder: --output FOLDER".into())),
            _ if path.is_file() => {
                let text = format!("{} is a file; several pictures go to a folder", path.display());
                Err(CommandError::Failed(text))
            }
            _ => {
                // A name that a server would refuse must not lead out of the folder.
                let named = |c: char| if c == '/' || c.is_control() { '_' } else { c };
                Ok(Place::Folder { path: path.to_owned(), stream: stream.chars().map(named).collect() })
            }
        }
    }

    /// Whether the file of a picture that was taken at this very time is there.
    pub(super) fn has(&self, at_us: i64, form: &Form) -> bool {
        match self {
            Place::Folder { path, stream } if !form.is_bare => path.join(name(stream, at_us, "", form)).is_file(),
            _ => false,
        }
    }

    /// Writes a picture; where it is now, if that is a file.
    ///
    /// # Errors
    /// What the disk says, and which file it was about.
    pub(super) fn save(&self, parcel: &Parcel, bytes: &[u8], form: &Form) -> Result<Option<PathBuf>, CommandError> {
        let path = match self {
            Place::StandardOutput => {
                let mut out = io::stdout().lock();
                let written = out.write_all(bytes).and_then(|()| out.flush());
                written.map_err(|error| CommandError::Failed(format!("write to standard output: {error}")))?;
                return Ok(None);
            }
            Place::File(path) => path.clone(),
            Place::Folder { path, stream } => {
                let size = match form.is_bare {
                    true => format!("-{}x{}", parcel.caption["width"], parcel.caption["height"]),
                    false => String::new(),
                };
                path.join(name(stream, time_us(parcel)?, &size, form))
            }
        };
        write(&path, bytes).map_err(|error| CommandError::Failed(format!("write {}: {error}", path.display())))?;
        Ok(Some(path))
    }
}

/// Writes a file that appears whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

/// When a picture was taken.
pub(super) fn time_us(parcel: &Parcel) -> Result<i64, CommandError> {
    micros("Kinora-Time", parcel.caption.get("time").and_then(|time| time.as_str()).unwrap_or_default())
}

/// `gate-20260501T080000.000000Z.jpg`
fn name(stream: &str, at_us: i64, size: &str, form: &Form) -> String {
    let time = format_micros(at_us).replace(['-', ':'], "");
    format!("{stream}-{time}{size}.{}", form.extension)
}
