//! Every key of `kinora.toml`, its default and its meaning: the one place where defaults are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Listen, PortRange, PublicAddress, Size, Span};
use crate::catalog::{ProducerClock, Retention, SecondPublisher, StreamSettings};

/// `kinora.toml`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) http: Http,
    pub(crate) tls: Tls,
    pub(crate) rtsp: Rtsp,
    pub(crate) webrtc: Webrtc,
    pub(crate) storage: Storage,
    pub(crate) live: Live,
    pub(crate) hls: Hls,
    pub(crate) pictures: Pictures,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    /// `[[stream]]`: created or updated at start and at reload.
    #[serde(rename = "stream")]
    pub(crate) streams: Vec<StreamEntry>,
}

/// `[server]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Everything that is kept lies here.
    pub(crate) data_dir: PathBuf,
    /// How the world reaches the HTTP door, such as `https://video.example.org`; default: as the client did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<String>,
    /// How long a stop waits for what is being served and stored.
    pub(crate) shutdown_timeout: Span,
}

impl Default for Server {
    fn default() -> Server {
        Server { data_dir: "kinora-data".into(), public_url: None, shutdown_timeout: Span::secs(10) }
    }
}

/// `[http]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// Plain HTTP.
    pub(crate) listen: Listen,
    /// HTTP over TLS; when not set: the interface of `listen`, and any port when that has any.
    pub(crate) tls_listen: Listen,
    /// Refuses credentials that come over plain HTTP from another machine.
    pub(crate) require_tls: bool,
    /// Host names we answer to, besides `localhost` and IP addresses; empty: any.
    pub(crate) allowed_hosts: Vec<String>,
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: Listen::any(8080), tls_listen: Listen::any(8443), require_tls: false, allowed_hosts: Vec::new() }
    }
}

/// `[tls]`: of HTTPS and RTSPS.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// Certificate chain, PEM; default: self-signed, made at the first start in `<data>/tls/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// Tells browsers to come back by TLS only.
    pub(crate) hsts: bool,
}

/// `[rtsp]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rtsp {
    pub(crate) listen: Listen,
    /// RTSPS; when not set: the interface of `listen`, and any port when that has any.
    pub(crate) tls_listen: Listen,
    /// How the world reaches the RTSP door, such as `rtsp://video.example.org:8554`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<String>,
    /// Offers Digest MD5 (last); older cameras know nothing else.
    pub(crate) digest_md5: bool,
    /// Ports for RTP and RTCP over UDP, such as `20000-20999`; default: any that the system gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) udp_ports: Option<PortRange>,
    /// What may stand before a stream's name, such as `live`: then `rtsp://HOST/live/gate` is stream `gate`, as `rtsp://HOST/gate`
    /// is. Default: nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) path_prefix: String,
}

impl Default for Rtsp {
    fn default() -> Rtsp {
        Rtsp {
            listen: Listen::any(8554),
            tls_listen: Listen::any(8322),
            public_url: None,
            digest_md5: true,
            udp_ports: None,
            path_prefix: String::new(),
        }
    }
}

/// `[webrtc]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Webrtc {
    /// One UDP port for all peers; when not set: the interface of `http.listen`, and any port when that has any.
    pub(crate) udp_listen: Listen,
    /// At which addresses the world reaches that port: `203.0.113.7` or `203.0.113.7:8189`; default: those of this machine.
    pub(crate) public_addresses: Vec<PublicAddress>,
    /// STUN and TURN servers that clients are told of, for networks that let no UDP through.
    pub(crate) ice_servers: Vec<IceServer>,
    /// Sessions at a time, publishers and viewers together.
    pub(crate) max_sessions: u32,
    /// Sessions at a time that were offered and are not connected yet.
    pub(crate) max_pending: u32,
    /// Makes pictures that browsers cannot be sent over WebRTC (H.265, B pictures that others refer to) into H.264 that they can;
    /// 720p at 30 pictures a second takes a fifth of a core. Sound is made into Opus in any case.
    pub(crate) transcode: bool,
    /// Tracks that are made into another codec at a time, counted in tracks of sound: pictures count one for each million
    /// pixels a second, 28 for 720p and 63 for 1080p at 30. 0: 32 for each core of the machine, a fifth of it.
    pub(crate) max_transcodes: u32,
}

impl Default for Webrtc {
    fn default() -> Webrtc {
        Webrtc {
            udp_listen: Listen::any(8189),
            public_addresses: Vec::new(),
            ice_servers: Vec::new(),
            max_sessions: 2_000,
            max_pending: 500,
            transcode: false,
            max_transcodes: 0,
        }
    }
}

/// A server that helps clients through their networks (RFC 8489, RFC 8656).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IceServer {
    /// `stun:stun.example.org`, `turn:turn.example.org?transport=udp`, `turns:...`.
    pub(crate) url: String,
    /// Every client is told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    /// Every client is told it: make it one that opens nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credential: Option<String>,
}

/// `[storage]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    /// A block file is closed when it spans this much time, ...
    pub(crate) block_duration: Span,
    /// ... or before it grows beyond this.
    pub(crate) block_bytes: Size,
    /// Fragments that close within this share one sync of the disk.
    pub(crate) sync_tick: Span,
    /// Free share of the volume, in thousandths, under which the oldest blocks are dropped, ...
    pub(crate) soft_free_permille: u32,
    /// ... and under which nothing is recorded.
    pub(crate) hard_free_permille: u32,
    /// What each stream keeps, of its newest, when other files fill the volume.
    pub(crate) min_retention: Span,
    /// How often retention is applied.
    pub(crate) sweep_interval: Span,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            block_duration: Span::secs(300),
            block_bytes: Size::mib(64),
            sync_tick: Span::millis(50),
            soft_free_permille: 150,
            hard_free_permille: 50,
            min_retention: Span::secs(3600),
            sweep_interval: Span::secs(10),
        }
    }
}

