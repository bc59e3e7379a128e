//! TLS: certificates, and plaintext and TLS on one port.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// The first byte of a TLS connection: a handshake record. No plaintext frame begins with it, since its length would
/// be beyond any limit.
pub(crate) const HANDSHAKE: u8 = 0x16;

/// What a port accepts: the key `tls.server.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plaintext only.
    Disabled,
    /// Both, told apart by the first byte.
    #[default]
    Permissive,
    /// TLS only.
    Enforcing,
}

impl FromStr for TlsMode {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        match text {
            "disabled" => Ok(TlsMode::Disabled),
            "permissive" => Ok(TlsMode::Permissive),
            "enforcing" => Ok(TlsMode::Enforcing),
            _ => Err(TlsError::UnknownMode(text.to_owned())),
        }
    }
}

/// TLS cannot be set up as configured. The operator mends the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `tls.server.mode` is something else.
    #[error("tls.server.mode is `{0}`; it is one of disabled, permissive, enforcing")]
    UnknownMode(String),
    /// A file is missing or holds no PEM of the wanted kind.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Half of what a certificate needs is given, or nothing while TLS is demanded.
    #[error("{0}")]
    Incomplete(&'static str),
    /// The certificate and the key do not fit, or are of a kind that is not supported.
    #[error("the certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The self-signed certificate could not be made.
    #[error("no self-signed certificate could be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// The server's side of TLS. Cheap to clone: made once at start.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(crate) mode: TlsMode,
    pub(crate) config: Arc<ServerConfig>,
}

/// What a configuration says about TLS, under RocketMQ's keys.
#[derive(Clone, Copy, Debug)]
pub struct TlsKeys<'a> {
    /// `tls.server.mode`: disabled, permissive, enforcing.
    pub mode: &'a str,
    /// `tls.server.certPath`, empty when not given.
    pub cert_path: &'a str,
    /// `tls.server.keyPath`, empty when not given.
    pub key_path: &'a str,
    /// `tls.test.mode.enable`: without a certificate, one is made on the spot.
    pub self_signed: bool,
}

impl ServerTls {
    /// As a configuration says; none means plaintext only. A certificate that is given is used, whatever
    /// `tls.test.mode.enable` says: in Java 5.3 that key, which is on by default, hides it.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn configured(keys: TlsKeys<'_>) -> Result<Option<Self>, TlsError> {
        let mode: TlsMode = keys.mode.parse()?;
        if mode == TlsMode::Disabled {
            return Ok(None);
        }
        match (keys.cert_path, keys.key_path) {
            ("", "") if keys.self_signed => Self::self_signed(mode).map(Some),
            ("", "") if mode == TlsMode::Permissive => Ok(None),
            ("", "") => Err(TlsError::Incomplete(
                "tls.server.mode=enforcing needs tls.server.certPath and tls.server.keyPath, since tls.test.mode.enable is false",
            )),
            ("", _) => Err(TlsError::Incomplete(
                "tls.server.keyPath is given without tls.server.certPath",
            )),
            (_, "") => Err(TlsError::Incomplete(
                "tls.server.certPath is given without tls.server.keyPath",
            )),
            (certificates, key) => {
                Self::from_pem_files(mode, Path::new(certificates), Path::new(key)).map(Some)
            }
        }
    }

    /// With a certificate made on the spot, which stands in until the operator gives one; as RocketMQ's
    /// `tls.test.mode.enable`.
    pub fn self_signed(mode: TlsMode) -> Result<Self, TlsError> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::new(mode, vec![made.cert.der().clone()], key.into())
    }

    /// With the certificate chain and the private key of two PEM files: `tls.server.certPath`, `tls.server.keyPath`.
    pub fn from_pem_files(
        mode: TlsMode,
        certificates: &Path,
        key: &Path,
    ) -> Result<Self, TlsError> {
        let chain = certificates_of(certificates)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
        Self::new(mode, chain, private)
    }

    fn new(
        mode: TlsMode,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(ServerTls {
            mode,
            config: Arc::new(config),
        })
    }
}

/// The client's side of TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Encrypted, and whoever answers is believed: what RocketMQ's clients do unless told otherwise
    /// (`tls.client.authServer` is false). It keeps out listeners, not impostors.
    pub fn unauthenticated() -> Result<Self, TlsError> {
        let provider = provider();
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveAnyone(provider)))
            .with_no_client_auth();
        Ok(ClientTls {
            config: Arc::new(config),
        })
    }

    /// Encrypted, and the server's certificate must be signed by one of a PEM file: `tls.client.trustCertPath`.
    pub fn trusting(roots: &Path) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates_of(roots)? {
            store.add(certificate)?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(ClientTls {
            config: Arc::new(config),
        })
    }
}

/// The host of `host:port` as TLS wants it.
pub(crate) fn server_name(addr: &str) -> Option<ServerName<'static>> {
    let (host, _port) = addr.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates_of(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| file_error(file, &error))?;
    let chain: Result<Vec<_>, _> = certificates.collect();
    let chain = chain.map_err(|error| file_error(file, &error))?;
    if chain.is_empty() {
        return Err(file_error(file, &"it holds no certificate"));
    }
    Ok(chain)
}

fn file_error(file: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        file: file.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Checks that the peer has the key of the certificate it shows, and nothing about who that is.
#[derive(Debug)]
struct BelieveAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
