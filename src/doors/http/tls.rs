//! The certificate of HTTPS and RTSPS: configured, or generated at the first start; reloadable without dropping anyone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::config::tree::Tls;

/// Why there is no certificate. The message names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {message}")]
    Content { path: PathBuf, message: String },
    #[error("generate a certificate: {0}")]
    Generate(String),
}

/// The certificate in force: what every new handshake shows.
#[derive(Debug)]
pub(crate) struct Certificate {
    settings_dir: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// A certificate that was read and is not in force yet.
pub(crate) struct Fresh(Arc<CertifiedKey>);

impl Certificate {
    /// Loads the configured certificate, or the generated one of `<data>/tls/`, made now if it is not there.
    pub(crate) fn load(settings: &Tls, data_dir: &Path) -> Result<Arc<Certificate>, CertificateError> {
        let settings_dir = data_dir.join("tls");
        let current = RwLock::new(Arc::new(read_pair(settings, &settings_dir)?));
        Ok(Arc::new(Certificate { settings_dir, current }))
    }

    /// Reads the files again; what is in force stays.
    pub(crate) fn read(&self, settings: &Tls) -> Result<Fresh, CertificateError> {
        Ok(Fresh(Arc::new(read_pair(settings, &self.settings_dir)?)))
    }

    /// New connections get this one from here on.
    pub(crate) fn install(&self, fresh: Fresh) {
        *self.current.write().expect("nobody panics while setting it") = fresh.0;
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub(crate) fn fingerprint(&self) -> String {
        let current = self.current.read().expect("nobody panics while setting it").clone();
        let digest = current.cert.first().map(Sha256::digest).unwrap_or_default();
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// How a door takes TLS, speaking one of `protocols` (ALPN).
    pub(crate) fn server_config(self: &Arc<Self>, protocols: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().expect("nobody panics while setting it").clone())
    }
}

fn read_pair(settings: &Tls, generated: &Path) -> Result<CertifiedKey, CertificateError> {
    let (cert, key) = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => {
            let pair = (generated.join("cert.pem"), generated.join("key.pem"));
            if !pair.0.exists() || !pair.1.exists() {
                generate(generated, &pair.0, &pair.1)?;
            }
            pair
        }
    };
    let content = |path: &Path, message: String| CertificateError::Content { path: path.to_owned(), message };
    let bytes = read(&cert)?;
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| content(&cert, format!("not a PEM certificate: {error}")))?;
    if chain.is_empty() {
        return Err(content(&cert, "no certificate in this file".into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(&key)?)
        .map_err(|error| content(&key, format!("not a PEM private key: {error}")))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|error| content(&key, format!("this key and {} do not go together: {error}", cert.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

/// Self-signed for this machine's name and loopback. Not a secret that anybody trusts by itself: its fingerprint is
/// printed, and a proper certificate goes in `[tls]`.
fn generate(folder: &Path, cert: &Path, key: &Path) -> Result<(), CertificateError> {
    let wrong = |error: rcgen::Error| CertificateError::Generate(error.to_string());
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| CertificateError::File { path, source }
    };
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !machine.is_empty() && machine.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) {
        names.push(machine);
    }
    let mut params = rcgen::CertificateParams::new(names).map_err(wrong)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "kinora self-signed");
    let pair = rcgen::KeyPair::generate().map_err(wrong)?;
    let signed = params.self_signed(&pair).map_err(wrong)?;
    std::fs::create_dir_all(folder).map_err(file(folder))?;
    write_private(key, pair.serialize_pem().as_bytes()).map_err(file(key))?;
    write_private(cert, signed.pem().as_bytes()).map_err(file(cert))
}

/// Writes a file that only we can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_certificate_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let first = Certificate::load(&Tls::default(), folder.path()).expect("generated");
        let again = Certificate::load(&Tls::default(), folder.path()).expect("read back");
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.fingerprint().len(), 32 * 3 - 1);
        let mode = std::fs::metadata(folder.path().join("tls/key.pem")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn reload_takes_new_files_and_keeps_the_old_certificate_when_they_are_bad() {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = Certificate::load(&Tls::default(), folder.path()).expect("generated");
        let before = certificate.fingerprint();
        std::fs::write(folder.path().join("tls/cert.pem"), "garbage").expect("written");
        assert!(certificate.read(&Tls::default()).is_err());
        assert_eq!(certificate.fingerprint(), before);
        std::fs::remove_dir_all(folder.path().join("tls")).expect("removed");
        certificate.install(certificate.read(&Tls::default()).expect("generated anew"));
        assert_ne!(certificate.fingerprint(), before);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_by_name() {
        let one = tempfile::tempdir().expect("a folder");
        let other = tempfile::tempdir().expect("a folder");
        Certificate::load(&Tls::default(), one.path()).expect("generated");
        Certificate::load(&Tls::default(), other.path()).expect("generated");
        let mixed = Tls {
            cert: Some(one.path().join("tls/cert.pem")),
            key: Some(other.path().join("tls/key.pem")),
            hsts: false,
        };
        let message = Certificate::load(&mixed, one.path()).expect_err("mixed").to_string();
        assert!(message.contains("do not go together"), "{message}");
    }
}
