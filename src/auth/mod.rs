//! Who may do what. No sockets: doors bring what a client sent, and get a principal or a refusal.
//!
//! Not here: rows of credentials (`catalog`), which action a route needs (`doors`).

mod digest;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod header;
mod mint;
mod pattern;
mod refusals;
mod ring;
mod throttle;

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use media::{ProducerTime, ServerTime, StreamName};
use serde::{Deserialize, Serialize};
use store::Clock;
use subtle::ConstantTimeEq;

use crate::catalog::{Catalog, CatalogError, CredentialKind, Proof, private_file, random};
use digest::{Algorithm, Answer, Nonces};
use header::Authorization;
use refusals::Refusals;
use ring::{Key, Ring};
use throttle::Throttle;
pub(crate) use throttle::network;

pub(crate) use mint::{CredentialInfo, MintError};
pub(crate) use refusals::RefusalNotice;

/// What a route or a door does; every one declares the action it needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Create a stream (publishing to a new name needs it too).
    CreateStream,
    /// See that a stream exists, its settings, state, fragments, timeline, events.
    ReadStream,
    /// Change a stream's settings.
    UpdateStream,
    /// Delete a stream.
    DeleteStream,
    /// Send media into a stream.
    Publish,
    /// Watch a stream: playlists, segments, later clips and frames.
    Play,
    /// Mint, list and revoke tokens, keys and publish secrets.
    ManageAccess,
    /// Server status, metrics, server-wide events.
    ReadServer,
    /// Reload configuration.
    ManageServer,
}

/// Somebody whose credential was right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Principal {
    /// Names the credential, for logs and for "same credential takes over": `token:<id>`, `secret:<id>`, `admin`.
    pub id: String,
    pub(in crate::auth) scope: Scope,
    /// When the credential ends, if it does.
    pub(in crate::auth) expires: Option<ServerTime>,
}

/// What a token may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Scope {
    /// Stream name pattern: literal and `*`.
    pub streams: String,
    /// Actions allowed; empty means all.
    pub actions: Vec<Action>,
    /// Producer times the token may see, microseconds since the epoch.
    pub media_from: Option<i64>,
    /// See `media_from`; exclusive.
    pub media_to: Option<i64>,
    /// Accepted in `?token=`.
    pub playback: bool,
}

/// Why a credential was not accepted or an action not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no credential given")]
    Missing,
    #[error("the credential is wrong, expired or revoked")]
    Wrong,
    /// RTSP digest only: right, but its nonce is old; the client tries again with a new one.
    #[error("the nonce is stale")]
    Stale,
    #[error("the credential does not allow this")]
    Forbidden,
    #[error("too many failures; try again later")]
    TooMany,
}

impl Scope {
    /// Everything there is.
    pub(crate) fn everything() -> Scope {
        Scope { streams: "*".into(), actions: vec![], media_from: None, media_to: None, playback: false }
    }
}

/// The principal of the admin token.
const ADMIN: &str = "admin";
/// Longest token or password looked at.
const SECRET_MAX: usize = 512;
/// Shortest admin token that is taken from outside.
const ADMIN_TOKEN_MIN: usize = 16;
/// Publish secrets of other streams that an RTSP answer is compared with, to tell "wrong" from "not for this stream".
const FOREIGN_SECRETS_MAX: usize = 1_000;

/// The one choke point of access.
pub(crate) struct Access {
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    ring: Ring,
    admin: [u8; 32],
    nonces: Nonces,
    digest_md5: AtomicBool,
    throttle: Throttle,
    /// What doors refused.
    pub(crate) refusals: Refusals,
}

impl Access {
    /// Makes `<data>/admin-token` (0600) on the first start, or takes `KINORA_ADMIN_TOKEN` for it. A file that is there is honoured.
    pub(crate) fn open(
        catalog: Arc<Catalog>,
        clock: Arc<dyn Clock>,
        data_dir: &Path,
        admin_token: Option<&str>,
    ) -> Result<Arc<Access>, CatalogError> {
        let path = data_dir.join("admin-token");
        let token = match private_file::read(&path)? {
            Some(token) => checked_admin_token(&token, &path)?,
            None => {
                let token = match admin_token {
                    Some(token) => checked_admin_token(token, Path::new("KINORA_ADMIN_TOKEN"))?,
                    None => mint::new_token()?,
                };
                private_file::write(&path, &token)?;
                token
            }
        };
        let now = clock.now();
        catalog.forget_credentials(now.plus_micros(-mint::FORGOTTEN_AFTER_US))?;
        let ring = Ring::default();
        for credential in catalog.credentials()? {
            if credential.proof == Proof::Unreadable {
                tracing::warn!(
                    credential = credential.id,
                    "secret cannot be unsealed: server-key is not the one it was made with"
                );
            }
            if let Some(key) = Key::of(&credential) {
                ring.add(key);
            }
        }
        Ok(Arc::new(Access {
            catalog,
            clock,
            ring,
            admin: ring::hash(&token),
            nonces: Nonces::new(random()?),
            digest_md5: AtomicBool::new(true),
            throttle: Throttle::default(),
            refusals: Refusals::default(),
        }))
    }

