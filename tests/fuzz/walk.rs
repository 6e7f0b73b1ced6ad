//! Runs fuzz targets as a plain test: over each stored input, over its beginnings, and over small damages of it.
//!
//! Taken in by each crate that has targets (`mod walk` beside its `fuzz.rs`).

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// A function that takes any bytes and panics only at a mistake of ours.
pub(crate) type Target = fn(&[u8]);

/// Most beginnings, and most damages, that are tried of a file.
const VARIANTS: usize = 200;

/// Runs `targets`; each must have inputs.
pub(crate) fn walk(targets: &[(&str, Target)]) {
    for (name, target) in targets {
        let folder = corpus().join(name);
        let listed = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} has no input", folder.display());
        for file in files {
            let data = std::fs::read(&file).expect("read an input");
            over(&data, |input| {
                if catch_unwind(|| target(input)).is_err() {
                    panic!("{name}, from {}: {}", file.display(), input.escape_ascii());
                }
            });
        }
    }
}

/// `data`, its beginnings, and damages of it, the same ones at each run.
fn over(data: &[u8], mut run: impl FnMut(&[u8])) {
    run(data);
    for end in (0..data.len()).step_by(data.len() / VARIANTS + 1) {
        run(&data[..end]);
    }
    let mut random = Random(data.len() as u64 + 0x9e37_79b9_7f4a_7c15);
    for _ in 0..VARIANTS.min(data.len()) {
        let mut damaged = data.to_vec();
        for _ in 0..=random.below(3) {
            damage(&mut damaged, &mut random);
        }
        run(&damaged);
    }
}

fn damage(data: &mut Vec<u8>, random: &mut Random) {
    const VALUES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'='];
    if data.is_empty() {
        return;
    }
    let at = random.below(data.len());
    let end = (at + 1 + random.below(16)).min(data.len());
    match random.below(5) {
        0 => data[at] ^= 1 << random.below(8),
        1 => data[at] = VALUES[random.below(VALUES.len())],
        2 => drop(data.drain(at..end)),
        3 => {
            let copy = data[at..end].to_vec();
            let to = random.below(data.len());
            data.splice(to..to, copy);
        }
        _ => data[at..end].fill(VALUES[random.below(VALUES.len())]),
    }
}

/// Xorshift: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn corpus() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|folder| folder.join("tests/fuzz/corpus").exists());
    root.expect("the crates lie in the repository").join("tests/fuzz/corpus")
}
