//! Who we are to every peer: one certificate for the life of the process, and the cryptography below it.

use std::sync::Arc;

use rtc::crypto::{RTCCryptoProvider, SignatureScheme, default_provider};
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};

use super::PeerError;

/// A self-signed certificate, named to each peer by its fingerprint (RFC 8122), and where random numbers come from.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(super) certificate: RTCCertificate,
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn generate() -> Result<Identity, PeerError> {
        let provider = default_provider().map_err(|error| PeerError::Library(error.to_string()))?;
        let params =
            CertificateParams::new(vec!["kinora".to_owned()]).map_err(|error| PeerError::Library(error.to_string()))?;
        let certificate = RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)?;
        Ok(Identity { certificate, provider })
    }
}
