//! The composition root: what is built in which order, and stopped in which.
//!
//! Start: data folder, catalog, epoch, store (which recovers), access, streams, hub, sweeper, doors; then the ready line.
//! Stop: no new connections, publishers cut and persisted, store closed, answers in flight finished, all within
//! `server.shutdown_timeout`; a second signal ends the process at once.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::Serialize;
use store::{Clock, Store, StoreError, StreamIdentity, SystemClock};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Access;
use crate::catalog::{Catalog, CatalogError, Stream, StreamSettings};
use crate::config::load::{ConfigError, Sources, load};
use crate::config::units::Listen;
use crate::config::{Config, StreamEntry};
use crate::doors::crowd::{Crowd, raise_descriptors};
use crate::doors::http::audience::Audience;
use crate::doors::http::listener::{Listener, bind};
use crate::doors::http::tls::{Certificate, CertificateError, write_private};
use crate::doors::http::v1::server::{Listeners, Reloaded};
use crate::doors::http::watch::{Events, watch_streams};
use crate::doors::http::{App, Pieces, RunStatus, router};
use crate::doors::publishing::Rooms;
use crate::doors::rtsp::{self, Rtsp};
use crate::doors::webrtc::{self, Webrtc};
use crate::frames::Frames;
use crate::live::{self, Hub, Sweeper, SweeperSettings};
use crate::playback::clip::Clips;
use crate::playback::hls::Playlists;
use crate::telemetry::pulse::{self, beat_runtime, essential, restarted};
use crate::telemetry::service::ServiceManager;
use crate::telemetry::{self, TelemetryError};
use crate::workers::{self, LINGER, Pool, PoolSettings, SharedTranscodes, TranscodeSettings, Transcodes};

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("data folder {path}: {source}; name a folder that you may write to with --data-dir or server.data_dir")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("listen on {address} for {door}: {source}; {}", advice(door, source))]
    Listen { door: &'static str, address: SocketAddr, source: io::Error },
    #[error("{0}")]
    Streams(String),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("{0} fragments could not be written before the server stopped")]
    Unpersisted(u64),
}

/// What to do when a door cannot open.
fn advice(door: &str, source: &io::Error) -> String {
    let flag = door.to_ascii_lowercase();
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program has this port: stop it, or choose another with --{flag}, such as --{flag} :0")
        }
        io::ErrorKind::PermissionDenied => format!("ports below 1024 need rights; choose another with --{flag}"),
        _ => format!("choose another address with --{flag}"),
    }
}

/// The file in the data folder that says where the running server listens.
pub(crate) const READY_FILE: &str = "server.json";

