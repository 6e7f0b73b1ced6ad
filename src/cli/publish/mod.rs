//! `kinora publish`: pushes an MP4 file over RTSP at its own pace, as a camera would.
//!
//! One process can push many streams from one file: the file is packetised once ([`clip`]), each stream only copies
//! packets and writes its own numbers into them ([`pace`]), and all of them share one thread and its timers ([`push`]).
//!
//! Not here: encoding; a file's access units are sent as they are.

mod clip;
mod connection;
mod pace;
mod push;
mod report;
mod socket;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rtsp_types::Url;
use rustls::ClientConfig;
use socket::Trust;

use crate::protocol::rtsp_client::Credentials;

/// Pushes an MP4 file over RTSP at its own pace.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The MP4 file (H.264, H.265, AAC, Opus, G.711).
    file: PathBuf,
    /// Where to: rtsp://user:password@host:port/name, or rtsps://
    url: String,
    /// Begin again at the end, for ever, with timestamps that go on; try again, until stopped, when the connection is lost or
    /// somebody else publishes the stream.
    #[arg(long = "loop")]
    forever: bool,
    /// Play the file this many times, with timestamps that go on.
    #[arg(long, value_name = "COUNT", conflicts_with = "forever", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Push this many streams, named NAME-1, NAME-2 ... when more than one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: u32,
    /// Send packets inside the RTSP connection (the default).
    #[arg(long, conflicts_with = "udp")]
    tcp: bool,
    /// Send packets over UDP.
    #[arg(long)]
    udp: bool,
    /// With rtsps://, trust this certificate (a PEM file), such as tls/cert.pem in the server's data folder.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// With rtsps://, take any certificate: whoever is in between can read and change everything.
    #[arg(long)]
    insecure: bool,
    /// Times as fast as the file says.
    #[arg(long, default_value_t = 1.0, value_parser = parse_speed)]
    speed: f64,
    /// Print the summary as one line of JSON.
    #[arg(long)]
    json: bool,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.01 to 1000".to_owned()),
    }
}

/// Where to push to.
#[derive(Clone)]
struct Target {
    host: String,
    port: u16,
    /// The address as requests name it: no credentials.
    uri: String,
    /// What came before the host.
    credentials: Option<Credentials>,
    /// How to talk to it; none for plain.
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    fn parse(text: &str, trust: &Trust) -> Result<Target, String> {
        let mut url = Url::parse(text)
            .map_err(|error| format!("read the address: {error}; write it as rtsp://user:password@host:8554/name"))?;
        let (tls, default_port) = match url.scheme() {
            "rtsp" => (None, 554),
            "rtsps" => (Some(trust.config()?), 322),
            scheme => {
                let text = format!("it begins with {scheme}://, and this command speaks rtsp:// and rtsps:// only");
                return Err(format!("read the address: {text}"));
            }
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or("read the address: it has no host; write it as rtsp://user:password@host:8554/name")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(default_port);
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| Credentials {
            user: decode(url.username()),
            password: decode(url.password().unwrap_or_default()),
        });
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return Err("read the address: it cannot have credentials".to_owned());
        }
        Ok(Target { host, port, uri: url.as_str().trim_end_matches('/').to_owned(), credentials, tls })
    }

    /// The target of stream `number` of `count`, counted from 1.
    fn numbered(&self, number: u32, count: u32) -> Target {
        let mut target = self.clone();
        if count > 1 {
            target.uri += &format!("-{number}");
        }
        target
    }
}

/// Pushes until the file's end, for ever, or until interrupted. Fails when any stream did not end well.
pub(crate) fn run(args: &Args) -> ExitCode {
    match publish(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("kinora publish: failed to {text}");
            ExitCode::FAILURE
        }
    }
}

fn publish(args: &Args) -> Result<bool, String> {
    let target = Target::parse(&args.url, &Trust::new(args.insecure, args.cacert.as_deref())?)?;
    if args.udp && target.tls.is_some() {
        return Err("push: rtsps:// keeps packets inside the connection; leave out --udp".to_owned());
    }
    let data = std::fs::read(&args.file).map_err(|error| format!("read {}: {error}", args.file.display()))?;
    if data.get(4..8) != Some(b"ftyp") {
        let file = args.file.display();
        return Err(format!("read {file}: it is no MP4 file; `ffmpeg -i {file} -c copy out.mp4` may make one of it"));
    }
    let clip = clip::Clip::build(&data).map_err(|error| format!("read {}: {error}", args.file.display()))?;
    drop(data);
    for skipped in &clip.skipped {
        eprintln!("left out: {skipped}");
    }
    let options = push::Options {
        clip: Arc::new(clip),
        count: (!args.forever).then_some(args.count),
        streams: args.streams,
        udp: args.udp,
        speed: args.speed,
    };
    // One thread: the work is to copy packets and write to sockets, and timers on one thread cost no wake-ups of others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start: {error}"))?;
    let results = runtime.block_on(push::all(&options, &target));
    let summary = report::Summary::new(&options.clip, results);
    if args.json {
        summary.print_json()
    } else {
        summary.print_text()
    }
    Ok(summary.is_success())
}

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;
