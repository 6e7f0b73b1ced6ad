//! Finding reels in time.

use media::{Ordinal, ProducerTime, StreamId};
use store::Select;

use super::FramesError;
use super::reel::Reel;
use crate::live::{Descriptor, Hub};

/// Fragments looked at where an instant lies in several: clocks step back, cameras send again.
const OVERLAP_MAX: usize = 64;
/// Halvings of the count of a stream's fragments: more than there are bits in it.
const HALVINGS_MAX: usize = 64;

/// The way to a stream's reels.
#[derive(Clone, Copy)]
pub(super) struct Finder<'a> {
    pub hub: &'a Hub,
    pub stream: StreamId,
}

impl Finder<'_> {
    /// The reel in which `time` lies; of several the one that came last.
    pub async fn containing(&self, time: ProducerTime) -> Result<Option<Reel>, FramesError> {
        let select = Select::Producer(time, time.plus_micros(1));
        let timeline = self.hub.timeline(self.stream, select, OVERLAP_MAX).await?;
        for descriptor in timeline.fragments.into_iter().rev() {
            if let Some(reel) = Reel::closed(self.hub, self.stream, descriptor).await? {
                return Ok(Some(reel));
            }
        }
        Ok(self.open()?.filter(|reel| reel.begin <= time && time < reel.end))
    }

    /// The pictures that are in no closed fragment.
    pub fn open(&self) -> Result<Option<Reel>, FramesError> {
        match self.hub.open_pictures(self.stream) {
            Some(open) => Reel::open(self.hub, self.stream, open),
            None => Ok(None),
        }
    }

    /// The newest reel of all.
    pub async fn newest(&self) -> Result<Option<Reel>, FramesError> {
        if let Some(reel) = self.open()?.filter(|reel| !reel.shown.is_empty()) {
            return Ok(Some(reel));
        }
        let Some(last) = self.hub.status(self.stream).await?.last else { return Ok(None) };
        self.backwards(last.ordinal).await
    }

    /// The reel with pictures at `ordinal`, or the nearest before it.
    async fn backwards(&self, ordinal: Ordinal) -> Result<Option<Reel>, FramesError> {
        const STEP: u64 = 64;
        let mut end = ordinal.0.saturating_add(1);
        // A stream that had pictures long ago and only sound since is not searched to its beginning.
        for _ in 0..OVERLAP_MAX {
            let select = Select::Ordinals(Ordinal(end.saturating_sub(STEP)), Ordinal(end));
            let timeline = self.hub.timeline(self.stream, select, STEP as usize + OVERLAP_MAX).await?;
            for descriptor in timeline.fragments.into_iter().rev() {
                if let Some(reel) = Reel::closed(self.hub, self.stream, descriptor).await?.filter(has_pictures) {
                    return Ok(Some(reel));
                }
            }
            end = end.saturating_sub(STEP);
            if end == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// The reel before this one.
    pub async fn before(&self, reel: &Reel) -> Result<Option<Reel>, FramesError> {
        let ordinal = match reel.ordinal {
            Some(ordinal) => match ordinal.0.checked_sub(1) {
                Some(before) => Ordinal(before),
                None => return Ok(None),
            },
            None => match self.hub.status(self.stream).await?.last {
                Some(last) => last.ordinal,
                None => return Ok(None),
            },
        };
        self.backwards(ordinal).await
    }

    /// The reel after this one, the open one after the last.
    pub async fn after(&self, reel: &Reel) -> Result<Option<Reel>, FramesError> {
        if reel.ordinal.is_none() {
            return Ok(None);
        }
        let select = Select::After(reel.position);
        let timeline = self.hub.timeline(self.stream, select, OVERLAP_MAX).await?;
        for descriptor in timeline.fragments {
            if let Some(reel) = Reel::closed(self.hub, self.stream, descriptor).await?.filter(has_pictures) {
                return Ok(Some(reel));
            }
        }
        Ok(self.open()?.filter(|open| open.position > reel.position && has_pictures(open)))
    }

    /// The reels on both sides of `time`, which lies in none.
    pub async fn around(&self, time: ProducerTime) -> Result<(Option<Reel>, Option<Reel>), FramesError> {
        let status = self.hub.status(self.stream).await?;
        let (Some(first), Some(last)) = (status.first, status.last) else { return Ok((None, self.open()?)) };
        // The last fragment that begins at or before it. Clocks step back by seconds at most, which moves the outcome by
        // as much.
        let (mut low, mut high) = (first.ordinal.0, last.ordinal.0.saturating_add(1));
        let mut found: Option<Descriptor> = None;
        for _ in 0..HALVINGS_MAX {
            if low >= high {
                break;
            }
            let middle = low + (high - low) / 2;
            let select = Select::Ordinals(Ordinal(middle), Ordinal(high));
            let timeline = self.hub.timeline(self.stream, select, 1).await?;
            match timeline.fragments.into_iter().next() {
                Some(descriptor) if descriptor.info.producer_time <= time => {
                    low = descriptor.info.ordinal.0 + 1;
                    found = Some(descriptor);
                }
                _ => high = middle,
            }
        }
        let Some(found) = found else {
            let select = Select::Ordinals(first.ordinal, Ordinal(first.ordinal.0.saturating_add(OVERLAP_MAX as u64)));
            let timeline = self.hub.timeline(self.stream, select, OVERLAP_MAX).await?;
            for descriptor in timeline.fragments {
                if let Some(reel) = Reel::closed(self.hub, self.stream, descriptor).await?.filter(has_pictures) {
                    return Ok((None, Some(reel)));
                }
            }
            return Ok((None, self.open()?));
        };
        let before = self.backwards(found.info.ordinal).await?;
        let after = match &before {
            Some(reel) => self.after(reel).await?,
            None => self.open()?,
        };
        Ok((before, after))
    }
}

fn has_pictures(reel: &Reel) -> bool {
    !reel.shown.is_empty()
}