/// Runs the server until a signal stops it.
pub(crate) fn serve(sources: &Sources) -> Result<(), ServeError> {
    let system = |what| move |source| ServeError::System { what, source };
    let loaded = load(sources)?;
    telemetry::start_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the runtime"))?;
    let outcome = runtime.block_on(async {
        let signals = Signals::new().map_err(system("listen for signals"))?;
        let running = Running::start(sources.clone(), loaded.config).await?;
        running.until_stopped(signals).await
    });
    // Threads that wait for a stuck disk must not keep a stopped server.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// How long cameras' connections may take at a stop to hand over what they hold.
const HAND_OVER: Duration = Duration::from_secs(2);

/// The server while it runs.
struct Running {
    app: Arc<App>,
    sources: Sources,
    reloads: mpsc::Receiver<oneshot::Sender<Result<Reloaded, String>>>,
    /// The RTSP door: a reload gives it its limits.
    rtsp: Arc<Rtsp>,
    /// No new connections, publishers or requests.
    stop: CancellationToken,
    /// Nothing at all any more.
    now: CancellationToken,
    tasks: TaskTracker,
    /// Connections of cameras: at a stop they hand over what they hold before the hub closes.
    cameras: TaskTracker,
}

impl Running {
    async fn start(sources: Sources, config: Config) -> Result<Running, ServeError> {
        let metrics = telemetry::start_metrics()?;
        // Before the first file is opened.
        let crowd = Crowd::new(raise_descriptors());
        live::describe_metrics();
        workers::describe_metrics();
        webrtc::describe_metrics();
        let data_dir = config.server.data_dir.clone();
        make_data_dir(&data_dir)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match Store::make_room(&data_dir) {
            Ok(true) => tracing::warn!("the volume is full to the last byte: the room kept for deletion is let go"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "failed to look for the room kept for deletion"),
        }
        let catalog = Catalog::open(&data_dir.join("control.db"))?;
        // A control.db that was lost, or put back from a copy, knows less than the blocks do.
        catalog.raise_epoch(Store::newest_epoch(&data_dir)?)?;
        let epoch = catalog.next_epoch()?;
        let (store, report) = Store::open(store_settings(&config), epoch, clock.clone())?;
        tracing::info!(epoch = epoch.0, ?report, "store is open");
        if report.quarantined > 0 || report.lost > 0 {
            tracing::error!(report.quarantined, report.lost, "media is damaged or missing; see `kinora store check`");
        }
        let admin_token = std::env::var("KINORA_ADMIN_TOKEN").ok();
        let access = Access::open(catalog.clone(), clock.clone(), &data_dir, admin_token.as_deref())?;
        access.set_digest_md5(config.rtsp.digest_md5);
        agree_on_streams(&catalog, &store)?;
        let hub = Hub::new(store.clone(), clock.clone(), live_settings(&config));

        let certificate = match (config.http.tls_listen.0, config.rtsp.tls_listen.0) {
            (None, None) => None,
            _ => Some(Certificate::load(&config.tls, &data_dir)?),
        };
        let http = open("HTTP", config.http.listen)?;
        let https = open("HTTPS", config.http.tls_listen)?;
        let rtsp = open("RTSP", config.rtsp.listen)?;
        let rtsps = open("RTSPS", config.rtsp.tls_listen)?;
        let webrtc = open_udp("webrtc-udp", config.webrtc.udp_listen)?;
        let listeners = Listeners {
            http: address(&http),
            https: address(&https),
            rtsp: address(&rtsp),
            rtsps: address(&rtsps),
            webrtc: webrtc.as_ref().and_then(|socket| Some(socket.local_addr().ok()?.to_string())),
        };
        let publishing = Rooms {
            hub: hub.clone(),
            catalog: catalog.clone(),
            store: store.clone(),
            access: access.clone(),
            clock: clock.clone(),
            new_stream: StreamSettings::default(),
        };
        let (stop, tasks, cameras) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
        let webrtc = match webrtc {
            None => None,
            Some(socket) => {
                let settings = webrtc_settings(&config);
                let door = Webrtc::open(
                    socket,
                    publishing.clone(),
                    transcodes(&config),
                    settings,
                    &tasks,
                    &cameras,
                    stop.clone(),
                );
                Some(door.map_err(|source| ServeError::System { what: "open the WebRTC door", source })?)
            }
        };
        let (reloads_in, reloads) = mpsc::channel(1);
        let app = Arc::new(App {
            catalog: catalog.clone(),
            access,
            hub: hub.clone(),
            store,
            clock: clock.clone(),
            playlists: Arc::new(Playlists::new(hub.clone(), clock.clone())),
            frames: frames(&hub, &config),
            clips: Clips::new(hub.clone()),
            webrtc,
            events: Events::new(clock.clone()),
            audience: Audience::default(),
            crowd: crowd.clone(),
            pieces: Pieces::default(),
            certificate: certificate.clone(),
            status: RunStatus { started: clock.now(), listeners: listeners.clone() },
            metrics,
            reloads: reloads_in,
            config: RwLock::new(Arc::new(config)),
        });
        take_streams(&app, None, &app.config()).map_err(ServeError::Streams)?;

        let rtsp_door = Rtsp::new(publishing, rtsp_settings(&app.config()), crowd);
        let running =
            Running { app, rtsp: rtsp_door, sources, reloads, stop, now: CancellationToken::new(), tasks, cameras };
        running.open_doors(http, https, rtsp, rtsps);
        running.say_ready(&listeners)?;
        Ok(running)
    }

    fn open_doors(
        &self,
        http: Option<TcpListener>,
        https: Option<TcpListener>,
        rtsp: Option<TcpListener>,
        rtsps: Option<TcpListener>,
    ) {
        let app = &self.app;
        let config = app.config();
        let sweeping = SweeperSettings {
            every: config.storage.sweep_interval.0,
            soft_free_permille: config.storage.soft_free_permille,
            hard_free_permille: config.storage.hard_free_permille,
            min_retention: config.storage.min_retention.0,
        };
        let stopped = self.stop.clone();
        self.tasks.spawn(async move { stopped.run_until_cancelled_owned(beat_runtime()).await });
        let (hub, catalog) = (app.hub.clone(), app.catalog.clone());
        self.tasks.spawn(restarted("sweeper", move || Sweeper::new(hub.clone(), catalog.clone(), sweeping).run()));
        let (watching, stop) = (app.clone(), self.stop.clone());
        self.tasks.spawn(restarted("events", move || watch_streams(watching.clone(), stop.clone())));
        let (metrics, stop) = (app.metrics.clone(), self.stop.clone());
        self.tasks.spawn(restarted("metrics", move || keep_metrics(metrics.clone(), stop.clone())));
        let backup = config.server.data_dir.join("control.backup.db");
        let (catalog, stop) = (app.catalog.clone(), self.stop.clone());
        self.tasks.spawn(restarted("backup", move || keep_backup(catalog.clone(), backup.clone(), stop.clone())));
        let (access, stop) = (app.access.clone(), self.stop.clone());
        self.tasks.spawn(restarted("last_used", move || keep_last_used(access.clone(), stop.clone())));
        let router = router(app);
        let tls = app.certificate.as_ref().map(|certificate| certificate.server_config(&[b"h2", b"http/1.1"]));
        for (socket, tls) in [(http, None), (https, tls)] {
            let Some(socket) = socket else { continue };
            let door = Listener { socket, tls };
            let (stop, now) = (self.stop.clone(), self.now.clone());
            let serve = door.serve(app.clone(), router.clone(), app.crowd.clone(), stop, now);
            self.tasks.spawn(essential("http", serve));
        }
        let rtsp_tls = app.certificate.as_ref().map(|certificate| certificate.server_config(&[]));
        for (socket, tls) in [(rtsp, None), (rtsps, rtsp_tls)] {
            let Some(socket) = socket else { continue };
            self.cameras.spawn(essential("rtsp", self.rtsp.clone().serve(socket, tls, self.stop.clone())));
        }
    }

    /// The ready line on standard output, what an operator should know on standard error.
    fn say_ready(&self, listeners: &Listeners) -> Result<(), ServeError> {
        let config = self.app.config();
        let data_dir = &config.server.data_dir;
        let line = serde_json::to_string(&Ready {
            ready: true,
            http: listeners.http.as_deref(),
            https: listeners.https.as_deref(),
            rtsp: listeners.rtsp.as_deref(),
            rtsps: listeners.rtsps.as_deref(),
            webrtc: listeners.webrtc.as_deref(),
            pid: std::process::id(),
        })
        .expect("texts and numbers are JSON");
        let admin_token = data_dir.join("admin-token");
        if admin_token.exists() {
            say(&format!("the admin token is in {}", admin_token.display()));
        }
        if let Some(certificate) = &self.app.certificate {
            let kind = if config.tls.cert.is_some() { "certificate" } else { "self-signed certificate" };
            say(&format!("{kind}, SHA-256 {}", certificate.fingerprint()));
        }
        let reachable = config.http.listen.0.is_some_and(|address| !address.ip().is_loopback());
        if reachable && !config.http.require_tls {
            tracing::warn!(
                "plain HTTP is open to other machines: tokens and media can be read on the way; use https, or set \
                 http.listen = '127.0.0.1:8080' or http.require_tls = true"
            );
        }
        let ready_file = data_dir.join(READY_FILE);
        write_private(&ready_file, line.as_bytes())
            .map_err(|source| ServeError::DataDir { path: ready_file, source })?;
        let mut out = io::stdout().lock();
        // Whoever started us may have closed our standard output; that is no reason to stop.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        tracing::info!(?listeners, version = env!("CARGO_PKG_VERSION"), "ready");
        if let Some(manager) = ServiceManager::of_process() {
            manager.say("READY=1");
            let (store, stop) = (self.app.store.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                stop.run_until_cancelled(manager.watch(|| !needs_restart(&store))).await;
                stop.cancelled().await;
                manager.say("STOPPING=1");
            });
        }
        Ok(())
    }

    async fn until_stopped(mut self, mut signals: Signals) -> Result<(), ServeError> {
        while let Wake::Reload(answer) = self.select(&mut signals).await {
            let app = self.app.clone();
            let sources = self.sources.clone();
            let outcome = tokio::task::spawn_blocking(move || reload(&app, &sources)).await;
            let outcome = outcome.unwrap_or_else(|error| Err(error.to_string()));
            match &outcome {
                Ok(reloaded) => {
                    let config = self.app.config();
                    self.rtsp.set_limits(&rtsp_settings(&config));
                    if let Some(door) = &self.app.webrtc {
                        door.set_limits(&webrtc_settings(&config));
                    }
                    tracing::info!(?reloaded, "configuration reloaded");
                }
                Err(error) => tracing::error!(error, "failed to reload; certificates and limits stay as they were"),
            }
            if let Some(answer) = answer {
                let _ = answer.send(outcome);
            }
        }
        tokio::spawn(async move {
            signals.stop().await;
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        });
        self.stop().await
    }

    async fn select(&mut self, signals: &mut Signals) -> Wake {
        tokio::select! {
            _ = signals.terminate.recv() => Wake::Stop,
            _ = signals.interrupt.recv() => Wake::Stop,
            _ = signals.hangup.recv() => Wake::Reload(None),
            Some(answer) = self.reloads.recv() => Wake::Reload(Some(answer)),
        }
    }

    async fn stop(self) -> Result<(), ServeError> {
        let config = self.app.config();
        let patience = config.server.shutdown_timeout.0;
        let deadline = tokio::time::Instant::now() + patience;
        tracing::info!("stopping");
        self.stop.cancel();
        self.app.events.server_stopping();
        self.app.frames.stop();
        self.cameras.close();
        if tokio::time::timeout(HAND_OVER.min(patience / 2), self.cameras.wait()).await.is_err() {
            tracing::warn!("some cameras' last packets were cut off");
        }
        let unpersisted = self.app.hub.shutdown(deadline.duration_since(tokio::time::Instant::now())).await;
        let store = self.app.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close());
        let closed = tokio::time::timeout_at(deadline + Duration::from_secs(5), closed).await;
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("some answers were cut off: they took longer than server.shutdown_timeout");
            self.now.cancel();
        }
        let _ = std::fs::remove_file(config.server.data_dir.join(READY_FILE));
        if let Ok(Ok(Err(error))) = closed {
            return Err(error.into());
        }
        if unpersisted > 0 {
            return Err(ServeError::Unpersisted(unpersisted));
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Whether recording stands still by something that a restart may mend. A folder that is gone is none: a start would make another.
fn needs_restart(store: &Store) -> bool {
    let stuck = store.stuck();
    stuck.iter().any(|stuck| stuck.stops_recording && stuck.part != "data_folder")
        || pulse::stuck().iter().any(|stuck| stuck.stops_recording)
}

/// A word to whoever started us; that nobody can hear it is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "kinora: {text}");
}

