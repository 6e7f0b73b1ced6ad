//! Small files that only their owner may read: the server key and the admin token.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::CatalogError;

/// More than any of them has.
const BYTES_MAX: u64 = 4_096;

/// The text of the file, without white space around it; none when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, CatalogError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, &error)),
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(path, &error))?;
    Ok(Some(text.trim().to_owned()))
}

/// Writes `text` and a newline, readable to the owner alone. The file is there whole, on stable storage, or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CatalogError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = make_empty(&temporary)?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(|error| failed(path, &error))?;
    drop(file);
    put_in_place(&temporary, path)
}

/// A new empty file, readable to the owner alone.
pub(super) fn make_empty(path: &Path) -> Result<File, CatalogError> {
    // A leftover may have other permissions: never write into it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(path, &error)),
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| failed(path, &error))
}

/// Syncs a file that is whole and gives it its name, durably.
pub(super) fn put_in_place(temporary: &Path, path: &Path) -> Result<(), CatalogError> {
    let synced = File::open(temporary).and_then(|file| file.sync_all());
    let named = synced.and_then(|()| fs::rename(temporary, path)).and_then(|()| sync_folder(path));
    named.map_err(|error| failed(path, &error))
}

/// Makes the name of a new file durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> CatalogError {
    CatalogError::File { path: path.to_owned(), what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn file_is_private_and_leftovers_are_replaced() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("key");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(folder.path().join("key.new"), "half").unwrap();
        write(&path, "secret").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("secret"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.path().join("key.new").exists());
    }
}
