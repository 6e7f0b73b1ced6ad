//! From a credential that was right to a publisher's seat: stream found or made, seat taken. For every door that takes media in.
//!
//! Not here: how a door learns who calls, and how it says no.

use std::sync::Arc;

use media::StreamName;
use store::{Clock, Store, StoreError, StreamIdentity};
use tracing::{error, info};

use crate::auth::{Access, Action, Principal};
use crate::catalog::{Catalog, CatalogError, Stream, StreamSettings};
use crate::live::{Hub, PublishError, Publisher, PublisherInfo};

/// The rooms that are asked.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub(crate) hub: Arc<Hub>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) access: Arc<Access>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Settings of a stream that publishing makes.
    pub(crate) new_stream: StreamSettings,
}

/// Why somebody may not publish.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NoStream(String),
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    DiskFull(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("the server cannot reach its data")]
    Broken,
}

impl Rooms {
    /// Whether `principal` may publish `stream`, and create it when it does not exist; the stream, if it does.
    pub(crate) fn permit(&self, principal: &Principal, stream: &StreamName) -> Result<Option<Stream>, Refused> {
        self.may(principal, Action::Publish, stream)?;
        let found = self.catalog.stream(stream);
        if found.is_none() {
            self.may(principal, Action::CreateStream, stream).map_err(|_| {
                Refused::NoStream(format!("stream {stream} does not exist, and the credential may not create it"))
            })?;
        }
        Ok(found)
    }

    /// Whether [`Rooms::claim`] would refuse the seat of `stream` now.
    pub(crate) fn check(&self, stream: &Stream, who: &PublisherInfo) -> Result<(), Refused> {
        self.hub.refusal(stream, who).map_or(Ok(()), |error| Err(refused(&stream.name, error)))
    }

    /// Takes the stream's seat for `principal`; creates the stream when it does not exist and there are fewer than `streams_max`.
    pub(crate) async fn claim(
        &self,
        principal: Principal,
        name: StreamName,
        who: PublisherInfo,
        streams_max: usize,
    ) -> Result<Publisher, Refused> {
        let (opener, asked) = (self.clone(), name.clone());
        let stream = blocking(move || opener.open(&principal, asked, streams_max)).await?;
        self.hub.publish(&stream, who).await.map_err(|error| refused(&name, error))
    }

    fn may(&self, principal: &Principal, action: Action, stream: &StreamName) -> Result<(), Refused> {
        self.access
            .allow(principal, action, Some(stream))
            .map_err(|_| Refused::Forbidden(format!("the credential does not allow publishing {stream}")))
    }

    /// The stream, made if need be.
    fn open(&self, principal: &Principal, name: StreamName, streams_max: usize) -> Result<Stream, Refused> {
        let stream = match self.catalog.stream(&name) {
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

    fn create(&self, principal: &Principal, name: &StreamName, streams_max: usize) -> Result<Stream, Refused> {
        self.may(principal, Action::CreateStream, name)?;
        match self.catalog.create_stream(name, self.new_stream.clone(), self.clock.now(), streams_max) {
            Ok(stream) => {
                info!(stream = %name, credential = %principal.id, "stream created by publishing");
                Ok(stream)
            }
            // Somebody made it in the same moment.
            Err(CatalogError::Exists(_)) => {
                let found = self.catalog.stream(name);
                found.ok_or_else(|| Refused::Unavailable("the stream was deleted meanwhile".into()))
            }
            Err(error @ CatalogError::TooManyStreams(_)) => Err(Refused::Forbidden(error.to_string())),
            Err(error) => Err(broken(name, &error)),
        }
    }
}

/// The catalog and the store write: they run where they may block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(Refused::Broken))
}

fn being_deleted() -> Refused {
    Refused::NoStream("the stream is being deleted; try again in a moment".into())
}

fn broken(stream: &StreamName, error: &dyn std::error::Error) -> Refused {
    error!(%stream, %error, "open a stream for a publisher");
    Refused::Broken
}

fn refused(stream: &StreamName, error: PublishError) -> Refused {
    let text = error.to_string();
    match error {
        PublishError::Busy { .. } | PublishError::Displaced { .. } => Refused::Busy(text),
        PublishError::DiskFull => Refused::DiskFull(text),
        PublishError::Stopping => Refused::Unavailable(text),
        PublishError::Store(StoreError::Gone) => being_deleted(),
        PublishError::Store(source) => broken(stream, &source),
    }
}

#[cfg(test)]
mod tests {
    use media::ServerTime;
    use store::clock::ManualClock;

    use super::*;
    use crate::auth::Scope;
    use crate::live;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_several_first_publishers_at_once_one_records_and_the_others_find_the_seat_taken() {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(ServerTime::from_micros(1_790_000_000_000_000)));
        let catalog = Catalog::open(&folder.path().join("control.db")).unwrap();
        let settings = store::Settings {
            soft_free_permille: 0,
            hard_free_permille: 0,
            ..store::Settings::new(folder.path().to_owned())
        };
        let (store, _) = Store::open(settings, catalog.next_epoch().unwrap(), clock.clone()).unwrap();
        let access = Access::open(catalog.clone(), clock.clone(), folder.path(), None).unwrap();
        let hub = Hub::new(store.clone(), clock.clone(), live::Settings::default());
        let new_stream = StreamSettings::default();
        let rooms = Rooms { hub, catalog, store: store.clone(), access: access.clone(), clock, new_stream };
        let scope = Scope {
            streams: "*".into(),
            actions: vec![Action::Publish, Action::CreateStream],
            media_from: None,
            media_to: None,
            playback: false,
        };
        let principals: Vec<Principal> = (0..4)
            .map(|_| {
                let (_, token) = access.mint_token("camera", scope.clone(), None).unwrap();
                access.token(&token, false, "192.0.2.1:1000".parse().unwrap()).unwrap()
            })
            .collect();
        for name in 0..20 {
            let name = StreamName::new(&format!("gate-{name}")).unwrap();
            let claims = principals.iter().map(|principal| {
                let who = PublisherInfo {
                    credential: principal.id.clone(),
                    peer: format!("192.0.2.1:{}", principal.id),
                    protocol: "rtsp",
                    can_wait: true,
                    sends_on_request: false,
                };
                let (rooms, principal, name) = (rooms.clone(), principal.clone(), name.clone());
                tokio::spawn(async move { rooms.claim(principal, name, who, 100).await })
            });
            let mut seats = Vec::new();
            for claim in claims.collect::<Vec<_>>() {
                match claim.await.unwrap() {
                    Ok(publisher) => seats.push(publisher),
                    Err(refused) => assert!(matches!(refused, Refused::Busy(_)), "{refused:?}"),
                }
            }
            assert_eq!(seats.len(), 1, "{name}");
        }
    }
}
