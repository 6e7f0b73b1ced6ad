//! Secrets that we must be able to read again, sealed under the server key.

use std::path::Path;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};

use super::{CatalogError, private_file};

const NONCE: usize = 12;

/// AES-256-GCM under the key in `<data>/server-key`. A sealed secret is `nonce ciphertext tag`, bound to its owner's name.
pub(super) struct Seal(Aes256Gcm);

impl Seal {
    /// Takes the key from its file, which is made on the first start.
    pub(super) fn open(path: &Path) -> Result<Seal, CatalogError> {
        let key = match private_file::read(path)? {
            Some(text) => from_hex(&text).ok_or_else(|| CatalogError::File {
                path: path.to_owned(),
                what: "not a server key: 64 hexadecimal digits are expected".into(),
            })?,
            None => {
                let key: [u8; 32] = random()?;
                private_file::write(path, &key.iter().map(|byte| format!("{byte:02x}")).collect::<String>())?;
                key
            }
        };
        Ok(Seal(Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&key))))
    }

    /// Seals `secret` of `owner`.
    pub(super) fn seal(&self, owner: &str, secret: &str) -> Result<Vec<u8>, CatalogError> {
        let nonce: [u8; NONCE] = random()?;
        let payload = Payload { msg: secret.as_bytes(), aad: owner.as_bytes() };
        let sealed = self.0.encrypt(Nonce::from_slice(&nonce), payload);
        let sealed = sealed.map_err(|_| CatalogError::Database("seal a secret: refused".into()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The secret of `owner`; none when it was sealed under another key, for another owner, or is damaged.
    pub(super) fn unseal(&self, owner: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        String::from_utf8(self.0.decrypt(Nonce::from_slice(nonce), payload).ok()?).ok()
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CatalogError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| CatalogError::Random(error.to_string()))?;
    Ok(bytes)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn sealed_secret_opens_for_its_owner_under_its_key_only() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("server-key");
        let sealed = Seal::open(&path).unwrap().seal("one", "hunter2").unwrap();
        let seal = Seal::open(&path).unwrap();
        assert_eq!(seal.unseal("one", &sealed).as_deref(), Some("hunter2"));
        assert_eq!(seal.unseal("two", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.unseal("one", &damaged), None);
        }
        assert_eq!(seal.unseal("one", &sealed[..7]), None);
        let other = Seal::open(&folder.path().join("other-key")).unwrap();
        assert_eq!(other.unseal("one", &sealed), None);
        assert_ne!(sealed, seal.seal("one", "hunter2").unwrap(), "a nonce is never used twice");
    }

    #[test]
    fn damaged_key_file_is_refused_by_its_path() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("server-key");
        std::fs::write(&path, "zz").unwrap();
        let Err(refused) = Seal::open(&path) else { panic!("a damaged key was taken") };
        assert!(refused.to_string().contains("server-key"), "{refused}");
    }
}