/// The line that says that we are ready, and where.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    http: Option<&'a str>,
    https: Option<&'a str>,
    rtsp: Option<&'a str>,
    rtsps: Option<&'a str>,
    webrtc: Option<&'a str>,
    pid: u32,
}

enum Wake {
    Stop,
    Reload(Option<oneshot::Sender<Result<Reloaded, String>>>),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Makes the data folder, for us alone; from here on nothing we make is readable by others.
fn make_data_dir(path: &Path) -> Result<(), ServeError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServeError::DataDir { path: path.to_owned(), source })
}

fn store_settings(config: &Config) -> store::Settings {
    let storage = &config.storage;
    store::Settings {
        root: config.server.data_dir.clone(),
        rotate_after: storage.block_duration.0,
        rotate_bytes: storage.block_bytes.0,
        tick: storage.sync_tick.0,
        soft_free_permille: storage.soft_free_permille,
        hard_free_permille: storage.hard_free_permille,
    }
}

fn live_settings(config: &Config) -> live::Settings {
    let live = &config.live;
    live::Settings {
        fragment_min: live.fragment_min.0,
        fragment_max: live.fragment_max.0,
        audio_fragment: live.audio_fragment.0,
        unpersisted_bytes: live.unpersisted_bytes.0,
        unpersisted_bytes_total: live.unpersisted_bytes_total.0,
        tail_bytes: live.tail_bytes.0,
        tail_bytes_total: live.tail_bytes_total.0,
        idle_after: live.idle_after.0,
        stream_labels: config.metrics.per_stream,
    }
}

