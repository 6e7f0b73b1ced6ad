//! `kinora probe-disk`: how long the disk takes to make a write safe, which is what every acknowledgement waits for.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use super::print::answer;
use super::{CommandError, Common};
use crate::config::units::Size;

/// What is written.
#[derive(Args)]
pub(super) struct ProbeArgs {
    /// The folder whose disk is meant; default: the data folder.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How many writes.
    #[arg(long, default_value_t = 200)]
    count: u32,
    /// Bytes of each write: a fragment of a camera.
    #[arg(long, default_value = "512KiB", value_name = "SIZE")]
    size: Size,
}

pub(super) fn run(common: &Common, args: &ProbeArgs) -> Result<(), CommandError> {
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => common.data_dir()?,
    };
    if args.count == 0 || args.size.0 == 0 || args.size > Size::mib(64) {
        return Err(CommandError::Failed("--count is at least 1 and --size within 1B and 64MiB".into()));
    }
    let failed = |error: io::Error| CommandError::Failed(format!("write in {}: {error}", folder.display()));
    let mut taken = probe(&folder, args.count, args.size).map_err(failed)?;
    taken.sort_unstable();
    let total: Duration = taken.iter().sum();
    let at = |permille: usize| milliseconds(taken[(taken.len() - 1) * permille / 1000]);
    let mib_per_second =
        (args.size.0 as f64 * f64::from(args.count)) / total.as_secs_f64().max(1e-9) / f64::from(1 << 20);
    let value = json!({
        "folder": folder,
        "count": args.count,
        "size_bytes": args.size.0,
        "milliseconds": {"p50": at(500), "p90": at(900), "p99": at(990), "max": at(1000)},
        "mib_per_second": mib_per_second,
    });
    let rows = [vec![
        format!("{:.2} ms", at(500)),
        format!("{:.2} ms", at(900)),
        format!("{:.2} ms", at(990)),
        format!("{:.2} ms", at(1000)),
        format!("{mib_per_second:.0} MiB/s"),
    ]];
    answer(common, &value, &["p50", "p90", "p99", "max", "rate"], &rows);
    Ok(())
}

/// Appends and syncs, over and over, as the store does; how long each took.
fn probe(folder: &Path, count: u32, size: Size) -> io::Result<Vec<Duration>> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("probe-{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    // Gone by name at once, so that a killed probe leaves nothing behind.
    std::fs::remove_file(&path)?;
    let bytes = vec![0xA5; usize::try_from(size.0).unwrap_or(usize::MAX)];
    let bar = ProgressBar::with_draw_target(Some(u64::from(count)), ProgressDrawTarget::stderr());
    let mut taken = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let started = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        taken.push(started.elapsed());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(taken)
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_writes_as_often_as_asked_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(probe(folder.path(), 5, Size::kib(4)).expect("measured").len(), 5);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
