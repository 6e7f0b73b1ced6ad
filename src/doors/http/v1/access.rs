//! Tokens, publish secrets and access keys: make, list, take back. A secret is shown once, when it is made.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Path, State};
use http::{Method, StatusCode};
use media::ServerTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::blocking;
use crate::auth::{Action, CredentialInfo, Scope};
use crate::catalog::{CatalogError, CredentialKind};
use crate::config::units::Span;
use crate::doors::http::App;
use crate::doors::http::error::ApiError;
use crate::doors::http::extract::Json;
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::doors::http::time::{format_micros, format_server, parse_micros};

pub(super) fn routes() -> Vec<Route> {
    const NEEDS: Needs = Needs::Action(Action::ManageAccess, On::Server);
    vec![
        Route::new(Method::POST, "/v1/tokens", NEEDS, "Mints a token; it is shown this once.", mint_token)
            .takes::<NewToken>()
            .gives::<MintedToken>(StatusCode::CREATED),
        Route::new(Method::GET, "/v1/tokens", NEEDS, "Lists tokens, without their secrets.", list_tokens)
            .gives::<Tokens>(StatusCode::OK),
        Route::new(Method::DELETE, "/v1/tokens/{id}", NEEDS, "Takes a token back.", revoke_token)
            .gives_other(StatusCode::NO_CONTENT, ""),
        Route::new(Method::POST, "/v1/keys", NEEDS, "Makes a publish secret or access key; shown this once.", mint_key)
            .takes::<NewKey>()
            .gives::<MintedKey>(StatusCode::CREATED),
        Route::new(Method::GET, "/v1/keys", NEEDS, "Lists keys, without their secrets.", list_keys)
            .gives::<Keys>(StatusCode::OK),
        Route::new(Method::DELETE, "/v1/keys/{id}", NEEDS, "Takes a key back.", revoke_key)
            .gives_other(StatusCode::NO_CONTENT, ""),
    ]
}

fn every_stream() -> String {
    "*".into()
}

/// What a new token may do.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// A name for people.
    #[serde(default)]
    label: String,
    /// A stream's name, or a pattern with `*`; default: every stream.
    #[serde(default = "every_stream")]
    streams: String,
    /// Default: everything that its maker may do; for playback tokens `play`; with `from`, `to` or `expires_in` `play` and
    /// `read_stream`, as a playback token.
    #[serde(default)]
    actions: Vec<Action>,
    /// Shows no media before this producer time: RFC 3339 or epoch milliseconds.
    #[serde(default)]
    from: Option<TimeIn>,
    /// Shows no media from this producer time on.
    #[serde(default)]
    to: Option<TimeIn>,
    /// Ends after this, such as `24h`; default: with its maker, or never.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    expires_in: Option<Span>,
    /// Taken in `?token=` of playback addresses too.
    #[serde(default)]
    playback: bool,
}

/// A time: RFC 3339, or milliseconds since the epoch.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TimeIn {
    /// RFC 3339, or the milliseconds as text.
    Text(String),
    /// Milliseconds since the epoch.
    Millis(i64),
}

impl TimeIn {
    fn micros(&self, name: &str) -> Result<i64, ApiError> {
        match self {
            TimeIn::Text(text) => parse_micros(name, text),
            TimeIn::Millis(millis) => parse_micros(name, &millis.to_string()),
        }
    }
}

/// What a new key is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// A name for people.
    #[serde(default)]
    label: String,
    /// A stream's name, or a pattern with `*`; default: every stream.
    #[serde(default = "every_stream")]
    streams: String,
    #[serde(default)]
    kind: KeyKind,
    /// Ends after this, such as `30d`; default: never.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    expires_in: Option<Span>,
}

/// The kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyKind {
    /// A password for RTSP publishers, with any user name.
    #[default]
    PublishSecret,
    /// A key pair for clients that sign with SigV4: it publishes and plays.
    AccessKey,
}

/// A credential, without its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct CredentialOut {
    id: String,
    kind: CredentialKind,
    label: String,
    streams: String,
    /// Empty: everything.
    actions: Vec<Action>,
    playback: bool,
    /// Producer times that it may see.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    created: String,
    expires: Option<String>,
    revoked: Option<String>,
    last_used: Option<String>,
}

/// A new token.
#[derive(Serialize, ToSchema)]
pub(crate) struct MintedToken {
    /// Shown this once.
    token: String,
    #[serde(flatten)]
    credential: CredentialOut,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(crate) struct MintedKey {
    /// Shown this once.
    secret: String,
    #[serde(flatten)]
    credential: CredentialOut,
}

/// All tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    tokens: Vec<CredentialOut>,
}

/// All keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Keys {
    keys: Vec<CredentialOut>,
}

