//! What the server and a decoder process say to each other: the messages on the socket between them.
//!
//! ```text
//!   message = length u32, kind u8, fields; all numbers little-endian; at most MESSAGE_MAX bytes
//!   server  -> decoder   Decode, Cancel
//!   decoder -> server    Ready, Picture*, then Done or Failed
//! ```
//!
//! Coded units and finished pictures are not in them: both sides write and read those at offsets of one shared memory
//! file. Both readers take what they read as hostile: a decoder works on bytes of strangers, and may be theirs.
//!
//! Not here: the socket and the memory (`workers`, `decoder`), which units to decode (`frames`), how fields become bytes
//! (`message`), and what is said while a stream is transcoded ([`crate::transcoding`]).

pub use crate::message::MessageError;
use crate::message::{Reader, Writer};
use crate::planes::{Colours, Matrix, tight_len};

/// Most bytes of a message, its length not counted.
pub const MESSAGE_MAX: usize = 1 << 20;
/// So many bytes of the shared memory file are there as long as the process lives, and may be mapped.
pub const MAPPED_BYTES: u64 = 64 << 20;
/// Most units in one job.
pub const UNITS_MAX: usize = 1 << 14;
/// Most pixels of a picture that is decoded or made.
pub const PIXELS_MAX: u64 = crate::codec::MAX_PIXELS;
/// Longest side of a picture, in pixels: that of VP9 and AV1.
pub const SIDE_MAX: u32 = 1 << 16;
/// Most bytes of text in a failure.
const TEXT_MAX: usize = 1024;

/// Codecs of pictures that a decoder may know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PictureCodec {
    /// ITU-T H.264, length-prefixed, set up by the body of an `avcC` box.
    H264 = 1,
    /// ITU-T H.265, length-prefixed, set up by the body of an `hvcC` box.
    H265 = 2,
    /// AV1, temporal units, set up by the body of an `av1C` box or by nothing.
    Av1 = 3,
    /// VP8, frames.
    Vp8 = 4,
    /// VP9, frames.
    Vp9 = 5,
    /// Motion JPEG, one whole JPEG a picture.
    Mjpeg = 6,
}

/// Every codec there is.
pub const PICTURE_CODECS: [PictureCodec; 6] = [
    PictureCodec::H264,
    PictureCodec::H265,
    PictureCodec::Av1,
    PictureCodec::Vp8,
    PictureCodec::Vp9,
    PictureCodec::Mjpeg,
];

/// What a decoder must know before the first unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Setup {
    /// Which stream they are of: a decoder and its frame buffers never serve another one, so that no frame can show what
    /// is left in them.
    pub stream: u128,
    /// How units are coded.
    pub codec: PictureCodec,
    /// The codec's configuration; see [`PictureCodec`].
    pub config: Vec<u8>,
    /// Width and height as the parameter sets say, in pixels, cropping applied.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Units may refer to pictures that are not there: the first is at an open random access point, or some were lost.
    pub has_holes: bool,
}

/// A coded picture in the shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its offset in bytes.
    pub at: u64,
    /// Its length in bytes.
    pub len: u32,
    /// When it is shown, in nanoseconds on a timeline of the job's: what tells its picture from others.
    pub shown_ns: u64,
}

/// A rectangle of a picture, in pixels from the upper left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rect {
    /// Pixels left of it.
    pub x: u32,
    /// Rows above it.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// How a picture goes into the size that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Fit {
    /// As large as fits inside, its shape kept.
    #[default]
    Contain = 0,
    /// Fills it, its shape kept, what is over is cut off on both sides alike.
    Cover = 1,
    /// Fills it, its shape not kept.
    Stretch = 2,
}

/// What a decoder makes of a picture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Format {
    /// JPEG (ITU-T T.81), 4:2:0, full range BT.601 as JFIF says.
    #[default]
    Jpeg = 0,
    /// PNG, 8 bits, RGB.
    Png = 1,
    /// WebP, lossy.
    Webp = 2,
    /// Planes Y, Cb, Cr as decoded, chroma halved both ways and rounded up, no padding.
    I420 = 3,
}

impl Format {
    /// Bytes of the largest file of a picture of this size, for planning memory.
    pub fn bytes_max(self, width: u32, height: u32) -> u64 {
        match self {
            Format::I420 => tight_len(width, height),
            // Noise does not get smaller.
            Format::Jpeg | Format::Png | Format::Webp => u64::from(width) * u64::from(height) * 4 + 4096,
        }
    }
}

