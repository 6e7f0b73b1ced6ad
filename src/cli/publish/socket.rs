//! The socket of a connection, plain or encrypted, both without waiting: bytes in and out, and when to try again.
//!
//! Not here: what the bytes say (`connection`).

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Which servers are believed to be who they say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trust {
    /// Those with a certificate of a public authority.
    Authorities,
    /// Those with this certificate, or one that it signed: a PEM file's bytes.
    Certificate(Vec<u8>),
    /// Everybody: bytes are encrypted, and may be so for an attacker.
    Anybody,
}

impl Trust {
    /// What `--insecure` and `--cacert` say.
    pub(super) fn new(insecure: bool, certificate: Option<&Path>) -> Result<Trust, String> {
        match certificate {
            _ if insecure => Ok(Trust::Anybody),
            None => Ok(Trust::Authorities),
            Some(path) => match std::fs::read(path) {
                Ok(pem) => Ok(Trust::Certificate(pem)),
                Err(error) => Err(format!("read {}: {error}", path.display())),
            },
        }
    }

    /// How to talk to such servers.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("set up TLS: {error}"))?;
        let mut roots = RootCertStore::empty();
        match self {
            Trust::Anybody => {
                let verifier = Arc::new(NoVerification(provider));
                let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
                return Ok(Arc::new(config));
            }
            Trust::Authorities => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Trust::Certificate(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| format!("read the certificate: {error}"))?;
                    roots.add(certificate).map_err(|error| format!("read the certificate: {error}"))?;
                }
                if roots.is_empty() {
                    return Err("read the certificate: the file has none".to_owned());
                }
            }
        }
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// Takes every certificate, but holds the server to the one that it shows.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connected socket.
pub(super) struct Socket {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Socket {
    /// Connects; the handshake of an encrypted one comes with the first bytes.
    pub(super) async fn connect(host: &str, port: u16, tls: Option<&Arc<ClientConfig>>) -> io::Result<Socket> {
        let tls = tls.map(|config| {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            ClientConnection::new(config.clone(), name).map(Box::new).map_err(io::Error::other)
        });
        let tls = tls.transpose()?;
        let tcp = TcpStream::connect((host, port)).await?;
        // A frame is written at once and must not wait for the acknowledgement of the one before.
        tcp.set_nodelay(true)?;
        Ok(Socket { tcp, tls })
    }

    pub(super) fn local_ip(&self) -> io::Result<IpAddr> {
        self.tcp.local_addr().map(|address: SocketAddr| address.ip())
    }

    pub(super) fn peer_ip(&self) -> io::Result<IpAddr> {
        self.tcp.peer_addr().map(|address: SocketAddr| address.ip())
    }

    /// Waits until something can be read or, when `to_write` or encrypted bytes are held here, written; true when read.
    pub(super) async fn ready(&self, to_write: bool) -> io::Result<bool> {
        let mut interest = Interest::READABLE;
        if to_write || self.holds_output() {
            interest |= Interest::WRITABLE;
        }
        Ok(self.tcp.ready(interest).await?.is_readable())
    }

    /// Appends what has arrived; false at the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let Some(tls) = &mut self.tls else {
            let length = self.tcp.try_read(&mut buffer)?;
            into.extend_from_slice(&buffer[..length]);
            return Ok(length > 0);
        };
        let is_open = tls.read_tls(&mut Tries(&self.tcp))? > 0;
        let state = match tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The server is told why, if it listens.
                let _ = tls.write_tls(&mut Tries(&self.tcp));
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let start = into.len();
        into.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut into[start..])?;
        Ok(is_open && !state.peer_has_closed())
    }

    /// Takes what it can of `bytes`; how many.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.try_write(bytes) };
        while tls.wants_write() {
            tls.write_tls(&mut Tries(&self.tcp))?;
        }
        if tls.is_handshaking() {
            // Nothing is given away before it is known to whom.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write(bytes)?;
        while tls.wants_write() {
            match tls.write_tls(&mut Tries(&self.tcp)) {
                // They were taken, and are held here.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => result?,
            };
        }
        Ok(taken)
    }

    /// Gives the system what encrypted bytes it takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut Tries(&self.tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => result?,
            };
        }
        Ok(())
    }

    /// Whether encrypted bytes wait here.
    pub(super) fn holds_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether there is anything to write that could be written now: not before a handshake is over.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }
}

/// The socket as rustls wants it: reads and writes that do not wait.
struct Tries<'a>(&'a TcpStream);

impl io::Read for Tries<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for Tries<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
