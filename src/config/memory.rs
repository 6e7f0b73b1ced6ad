//! How much memory this process may use, and what of it each budget gets when the configuration does not say.

use std::fs;
use std::path::{Path, PathBuf};

use super::Config;
use super::units::Size;

/// Where Linux mounts control groups: version 2 alone, version 2 beside version 1, version 1.
const MOUNTS: [(&str, &str); 3] = [
    ("/sys/fs/cgroup", "memory.max"),
    ("/sys/fs/cgroup/unified", "memory.max"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// Sets the budgets that nobody set: shares of `limits.memory`, else of what the machine or the control group allows.
///
/// A quarter is media on its way to the disk and media kept for viewers; the rest is for open fragments, for answers under way, for
/// decoders, and for the page cache, without which a disk is slow.
pub(super) fn fill(config: &mut Config, is_set: impl Fn(&str, &str) -> bool) {
    let memory = config.limits.memory.map_or_else(of_machine, |size| size.0);
    let share = |part: u64, most: Size| Size((memory / part).min(most.0));
    let budgets = [
        ("live", "unpersisted_bytes_total", &mut config.live.unpersisted_bytes_total, 8),
        ("live", "tail_bytes_total", &mut config.live.tail_bytes_total, 8),
        ("pictures", "remembered_bytes", &mut config.pictures.remembered_bytes, 32),
        ("limits", "response_bytes", &mut config.limits.response_bytes, 16),
    ];
    for (section, key, budget, part) in budgets {
        if !is_set(section, key) {
            *budget = share(part, *budget);
        }
    }
}

/// Memory of the machine, or of the narrowest control group that this process is in, in bytes.
fn of_machine() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = group_files(&groups).into_iter().filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    limits.chain(total(&fs::read_to_string("/proc/meminfo").unwrap_or_default())).min().unwrap_or(u64::MAX)
}

/// The files that may limit a process whose `/proc/self/cgroup` is `groups`: those of its groups and of all above them. In a
/// container its own group is the root of what can be seen.
fn group_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let is_first = controllers.split(',').any(|controller| controller == "memory");
        if !is_first && !controllers.is_empty() {
            continue;
        }
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let mounts = MOUNTS.iter().filter(|(_, file)| (*file == "memory.max") != is_first);
            files.extend(mounts.map(|(mount, file)| Path::new(mount).join(group).join(file)));
        }
    }
    files
}

/// A limit as a control group says it; none for `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `MemTotal` of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(memory: u64, set: &[&str]) -> Config {
        let mut config = Config::default();
        config.limits.memory = Some(Size::mib(memory));
        fill(&mut config, |section, key| set.contains(&format!("{section}.{key}").as_str()));
        config
    }

    #[test]
    fn budgets_are_shares_of_memory_up_to_their_defaults() {
        let small = filled(512, &[]);
        assert_eq!((small.live.unpersisted_bytes_total, small.live.tail_bytes_total), (Size::mib(64), Size::mib(64)));
        assert_eq!((small.pictures.remembered_bytes, small.limits.response_bytes), (Size::mib(16), Size::mib(32)));
        let large = filled(1 << 20, &[]);
        let defaults = Config { limits: large.limits.clone(), ..Config::default() };
        assert_eq!(large, defaults);
        assert_eq!(filled(512, &["live.tail_bytes_total"]).live.tail_bytes_total, Size::mib(512), "it was set");
    }

    #[test]
    fn limits_of_all_groups_above_are_looked_at() {
        let files = group_files("4:memory:/a/b\n3:cpuset:/x\n0::/c\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/c/memory.max",
            "/sys/fs/cgroup/unified/c/memory.max",
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/unified/memory.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        assert_eq!((limit("max\n"), limit("536870912\n")), (None, Some(512 << 20)));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal:       1024 kB\nMemFree: 1 kB\n"), Some(1 << 20));
    }
}