fn rtsp_settings(config: &Config) -> rtsp::Settings {
    let limits = &config.limits;
    rtsp::Settings {
        udp_ports: config.rtsp.udp_ports.map(|ports| ports.first..=ports.last),
        path_prefix: config.rtsp.path_prefix.clone(),
        limits: limits.clone(),
        streams_max: limits.streams as usize,
    }
}

fn webrtc_settings(config: &Config) -> webrtc::Settings {
    let Config { webrtc, limits, .. } = config;
    webrtc::Settings {
        public_addresses: webrtc
            .public_addresses
            .iter()
            .map(|at| SocketAddr::new(at.ip, at.port.unwrap_or(0)))
            .collect(),
        max_sessions: webrtc.max_sessions as usize,
        max_pending: webrtc.max_pending as usize,
        streams_max: limits.streams as usize,
        transcode: webrtc.transcode,
    }
}

/// Brings catalog and store together after a crash between the two, or a `control.db` that was lost or put back from a
/// copy. A stream with a tombstone is gone and loses its row; one whose row has no folder gets that; one whose folder has no
/// row gets a row, unless another stream has its name by now: then its media stays where it is and nobody sees it.
fn agree_on_streams(catalog: &Catalog, store: &Store) -> Result<(), ServeError> {
    for stream in catalog.all_streams() {
        let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: stream.created };
        match store.create_stream(&identity) {
            Err(StoreError::Gone) => {
                tracing::warn!(stream = %stream.name, id = %stream.id, "a deletion that a crash cut short is finished");
                catalog.delete_stream(stream.id)?;
            }
            made => made?,
        }
    }
    for StreamIdentity { id, name, created } in store.identities()? {
        if catalog.stream_by_id(id).is_some() {
            continue;
        }
        let stream = Stream {
            id,
            name: name.clone(),
            created,
            settings: StreamSettings::default(),
            retained_from: None,
            dropped: None,
        };
        match catalog.adopt_stream(&stream) {
            Err(CatalogError::Exists(_)) => {
                tracing::error!(stream = %name, %id, "a stream's folder has no row in control.db, and another stream has its name");
            }
            adopted => {
                adopted?;
                tracing::warn!(stream = %name, %id, "a stream's folder has no row in control.db: adopted with default settings");
            }
        }
    }
    Ok(())
}

