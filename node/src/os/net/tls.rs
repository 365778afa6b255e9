//! TLS 1.3 between devices: who is let in is decided here, inside the handshake.
//!
//! A certificate carries the device key as libp2p lays down (an extension signed by the key); certificate
//! authorities, names and dates mean nothing. Exactly one certificate is accepted. Sessions are never
//! resumed, because a resumed session would skip the check of membership.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use libp2p_tls::certificate;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::wire::{ALPN, ALPN_PAIRING};

use super::counters::{Counters, Reject};
use super::identity::{DeviceKey, device_of};

/// The devices that may connect, shared by everything that checks.
#[derive(Debug, Clone, Default)]
pub(super) struct Members(Arc<RwLock<BTreeSet<DeviceId>>>);

impl Members {
    pub(super) fn contains(&self, device: DeviceId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }

    pub(super) fn replace(&self, devices: BTreeSet<DeviceId>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = devices;
    }
}

/// Which of the two conversations a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Between members.
    Member,
    /// With whoever knows the code that is shown.
    Pairing,
}

impl Purpose {
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Member => ALPN,
            Self::Pairing => ALPN_PAIRING,
        }
    }
}

/// Who must answer a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// This device, and it must be a member.
    Exactly(DeviceId),
    /// Any member.
    AnyMember,
    /// Anyone but this device itself: for pairing, where the proof comes after.
    Anyone,
}

/// What this device shows, and how it checks what it is shown.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    me: DeviceId,
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    members: Members,
    counters: Arc<Counters>,
}

impl Tls {
    pub(super) fn new(key: &DeviceKey, members: Members, counters: Arc<Counters>) -> Self {
        let mut provider = ring::default_provider();
        // AES-128 first: the fastest that is safe, and the one that QUIC's first packets need anyway.
        provider.cipher_suites = vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        let (certificate, private) = certificate::generate(&key.keypair()).expect("a fresh P-256 key signs");
        let signer = provider.key_provider.load_private_key(private).expect("ring reads the key that was just made");
        let certified = Arc::new(CertifiedKey::new(vec![certificate], signer));
        Self { me: key.id(), provider: Arc::new(provider), certified, members, counters }
    }

    /// The configuration for one incoming connection. One each, because which devices may enter depends on
    /// what the connection says it is for.
    pub(super) fn server(&self, door_open: bool) -> QuicServerConfig {
        let purpose = Arc::new(OnceLock::new());
        let verifier = ClientVerifier { tls: self.clone(), purpose: Arc::clone(&purpose) };
        let shown = ServerSide { tls: self.clone(), purpose, door_open };
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the cipher suites are those of TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(shown));
        config.alpn_protocols =
            if door_open { vec![ALPN.to_vec(), ALPN_PAIRING.to_vec()] } else { vec![ALPN.to_vec()] };
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        QuicServerConfig::try_from(config).expect("AES-128-GCM is among the cipher suites")
    }

    /// The configuration for one dial.
    pub(super) fn client(&self, purpose: Purpose, expected: Expected) -> QuicClientConfig {
        let verifier = ServerVerifier { tls: self.clone(), expected };
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the cipher suites are those of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(ClientSide(Arc::clone(&self.certified))));
        config.alpn_protocols = vec![purpose.alpn().to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        QuicClientConfig::try_from(config).expect("AES-128-GCM is among the cipher suites")
    }

    fn refuse(&self, reason: Reject) -> Error {
        self.counters.reject(reason);
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
    }

    /// The device that a certificate proves.
    fn prove(&self, certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<DeviceId, Error> {
        if !others.is_empty() {
            return Err(self.refuse(Reject::Certificate));
        }
        let device = device_in(certificate).ok_or_else(|| self.refuse(Reject::Certificate))?;
        if device == self.me { Err(self.refuse(Reject::WrongDevice)) } else { Ok(device) }
    }
}

/// The device that a certificate proves, if it does.
fn device_in(certificate: &CertificateDer<'_>) -> Option<DeviceId> {
    device_of(&certificate::parse(certificate).ok()?.peer_id())
}

/// Who is at the other end of an established connection, and what it is for.
pub(super) fn identity_of(connection: &quinn::Connection) -> Option<(DeviceId, Purpose)> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let device = device_in(chain.first()?)?;
    let data = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    match data.protocol.as_deref() {
        Some(protocol) if protocol == ALPN => Some((device, Purpose::Member)),
        Some(protocol) if protocol == ALPN_PAIRING => Some((device, Purpose::Pairing)),
        Some(_) | None => None,
    }
}

fn check_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    certificate::parse(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?
        .verify_signature(signed.scheme, message, signed.signature())
        .map_err(|_| bad())?;
    Ok(HandshakeSignatureValid::assertion())
}

/// `certificate::generate` signs with P-256 and nothing else is needed.
fn schemes() -> Vec<SignatureScheme> {
    vec![SignatureScheme::ECDSA_NISTP256_SHA256]
}

/// Shows the certificate of an accepting device, and notes what the connection is for.
#[derive(Debug)]
struct ServerSide {
    tls: Tls,
    purpose: Arc<OnceLock<Purpose>>,
    door_open: bool,
}

impl rustls::server::ResolvesServerCert for ServerSide {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = hello.alpn().map(Iterator::collect).unwrap_or_default();
        let purpose = match offered[..] {
            [one] if one == ALPN => Some(Purpose::Member),
            [one] if one == ALPN_PAIRING && self.door_open => Some(Purpose::Pairing),
            _ => None,
        };
        match purpose {
            // A retried hello offers the same protocols, so the first value stays right.
            Some(purpose) => _ = self.purpose.set(purpose),
            None => self.tls.counters.reject(Reject::Alpn),
        }
        // Without a common protocol the handshake ends with the alert that says so, before the client is
        // asked for a certificate.
        Some(Arc::clone(&self.tls.certified))
    }
}

/// Checks who dials us.
#[derive(Debug)]
struct ClientVerifier {
    tls: Tls,
    purpose: Arc<OnceLock<Purpose>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let device = self.tls.prove(certificate, others)?;
        match self.purpose.get() {
            Some(Purpose::Member) if self.tls.members.contains(device) => Ok(ClientCertVerified::assertion()),
            Some(Purpose::Member) => Err(self.tls.refuse(Reject::Stranger)),
            Some(Purpose::Pairing) => Ok(ClientCertVerified::assertion()),
            None => Err(self.tls.refuse(Reject::Alpn)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Shows the certificate of a dialling device.
#[derive(Debug)]
struct ClientSide(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for ClientSide {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Checks whom we dialled.
#[derive(Debug)]
struct ServerVerifier {
    tls: Tls,
    expected: Expected,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let device = self.tls.prove(certificate, others)?;
        match self.expected {
            Expected::Exactly(wanted) if device != wanted => Err(self.tls.refuse(Reject::WrongDevice)),
            Expected::Exactly(_) | Expected::AnyMember if !self.tls.members.contains(device) => {
                Err(self.tls.refuse(Reject::Stranger))
            }
            Expected::Exactly(_) | Expected::AnyMember | Expected::Anyone => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
