//! The RTSP and RTSPS listeners: one task a connection, datagram ports per session, limits, credentials.
//!
//! Not here: what requests mean (`protocol/rtsp`), what packets mean (`protocol/rtp`), and what becomes of units
//! (`ingest`, `live`).

mod connection;
mod gate;
mod limits;
mod recording;
#[cfg(test)]
mod tests;
mod udp;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use store::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::doors::publishing::Rooms;
use gate::Gate;
use limits::{Limits, Slot};

/// How the door behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Ports for RTP and RTCP datagrams; none for any that the system gives.
    pub udp_ports: Option<RangeInclusive<u16>>,
    /// What may stand before a stream's name in a path, such as `live`. Default: nothing.
    pub path_prefix: String,
    /// Most connections. Default 20,000.
    pub connections_max: usize,
    /// Most connections of one address that have shown no credential. Default 200.
    pub unauthenticated_per_address: usize,
    /// Such a connection is closed after this. Default 10 s.
    pub unauthenticated_lifetime: Duration,
    /// Most streams: publishing creates none beyond. Default 10,000.
    pub streams_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            udp_ports: None,
            path_prefix: String::new(),
            connections_max: 20_000,
            unauthenticated_per_address: 200,
            unauthenticated_lifetime: Duration::from_secs(10),
            streams_max: 10_000,
        }
    }
}

/// The door.
pub(crate) struct Rtsp {
    gate: Gate,
    clock: Arc<dyn Clock>,
    settings: RwLock<Settings>,
    limits: Limits,
    /// Numbers connections, for logs and nonces.
    connections: AtomicU64,
}

impl Rtsp {
    /// The door to these rooms.
    pub(crate) fn new(rooms: Rooms, settings: Settings) -> Arc<Rtsp> {
        let clock = rooms.clock.clone();
        Rtsp::with_gate(Gate::Live(rooms), clock, settings)
    }

    fn with_gate(gate: Gate, clock: Arc<dyn Clock>, settings: Settings) -> Arc<Rtsp> {
        let (settings, limits) = (RwLock::new(settings), Limits::default());
        Arc::new(Rtsp { gate, clock, settings, limits, connections: AtomicU64::new(1) })
    }

    fn settings(&self) -> RwLockReadGuard<'_, Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the limits of these settings from now on; who is connected stays.
    pub(crate) fn set_limits(&self, fresh: &Settings) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        settings.path_prefix.clone_from(&fresh.path_prefix);
        settings.connections_max = fresh.connections_max;
        settings.unauthenticated_per_address = fresh.unauthenticated_per_address;
        settings.unauthenticated_lifetime = fresh.unauthenticated_lifetime;
        settings.streams_max = fresh.streams_max;
    }

    fn slot(&self, address: IpAddr) -> Option<Slot> {
        let settings = self.settings();
        self.limits.take(address, settings.connections_max, settings.unauthenticated_per_address)
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
                    warn!(%error, "rtsp: accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(slot) = self.slot(peer.ip()) else {
                debug!(%peer, "rtsp: too many connections");
                metrics::counter!("kinora_rtsp_connections_refused_total").increment(1);
                continue;
            };
            let door = self.clone();
            tasks.spawn(door.connection(stream, peer, tls.clone(), slot, shutdown.clone()));
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
        slot: Slot,
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
            None => connection::run(self, stream, about, slot, shutdown).await,
            Some(acceptor) => {
                let handshake = tokio::time::timeout(self.settings().unauthenticated_lifetime, acceptor.accept(stream));
                match handshake.await {
                    Ok(Ok(stream)) => Box::pin(connection::run(self, stream, about, slot, shutdown)).await,
                    Ok(Err(error)) => debug!(%peer, %error, "rtsp: tls handshake"),
                    Err(_) => debug!(%peer, "rtsp: tls handshake took too long"),
                }
            }
        }
    }
}