/// Creates and updates the streams of `[[stream]]`; how many of each. With the configuration `before`, only what changed in it since is
/// set: what the API set meanwhile stays.
fn take_streams(app: &App, before: Option<&Config>, config: &Config) -> Result<(u32, u32), String> {
    let (mut created, mut updated) = (0, 0);
    for entry in &config.streams {
        let before = before.and_then(|before| before.streams.iter().find(|old| old.name == entry.name));
        let outcome = take_stream(app, config, before, entry);
        match outcome.map_err(|error| format!("[[stream]] {}: {}", entry.name, error.cause.unwrap_or(error.message)))? {
            Taken::Created => created += 1,
            Taken::Updated => updated += 1,
            Taken::Same => {}
        }
    }
    Ok((created, updated))
}

enum Taken {
    Created,
    Updated,
    Same,
}

fn take_stream(
    app: &App,
    config: &Config,
    before: Option<&StreamEntry>,
    entry: &StreamEntry,
) -> Result<Taken, crate::doors::http::error::ApiError> {
    let name = media::StreamName::new(&entry.name)?;
    let Some(stream) = app.catalog.stream(&name) else {
        app.create_stream(&name, entry.settings(), config.limits.streams as usize)?;
        return Ok(Taken::Created);
    };
    let mut taken = Taken::Same;
    let take = |settings: &mut StreamSettings| {
        let wanted = with_changes(settings, before.map(StreamEntry::settings), entry.settings());
        if *settings != wanted {
            (*settings, taken) = (wanted, Taken::Updated);
        }
        Ok(())
    };
    // Looked at first, as most reloads change nothing; the transaction decides.
    if with_changes(&stream.settings, before.map(StreamEntry::settings), entry.settings()) != stream.settings {
        app.catalog.update_stream(stream.id, take)?;
    }
    Ok(taken)
}

