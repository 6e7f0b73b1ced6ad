//! Rows of credentials: tokens, publish secrets, access keys. What they allow is `auth`'s to say.

use media::ServerTime;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, TENANT};

/// The kinds of credentials.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CredentialKind {
    /// An opaque bearer token.
    Token,
    /// A password for RTSP publishers.
    PublishSecret,
    /// A key pair for clients that sign with SigV4.
    AccessKey,
}

impl CredentialKind {
    fn as_str(self) -> &'static str {
        match self {
            CredentialKind::Token => "token",
            CredentialKind::PublishSecret => "publish_secret",
            CredentialKind::AccessKey => "access_key",
        }
    }
}

/// What a credential is proved by.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// SHA-256 of a token.
    Hash([u8; 32]),
    /// The secret of a publish secret or access key; sealed in the database.
    Secret(String),
    /// A secret that cannot be unsealed any more, since the server key was lost.
    Unreadable,
}

/// A credential as the catalog knows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// Unique among all kinds.
    pub id: String,
    pub kind: CredentialKind,
    pub proof: Proof,
    pub label: String,
    /// What it allows, as JSON.
    pub scope: String,
    pub created: ServerTime,
    pub expires: Option<ServerTime>,
    pub revoked: Option<ServerTime>,
    pub last_used: Option<ServerTime>,
}

