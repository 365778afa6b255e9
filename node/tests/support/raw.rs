//! A peer that shows a valid key and then says whatever it likes: bare quinn with a libp2p certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::DigitallySignedStruct;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate::os::net::identity::DeviceKey;

use super::loopback;

/// The libp2p certificate of a key, always shown. rustls' own constructors refuse its critical extension.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl Shown {
    fn of(key: &DeviceKey) -> Arc<Self> {
        let seed = key.signing().to_bytes();
        let keypair = libp2p::identity::Keypair::ed25519_from_bytes(seed).unwrap();
        let (certificate, private) = libp2p_tls::certificate::generate(&keypair).unwrap();
        let signer = provider().key_provider.load_private_key(private).unwrap();
        Arc::new(Self(Arc::new(CertifiedKey::new(vec![certificate], signer))))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Dials with these protocols on offer; believes everybody.
pub async fn dial(
    key: &DeviceKey,
    alpn: &[&[u8]],
    to: SocketAddr,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    dial_with(key, alpn, to, quinn::TransportConfig::default()).await
}

/// As `dial`, with these settings.
pub async fn dial_with(
    key: &DeviceKey,
    alpn: &[&[u8]],
    to: SocketAddr,
    transport: quinn::TransportConfig,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(Shown::of(key));
    config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = endpoint(None);
    // A test that ends takes the runtime away under a flood.
    let connecting =
        endpoint.connect_with(config, to, "tidegate").map_err(|_| quinn::ConnectionError::LocallyClosed)?;
    connecting.await
}

/// An endpoint on loopback that accepts packets of any size.
fn endpoint(server: Option<quinn::ServerConfig>) -> quinn::Endpoint {
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(65_527).unwrap();
    let socket = std::net::UdpSocket::bind(loopback(0)).unwrap();
    quinn::Endpoint::new(config, server, socket, quinn::default_runtime().unwrap()).unwrap()
}

/// Listens with one protocol; believes everybody.
pub fn listen(key: &DeviceKey, alpn: &[u8]) -> quinn::Endpoint {
    listen_with(key, alpn, quinn::TransportConfig::default())
}

/// As `listen`, with these settings.
pub fn listen_with(key: &DeviceKey, alpn: &[u8], transport: quinn::TransportConfig) -> quinn::Endpoint {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_cert_resolver(Shown::of(key));
    config.alpn_protocols = vec![alpn.to_vec()];
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()));
    config.transport_config(Arc::new(transport));
    endpoint(Some(config))
}

#[derive(Debug)]
struct Anyone;

impl Anyone {
    fn schemes() -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        Self::schemes()
    }
}
