//! The RTSP and RTSPS listeners: one task a connection, datagram ports per session, limits, credentials.
//!
//! Not here: what requests mean (`protocol/rtsp`), what packets mean (`protocol/rtp`), and what becomes of units
//! (`ingest`, `live`).

mod connection;
mod gate;
mod recording;
#[cfg(test)]
mod tests;
mod udp;
mod unfinished;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use store::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::config::tree::Limits;
use crate::doors::crowd::{Crowd, Door, Full, Place};
use crate::doors::http::listener::ACCEPT_AGAIN;
use crate::doors::publishing::Rooms;
use gate::Gate;

/// How the door behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Ports for RTP and RTCP datagrams; none for any that the system gives.
    pub udp_ports: Option<RangeInclusive<u16>>,
    /// What may stand before a stream's name in a path, such as `live`. Default: nothing.
    pub path_prefix: String,
    /// Of connections.
    pub limits: Limits,
    /// Most streams: publishing creates none beyond. Default 10,000.
    pub streams_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { udp_ports: None, path_prefix: String::new(), limits: Limits::default(), streams_max: 10_000 }
    }
}

/// The door.
pub(crate) struct Rtsp {
    gate: Gate,
    clock: Arc<dyn Clock>,
    settings: RwLock<Settings>,
    crowd: Arc<Crowd>,
    /// Numbers connections, for logs and nonces.
    connections: AtomicU64,
}

impl Rtsp {
    /// The door to these rooms.
    pub(crate) fn new(rooms: Rooms, settings: Settings, crowd: Arc<Crowd>) -> Arc<Rtsp> {
        let clock = rooms.clock.clone();
        Rtsp::with_gate(Gate::Live(rooms), clock, settings, crowd)
    }

    fn with_gate(gate: Gate, clock: Arc<dyn Clock>, settings: Settings, crowd: Arc<Crowd>) -> Arc<Rtsp> {
        let settings = RwLock::new(settings);
        Arc::new(Rtsp { gate, clock, settings, crowd, connections: AtomicU64::new(1) })
    }

    fn settings(&self) -> RwLockReadGuard<'_, Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the limits of these settings from now on; who is connected stays.
    pub(crate) fn set_limits(&self, fresh: &Settings) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        settings.path_prefix.clone_from(&fresh.path_prefix);
        settings.limits.clone_from(&fresh.limits);
        settings.streams_max = fresh.streams_max;
    }

    fn place(&self, address: IpAddr) -> Result<Place, Full> {
        self.crowd.enter(Door::Rtsp, address, &self.settings().limits, Arc::default())
    }

    /// Takes connections until `shutdown`, then ends them in order and returns when all are done.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        shutdown: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        let tls = tls.map(tokio_rustls::TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: those that are open go on, new ones wait.
                    metrics::counter!("kinora_accept_errors_total", "door" => "rtsp").increment(1);
                    warn!(%error, "rtsp: failed to accept a connection; the next try is in a second");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let Ok(place) = self.place(peer.ip()) else { continue };
            let door = self.clone();
            tasks.spawn(door.connection(stream, peer, tls.clone(), place, shutdown.clone()));
        }
        tasks.close();
        tasks.wait().await;
        info!("rtsp: closed");
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: std::net::SocketAddr,
        tls: Option<tokio_rustls::TlsAcceptor>,
        place: Place,
        shutdown: CancellationToken,
    ) {
        // Answers and reports are small and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let about = connection::About {
            number: self.connections.fetch_add(1, Ordering::Relaxed),
            peer,
            local,
            encrypted: tls.is_some(),
        };
        match tls {
            None => connection::run(self, stream, about, place, shutdown).await,
            Some(acceptor) => {
                let patience = self.settings().limits.unauthenticated_lifetime.0;
                let displaced = place.displaced();
                let shaken = displaced.run_until_cancelled(acceptor.accept(stream));
                let Some(handshake) = tokio::time::timeout(patience, shaken).await.transpose() else { return };
                match handshake {
                    Ok(Ok(stream)) => Box::pin(connection::run(self, stream, about, place, shutdown)).await,
                    Ok(Err(error)) => debug!(%peer, %error, "rtsp: tls handshake"),
                    Err(_) => debug!(%peer, "rtsp: tls handshake took too long"),
                }
            }
        }
    }
}