impl Catalog {
    /// Keeps a new credential.
    pub(crate) fn add_credential(&self, new: &Credential) -> Result<(), CatalogError> {
        let (hash, sealed) = match &new.proof {
            Proof::Hash(hash) => (Some(hash.as_slice()), None),
            Proof::Secret(secret) => (None, Some(self.seal.seal(&new.id, secret)?)),
            Proof::Unreadable => return Err(CatalogError::NoCredential),
        };
        self.write(|db| {
            db.prepare_cached(
                "INSERT INTO credential (tenant_id, credential_id, kind, hash, sealed, label, scope, created_us,
                     expires_us, revoked_us, last_used_us)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                TENANT,
                new.id,
                new.kind.as_str(),
                hash,
                sealed,
                new.label,
                new.scope,
                new.created.micros(),
                new.expires.map(ServerTime::micros),
                new.revoked.map(ServerTime::micros),
                new.last_used.map(ServerTime::micros),
            ])?;
            Ok(())
        })
    }

    /// All credentials, in the order of their making.
    pub(crate) fn credentials(&self) -> Result<Vec<Credential>, CatalogError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT credential_id, kind, hash, sealed, label, scope, created_us, expires_us, revoked_us, last_used_us
                 FROM credential WHERE tenant_id = ?1 ORDER BY created_us, credential_id",
            )?;
            let mut rows = statement.query(params![TENANT])?;
            let mut credentials = Vec::new();
            while let Some(row) = rows.next()? {
                credentials.push(self.read_credential(row)?);
            }
            Ok(credentials)
        })
    }

    fn read_credential(&self, row: &Row<'_>) -> Result<Credential, CatalogError> {
        let id: String = row.get(0)?;
        let kind = match row.get::<_, String>(1)?.as_str() {
            "token" => CredentialKind::Token,
            "publish_secret" => CredentialKind::PublishSecret,
            "access_key" => CredentialKind::AccessKey,
            other => return Err(CatalogError::Database(format!("credential {id}: kind {other:?} is not known"))),
        };
        let proof = match (row.get::<_, Option<[u8; 32]>>(2)?, row.get::<_, Option<Vec<u8>>>(3)?) {
            (Some(hash), _) => Proof::Hash(hash),
            (None, Some(sealed)) => self.seal.unseal(&id, &sealed).map_or(Proof::Unreadable, Proof::Secret),
            (None, None) => Proof::Unreadable,
        };
        let time = |column: usize| -> rusqlite::Result<Option<ServerTime>> {
            Ok(row.get::<_, Option<i64>>(column)?.map(ServerTime::from_micros))
        };
        Ok(Credential {
            kind,
            proof,
            label: row.get(4)?,
            scope: row.get(5)?,
            created: ServerTime::from_micros(row.get(6)?),
            expires: time(7)?,
            revoked: time(8)?,
            last_used: time(9)?,
            id,
        })
    }

    /// Takes a credential back for good; once revoked, the first time stays.
    pub(crate) fn revoke_credential(&self, id: &str, now: ServerTime) -> Result<(), CatalogError> {
        let changed = self.write(|db| {
            Ok(db
                .prepare_cached(
                    "UPDATE credential SET revoked_us = ifnull(revoked_us, ?3) WHERE tenant_id = ?1 AND credential_id = ?2",
                )?
                .execute(params![TENANT, id, now.micros()])?)
        })?;
        if changed == 1 { Ok(()) } else { Err(CatalogError::NoCredential) }
    }

    /// Notes when credentials were last used, all in one transaction.
    pub(crate) fn note_used(&self, used: &[(String, ServerTime)]) -> Result<(), CatalogError> {
        if used.is_empty() {
            return Ok(());
        }
        self.write(|db| {
            let mut note = db.prepare_cached(
                "UPDATE credential SET last_used_us = max(ifnull(last_used_us, ?3), ?3)
                 WHERE tenant_id = ?1 AND credential_id = ?2",
            )?;
            for (id, at) in used {
                note.execute(params![TENANT, id, at.micros()])?;
            }
            Ok(())
        })
    }

    /// Forgets credentials that expired or were revoked before `before`.
    pub(crate) fn forget_credentials(&self, before: ServerTime) -> Result<usize, CatalogError> {
        self.write(|db| {
            Ok(db
                .prepare_cached("DELETE FROM credential WHERE tenant_id = ?1 AND (expires_us < ?2 OR revoked_us < ?2)")?
                .execute(params![TENANT, before.micros()])?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::fresh;

    fn credential(id: &str, kind: CredentialKind, proof: Proof) -> Credential {
        Credential {
            id: id.into(),
            kind,
            proof,
            label: "a label".into(),
            scope: "{}".into(),
            created: ServerTime::from_micros(5),
            expires: Some(ServerTime::from_micros(900)),
            revoked: None,
            last_used: None,
        }
    }

    #[test]
    fn credentials_come_back_and_the_file_never_holds_a_secret() {
        let (folder, catalog) = fresh();
        let all = [
            credential("a", CredentialKind::Token, Proof::Hash([7; 32])),
            credential("b", CredentialKind::PublishSecret, Proof::Secret("canary-secret-one".into())),
            credential("c", CredentialKind::AccessKey, Proof::Secret("canary-secret-two".into())),
        ];
        for one in &all {
            catalog.add_credential(one).unwrap();
        }
        assert!(catalog.credentials().unwrap() == all);
        assert!(catalog.add_credential(&all[1]).is_err(), "an id is taken once");
        drop(catalog);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"canary"));
        }
        let catalog = Catalog::open(&folder.path().join("control.db")).unwrap();
        assert!(catalog.credentials().unwrap() == all);
        drop(catalog);
        std::fs::remove_file(folder.path().join("server-key")).unwrap();
        let catalog = Catalog::open(&folder.path().join("control.db")).unwrap();
        let proofs: Vec<_> = catalog.credentials().unwrap().into_iter().map(|found| found.proof).collect();
        assert!(proofs == [Proof::Hash([7; 32]), Proof::Unreadable, Proof::Unreadable], "a lost server key");
    }

    #[test]
    fn revocation_use_and_forgetting_are_kept() {
        let (_folder, catalog) = fresh();
        let at = ServerTime::from_micros;
        catalog.add_credential(&credential("a", CredentialKind::Token, Proof::Hash([7; 32]))).unwrap();
        catalog.revoke_credential("a", at(50)).unwrap();
        catalog.revoke_credential("a", at(60)).unwrap();
        catalog.note_used(&[("a".into(), at(70)), ("gone".into(), at(70))]).unwrap();
        catalog.note_used(&[("a".into(), at(40))]).unwrap();
        let found = catalog.credentials().unwrap().remove(0);
        assert_eq!((found.revoked, found.last_used), (Some(at(50)), Some(at(70))));
        assert!(matches!(catalog.revoke_credential("b", at(1)), Err(CatalogError::NoCredential)));
        assert_eq!(catalog.forget_credentials(at(50)).unwrap(), 0);
        assert_eq!(catalog.forget_credentials(at(51)).unwrap(), 1);
    }
}