/// What wanted pictures are made into.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Output {
    /// The part of the decoded picture that is used; all of it by default.
    pub crop: Option<Rect>,
    /// Width asked for; none follows the height, or stays.
    pub width: Option<u32>,
    /// Height asked for; none follows the width, or stays.
    pub height: Option<u32>,
    /// How it goes into both.
    pub fit: Fit,
    /// The file made of it.
    pub format: Format,
    /// Quality of JPEG and WebP, 1 to 100.
    pub quality: u8,
}

/// Which part of a decoded picture becomes which size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The part that is used, inside the decoded picture.
    pub part: Rect,
    /// The size it is made.
    pub width: u32,
    /// See `width`.
    pub height: u32,
}

impl Output {
    /// Where a decoded picture of `width` by `height` goes; none when the crop lies outside of it or the outcome is
    /// empty or larger than [`PIXELS_MAX`].
    pub fn place(&self, width: u32, height: u32) -> Option<Placement> {
        let mut part = self.crop.unwrap_or(Rect { x: 0, y: 0, width, height });
        let inside = part.x.checked_add(part.width)? <= width && part.y.checked_add(part.height)? <= height;
        if !inside || part.width == 0 || part.height == 0 {
            return None;
        }
        let follow = |asked: u32, along: u32, across: u32| -> u32 {
            let scaled = (u64::from(asked) * u64::from(across) + u64::from(along) / 2) / u64::from(along);
            u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
        };
        let (width, height) = match (self.width, self.height, self.fit) {
            (None, None, _) => (part.width, part.height),
            (Some(width), None, _) => (width, follow(width, part.width, part.height)),
            (None, Some(height), _) => (follow(height, part.height, part.width), height),
            (Some(width), Some(height), Fit::Stretch) => (width, height),
            (Some(width), Some(height), Fit::Contain) => {
                let tall = follow(width, part.width, part.height);
                if tall <= height { (width, tall) } else { (follow(height, part.height, part.width), height) }
            }
            (Some(width), Some(height), Fit::Cover) => {
                part = part.cut_to(width, height);
                (width, height)
            }
        };
        let fits = width > 0 && height > 0 && u64::from(width) * u64::from(height) <= PIXELS_MAX;
        fits.then_some(Placement { part, width, height })
    }
}

impl Rect {
    /// The largest middle part with the shape of `width` by `height`.
    fn cut_to(self, width: u32, height: u32) -> Rect {
        let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
        let wide = u64::from(self.height) * width / height;
        let tall = u64::from(self.width) * height / width;
        // One of the two is at most our own size, and fits.
        let (kept_width, kept_height) = match wide <= u64::from(self.width) {
            true => (wide.max(1) as u32, self.height),
            false => (self.width, tall.clamp(1, u64::from(self.height)) as u32),
        };
        Rect {
            x: self.x + (self.width - kept_width) / 2,
            y: self.y + (self.height - kept_height) / 2,
            width: kept_width,
            height: kept_height,
        }
    }
}

/// One run of a decoder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The decoder that is meant: each keeps its place between jobs.
    pub context: u8,
    /// Begin anew with this; none goes on where the context's last job ended.
    pub start: Option<Setup>,
    /// In decode order.
    pub units: Vec<Unit>,
    /// So many of the units are decoded in any case; the rest only as long as wanted pictures have not come out.
    pub required: u32,
    /// Times of the pictures that are asked for, ascending; of units of this job or of one before it in the context.
    pub wanted: Vec<u64>,
    /// What is made of wanted pictures.
    pub output: Output,
    /// Offset in the shared memory from which on pictures are written, one after another.
    pub pictures_at: u64,
    /// Where they must end.
    pub pictures_end: u64,
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Decode, and answer with pictures and an end.
    Decode(Job),
    /// Nobody waits for the job that runs: end it soon.
    Cancel,
}

/// A finished picture in the shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    /// The time that its unit was given.
    pub shown_ns: u64,
    /// Where its bytes are.
    pub at: u64,
    /// How many they are.
    pub len: u32,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// What the numbers of its planes mean, where it is planes.
    pub colours: Colours,
    /// The decoder says that parts of it are made up.
    pub corrupt: bool,
}

/// Why a job was not done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FailureKind {
    /// No decoder of this codec is installed.
    NoDecoder = 1,
    /// The pictures are larger than is decoded, or the crop lies outside of them.
    Size = 2,
    /// The units cannot be decoded.
    Damaged = 3,
    /// It was asked for what cannot be: a mistake of the server's.
    Job = 4,
    /// It was cancelled.
    Cancelled = 5,
}