/// `[live]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Live {
    /// A fragment is cut at the first random access point after this, ...
    pub(crate) fragment_min: Span,
    /// ... and here whatever comes: what a crash may lose at most.
    pub(crate) fragment_max: Span,
    /// Audio-only streams are cut here.
    pub(crate) audio_fragment: Span,
    /// Media of a stream that may wait in memory for the disk.
    pub(crate) unpersisted_bytes: Size,
    /// The same of all streams together, shared evenly among those that are published.
    pub(crate) unpersisted_bytes_total: Size,
    /// Stored media of a stream that is kept in memory for live viewers.
    pub(crate) tail_bytes: Size,
    /// The same of all streams together, shared evenly among those that are published.
    pub(crate) tail_bytes_total: Size,
    /// A block file is closed when nobody has published for this long.
    pub(crate) idle_after: Span,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            fragment_min: Span::secs(1),
            fragment_max: Span::secs(10),
            audio_fragment: Span::secs(2),
            unpersisted_bytes: Size::mib(64),
            unpersisted_bytes_total: Size::mib(1024),
            tail_bytes: Size::mib(8),
            tail_bytes_total: Size::mib(512),
            idle_after: Span::secs(20),
        }
    }
}

/// `[hls]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hls {
    /// How far back a live playlist reaches.
    pub(crate) live_window: Span,
    /// Most segments in a playlist; a longer range is refused.
    pub(crate) segments_max: u32,
}

impl Default for Hls {
    fn default() -> Hls {
        Hls { live_window: Span::secs(60), segments_max: 100_000 }
    }
}

/// `[pictures]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pictures {
    /// The program that decodes; default: `kinora-decoder` beside `kinora`, else on the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decoder: Option<PathBuf>,
    /// Decoders at a time; 0: as many as the machine has cores.
    pub(crate) decoders: u32,
    /// Groups of pictures that may wait for a decoder; beyond it requests are answered `busy`.
    pub(crate) queue: u32,
    /// Memory for finished pictures that are likely to be asked for again.
    pub(crate) remembered_bytes: Size,
    /// A decoder with nothing to do is ended after this.
    pub(crate) idle_after: Span,
}

impl Default for Pictures {
    fn default() -> Pictures {
        Pictures { decoder: None, decoders: 0, queue: 256, remembered_bytes: Size::mib(64), idle_after: Span::secs(60) }
    }
}

/// `[limits]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Connections at a time over all doors.
    pub(crate) connections: u32,
    /// Connections at a time from one address that have not shown a right credential.
    pub(crate) unauthenticated_per_ip: u32,
    /// Time to the full head of a request, and to a TLS handshake.
    pub(crate) head_timeout: Span,
    /// A connection that has shown no right credential is closed after this when it is idle.
    pub(crate) unauthenticated_lifetime: Span,
    /// Head of a request.
    pub(crate) head_bytes: Size,
    /// Body of a JSON request.
    pub(crate) body_bytes: Size,
    /// Time to a full body.
    pub(crate) body_timeout: Span,
    /// Concurrent HTTP/2 streams of a connection.
    pub(crate) http2_streams: u32,
    /// HTTP/2 streams that a client may reset before we answered them.
    pub(crate) http2_resets: u32,
    /// Memory that budgets are shares of; default: what the machine or its control group has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Size>,
    /// Pieces of media that wait to be sent over HTTP, of all answers together; where it is used up, pieces become small.
    pub(crate) response_bytes: Size,
    /// Streams on this server.
    pub(crate) streams: u32,
    /// Clients that listen to events.
    pub(crate) event_listeners: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            unauthenticated_per_ip: 200,
            head_timeout: Span::secs(5),
            unauthenticated_lifetime: Span::secs(10),
            head_bytes: Size::kib(16),
            body_bytes: Size::kib(256),
            body_timeout: Span::secs(15),
            http2_streams: 100,
            http2_resets: 50,
            memory: None,
            response_bytes: Size::mib(256),
            streams: 10_000,
            event_listeners: 1_000,
        }
    }
}

/// `[log]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// A level, or directives such as `info,kinora::doors=debug`. `KINORA_LOG` is short for `KINORA_LOG_FILTER`.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Log {
        Log { filter: "info".into(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// `[metrics]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Metrics {
    /// Labels metrics with the name of the stream; switch it off above some thousands of streams.
    pub(crate) per_stream: bool,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { per_stream: true }
    }
}

/// `[[stream]]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) retention: RetentionEntry,
    #[serde(default)]
    pub(crate) on_second_publisher: SecondPublisher,
    #[serde(default)]
    pub(crate) producer_clock: ProducerClock,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
}

impl StreamEntry {
    /// As the catalog keeps them.
    pub(crate) fn settings(&self) -> StreamSettings {
        StreamSettings {
            retention: Retention {
                max_age: self.retention.max_age.map(|age| age.0),
                max_bytes: self.retention.max_bytes.map(|size| size.0),
            },
            on_second_publisher: self.on_second_publisher,
            producer_clock: self.producer_clock,
            tags: self.tags.clone(),
        }
    }
}

/// `retention = { max_age = "7d", max_bytes = "100GB" }`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes: Option<Size>,
}