impl CredentialOut {
    fn of(info: CredentialInfo) -> CredentialOut {
        let Scope { streams, actions, media_from, media_to, playback } = info.scope;
        CredentialOut {
            id: info.id,
            kind: info.kind,
            label: info.label,
            streams,
            actions,
            playback,
            from: media_from.map(format_micros),
            to: media_to.map(format_micros),
            created: format_server(info.created),
            expires: info.expires.map(format_server),
            revoked: info.revoked.map(format_server),
            last_used: info.last_used.map(format_server),
        }
    }
}

impl App {
    /// When a credential that is good for `expires_in` from now ends.
    fn expiry(&self, expires_in: Option<Span>) -> Option<ServerTime> {
        let micros = |span: Span| i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX);
        expires_in.map(|span| self.clock.now().plus_micros(micros(span)))
    }

    /// Credentials of the kinds that `wanted` says. Blocks.
    fn credentials(&self, wanted: impl Fn(CredentialKind) -> bool) -> Result<Vec<CredentialOut>, CatalogError> {
        let all = self.access.credentials()?;
        Ok(all.into_iter().filter(|info| wanted(info.kind)).map(CredentialOut::of).collect())
    }

    /// One of them, or that there is none. Blocks.
    fn credential(&self, id: &str, wanted: impl Fn(CredentialKind) -> bool) -> Result<CredentialOut, CatalogError> {
        let found = self.credentials(wanted)?.into_iter().find(|credential| credential.id == id);
        found.ok_or(CatalogError::NoCredential)
    }

    /// Takes a credential back, if it is of the kind meant. Blocks.
    fn revoke(&self, id: &str, wanted: impl Fn(CredentialKind) -> bool, by: &str) -> Result<(), CatalogError> {
        self.credential(id, wanted)?;
        self.access.revoke(id)?;
        tracing::info!(credential = id, by, "credential revoked");
        Ok(())
    }
}

fn is_token(kind: CredentialKind) -> bool {
    kind == CredentialKind::Token
}

fn is_key(kind: CredentialKind) -> bool {
    !is_token(kind)
}

async fn mint_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(body): Json<NewToken>,
) -> Result<(StatusCode, Answer<MintedToken>), ApiError> {
    let scope = Scope {
        streams: body.streams,
        actions: body.actions,
        media_from: body.from.map(|time| time.micros("from")).transpose()?,
        media_to: body.to.map(|time| time.micros("to")).transpose()?,
        playback: body.playback,
    };
    let expires = app.expiry(body.expires_in);
    let scope = scope.with_default_actions(expires);
    let expires = app.access.within_maker(&caller.principal, &scope, expires)?;
    let minted = blocking(move || -> Result<MintedToken, ApiError> {
        let (id, token) = app.access.mint_token(&body.label, scope, expires)?;
        tracing::info!(credential = id, by = caller.principal.id, request_id = %caller.origin.request_id, "token minted");
        Ok(MintedToken { token, credential: app.credential(&id, is_token)? })
    });
    Ok((StatusCode::CREATED, Answer(minted.await?)))
}

async fn mint_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(body): Json<NewKey>,
) -> Result<(StatusCode, Answer<MintedKey>), ApiError> {
    let expires = app.expiry(body.expires_in);
    let minted = blocking(move || -> Result<MintedKey, ApiError> {
        let NewKey { label, streams, kind, .. } = body;
        let (access, maker) = (&app.access, &caller.principal);
        let (id, secret) = match kind {
            KeyKind::PublishSecret => {
                let expires = access.within_maker(maker, &Scope::of_publisher(&streams), expires)?;
                access.mint_publish_secret(&label, &streams, expires)?
            }
            KeyKind::AccessKey => {
                let actions = vec![Action::CreateStream, Action::Publish, Action::ReadStream, Action::Play];
                let scope = Scope { streams, actions, media_from: None, media_to: None, playback: false };
                let expires = access.within_maker(maker, &scope, expires)?;
                access.mint_access_key(&label, scope, expires)?
            }
        };
        tracing::info!(credential = id, by = caller.principal.id, request_id = %caller.origin.request_id, "key made");
        Ok(MintedKey { secret, credential: app.credential(&id, is_key)? })
    });
    Ok((StatusCode::CREATED, Answer(minted.await?)))
}

async fn list_tokens(State(app): State<Arc<App>>) -> Result<Answer<Tokens>, ApiError> {
    let tokens = blocking(move || app.credentials(is_token)).await?;
    Ok(Answer(Tokens { tokens }))
}

async fn list_keys(State(app): State<Arc<App>>) -> Result<Answer<Keys>, ApiError> {
    let keys = blocking(move || app.credentials(is_key)).await?;
    Ok(Answer(Keys { keys }))
}

async fn revoke_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    blocking(move || app.revoke(&id, is_token, &caller.principal.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    blocking(move || app.revoke(&id, is_key, &caller.principal.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
