//! Accepting connections: plain and TLS, HTTP/1.1 and HTTP/2, each within its limits, until told to stop.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval_at, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::App;
use super::progress::Progress;
use super::request::Connection;
use super::stall::Stall;
use crate::config::tree::Limits;
use crate::doors::crowd::{Crowd, Door};

/// How long a client may leave our answer unread before it is taken for gone.
const STALL: Duration = Duration::from_secs(60);

/// After a connection could not be accepted, for want of descriptors mostly.
pub(crate) const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Longest time between looks at whether a connection's answers get anywhere, and at whether its client is a stranger.
const LOOK: Duration = Duration::from_secs(10);
/// A stranger that is told to go after its lifetime is cut off after so many of them.
const STRANGERS_PATIENCE: u32 = 3;

/// One listening socket.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// None: plain HTTP.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Accepts until `stop`, then lets every request that has begun finish; `now` ends those too.
    pub(crate) async fn serve(
        self,
        app: Arc<App>,
        router: Router,
        crowd: Arc<Crowd>,
        stop: CancellationToken,
        now: CancellationToken,
    ) {
        let connections = TaskTracker::new();
        let acceptor = self.tls.map(TlsAcceptor::from);
        let Ok(local) = self.socket.local_addr() else { return };
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: waiting is all there is to do, and spinning makes it worse.
                    metrics::counter!("kinora_accept_errors_total", "door" => "http").increment(1);
                    tracing::warn!(%error, "failed to accept a connection; the next try is in a second");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let limits = app.config().limits.clone();
            let trusted = Arc::new(AtomicBool::new(false));
            let Ok(place) = crowd.enter(Door::Http, peer.ip(), &limits, trusted.clone()) else { continue };
            let connection = Connection { peer, local, tls: acceptor.is_some(), trusted };
            let one = One { limits, connection, router: router.clone(), stop: stop.clone(), now: now.clone() };
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let displaced = place.displaced();
                if displaced.run_until_cancelled(one.run(socket, acceptor)).await.is_none() {
                    tracing::debug!(%peer, "connection ended: it made room for another stranger of its network");
                }
                drop(place);
            });
        }
        drop(self.socket);
        connections.close();
        connections.wait().await;
    }
}

/// One connection.
struct One {
    limits: Limits,
    connection: Connection,
    router: Router,
    stop: CancellationToken,
    now: CancellationToken,
}

impl One {
    async fn run(self, socket: TcpStream, acceptor: Option<TlsAcceptor>) {
        let _ = socket.set_nodelay(true);
        let now = self.now.clone();
        let work = async {
            match acceptor {
                None => self.speak(socket).await,
                Some(acceptor) => match timeout(self.limits.head_timeout.0, acceptor.accept(socket)).await {
                    Ok(Ok(secured)) => self.speak(secured).await,
                    Ok(Err(error)) => {
                        tracing::debug!(peer = %self.connection.peer, %error, "failed to shake hands");
                    }
                    Err(_) => tracing::debug!(peer = %self.connection.peer, "TLS handshake took too long"),
                },
            }
        };
        tokio::select! {
            () = now.cancelled() => {}
            () = work => {}
        }
    }

    async fn speak<S>(&self, socket: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let progress = Progress::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(self.connection.clone());
            let (router, progress) = (self.router.clone(), progress.clone());
            async move { Ok::<_, Infallible>(progress.watch(answer(router, request).await)) }
        });
        let builder = self.builder();
        let serving = builder.serve_connection(TokioIo::new(Stall::new(socket, STALL)), service);
        let mut serving = std::pin::pin!(serving);
        let lifetime = self.limits.unauthenticated_lifetime.0;
        let (started, period) = (Instant::now(), lifetime.clamp(Duration::from_millis(10), LOOK));
        let mut look = interval_at((started + period).into(), period);
        let mut leaving = false;
        loop {
            let ended = tokio::select! {
                ended = serving.as_mut() => ended,
                () = self.stop.cancelled(), if !leaving => {
                    leaving = true;
                    serving.as_mut().graceful_shutdown();
                    continue;
                }
                _ = look.tick() => {
                    let (peer, age) = (self.connection.peer, started.elapsed());
                    let is_stranger = !self.connection.trusted.load(Ordering::Relaxed);
                    if progress.is_stuck(STALL) {
                        tracing::debug!(%peer, "connection ended: the client takes none of its answers");
                        metrics::counter!("kinora_connections_ended_total", "reason" => "stalled").increment(1);
                        return;
                    }
                    // What a stranger asked for it still gets; but it ends, whatever it does with windows and reading.
                    if is_stranger && age >= lifetime * STRANGERS_PATIENCE {
                        tracing::debug!(%peer, "connection ended: no credential in time");
                        metrics::counter!("kinora_connections_ended_total", "reason" => "stranger").increment(1);
                        return;
                    }
                    if is_stranger && age >= lifetime && !leaving {
                        leaving = true;
                        serving.as_mut().graceful_shutdown();
                    }
                    continue;
                }
            };
            if let Err(error) = ended {
                tracing::debug!(peer = %self.connection.peer, error, "connection ended");
            }
            return;
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let head = usize::try_from(limits.head_bytes.0).unwrap_or(usize::MAX);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout.0)
            .max_buf_size(head)
            .max_headers(100);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_pending_accept_reset_streams(limits.http2_resets as usize)
            .max_local_error_reset_streams(limits.http2_resets as usize)
            .max_header_list_size(u32::try_from(head.saturating_mul(2)).unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> http::Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Takes `address`, also one that a stopped server left in TIME_WAIT.
///
/// `[::]` takes IPv4 too; where the machine has no IPv6, it means all of IPv4.
///
/// # Errors
/// When the address is taken or not ours.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let open = |address: SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    };
    match open(address) {
        Err(error) if address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) && no_ipv6(&error) => {
            open(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        outcome => outcome,
    }
}

fn no_ipv6(error: &std::io::Error) -> bool {
    let missing = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    missing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_takes_a_free_port() {
        let socket = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        assert_ne!(socket.local_addr().expect("known").port(), 0);
    }
}
