//! Movie fragments (section 8.8).

use super::boxes::{self, Fields};
use super::{Draft, Mp4Error, Sample};

/// Sample flag `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 0x1_0000;

#[derive(Clone, Copy, Default)]
struct Defaults {
    file_id: u32,
    duration: u32,
    size: u32,
    flags: u32,
}

/// Adds the samples of all `moof` boxes in `data` to `drafts`.
pub fn read(data: &[u8], mvex: &[u8], drafts: &mut [Draft], budget: &mut usize) -> Result<(), Mp4Error> {
    let mut defaults = Vec::new();
    for found in boxes::iter(mvex) {
        let found = found?;
        if &found.kind == b"trex" && defaults.len() < 64 {
            let mut trex = Fields::new(found.body, "trex");
            trex.full()?;
            let file_id = trex.u32()?;
            trex.u32()?; // sample description
            defaults.push(Defaults { file_id, duration: trex.u32()?, size: trex.u32()?, flags: trex.u32()? });
        }
    }
    for found in boxes::iter(data) {
        // A file that was cut while it was written plays up to there.
        let Ok(found) = found else { break };
        if &found.kind != b"moof" {
            continue;
        }
        let mut end_of_last = found.start as u64;
        for traf in boxes::iter(found.body) {
            let traf = traf?;
            if &traf.kind == b"traf" {
                let fragment = Fragment { moof_start: found.start as u64, file_len: data.len() as u64 };
                end_of_last = fragment.read_track(traf.body, &defaults, drafts, budget, end_of_last)?;
            }
        }
    }
    Ok(())
}

struct Fragment {
    moof_start: u64,
    file_len: u64,
}

impl Fragment {
    /// Reads a `traf`; gives where its data ends.
    fn read_track(
        &self,
        traf: &[u8],
        defaults: &[Defaults],
        drafts: &mut [Draft],
        budget: &mut usize,
        end_of_last: u64,
    ) -> Result<u64, Mp4Error> {
        let mut tfhd = Fields::new(boxes::find(traf, b"tfhd")?.ok_or(Mp4Error::Missing("tfhd"))?, "tfhd");
        let flags = tfhd.full()?.1;
        let file_id = tfhd.u32()?;
        let mut defaults = defaults.iter().find(|one| one.file_id == file_id).copied().unwrap_or_default();
        let base = if flags & 1 != 0 {
            tfhd.u64()?
        } else if flags & 0x2_0000 != 0 {
            self.moof_start
        } else {
            end_of_last
        };
        if flags & 2 != 0 {
            tfhd.u32()?;
        }
        for (flag, field) in [(8, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)] {
            if flags & flag != 0 {
                *field = tfhd.u32()?;
            }
        }
        let Some(draft) = drafts.iter_mut().find(|draft| draft.file_id == file_id) else { return Ok(end_of_last) };
        let mut dts = match boxes::find(traf, b"tfdt")? {
            Some(body) => {
                let mut tfdt = Fields::new(body, "tfdt");
                let time = if tfdt.full()?.0 == 1 { tfdt.u64()? } else { tfdt.u32()?.into() };
                i64::try_from(time).map_err(|_| Mp4Error::Malformed("tfdt"))?
            }
            None => draft.samples.last().map_or(0, |last| last.dts.saturating_add(last.duration.into())),
        };
        let mut at = base;
        for trun in boxes::iter(traf) {
            let trun = trun?;
            if &trun.kind == b"trun" {
                self.read_run(trun.body, &defaults, draft, budget, base, &mut at, &mut dts)?;
            }
        }
        Ok(at)
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one walk, used once")]
    fn read_run(
        &self,
        trun: &[u8],
        defaults: &Defaults,
        draft: &mut Draft,
        budget: &mut usize,
        base: u64,
        at: &mut u64,
        dts: &mut i64,
    ) -> Result<(), Mp4Error> {
        let mut fields = Fields::new(trun, "trun");
        let (_, flags) = fields.full()?;
        let count = fields.u32()? as usize;
        *budget = budget.checked_sub(count).ok_or(Mp4Error::TooManySamples)?;
        if flags & 1 != 0 {
            let offset = i64::from(fields.u32()? as i32);
            *at = base.checked_add_signed(offset).ok_or(Mp4Error::Malformed("trun"))?;
        }
        let mut first_flags = if flags & 4 != 0 { Some(fields.u32()?) } else { None };
        for _ in 0..count {
            let mut field = |flag, default| if flags & flag != 0 { fields.u32() } else { Ok(default) };
            let duration = field(0x100, defaults.duration)?;
            let len = field(0x200, defaults.size)?;
            let own_flags = field(0x400, defaults.flags)?;
            // Signed in both versions: see the note in `tables`.
            let later = i64::from(field(0x800, 0)? as i32);
            let sample_flags = first_flags.take().unwrap_or(own_flags);
            let end = at.checked_add(len.into()).ok_or(Mp4Error::Malformed("trun"))?;
            if end > self.file_len {
                return Err(Mp4Error::Truncated("sample"));
            }
            draft.samples.push(Sample {
                track: draft.track.track.id,
                dts: *dts,
                pts: dts.saturating_add(later),
                duration,
                sync: sample_flags & NON_SYNC == 0,
                offset: *at,
                len,
            });
            *at = end;
            *dts = dts.saturating_add(duration.into());
        }
        Ok(())
    }
}
