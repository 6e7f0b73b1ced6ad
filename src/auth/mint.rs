//! Making, listing and taking back credentials.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use media::ServerTime;

use super::ring::{Key, hash};
use super::{Access, Action, Principal, Scope, pattern};
use crate::catalog::{CatalogError, Credential, CredentialKind, Proof, random};

/// Longest label, in bytes.
const LABEL_MAX: usize = 256;
/// Credentials are forgotten this long after they expired or were revoked: 30 days.
pub(super) const FORGOTTEN_AFTER_US: i64 = 30 * 86_400 * 1_000_000;

/// Why a credential was not made or taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error("a stream pattern has 1 to 256 of the characters A-Z a-z 0-9 _ . - and *")]
    Pattern,
    #[error("a label has at most {LABEL_MAX} bytes and no control characters")]
    Label,
    #[error("media_from must be before media_to")]
    MediaRange,
    #[error("it would have expired already")]
    Expired,
    /// Nobody gives away more than he has.
    #[error("the credential that asks for it {0}")]
    MoreThanMaker(&'static str),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// A credential as it is listed: everything but its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CredentialInfo {
    pub id: String,
    pub kind: CredentialKind,
    pub label: String,
    pub scope: Scope,
    pub created: ServerTime,
    pub expires: Option<ServerTime>,
    pub revoked: Option<ServerTime>,
    pub last_used: Option<ServerTime>,
}

impl Scope {
    /// Of a publish secret.
    pub(crate) fn of_publisher(streams: &str) -> Scope {
        let actions = vec![Action::Publish, Action::CreateStream];
        Scope { streams: streams.to_owned(), actions, media_from: None, media_to: None, playback: false }
    }

    /// What a request for a token means that names no actions: a part of the time or an end make it one for playback, and no
    /// administrator.
    pub(crate) fn with_default_actions(mut self, expires: Option<ServerTime>) -> Scope {
        let is_open = self.actions.is_empty() && !self.playback;
        if is_open && (self.media_from.is_some() || self.media_to.is_some() || expires.is_some()) {
            self.actions = vec![Action::Play, Action::ReadStream];
            self.playback = true;
        }
        self
    }
}

impl Access {
    /// When a credential of this scope ends that `maker` asks for: as asked, else with its maker.
    ///
    /// # Errors
    /// When it could do more than its maker: other actions, other times, or for longer. Which streams the maker may see is no
    /// question: only who may see all may mint.
    pub(crate) fn within_maker(
        &self,
        maker: &Principal,
        scope: &Scope,
        expires: Option<ServerTime>,
    ) -> Result<Option<ServerTime>, MintError> {
        let Scope { actions, media_from, media_to, .. } = &maker.scope;
        let may = |action: &Action| actions.is_empty() || actions.contains(action);
        if !actions.is_empty() && scope.actions.is_empty() || !scope.actions.iter().all(may) {
            return Err(MintError::MoreThanMaker("may not do all of that itself: name fewer actions"));
        }
        let starts_before = media_from.is_some_and(|from| scope.media_from.is_none_or(|asked| asked < from));
        let ends_behind = media_to.is_some_and(|to| scope.media_to.is_none_or(|asked| asked > to));
        if starts_before || ends_behind {
            return Err(MintError::MoreThanMaker("does not see all of that time itself: name from and to within it"));
        }
        match (maker.expires, expires) {
            (Some(end), Some(asked)) if asked > end => {
                Err(MintError::MoreThanMaker("ends earlier itself: ask for a shorter expires_in, or for none"))
            }
            (end, asked) => Ok(asked.or(end)),
        }
    }

    /// Makes a token: its id, and the token itself, which is shown this once. A playback token without actions may play only.
    pub(crate) fn mint_token(
        &self,
        label: &str,
        mut scope: Scope,
        expires: Option<ServerTime>,
    ) -> Result<(String, String), MintError> {
        if scope.playback && scope.actions.is_empty() {
            scope.actions = vec![Action::Play];
        }
        let token = new_token()?;
        let id = new_id()?;
        self.mint(id, CredentialKind::Token, Proof::Hash(hash(&token)), label, scope, expires).map(|id| (id, token))
    }

