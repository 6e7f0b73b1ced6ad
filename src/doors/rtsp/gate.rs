//! The way from a request to a publisher seat: credential, stream, seat. All calls of the door into other rooms are here.

use std::net::SocketAddr;
use std::sync::Arc;

use media::StreamName;
use store::{Clock, Store, StoreError, StreamIdentity};
use tracing::{error, info};

use crate::auth::{Access, Action, Principal, Refusal};
use crate::catalog::{Catalog, CatalogError, Stream, StreamSettings};
use crate::ingest::rtsp_push::Sink;
use crate::live::{Hub, PublishError, PublisherInfo};

/// Who may come in.
#[derive(Clone)]
pub(super) enum Gate {
    /// Who the real rooms let in.
    Live(Rooms),
    /// Everybody whose Authorization header is `open`; orders go to a list.
    #[cfg(test)]
    Memory(tokio::sync::mpsc::UnboundedSender<crate::ingest::rtsp_push::Order>),
}

/// The rooms that are asked.
#[derive(Clone)]
pub(super) struct Rooms {
    pub hub: Arc<Hub>,
    pub catalog: Arc<Catalog>,
    pub store: Store,
    pub access: Arc<Access>,
    pub clock: Arc<dyn Clock>,
    pub new_stream: StreamSettings,
}

/// What a client shows.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    pub header: Option<String>,
    pub method: String,
    pub connection: u64,
    /// Nobody on the way can read it: TLS or loopback.
    pub confidential: bool,
    pub peer: SocketAddr,
}

/// Somebody who may publish a stream.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    pub stream: StreamName,
    /// None in tests alone.
    principal: Option<Principal>,
}

/// Who wants a seat, beside the credential.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimant {
    pub protocol: &'static str,
    pub peer: SocketAddr,
    /// See [`PublisherInfo::can_wait`].
    pub can_wait: bool,
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// Ask for a credential with these challenges.
    Challenge(Vec<String>),
    /// Answer with this status and text.
    No(u16, String),
}

impl Gate {
    /// Whether the client may publish `stream`.
    pub(super) async fn authorise(&self, credential: Credential, stream: StreamName) -> Result<Permit, Denied> {
        match self {
            Gate::Live(rooms) => {
                let rooms = rooms.clone();
                blocking(move || rooms.authorise(&credential, stream)).await
            }
            #[cfg(test)]
            Gate::Memory(_) => match credential.header.as_deref() {
                Some("open") => Ok(Permit { stream, principal: None }),
                _ => Err(Denied::Challenge(vec!["Digest one".into(), "Digest two".into()])),
            },
        }
    }

    /// Whether the credential behind the permit is still in force.
    pub(super) fn is_in_force(&self, permit: &Permit) -> bool {
        match (self, &permit.principal) {
            (Gate::Live(rooms), Some(principal)) => rooms.access.is_in_force(principal),
            (Gate::Live(_), None) => false,
            #[cfg(test)]
            (Gate::Memory(_), _) => true,
        }
    }

    /// Takes the stream's publisher seat; creates the stream when it does not exist and there are fewer than `streams_max`.
    pub(super) async fn claim(&self, permit: &Permit, who: Claimant, streams_max: usize) -> Result<Sink, Denied> {
        let Claimant { protocol, peer, can_wait } = who;
        if !self.is_in_force(permit) {
            return Err(Denied::No(403, "the credential was revoked or has expired".into()));
        }
        match self {
            Gate::Live(rooms) => {
                let principal = permit.principal.clone().ok_or_else(|| Denied::No(403, "Forbidden".into()))?;
                let credential = principal.id.clone();
                let (opener, name) = (rooms.clone(), permit.stream.clone());
                let stream = blocking(move || opener.open(&principal, name, streams_max)).await?;
                let who = PublisherInfo { credential, protocol, peer: peer.to_string(), can_wait };
                rooms.hub.publish(&stream, who).await.map(Sink::Live).map_err(|error| refused(&permit.stream, error))
            }
            #[cfg(test)]
            Gate::Memory(orders) => {
                let _ = (peer, can_wait);
                match permit.stream.as_str() {
                    "busy" => Err(Denied::No(409, format!("busy for {protocol}"))),
                    _ => Ok(Sink::Memory(orders.clone())),
                }
            }
        }
    }
}