    /// Whether Digest MD5 is offered and taken over RTSP (`rtsp.digest_md5`); on at first.
    pub(crate) fn set_digest_md5(&self, on: bool) {
        self.digest_md5.store(on, Ordering::Relaxed);
    }

    /// The principal of a bearer token. `in_query`: it came in `?token=`, so it must be a playback token, and can do
    /// no more than play.
    pub(crate) fn token(&self, token: &str, in_query: bool, peer: SocketAddr) -> Result<Principal, Refusal> {
        if token.is_empty() {
            return Err(Refusal::Missing);
        }
        let Some(mut principal) = self.find_token(token) else {
            return Err(self.failed("bearer", peer));
        };
        if in_query {
            let scope = &mut principal.scope;
            if !scope.playback {
                return Err(Refusal::Forbidden);
            }
            scope.actions.retain(|action| matches!(action, Action::Play | Action::ReadStream));
            // An empty list would mean all of them.
            if scope.actions.is_empty() {
                return Err(Refusal::Forbidden);
            }
        }
        Ok(principal)
    }

    fn find_token(&self, token: &str) -> Option<Principal> {
        if token.len() > SECRET_MAX {
            return None;
        }
        if ring::hash(token).ct_eq(&self.admin).into() {
            return Some(Principal { id: ADMIN.into(), scope: Scope::everything(), expires: None });
        }
        let now = self.clock.now();
        let key = self.ring.token(token, now)?;
        key.note_used(now);
        Some(principal_of(&key))
    }

    /// What a wrong credential is answered. A right one is never throttled: none can be guessed, and whoever shares
    /// an address with a misconfigured camera is not locked out with it.
    fn failed(&self, tried: &str, peer: SocketAddr) -> Refusal {
        let mut hasher = std::hash::DefaultHasher::new();
        tried.hash(&mut hasher);
        if self.throttle.fail(hasher.finish(), peer.ip(), Instant::now()) { Refusal::TooMany } else { Refusal::Wrong }
    }

