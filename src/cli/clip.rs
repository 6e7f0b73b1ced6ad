//! `kinora clip`: a range of a stream as a file.
//!
//! What has come is in `FILE.part` until all of it is there; `FILE.part.tag` says of which file it is a part, so that a later call goes
//! on where an earlier one was broken off, and begins anew when the server would send another file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::store::{Clock, SystemClock};
use clap::Args;
use http::{HeaderMap, StatusCode};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::client::{Client, ClientError, SILENCE_MAX, encode, read_failed};
use super::print::answer;
use super::{CommandError, Common};
use crate::config::units::Span;
use crate::doors::http::time::format_micros;

/// Takes a range of a stream away as a file.
#[derive(Args)]
pub(super) struct ClipArgs {
    /// The stream.
    stream: String,
    /// Start of the range: RFC 3339, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", required_unless_present = "last", conflicts_with = "last")]
    from: Option<String>,
    /// End of the range.
    #[arg(long, value_name = "TIME", required_unless_present = "last", conflicts_with = "last")]
    to: Option<String>,
    /// The newest part of this length, such as 5m.
    #[arg(long, value_name = "DURATION")]
    last: Option<Span>,
    /// The file; default: named for the stream and its start, here.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which clock the times are of.
    #[arg(long, value_parser = ["producer", "server"])]
    clock: Option<String>,
    /// mp4, or fmp4 as it comes for more than an hour.
    #[arg(long, value_parser = ["mp4", "fmp4"])]
    format: Option<String>,
    /// Time without media: left out, or kept.
    #[arg(long, value_parser = ["close", "keep"])]
    gaps: Option<String>,
    /// Sound with pictures, sound alone, or pictures alone.
    #[arg(long, value_parser = ["keep", "only", "none"])]
    audio: Option<String>,
    /// Overwrites the file.
    #[arg(long)]
    force: bool,
    /// A server that sends nothing for so long is asked again for what is missing.
    #[arg(long, value_name = "DURATION", default_value_t = Span(SILENCE_MAX))]
    silence: Span,
}

/// Attempts in a row that bring nothing.
const ATTEMPTS_MAX: u32 = 5;

pub(super) fn run(common: &Common, client: &Client, args: &ClipArgs) -> Result<(), CommandError> {
    let path = args.path();
    let head = client.open("HEAD", &path, &[]).or_else(|error| {
        // What is wrong is said in a body, which a HEAD has not.
        client.open("GET", &path, &[("range", "bytes=0-0".to_owned())]).and(Err(error))
    })?;
    let whole = Whole::read(head.headers()).ok_or_else(|| CommandError::Failed("the server sent no file".into()))?;
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from(&whole.name));
    if file.exists() && !args.force {
        return Err(CommandError::Failed(format!("{} is there already; --force overwrites it", file.display())));
    }
    let mut part = Part::open(&file, &whole).map_err(|error| failed(&file, &error))?;
    let resumed_at = part.len;
    download(client, (&path, args.silence), &whole, &mut part, progress(common, &whole))?;
    part.finish(&file).map_err(|error| failed(&file, &error))?;
    let name = file.display().to_string();
    let value = json!({"file": name, "bytes": whole.len, "resumed_at": resumed_at});
    answer(common, &value, &["file", "bytes"], &[vec![name, HumanBytes(whole.len).to_string()]]);
    Ok(())
}

fn failed(file: &Path, error: &io::Error) -> CommandError {
    CommandError::Failed(format!("failed to write {}: {error}", file.display()))
}