/// The settings `now`, with those of the file that it did not have `before`.
fn with_changes(now: &StreamSettings, before: Option<StreamSettings>, file: StreamSettings) -> StreamSettings {
    let Some(before) = before else { return file };
    let mut settings = now.clone();
    if before.retention.max_age != file.retention.max_age {
        settings.retention.max_age = file.retention.max_age;
    }
    if before.retention.max_bytes != file.retention.max_bytes {
        settings.retention.max_bytes = file.retention.max_bytes;
    }
    if before.on_second_publisher != file.on_second_publisher {
        settings.on_second_publisher = file.on_second_publisher;
    }
    if before.producer_clock != file.producer_clock {
        settings.producer_clock = file.producer_clock;
    }
    if before.tags != file.tags {
        settings.tags = file.tags;
    }
    settings
}

/// Takes certificates, limits and streams from the configuration again. Blocks.
fn reload(app: &App, sources: &Sources) -> Result<Reloaded, String> {
    let loaded = load(sources).map_err(|error| error.to_string())?;
    let before = app.config();
    let (config, needs_restart) = merge(&before, loaded.config);
    let fresh = app.certificate.as_ref().map(|certificate| certificate.read(&config.tls)).transpose();
    let fresh = fresh.map_err(|error| error.to_string())?;
    let (streams_created, streams_updated) = take_streams(app, Some(&before), &config)?;
    if let (Some(certificate), Some(fresh)) = (&app.certificate, fresh) {
        certificate.install(fresh);
    }
    app.set_config(Arc::new(config));
    Ok(Reloaded { streams_created, streams_updated, needs_restart, warnings: loaded.warnings })
}

/// The fresh configuration with the old values of what cannot change while we run, and the names of those that did.
fn merge(before: &Config, mut fresh: Config) -> (Config, Vec<String>) {
    let mut changed = Vec::new();
    macro_rules! keep {
        ($($section:ident . $key:ident),* $(,)?) => {
            $(if fresh.$section.$key != before.$section.$key {
                changed.push(concat!(stringify!($section), ".", stringify!($key)).to_owned());
                fresh.$section.$key = before.$section.$key.clone();
            })*
        };
    }
    keep!(server.data_dir, http.listen, http.tls_listen, rtsp.listen, rtsp.tls_listen, rtsp.digest_md5, rtsp.udp_ports);
    macro_rules! keep_section {
        ($($section:ident),*) => {
            $(if fresh.$section != before.$section {
                changed.push(stringify!($section).to_owned());
                fresh.$section = before.$section.clone();
            })*
        };
    }
    keep_section!(storage, live, pictures, log, metrics, webrtc);
    (fresh, changed)
}

async fn keep_metrics(metrics: metrics_exporter_prometheus::PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => metrics.run_upkeep(),
        }
    }
}

/// Copies `control.db` once an hour: nothing else has what is in it.
async fn keep_backup(catalog: Arc<Catalog>, to: PathBuf, stop: CancellationToken) {
    let mut hours = tokio::time::interval(Duration::from_secs(3600));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hours.tick() => {}
        }
        let (catalog, to) = (catalog.clone(), to.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || catalog.back_up(&to)).await {
            tracing::warn!(%error, "failed to copy control.db");
        }
    }
}

/// Writes down when credentials were last used, so that using one never waits for the disk.
async fn keep_last_used(access: Arc<Access>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(30));
    let mut stopping = false;
    while !stopping {
        tokio::select! {
            () = stop.cancelled() => stopping = true,
            _ = ticks.tick() => {}
        }
        let access = access.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || access.save_last_used()).await {
            tracing::warn!(%error, "failed to note when credentials were last used");
        }
    }
}

/// What makes pictures. Its decoders are started when the first is asked for.
fn frames(hub: &Arc<Hub>, config: &Config) -> Arc<Frames> {
    let pictures = &config.pictures;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = PoolSettings {
        program: pictures.decoder.clone().unwrap_or_else(decoder_beside_us),
        registry: config.server.data_dir.join("decoder-registry.bin"),
        processes: if pictures.decoders == 0 { cores } else { pictures.decoders as usize },
        queue: pictures.queue as usize,
        idle: pictures.idle_after.0,
    };
    Arc::new(Frames::new(hub.clone(), Pool::new(settings), pictures.remembered_bytes.0))
}

