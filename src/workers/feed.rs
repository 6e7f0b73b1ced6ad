//! Which coded pictures a decoder must be given for the wanted ones to come out, from the beginning of a run or from
//! where a decoder stands in it.

use super::Task;

/// Pictures come out when so many after them have gone in, at most (ITU-T H.264 A.3.1, H.265 A.4: 16 frames). They are
/// given only while a wanted one has not come out.
const PUSH_MAX: usize = 16;

/// Where a decoder stands in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Progress {
    /// Pictures before this were given or skipped.
    fed: usize,
    /// Which were skipped.
    skipped: Vec<usize>,
    /// The last that came out and is gone; later ones are still to come.
    gone_ns: Option<u64>,
    /// Nothing more can be given to it.
    drained: bool,
}

/// What to give to a decoder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Feed {
    /// Which pictures of the run, in order.
    pub pictures: Vec<usize>,
    /// So many of them in any case.
    pub required: usize,
    skipped: Vec<usize>,
    from: usize,
}

impl Progress {
    /// Whether every wanted picture can still come out of a decoder that stands here.
    pub fn serves(&self, task: &Task) -> bool {
        let to_come = |index: &usize| {
            let shown_ns = task.run.pictures[*index].shown_ns;
            self.gone_ns.is_none_or(|last| shown_ns > last)
                && !self.skipped.contains(index)
                && (!self.drained || *index < self.fed)
        };
        task.wanted.iter().all(to_come)
    }

    /// What a decoder that stands here must be given for `task`, which it [serves](Progress::serves).
    pub fn feed(&self, task: &Task) -> Feed {
        let pictures = &task.run.pictures;
        let last = task.wanted.last().map_or(self.fed, |last| last + 1).max(self.fed).min(pictures.len());
        let is_skipped = |index: usize| pictures[index].disposable && task.wanted.binary_search(&index).is_err();
        let (skipped, mut given): (Vec<usize>, Vec<usize>) = (self.fed..last).partition(|index| is_skipped(*index));
        let required = given.len();
        if !self.drained {
            given.extend((last..pictures.len()).take(PUSH_MAX));
        }
        Feed { pictures: given, required, skipped, from: self.fed }
    }

    /// Where the decoder stands after it was given the first `count` pictures of `feed`.
    pub fn after(&self, feed: &Feed, count: usize, gone_ns: Option<u64>, drained: bool) -> Progress {
        let fed = match count.checked_sub(1).and_then(|last| feed.pictures.get(last)) {
            Some(last) => last + 1,
            None => feed.from,
        };
        let skipped = self.skipped.iter().chain(feed.skipped.iter().filter(|index| **index < fed)).copied().collect();
        Progress { fed, skipped, gone_ns: gone_ns.max(self.gone_ns), drained }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use media::decoding::{Output, PictureCodec, Setup};
    use media::{Position, StreamId};

    use super::*;
    use crate::workers::Asker;
    use crate::workers::{CodedPicture, Run, RunId};

    /// Pictures shown at these times in hundredths, `b` ones disposable.
    fn run(pictures: &[(u64, char)]) -> Arc<Run> {
        let setup =
            Setup { stream: 7, codec: PictureCodec::H264, config: Vec::new(), width: 16, height: 16, has_holes: false };
        let picture = |(shown_ns, kind): &(u64, char)| CodedPicture {
            shown_ns: *shown_ns,
            disposable: *kind == 'b',
            data: Bytes::new(),
        };
        let id = RunId { stream: StreamId::random(), start: Position::default(), open: None, leads: false };
        Arc::new(Run { id, setup: Arc::new(setup), pictures: pictures.iter().map(picture).collect() })
    }

    fn task(run: &Arc<Run>, wanted: &[usize]) -> Task {
        Task {
            asker: Asker::default(),
            run: run.clone(),
            wanted: wanted.to_vec(),
            output: Output::default(),
            follows: false,
        }
    }

    const GOP: [(u64, char); 7] = [(0, 'I'), (3, 'P'), (1, 'b'), (2, 'b'), (6, 'P'), (4, 'b'), (5, 'b')];

    #[test]
    fn only_what_is_needed_is_given() {
        let run = run(&GOP);
        let feed = Progress::default().feed(&task(&run, &[5]));
        assert_eq!(feed.pictures, [0, 1, 4, 5, 6], "the disposable ones before it are left out");
        assert_eq!(feed.required, 4);
        let feed = Progress::default().feed(&task(&run, &[2, 4]));
        assert_eq!((&feed.pictures[..], feed.required), (&[0, 1, 2, 4, 5, 6][..], 4));
    }

    #[test]
    fn a_decoder_goes_on_where_it_stands() {
        let run = run(&GOP);
        let start = Progress::default();
        let feed = start.feed(&task(&run, &[2]));
        // Picture 1 b came out with the next one given.
        let stands = start.after(&feed, 4, Some(1), false);
        assert!(stands.serves(&task(&run, &[3])), "it was given and is still inside");
        assert!(stands.serves(&task(&run, &[1, 6])), "those shown later are to come");
        assert!(!stands.serves(&task(&run, &[2])), "it came out already");
        assert!(!stands.serves(&task(&run, &[0, 6])));
        let feed = stands.feed(&task(&run, &[3]));
        assert_eq!((&feed.pictures[..], feed.required), (&[4, 5, 6][..], 0), "more only until it comes out");
        let feed = stands.feed(&task(&run, &[6]));
        assert_eq!((&feed.pictures[..], feed.required), (&[4, 6][..], 2));
        let stands = stands.after(&feed, 2, Some(6), false);
        assert!(!stands.serves(&task(&run, &[5])), "it was left out");
    }

    #[test]
    fn what_was_left_out_is_not_waited_for() {
        let run = run(&GOP);
        let start = Progress::default();
        let feed = start.feed(&task(&run, &[4]));
        assert_eq!(feed.pictures, [0, 1, 4, 5, 6]);
        // All three reference pictures went in, nothing but the first came out.
        let stands = start.after(&feed, 3, Some(0), false);
        assert!(!stands.serves(&task(&run, &[2])), "it was left out though its time is to come");
        assert!(stands.serves(&task(&run, &[4])));
        assert!(stands.serves(&task(&run, &[5])));
    }

    #[test]
    fn at_its_end_a_decoder_has_what_it_kept() {
        let run = run(&GOP);
        let start = Progress::default();
        let feed = start.feed(&task(&run, &[5]));
        let stands = start.after(&feed, 5, Some(3), true);
        assert!(stands.serves(&task(&run, &[5])), "it is the last one that was wanted");
        assert!(stands.serves(&task(&run, &[4])), "it came out with it");
        assert!(!stands.serves(&task(&run, &[2])));
        assert!(stands.feed(&task(&run, &[4])).pictures.is_empty(), "nothing is given after the end");
        let early = start.after(&feed, 4, Some(3), true);
        assert!(!early.serves(&task(&run, &[6])), "it was never given");
    }
}
