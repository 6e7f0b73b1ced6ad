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
    /// The real rooms.
    Live {
        hub: Arc<Hub>,
        catalog: Arc<Catalog>,
        store: Store,
        access: Arc<Access>,
        clock: Arc<dyn Clock>,
        new_stream: StreamSettings,
    },
    /// Everybody whose Authorization header is `open`; orders go to a list.
    #[cfg(test)]
    Memory(tokio::sync::mpsc::UnboundedSender<crate::ingest::rtsp_push::Order>),
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
            Gate::Live { catalog, access, .. } => {
                let (catalog, access) = (catalog.clone(), access.clone());
                blocking(move || authorise(&catalog, &access, &credential, stream)).await
            }
            #[cfg(test)]
            Gate::Memory(_) => match credential.header.as_deref() {
                Some("open") => Ok(Permit { stream, principal: None }),
                _ => Err(Denied::Challenge(vec!["Digest one".into(), "Digest two".into()])),
            },
        }
    }

    /// Takes the stream's publisher seat; creates the stream when it does not exist.
    pub(super) async fn claim(
        &self,
        permit: &Permit,
        protocol: &'static str,
        peer: SocketAddr,
        can_wait: bool,
    ) -> Result<Sink, Denied> {
        match self {
            Gate::Live { hub, catalog, store, access, clock, new_stream } => {
                let principal = permit.principal.clone().ok_or_else(|| Denied::No(403, "Forbidden".into()))?;
                let credential = principal.id.clone();
                let name = permit.stream.clone();
                let (catalog, store, access) = (catalog.clone(), store.clone(), access.clone());
                let (clock, new_stream) = (clock.clone(), new_stream.clone());
                let stream =
                    blocking(move || open(&catalog, &store, &access, &*clock, new_stream, &principal, name)).await?;
                let who = PublisherInfo { credential, protocol, peer: peer.to_string(), can_wait };
                hub.publish(&stream, who).await.map(Sink::Live).map_err(|error| refused(&permit.stream, error))
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

fn authorise(
    catalog: &Catalog,
    access: &Access,
    credential: &Credential,
    stream: StreamName,
) -> Result<Permit, Denied> {
    let Credential { header, method, connection, confidential, peer } = credential;
    let challenge = |stale: bool| Denied::Challenge(access.rtsp_challenges(*connection, *confidential, stale));
    let header = header.as_deref().ok_or_else(|| challenge(false))?;
    let principal =
        access.rtsp(header, method, *connection, *confidential, *peer, &stream).map_err(|refusal| match refusal {
            Refusal::Missing | Refusal::Wrong => challenge(false),
            Refusal::Stale => challenge(true),
            Refusal::Forbidden => Denied::No(403, "the credential does not allow this".into()),
            Refusal::TooMany => Denied::No(503, "too many failures: try again later".into()),
        })?;
    may(access, &principal, Action::Publish, &stream)?;
    if catalog.stream(&stream).map_err(|error| broken(&stream, &error))?.is_none() {
        may(access, &principal, Action::CreateStream, &stream).map_err(|_| {
            Denied::No(404, format!("stream {stream} does not exist, and the credential may not create it"))
        })?;
    }
    Ok(Permit { stream, principal: Some(principal) })
}

fn may(access: &Access, principal: &Principal, action: Action, stream: &StreamName) -> Result<(), Denied> {
    access
        .allow(principal, action, Some(stream))
        .map_err(|_| Denied::No(403, format!("the credential does not allow publishing {stream}")))
}

/// The stream, made if need be.
fn open(
    catalog: &Catalog,
    store: &Store,
    access: &Access,
    clock: &dyn Clock,
    new_stream: StreamSettings,
    principal: &Principal,
    name: StreamName,
) -> Result<Stream, Denied> {
    let find = || catalog.stream(&name).map_err(|error| broken(&name, &error));
    let stream = match find()? {
        Some(stream) => stream,
        None => {
            may(access, principal, Action::CreateStream, &name)?;
            match catalog.create_stream(&name, new_stream, clock.now()) {
                Ok(stream) => {
                    info!(stream = %name, credential = %principal.id, "stream created by publishing");
                    stream
                }
                // Somebody made it in the same moment.
                Err(CatalogError::Exists(_)) => {
                    find()?.ok_or_else(|| Denied::No(503, "the stream was deleted meanwhile".into()))?
                }
                Err(error) => return Err(broken(&name, &error)),
            }
        }
    };
    // Each time: a crash may have come between the catalog's row and the folder.
    let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: stream.created };
    store.create_stream(&identity).map_err(|error| match error {
        StoreError::Gone => being_deleted(),
        error => broken(&name, &error),
    })?;
    Ok(stream)
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
        PublishError::Busy { .. } => 409,
        PublishError::DiskFull => 453,
        PublishError::Stopping => 503,
        PublishError::Store(StoreError::Gone) => return being_deleted(),
        PublishError::Store(source) => return broken(stream, source),
    };
    Denied::No(status, error.to_string())
}