    /// Whether `principal` may do `action`, on `stream` if the action has one.
    ///
    /// Actions on the server as a whole need a scope of all streams: who mints credentials can give himself any.
    pub(crate) fn allow(
        &self,
        principal: &Principal,
        action: Action,
        stream: Option<&StreamName>,
    ) -> Result<(), Refusal> {
        let scope = &principal.scope;
        let of_server = matches!(action, Action::ManageAccess | Action::ReadServer | Action::ManageServer);
        let action_fits = scope.actions.is_empty() || scope.actions.contains(&action);
        let stream_fits = match stream {
            _ if of_server => scope.streams == "*",
            Some(stream) => pattern::matches(&scope.streams, stream.as_str()),
            None => true,
        };
        if action_fits && stream_fits { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Whether the credential behind `principal` is still in force: for connections that outlive the check at their start.
    pub(crate) fn is_in_force(&self, principal: &Principal) -> bool {
        match principal.id.split_once(':') {
            Some((_, id)) => self.ring.is_in_force(id, self.clock.now()),
            None => principal.id == ADMIN,
        }
    }

    /// The producer times that `principal` may see, `[from, to)`; none means all.
    pub(crate) fn media_range(&self, principal: &Principal) -> Option<(ProducerTime, ProducerTime)> {
        let (from, to) = (principal.scope.media_from, principal.scope.media_to);
        (from.is_some() || to.is_some()).then(|| {
            (ProducerTime::from_micros(from.unwrap_or(i64::MIN)), ProducerTime::from_micros(to.unwrap_or(i64::MAX)))
        })
    }

    /// The `WWW-Authenticate` values of a 401 over RTSP, in the order they are to be sent: Digest SHA-256,
    /// Basic when `confidential` (RTSPS or loopback), Digest MD5 last unless turned off.
    ///
    /// FFmpeg 5.1 takes the last Digest, knows MD5 only, and takes Basic only when no Digest is there. GStreamer 1.22
    /// answers any Digest with MD5 and no `qop`; all have one nonce, so that it does not matter whose it took.
    pub(crate) fn rtsp_challenges(&self, connection: u64, confidential: bool, stale: bool) -> Vec<String> {
        let nonce = self.nonces.mint(connection, self.clock.now());
        let mut challenges = vec![digest::challenge(Algorithm::Sha256, &nonce, stale)];
        if confidential {
            challenges.push(format!(r#"Basic realm="{}", charset="UTF-8""#, digest::REALM));
        }
        if self.digest_md5.load(Ordering::Relaxed) {
            challenges.push(digest::challenge(Algorithm::Md5, &nonce, stale));
        }
        challenges
    }

    /// The principal of an RTSP `Authorization` header. Whether it may do what it wants with `stream` is [`Access::allow`]'s to say.
    pub(crate) fn rtsp(
        &self,
        header: &str,
        method: &str,
        connection: u64,
        confidential: bool,
        peer: SocketAddr,
        stream: &StreamName,
    ) -> Result<Principal, Refusal> {
        let found = match header::parse(header) {
            _ if header.trim().is_empty() => return Err(Refusal::Missing),
            None => Err(Refusal::Wrong),
            // Its password has been seen by whoever listens: it is not even compared.
            Some(Authorization::Basic { .. }) if !confidential => Err(Refusal::Wrong),
            Some(Authorization::Basic { password }) => self.basic(&password, stream),
            Some(Authorization::Digest(digest)) => self.digest(&digest, method, connection, stream),
        };
        match found {
            Err(Refusal::Wrong) => Err(self.failed(stream.as_str(), peer)),
            other => other,
        }
    }

    fn basic(&self, password: &str, stream: &StreamName) -> Result<Principal, Refusal> {
        if password.is_empty() || password.len() > SECRET_MAX {
            return Err(Refusal::Wrong);
        }
        if let Some(principal) = self.find_token(password) {
            return Ok(principal);
        }
        self.find_publish_secret(stream, |secret| secret.as_bytes().ct_eq(password.as_bytes()).into())
    }

    fn digest(
        &self,
        digest: &header::Digest,
        method: &str,
        connection: u64,
        stream: &StreamName,
    ) -> Result<Principal, Refusal> {
        let now = self.clock.now();
        let answer = Answer::check(digest, method, stream, self.digest_md5.load(Ordering::Relaxed))?;
        let fresh = self.nonces.judge(&digest.nonce, connection, now);
        if fresh == Err(Refusal::Wrong) {
            return Err(Refusal::Wrong);
        }
        let principal = self.find_publish_secret(stream, |secret| answer.is_of(secret))?;
        // Stale is said to who knows the password; to anybody else it is wrong (RFC 7616 section 3.3).
        fresh?;
        self.nonces.count(digest, now)?;
        Ok(principal)
    }

    /// The first publish secret that `is_it`, those for this stream before some of those for others.
    fn find_publish_secret(&self, stream: &StreamName, is_it: impl Fn(&str) -> bool) -> Result<Principal, Refusal> {
        let now = self.clock.now();
        let (ours, foreign): (Vec<_>, Vec<_>) = self
            .ring
            .publish_secrets(now)
            .into_iter()
            .partition(|key| pattern::matches(&key.scope.streams, stream.as_str()));
        for key in ours.iter().chain(foreign.iter().take(FOREIGN_SECRETS_MAX)) {
            if key.secret().is_some_and(&is_it) {
                key.note_used(now);
                return Ok(principal_of(key));
            }
        }
        Err(Refusal::Wrong)
    }
}

fn principal_of(key: &Key) -> Principal {
    let kind = match key.kind {
        CredentialKind::Token => "token",
        CredentialKind::PublishSecret => "secret",
        CredentialKind::AccessKey => "key",
    };
    Principal { id: format!("{kind}:{}", key.id), scope: key.scope.clone(), expires: key.expires }
}

/// An admin token from outside: long enough, and fit for a header and a URL.
fn checked_admin_token(token: &str, origin: &Path) -> Result<String, CatalogError> {
    let fits =
        (ADMIN_TOKEN_MIN..=SECRET_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(token.to_owned());
    }
    let what = format!("an admin token has {ADMIN_TOKEN_MIN} to {SECRET_MAX} printable ASCII characters and no spaces");
    Err(CatalogError::File { path: origin.to_owned(), what })
}

#[cfg(test)]
mod tests;
