//! All credentials that are in force, in memory: what is not here lets nobody in. A revocation takes effect when it is
//! taken out, at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use media::ServerTime;
use sha2::{Digest, Sha256};

use super::Scope;
use crate::catalog::{Credential, CredentialKind, Proof};

/// A credential in force, until it expires.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) kind: CredentialKind,
    pub(super) scope: Scope,
    pub(super) expires: Option<ServerTime>,
    proof: Proof,
    /// Microseconds; `i64::MIN` when not used since the last [`Ring::take_used`].
    used: AtomicI64,
}

impl Key {
    /// The key of a stored credential; none when it is revoked or cannot be read.
    pub(super) fn of(credential: &Credential) -> Option<Key> {
        if credential.revoked.is_some() || credential.proof == Proof::Unreadable {
            return None;
        }
        Some(Key {
            id: credential.id.clone(),
            kind: credential.kind,
            scope: serde_json::from_str(&credential.scope).ok()?,
            expires: credential.expires,
            proof: credential.proof.clone(),
            used: AtomicI64::new(i64::MIN),
        })
    }

    pub(super) fn is_in_force(&self, now: ServerTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// The plain secret; none for a token.
    pub(super) fn secret(&self) -> Option<&str> {
        match &self.proof {
            Proof::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    pub(super) fn note_used(&self, now: ServerTime) {
        self.used.fetch_max(now.micros(), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Arc<Key>>,
    by_hash: HashMap<[u8; 32], Arc<Key>>,
    publish_secrets: Vec<Arc<Key>>,
}

/// The keys.
#[derive(Default)]
pub(super) struct Ring(RwLock<Keys>);

impl Ring {
    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Keys> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, key: Key) {
        let key = Arc::new(key);
        let mut keys = self.write();
        if let Proof::Hash(hash) = key.proof {
            keys.by_hash.insert(hash, key.clone());
        }
        if key.kind == CredentialKind::PublishSecret {
            keys.publish_secrets.push(key.clone());
        }
        keys.by_id.insert(key.id.clone(), key);
    }

    pub(super) fn remove(&self, id: &str) {
        let mut keys = self.write();
        keys.by_id.remove(id);
        keys.by_hash.retain(|_, key| key.id != id);
        keys.publish_secrets.retain(|key| key.id != id);
    }

    /// The token with this text. It is found by its hash, of which timing tells nothing that helps to guess the text.
    pub(super) fn token(&self, text: &str, now: ServerTime) -> Option<Arc<Key>> {
        let key = self.read().by_hash.get(&hash(text)).cloned();
        key.filter(|key| key.is_in_force(now))
    }

    /// Publish secrets in force.
    pub(super) fn publish_secrets(&self, now: ServerTime) -> Vec<Arc<Key>> {
        self.read().publish_secrets.iter().filter(|key| key.is_in_force(now)).cloned().collect()
    }

    pub(super) fn is_in_force(&self, id: &str, now: ServerTime) -> bool {
        self.read().by_id.get(id).is_some_and(|key| key.is_in_force(now))
    }

    /// What was used since this was last asked.
    pub(super) fn take_used(&self) -> Vec<(String, ServerTime)> {
        let keys = self.read();
        let used = keys.by_id.values().map(|key| (key, key.used.swap(i64::MIN, Ordering::Relaxed)));
        used.filter(|(_, at)| *at != i64::MIN).map(|(key, at)| (key.id.clone(), ServerTime::from_micros(at))).collect()
    }
}

/// SHA-256 of a token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