/// What a decoder says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is set up and locked in, and decodes these.
    Ready(Vec<PictureCodec>),
    /// A wanted picture.
    Picture(Picture),
    /// The job is done; wanted pictures that did not come will not.
    Done {
        /// Units that were decoded, from the first.
        fed: u32,
        /// Time of the last picture that came out and is gone; those after it are still to come, or kept: the last wanted
        /// one is.
        gone_ns: Option<u64>,
        /// Everything was let out: only what is kept can still be had, and for more the context must begin anew.
        drained: bool,
    },
    /// The job was not done, and its context must begin anew.
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// More, for people.
        text: String,
    },
}

impl Request {
    /// The message, without its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Request::Decode(job) => {
                out.u8(1);
                out.job(job);
            }
            Request::Cancel => out.u8(2),
        }
        out.into_bytes()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Request, MessageError> {
        let mut input = Reader::new(bytes);
        let request = match input.u8()? {
            1 => Request::Decode(input.job()?),
            2 => Request::Cancel,
            _ => return Err(MessageError::Value("kind of request")),
        };
        input.end(request)
    }
}

impl Reply {
    /// The message, without its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Reply::Ready(codecs) => {
                out.u8(1);
                out.u8(codecs.len() as u8);
                codecs.iter().for_each(|codec| out.u8(*codec as u8));
            }
            Reply::Picture(picture) => {
                out.u8(2);
                out.u64(picture.shown_ns);
                out.u64(picture.at);
                out.u32(picture.len);
                out.u32(picture.width);
                out.u32(picture.height);
                out.u8(picture.colours.full_range.into());
                out.u8(picture.colours.matrix as u8);
                out.u8(picture.corrupt.into());
            }
            Reply::Done { fed, gone_ns, drained } => {
                out.u8(3);
                out.u32(*fed);
                out.u8(gone_ns.is_some().into());
                out.u64(gone_ns.unwrap_or(0));
                out.u8((*drained).into());
            }
            Reply::Failed { kind, text } => {
                out.u8(4);
                out.failure(*kind, text);
            }
        }
        out.into_bytes()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Reply, MessageError> {
        let mut input = Reader::new(bytes);
        let reply = match input.u8()? {
            1 => {
                let count = usize::from(input.u8()?);
                if count > PICTURE_CODECS.len() {
                    return Err(MessageError::Value("count of codecs"));
                }
                Reply::Ready((0..count).map(|_| input.codec()).collect::<Result<_, _>>()?)
            }
            2 => Reply::Picture(input.picture()?),
            3 => {
                let (fed, known, last) = (input.u32()?, input.flag()?, input.u64()?);
                Reply::Done { fed, gone_ns: known.then_some(last), drained: input.flag()? }
            }
            4 => {
                let (kind, text) = input.failure()?;
                Reply::Failed { kind, text }
            }
            _ => return Err(MessageError::Value("kind of reply")),
        };
        input.end(reply)
    }
}

/// Text up to [`TEXT_MAX`] bytes, cut between characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Writer {
    pub(crate) fn setup(&mut self, setup: &Setup) {
        self.u8(setup.codec as u8);
        self.u32(setup.width);
        self.u32(setup.height);
        self.u8(setup.has_holes.into());
        self.u64((setup.stream >> 64) as u64);
        self.u64(setup.stream as u64);
        self.bytes(&setup.config);
    }

    /// Kind and text of a failure; a long text is cut.
    pub(crate) fn failure(&mut self, kind: FailureKind, text: &str) {
        self.u8(kind as u8);
        self.bytes(cut(text).as_bytes());
    }

    fn job(&mut self, job: &Job) {
        self.u8(job.context);
        self.u8(job.start.is_some().into());
        if let Some(setup) = &job.start {
            self.setup(setup);
        }
        self.u32(job.units.len() as u32);
        for unit in &job.units {
            self.u64(unit.at);
            self.u32(unit.len);
            self.u64(unit.shown_ns);
        }
        self.u32(job.required);
        self.u32(job.wanted.len() as u32);
        job.wanted.iter().for_each(|shown_ns| self.u64(*shown_ns));
        let Output { crop, width, height, fit, format, quality } = job.output;
        self.u8(crop.is_some().into());
        if let Some(crop) = crop {
            [crop.x, crop.y, crop.width, crop.height].into_iter().for_each(|value| self.u32(value));
        }
        self.u32(width.unwrap_or(0));
        self.u32(height.unwrap_or(0));
        [fit as u8, format as u8, quality].into_iter().for_each(|value| self.u8(value));
        self.u64(job.pictures_at);
        self.u64(job.pictures_end);
    }
}

