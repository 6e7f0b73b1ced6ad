//! All fuzz targets in one program: the one that runs is named by `KINORA_FUZZ_TARGET`.
//!
//! Here: the engine's door, and two limits that hold for every target. Not here: the targets (`fuzz.rs` in `src/` and in
//! its rooms).

#![no_main]

mod limits;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

fn target() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("KINORA_FUZZ_TARGET").expect("KINORA_FUZZ_TARGET names the target");
        let mut all = kinora::fuzz::TARGETS.iter().chain(&media::fuzz::TARGETS).chain(&store::fuzz::TARGETS);
        all.find(|(known, _)| *known == name).unwrap_or_else(|| panic!("there is no target {name}")).1
    })
}

fuzz_target!(|data: &[u8]| limits::within(target(), data));
