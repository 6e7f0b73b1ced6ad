//! What the system says of this process, under the names that every Prometheus client uses.

use std::fmt::Write;
use std::fs;

use media::ServerTime;

/// Ticks a second of the times in `/proc` (`USER_HZ`), which Linux keeps at 100 on every architecture that we build for.
const TICKS: f64 = 100.0;

/// The `process_*` metrics, in the text format of Prometheus; what the system does not say is left out. Reads small files of
/// `/proc`, which wait for no disk.
pub(crate) fn render(started: ServerTime) -> String {
    let mut text = String::new();
    let mut say = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    };
    let started = started.micros() as f64 / 1e6;
    say("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970", Some(started));
    say("process_cpu_seconds_total", "counter", "CPU time used, user and system", cpu_seconds());
    say("process_resident_memory_bytes", "gauge", "Resident memory", status_bytes("VmRSS:"));
    say("process_virtual_memory_bytes", "gauge", "Virtual memory", status_bytes("VmSize:"));
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    say("process_open_fds", "gauge", "Open file descriptors", open);
    say("process_max_fds", "gauge", "Most open file descriptors", max_fds());
    text
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces; fields are counted behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some((user + system) as f64 / TICKS)
}

fn status_bytes(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes as f64 * 1024.0)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|soft| soft as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let text = render(ServerTime::from_micros(1_700_000_000_000_000));
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().expect("a number")
        };
        assert_eq!(value("process_start_time_seconds "), 1_700_000_000.0);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        let resident = value("process_resident_memory_bytes ");
        assert!(resident > 1e6 && value("process_virtual_memory_bytes ") >= resident);
        assert!(value("process_open_fds ") >= 3.0 && value("process_max_fds ") >= value("process_open_fds "));
    }
}