impl ClipArgs {
    fn path(&self) -> String {
        let (from, to) = match self.last {
            Some(Span(length)) => {
                let now = SystemClock.now().micros();
                let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
                (format_micros(now.saturating_sub(length)), format_micros(now))
            }
            None => (self.from.clone().unwrap_or_default(), self.to.clone().unwrap_or_default()),
        };
        let mut path =
            format!("/v1/streams/{}/clip.mp4?from={}&to={}", encode(&self.stream), encode(&from), encode(&to));
        let more = [("clock", &self.clock), ("format", &self.format), ("gaps", &self.gaps), ("audio", &self.audio)];
        for (name, value) in more {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        path
    }
}

/// What the server says of the whole file.
#[derive(PartialEq, Eq, Debug)]
struct Whole {
    len: u64,
    tag: String,
    name: String,
}

impl Whole {
    fn read(headers: &HeaderMap) -> Option<Whole> {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let name = text("content-disposition").unwrap_or_default();
        let name = name.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        // A name of the server's is a file here, never a path.
        let harmless = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let is_name = harmless && !name.starts_with('.') && !name.is_empty();
        Some(Whole {
            len: text("content-length")?.parse().ok()?,
            tag: text("etag")?,
            name: if is_name { name.to_owned() } else { "clip.mp4".to_owned() },
        })
    }
}

/// The file while it comes.
struct Part {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Part {
    /// Goes on with what is there of this very file, or begins anew.
    fn open(file: &Path, whole: &Whole) -> io::Result<Part> {
        let path = beside(file, ".part");
        let tag = beside(file, ".part.tag");
        let goes_on = fs::read_to_string(&tag).is_ok_and(|of| of == whole.tag)
            && fs::metadata(&path).is_ok_and(|found| found.len() <= whole.len);
        if !goes_on {
            File::create(&path)?;
            fs::write(&tag, &whole.tag)?;
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        let len = file.metadata()?.len();
        Ok(Part { file, path, len })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn finish(self, file: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, file)?;
        fs::remove_file(beside(file, ".part.tag"))
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn progress(common: &Common, whole: &Whole) -> ProgressBar {
    let shown = io::stderr().is_terminal() && !common.json;
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(whole.len), target).with_style(style)
}

/// Asks for what is missing until nothing is.
fn download(
    client: &Client,
    (path, silence): (&str, Span),
    whole: &Whole,
    part: &mut Part,
    bar: ProgressBar,
) -> Result<(), CommandError> {
    let mut attempts = 0;
    while part.len < whole.len {
        bar.set_position(part.len);
        let before = part.len;
        let headers = [("range", format!("bytes={}-", part.len)), ("if-range", whole.tag.clone())];
        let broken = match client.open_within(silence.0, "GET", path, &headers) {
            Ok(answer) if answer.status() == StatusCode::PARTIAL_CONTENT => receive(answer, whole, part, &bar)?,
            Ok(_) => {
                let message = "the file has changed on the server meanwhile: its end is still being recorded, or its start was \
                               deleted; ask again for a range that has ended";
                return Err(CommandError::Failed(message.to_owned()));
            }
            Err(ClientError::Unreachable { message, .. }) => message,
            // It is busy, or stops: what comes after it may have time.
            Err(ClientError::Refused { status: 429 | 503, message, .. }) => message,
            Err(refused) => return Err(refused.into()),
        };
        attempts = if part.len > before { 0 } else { attempts + 1 };
        let (have, all) = (HumanBytes(part.len), HumanBytes(whole.len));
        if part.len < whole.len && attempts == ATTEMPTS_MAX {
            let kept = part.path.display();
            let message = format!("{have} of {all} came, then: {broken}; the same command goes on with {kept}");
            return Err(CommandError::Failed(message));
        }
        if part.len < whole.len {
            bar.suspend(|| eprintln!("kinora: {have} of {all} came, then: {broken}; asking for the rest"));
            std::thread::sleep(Duration::from_millis(200 << attempts));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes down what comes; says why it ended when that was too soon.
fn receive(
    answer: http::Response<ureq::Body>,
    whole: &Whole,
    part: &mut Part,
    bar: &ProgressBar,
) -> Result<String, CommandError> {
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok("the connection was closed".to_owned()),
            Ok(count) if part.len + count as u64 > whole.len => {
                return Err(CommandError::Failed("the server sent more than the file has".into()));
            }
            Ok(count) => {
                part.write(&buffer[..count]).map_err(|error| failed(&part.path, &error))?;
                bar.set_position(part.len);
            }
            Err(error) => return Ok(read_failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn whole(disposition: &str) -> Whole {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("10"));
        headers.insert("etag", HeaderValue::from_static("\"t\""));
        headers.insert("content-disposition", HeaderValue::from_str(disposition).expect("a value"));
        Whole::read(&headers).expect("a file")
    }

    #[test]
    fn names_of_the_server_are_no_paths() {
        assert_eq!(whole("attachment; filename=\"gate-2026.mp4\"").name, "gate-2026.mp4");
        for name in ["../gate.mp4", "/etc/passwd", ".profile", "", "a\\b"] {
            assert_eq!(whole(&format!("attachment; filename=\"{name}\"")).name, "clip.mp4");
        }
    }

    #[test]
    fn part_of_the_same_file_goes_on_and_that_of_another_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.mp4");
        let whole = whole("");
        let mut part = Part::open(&file, &whole).expect("opened");
        part.write(b"12345").expect("written");
        drop(part);
        assert_eq!(Part::open(&file, &whole).expect("opened").len, 5);
        let other = Whole { tag: "\"u\"".to_owned(), ..whole };
        let mut part = Part::open(&file, &other).expect("opened");
        assert_eq!(part.len, 0);
        part.write(b"abc").expect("written");
        part.finish(&file).expect("finished");
        assert_eq!(fs::read(&file).expect("a file"), b"abc");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