/// Access and catalog read a database: they run where they may block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, Denied> + Send + 'static) -> Result<T, Denied> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(_) => Err(Denied::No(500, "Internal Server Error".into())),
    }
}

impl Rooms {
    fn authorise(&self, credential: &Credential, stream: StreamName) -> Result<Permit, Denied> {
        let Credential { header, method, connection, confidential, peer } = credential;
        let access = &self.access;
        let challenge = |stale: bool| Denied::Challenge(access.rtsp_challenges(*connection, *confidential, stale));
        let header = header.as_deref().ok_or_else(|| challenge(false))?;
        let principal =
            access.rtsp(header, method, *connection, *confidential, *peer, &stream).map_err(
                |refusal| match refusal {
                    Refusal::Missing | Refusal::Wrong => challenge(false),
                    Refusal::Stale => challenge(true),
                    Refusal::Forbidden => Denied::No(403, "the credential does not allow this".into()),
                    Refusal::TooMany => Denied::No(503, "too many failures: try again later".into()),
                },
            )?;
        self.may(&principal, Action::Publish, &stream)?;
        if self.find(&stream)?.is_none() {
            self.may(&principal, Action::CreateStream, &stream).map_err(|_| {
                Denied::No(404, format!("stream {stream} does not exist, and the credential may not create it"))
            })?;
        }
        Ok(Permit { stream, principal: Some(principal) })
    }

    fn may(&self, principal: &Principal, action: Action, stream: &StreamName) -> Result<(), Denied> {
        self.access
            .allow(principal, action, Some(stream))
            .map_err(|_| Denied::No(403, format!("the credential does not allow publishing {stream}")))
    }

    fn find(&self, stream: &StreamName) -> Result<Option<Stream>, Denied> {
        self.catalog.stream(stream).map_err(|error| broken(stream, &error))
    }

    /// The stream, made if need be.
    fn open(&self, principal: &Principal, name: StreamName, streams_max: usize) -> Result<Stream, Denied> {
        let stream = match self.find(&name)? {
            Some(stream) => stream,
            None => self.create(principal, &name, streams_max)?,
        };
        // Each time: a crash may have come between the catalog's row and the folder.
        let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: stream.created };
        self.store.create_stream(&identity).map_err(|error| match error {
            StoreError::Gone => being_deleted(),
            error => broken(&name, &error),
        })?;
        Ok(stream)
    }

    fn create(&self, principal: &Principal, name: &StreamName, streams_max: usize) -> Result<Stream, Denied> {
        self.may(principal, Action::CreateStream, name)?;
        match self.catalog.create_stream(name, self.new_stream.clone(), self.clock.now(), streams_max) {
            Ok(stream) => {
                info!(stream = %name, credential = %principal.id, "stream created by publishing");
                Ok(stream)
            }
            // Somebody made it in the same moment.
            Err(CatalogError::Exists(_)) => {
                self.find(name)?.ok_or_else(|| Denied::No(503, "the stream was deleted meanwhile".into()))
            }
            Err(error @ CatalogError::TooManyStreams(_)) => Err(Denied::No(403, error.to_string())),
            Err(error) => Err(broken(name, &error)),
        }
    }
}

fn being_deleted() -> Denied {
    Denied::No(404, "the stream is being deleted; try again in a moment".into())
}

fn broken(stream: &StreamName, error: &dyn std::error::Error) -> Denied {
    error!(%stream, %error, "rtsp: open stream");
    Denied::No(500, "the server cannot reach its data".into())
}

fn refused(stream: &StreamName, error: PublishError) -> Denied {
    let status = match &error {
        PublishError::Busy { .. } | PublishError::Displaced { .. } => 409,
        PublishError::DiskFull => 453,
        PublishError::Stopping => 503,
        PublishError::Store(StoreError::Gone) => return being_deleted(),
        PublishError::Store(source) => return broken(stream, source),
    };
    Denied::No(status, error.to_string())
}