impl Reader<'_> {
    fn codec(&mut self) -> Result<PictureCodec, MessageError> {
        let value = self.u8()?;
        let codec = PICTURE_CODECS.into_iter().find(|codec| *codec as u8 == value);
        codec.ok_or(MessageError::Value("codec"))
    }

    fn picture(&mut self) -> Result<Picture, MessageError> {
        let (shown_ns, at, len) = (self.u64()?, self.u64()?, self.u32()?);
        let (width, height) = (self.u32()?, self.u32()?);
        let pixels = u64::from(width) * u64::from(height);
        if width > SIDE_MAX || height > SIDE_MAX || !(1..=PIXELS_MAX).contains(&pixels) {
            return Err(MessageError::Value("size of a picture"));
        }
        let colours = Colours { full_range: self.flag()?, matrix: self.matrix()? };
        Ok(Picture { shown_ns, at, len, width, height, colours, corrupt: self.flag()? })
    }

    fn matrix(&mut self) -> Result<Matrix, MessageError> {
        let matrix = Matrix::ALL.get(usize::from(self.u8()?));
        matrix.copied().ok_or(MessageError::Value("matrix"))
    }

    pub(crate) fn setup(&mut self) -> Result<Setup, MessageError> {
        let (codec, width, height, has_holes) = (self.codec()?, self.u32()?, self.u32()?, self.flag()?);
        let stream = u128::from(self.u64()?) << 64 | u128::from(self.u64()?);
        Ok(Setup { stream, codec, width, height, has_holes, config: self.bytes()?.to_vec() })
    }

    /// Kind and text of a failure.
    pub(crate) fn failure(&mut self) -> Result<(FailureKind, String), MessageError> {
        use FailureKind::{Cancelled, Damaged, Job, NoDecoder, Size};
        let kinds = [NoDecoder, Size, Damaged, Job, Cancelled];
        let kind = self.u8()?;
        let kind = kinds.into_iter().find(|known| *known as u8 == kind);
        let kind = kind.ok_or(MessageError::Value("kind of failure"))?;
        let text = self.bytes()?;
        if text.len() > TEXT_MAX {
            return Err(MessageError::Value("length of text"));
        }
        // Bytes that are no text become marks of three.
        Ok((kind, cut(&String::from_utf8_lossy(text)).to_owned()))
    }

    fn job(&mut self) -> Result<Job, MessageError> {
        let context = self.u8()?;
        let start = match self.flag()? {
            true => Some(self.setup()?),
            false => None,
        };
        let count = self.u32()? as usize;
        if count > UNITS_MAX {
            return Err(MessageError::Value("count of units"));
        }
        let unit = |input: &mut Self| Ok(Unit { at: input.u64()?, len: input.u32()?, shown_ns: input.u64()? });
        let units = (0..count).map(|_| unit(self)).collect::<Result<_, _>>()?;
        let required = self.u32()?;
        let count = self.u32()? as usize;
        if count > UNITS_MAX {
            return Err(MessageError::Value("count of wanted pictures"));
        }
        let wanted = (0..count).map(|_| self.u64()).collect::<Result<_, _>>()?;
        let crop = match self.flag()? {
            true => Some(Rect { x: self.u32()?, y: self.u32()?, width: self.u32()?, height: self.u32()? }),
            false => None,
        };
        let some = |value| (value != 0).then_some(value);
        let (width, height) = (some(self.u32()?), some(self.u32()?));
        let fits = [Fit::Contain, Fit::Cover, Fit::Stretch];
        let fit = *fits.get(usize::from(self.u8()?)).ok_or(MessageError::Value("fit"))?;
        let formats = [Format::Jpeg, Format::Png, Format::Webp, Format::I420];
        let format = *formats.get(usize::from(self.u8()?)).ok_or(MessageError::Value("format"))?;
        let output = Output { crop, width, height, fit, format, quality: self.u8()? };
        let (pictures_at, pictures_end) = (self.u64()?, self.u64()?);
        Ok(Job { context, start, units, required, wanted, output, pictures_at, pictures_end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            context: 2,
            start: Some(Setup {
                stream: u128::MAX / 3,
                codec: PictureCodec::H265,
                config: vec![1, 2, 3],
                width: 1920,
                height: 1080,
                has_holes: true,
            }),
            units: vec![Unit { at: 0, len: 70_000, shown_ns: 33 }, Unit { at: 70_000, len: 9, shown_ns: 66 }],
            required: 1,
            wanted: vec![7, 66],
            output: Output {
                crop: Some(Rect { x: 1, y: 2, width: 3, height: 4 }),
                width: Some(640),
                fit: Fit::Cover,
                format: Format::I420,
                quality: 85,
                ..Output::default()
            },
            pictures_at: 1 << 33,
            pictures_end: 1 << 34,
        }
    }

    #[test]
    fn messages_come_back_and_no_part_of_one_is_taken_for_it() {
        let go_on = Job { start: None, units: Vec::new(), output: Output::default(), ..job() };
        for request in [Request::Decode(job()), Request::Decode(go_on), Request::Cancel] {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            for end in 0..bytes.len() {
                assert_eq!(Request::decode(&bytes[..end]), Err(MessageError::Length), "cut at {end}");
            }
        }
        let colours = Colours { full_range: true, matrix: Matrix::Fcc };
        let picture = Picture { shown_ns: 7, at: 1 << 40, len: 5, width: 2, height: 1, colours, corrupt: true };
        let replies = [
            Reply::Ready(PICTURE_CODECS.to_vec()),
            Reply::Picture(picture),
            Reply::Done { fed: 3, gone_ns: Some(0), drained: false },
            Reply::Done { fed: 3, gone_ns: None, drained: true },
            Reply::Failed { kind: FailureKind::Damaged, text: "no".to_owned() },
        ];
        for reply in replies {
            let bytes = reply.encode();
            assert_eq!(Reply::decode(&bytes), Ok(reply));
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Reply::decode(&longer), Err(MessageError::Length));
        }
    }

    #[test]
    fn pictures_of_sizes_that_cannot_be_are_refused() {
        let sized = |width, height| {
            Reply::Picture(Picture {
                shown_ns: 0,
                at: 0,
                len: 0,
                width,
                height,
                colours: Colours::default(),
                corrupt: false,
            })
        };
        assert!(Reply::decode(&sized(SIDE_MAX, 1).encode()).is_ok());
        for (width, height) in
            [(0, 1), (1, 0), (SIDE_MAX + 1, 1), (1, u32::MAX), (u32::MAX, u32::MAX), (SIDE_MAX, SIDE_MAX)]
        {
            let read = Reply::decode(&sized(width, height).encode());
            assert_eq!(read, Err(MessageError::Value("size of a picture")), "{width}x{height}");
        }
    }

    #[test]
    fn long_failures_are_cut_between_characters() {
        let text = "é".repeat(TEXT_MAX);
        let bytes = Reply::Failed { kind: FailureKind::Job, text }.encode();
        let Ok(Reply::Failed { text, .. }) = Reply::decode(&bytes) else { panic!("a failure") };
        assert_eq!(text, "é".repeat(TEXT_MAX / 2));
    }

    #[test]
    fn failures_that_are_no_text_come_back_as_they_were_read() {
        let bytes = [&[4, 3][..], &1000u32.to_le_bytes(), &[0xff; 1000]].concat();
        let reply = Reply::decode(&bytes).expect("a failure");
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }

    fn check_place(output: Output, expected: Option<(u32, u32, u32, u32, u32, u32)>) {
        let placed = output
            .place(1920, 1080)
            .map(|Placement { part, width, height }| (part.x, part.y, part.width, part.height, width, height));
        assert_eq!(placed, expected, "{output:?}");
    }

    #[test]
    fn pictures_are_placed_as_asked() {
        let whole = Output::default();
        let sized = |width, height, fit| Output { width: Some(width), height: Some(height), fit, ..whole };
        check_place(whole, Some((0, 0, 1920, 1080, 1920, 1080)));
        check_place(Output { width: Some(640), ..whole }, Some((0, 0, 1920, 1080, 640, 360)));
        check_place(Output { height: Some(100), ..whole }, Some((0, 0, 1920, 1080, 178, 100)));
        check_place(sized(640, 640, Fit::Contain), Some((0, 0, 1920, 1080, 640, 360)));
        check_place(sized(640, 100, Fit::Contain), Some((0, 0, 1920, 1080, 178, 100)));
        check_place(sized(640, 640, Fit::Stretch), Some((0, 0, 1920, 1080, 640, 640)));
        check_place(sized(640, 640, Fit::Cover), Some((420, 0, 1080, 1080, 640, 640)));
        check_place(sized(1000, 10, Fit::Cover), Some((0, 530, 1920, 19, 1000, 10)));
        let crop = Rect { x: 1900, y: 0, width: 20, height: 1080 };
        check_place(Output { crop: Some(crop), ..whole }, Some((1900, 0, 20, 1080, 20, 1080)));
        check_place(Output { crop: Some(Rect { width: 21, ..crop }), ..whole }, None);
        check_place(Output { crop: Some(Rect { x: u32::MAX, ..crop }), ..whole }, None);
        check_place(Output { crop: Some(Rect { width: 0, ..crop }), ..whole }, None);
        check_place(sized(8192, 8192, Fit::Stretch), None);
    }
}
