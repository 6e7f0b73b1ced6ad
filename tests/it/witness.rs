//! A camera that records while something bad goes on, and what the server held before it: afterwards nothing may have
//! grown, and no frame of the camera may be missing.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clips::clip;
use crate::server::{Server, wait_for};

/// Memory that an allocator may keep for itself after a storm, MiB.
const SLACK_MIB: u64 = 48;
/// Descriptors that may be open for a moment: files of the store, connections that are ending.
const SLACK_DESCRIPTORS: usize = 12;

/// Watches a server from outside.
pub(crate) struct Witness {
    camera: Child,
    descriptors: usize,
    memory_mib: u64,
}

impl Witness {
    /// Starts a camera on the stream `witness` and waits until it is recorded.
    pub(crate) fn start(server: &Server) -> Witness {
        let secret = server.publish_secret();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.arg("publish").arg(clip("plain.mp4")).arg(server.push_url(&secret, "witness")).arg("--loop");
        let camera = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let camera = camera.expect("start kinora publish");
        wait_for("the camera's first fragments", Duration::from_secs(20), || {
            let answer = server.get("/v1/streams/witness/fragments");
            (answer.status == 200 && answer.json()["fragments"].as_array().is_some_and(|list| list.len() >= 2))
                .then_some(())
        });
        Witness { camera, descriptors: descriptors(server), memory_mib: memory_mib(server) }
    }

    /// # Panics
    /// When the server holds more than before, has said that something panicked, or has not recorded all of the camera.
    pub(crate) fn check(&mut self, server: &Server) {
        let most = self.descriptors + SLACK_DESCRIPTORS;
        wait_for(&format!("at most {most} open descriptors"), Duration::from_secs(15), || {
            (descriptors(server) <= most).then_some(())
        });
        let memory = memory_mib(server);
        assert!(memory <= self.memory_mib + SLACK_MIB, "memory went from {} to {memory} MiB", self.memory_mib);
        assert!(!server.log().contains("panicked"), "{}", server.log());
        let before = server.fragments("witness").len();
        let all = wait_for("the camera to go on", Duration::from_secs(15), || {
            let all = server.fragments("witness");
            (all.len() >= before + 2).then_some(all)
        });
        for pair in all.windows(2) {
            assert!(pair[1]["break_before"].is_null(), "the recording goes on without a break: {}", pair[1]);
            assert_eq!(pair[1]["ordinal"].as_u64(), pair[0]["ordinal"].as_u64().map(|ordinal| ordinal + 1));
            assert_eq!(pair[1]["damaged"], false, "{}", pair[1]);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.camera.kill();
        let _ = self.camera.wait();
    }
}

fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its descriptors").count()
}

/// Resident memory of the server.
pub(crate) fn memory_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1024
}