/// Tracks that are transcoded at a time by default, in tracks of sound: about a fifth of the machine.
const TRANSCODES_EACH_CORE: usize = 32;
/// A process that did nothing for so long with a unit in hand is hung: the longest unit takes a tenth of a second.
const TRANSCODE_PATIENCE: Duration = Duration::from_secs(5);

/// What makes live tracks into other codecs. Its processes are started when somebody views such a track.
fn transcodes(config: &Config) -> Arc<SharedTranscodes> {
    Arc::new(SharedTranscodes::new(Transcodes::new(transcode_settings(config)), LINGER))
}

fn transcode_settings(config: &Config) -> TranscodeSettings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = config.webrtc.max_transcodes as usize;
    TranscodeSettings {
        program: config.pictures.decoder.clone().unwrap_or_else(decoder_beside_us),
        registry: config.server.data_dir.join("decoder-registry.bin"),
        pictures: config.webrtc.transcode,
        most: if most == 0 { cores * TRANSCODES_EACH_CORE } else { most },
        patience: TRANSCODE_PATIENCE,
    }
}

/// `kinora-decoder` in the folder of this program, else wherever the path leads.
fn decoder_beside_us() -> PathBuf {
    let name = "kinora-decoder";
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(name));
    beside.filter(|path| path.exists()).unwrap_or_else(|| name.into())
}

fn open(door: &'static str, listen: Listen) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = listen.0 else { return Ok(None) };
    bind(address).map(Some).map_err(|source| ServeError::Listen { door, address, source })
}

fn open_udp(door: &'static str, listen: Listen) -> Result<Option<std::net::UdpSocket>, ServeError> {
    let Some(address) = listen.0 else { return Ok(None) };
    webrtc::bind(address).map(Some).map_err(|source| ServeError::Listen { door, address, source })
}

fn address(socket: &Option<TcpListener>) -> Option<String> {
    socket.as_ref().and_then(|socket| socket.local_addr().ok()).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Span;

    #[test]
    fn transcodes_are_limited_by_the_cores_unless_the_configuration_says_a_number() {
        let mut config = Config::default();
        let settings = transcode_settings(&config);
        assert!(settings.most >= 32 && settings.most.is_multiple_of(32) && !settings.pictures);
        config.webrtc.max_transcodes = 3;
        config.webrtc.transcode = true;
        let settings = transcode_settings(&config);
        assert_eq!((settings.most, settings.pictures), (3, true));
    }

    #[test]
    fn a_reload_sets_what_changed_in_the_file_and_leaves_what_the_api_set() {
        let tags = |value: &str| std::collections::BTreeMap::from([("site".to_owned(), value.to_owned())]);
        let file = StreamSettings { tags: tags("north"), ..StreamSettings::default() };
        let mut patched = file.clone();
        patched.retention.max_bytes = Some(9);
        assert_eq!(with_changes(&patched, Some(file.clone()), file.clone()), patched);
        let changed = StreamSettings { tags: tags("south"), ..file.clone() };
        let both = StreamSettings { tags: tags("south"), ..patched.clone() };
        assert_eq!(with_changes(&patched, Some(file.clone()), changed), both);
        assert_eq!(with_changes(&patched, None, file.clone()), file, "a start takes the file as it stands");
    }

    #[test]
    fn a_reload_takes_limits_and_streams_and_names_what_needs_a_restart() {
        let before = Config::default();
        let mut fresh = Config::default();
        fresh.limits.connections = 99;
        fresh.http.require_tls = true;
        fresh.http.listen = Listen::any(1);
        fresh.storage.block_duration = Span::secs(60);
        let (merged, needs_restart) = merge(&before, fresh);
        assert_eq!((merged.limits.connections, merged.http.require_tls), (99, true));
        assert_eq!((merged.http.listen, merged.storage), (before.http.listen, before.storage.clone()));
        assert_eq!(needs_restart, ["http.listen", "storage"]);
    }
}
