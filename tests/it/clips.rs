//! The clips that `scripts/clips` made.

use std::path::PathBuf;

/// The path of a clip.
///
/// # Panics
/// When it was not made: run `make clips`.
pub(crate) fn clip(name: &str) -> PathBuf {
    let dir = std::env::var_os("KINORA_CLIPS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/clips"), PathBuf::from);
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: run `make clips`", path.display());
    path
}
