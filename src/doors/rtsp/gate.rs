//! The way from a request to a publisher seat: who calls, and what the door answers to those it does not let in.

use std::net::SocketAddr;
use std::time::Instant;

use media::StreamName;

use crate::auth::{Principal, Refusal};
use crate::doors::publishing::{Refused, Rooms};
use crate::ingest::Sink;
use crate::live::PublisherInfo;

/// Who may come in.
#[derive(Clone)]
pub(super) enum Gate {
    /// Who the real rooms let in.
    Live(Rooms),
    /// Everybody whose Authorization header is `open`; orders go to a list.
    #[cfg(test)]
    Memory(tokio::sync::mpsc::UnboundedSender<crate::ingest::Order>),
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
                let looked = tokio::task::spawn_blocking(move || authorise(&rooms, &credential, stream)).await;
                looked.unwrap_or_else(|_| Err(Denied::No(500, "Internal Server Error".into())))
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
                let who =
                    PublisherInfo { credential, protocol, peer: peer.to_string(), can_wait, sends_on_request: false };
                Ok(rooms.claim(principal, permit.stream.clone(), who, streams_max).await.map(Sink::Live)?)
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

/// Reads a database.
fn authorise(rooms: &Rooms, credential: &Credential, stream: StreamName) -> Result<Permit, Denied> {
    let Credential { header, method, connection, confidential, peer } = credential;
    let access = &rooms.access;
    let challenge = |stale: bool| Denied::Challenge(access.rtsp_challenges(*connection, *confidential, stale));
    let refused = |refusal| access.refusals.note("rtsp", refusal, peer.ip(), stream.as_str(), Instant::now());
    let header = header.as_deref().ok_or_else(|| challenge(false))?;
    let principal = access.rtsp(header, method, *connection, *confidential, *peer, &stream).map_err(|refusal| {
        refused(refusal);
        match refusal {
            Refusal::Missing | Refusal::Wrong => challenge(false),
            Refusal::Stale => challenge(true),
            Refusal::Forbidden => Denied::No(403, "the credential does not allow this".into()),
            Refusal::TooMany => Denied::No(503, "too many failures: try again later".into()),
        }
    })?;
    rooms.permit(&principal, &stream).inspect_err(|why| {
        if matches!(why, Refused::Forbidden(_)) {
            refused(Refusal::Forbidden);
        }
    })?;
    Ok(Permit { stream, principal: Some(principal) })
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        let status = match &refused {
            Refused::Forbidden(_) => 403,
            Refused::NoStream(_) => 404,
            Refused::Busy(_) => 409,
            Refused::DiskFull(_) => 453,
            Refused::Unavailable(_) => 503,
            Refused::Broken => 500,
        };
        Denied::No(status, refused.to_string())
    }
}