    /// Makes a password for RTSP publishers of the streams that fit `streams`, a name or a pattern: its id and the password.
    pub(crate) fn mint_publish_secret(
        &self,
        label: &str,
        streams: &str,
        expires: Option<ServerTime>,
    ) -> Result<(String, String), MintError> {
        // Lower-case letters and digits: it is typed into cameras' settings pages and stands in URLs.
        let secret = base32(&random::<16>()?).to_ascii_lowercase();
        let scope = Scope::of_publisher(streams);
        let proof = Proof::Secret(secret.clone());
        self.mint(new_id()?, CredentialKind::PublishSecret, proof, label, scope, expires).map(|id| (id, secret))
    }

    /// Makes a key pair for clients that sign with SigV4: access key id and secret key.
    pub(crate) fn mint_access_key(
        &self,
        label: &str,
        scope: Scope,
        expires: Option<ServerTime>,
    ) -> Result<(String, String), MintError> {
        let id = format!("AKIA{}", &base32(&random::<10>()?)[..16]);
        let secret = STANDARD.encode(random::<30>()?);
        let proof = Proof::Secret(secret.clone());
        self.mint(id, CredentialKind::AccessKey, proof, label, scope, expires).map(|id| (id, secret))
    }

    fn mint(
        &self,
        id: String,
        kind: CredentialKind,
        proof: Proof,
        label: &str,
        scope: Scope,
        expires: Option<ServerTime>,
    ) -> Result<String, MintError> {
        let now = self.clock.now();
        if !pattern::is_valid(&scope.streams) {
            return Err(MintError::Pattern);
        }
        if label.len() > LABEL_MAX || label.chars().any(char::is_control) {
            return Err(MintError::Label);
        }
        if scope.media_from.zip(scope.media_to).is_some_and(|(from, to)| from >= to) {
            return Err(MintError::MediaRange);
        }
        if expires.is_some_and(|expires| expires <= now) {
            return Err(MintError::Expired);
        }
        let scope = serde_json::to_string(&scope).map_err(|error| CatalogError::Database(error.to_string()))?;
        let credential = Credential {
            id,
            kind,
            proof,
            label: label.to_owned(),
            scope,
            created: now,
            expires,
            revoked: None,
            last_used: None,
        };
        self.catalog.add_credential(&credential)?;
        if let Some(key) = Key::of(&credential) {
            self.ring.add(key);
        }
        Ok(credential.id)
    }

    /// All credentials of all kinds, in the order of their making; revoked and expired ones for 30 days more.
    pub(crate) fn credentials(&self) -> Result<Vec<CredentialInfo>, CatalogError> {
        self.save_last_used()?;
        let info = |stored: Credential| {
            let scope = serde_json::from_str(&stored.scope)
                .map_err(|error| CatalogError::Database(format!("scope of credential {}: {error}", stored.id)))?;
            Ok(CredentialInfo {
                id: stored.id,
                kind: stored.kind,
                label: stored.label,
                scope,
                created: stored.created,
                expires: stored.expires,
                revoked: stored.revoked,
                last_used: stored.last_used,
            })
        };
        self.catalog.credentials()?.into_iter().map(info).collect()
    }

    /// Takes a credential of any kind back. From here on it lets nobody in, even if noting that down fails.
    ///
    /// # Errors
    /// [`CatalogError::NoCredential`] when there is none with this id.
    pub(crate) fn revoke(&self, id: &str) -> Result<(), CatalogError> {
        self.ring.remove(id);
        self.catalog.revoke_credential(id, self.clock.now())
    }

    /// Writes down when credentials were last used. To be called now and then: using one never waits for the disk.
    pub(crate) fn save_last_used(&self) -> Result<(), CatalogError> {
        self.catalog.note_used(&self.ring.take_used())
    }
}

/// `kin_` and 256 random bits.
pub(super) fn new_token() -> Result<String, CatalogError> {
    Ok(format!("kin_{}", URL_SAFE_NO_PAD.encode(random::<32>()?)))
}

fn new_id() -> Result<String, CatalogError> {
    Ok(base32(&random::<10>()?).to_ascii_lowercase())
}

/// RFC 4648 section 6, without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in bytes {
        bits = ((bits << 8) | u32::from(*byte)) & 0xfff;
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> held & 31) as usize]));
        }
    }
    if held > 0 {
        text.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits << (5 - held) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
