//! A certificate and its key as they are on disk.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Header, Reader, SliceReader, Tag};
use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::Paths;
use crate::limits;

/// Octets read of a file: a chain has a few thousand.
const MOST: u64 = 1 << 20;
const CERT: &str = "--tls-cert";
const KEY: &str = "--tls-key";

/// A certificate that cannot be used (exit code 2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {}: {reason}; {remedy}", path.display())]
pub struct CertificateError {
    flag: &'static str,
    path: PathBuf,
    reason: String,
    remedy: &'static str,
}

/// What the two files hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Look {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// What clients can be shown.
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// When the first of the chain ends, of which clients are shown all.
    pub(super) expires: Timestamp,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look {
    /// Reads both files.
    pub(super) fn at(paths: &Paths) -> Result<Look, CertificateError> {
        let read = |flag, path: &Path| {
            read(path).map_err(|reason| CertificateError {
                flag,
                path: path.to_owned(),
                reason,
                remedy: "name a file in PEM that this program may read",
            })
        };
        Ok(Look { cert: read(CERT, &paths.cert)?, key: read(KEY, &paths.key)? })
    }

    /// The certificate with its key, if they are one pair.
    pub(super) fn certificate(&self, paths: &Paths) -> Result<Certificate, CertificateError> {
        let of = |flag, path: &Path, reason: String, remedy| CertificateError {
            flag,
            path: path.to_owned(),
            reason,
            remedy,
        };
        let cert = |reason| {
            let remedy = "it takes a certificate in PEM (-----BEGIN CERTIFICATE-----), those that lead to its \
                          authority behind it";
            of(CERT, &paths.cert, reason, remedy)
        };
        let key = |reason| {
            let remedy = "it takes one private key in PEM without a password, PKCS #8, PKCS #1 or SEC 1 \
                          (-----BEGIN PRIVATE KEY-----)";
            of(KEY, &paths.key, reason, remedy)
        };
        let chain = CertificateDer::pem_slice_iter(&self.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| cert(format!("no PEM: {error}")))?;
        let first = chain.first().ok_or_else(|| cert("there is no certificate in it".to_owned()))?;
        let mut expires =
            expiry(first).map_err(|error| cert(format!("its first certificate cannot be read: {error}")))?;
        for (nth, link) in chain.iter().enumerate().skip(1) {
            let link = expiry(link)
                .map_err(|error| cert(format!("its certificate {} cannot be read: {error}", nth + 1)))?;
            expires = expires.min(link);
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => key("there is no private key in it".to_owned()),
            error => key(format!("no PEM: {error}")),
        })?;
        let pair = CertifiedKey::from_der(chain, private, &ring::default_provider());
        let pair = pair.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => of(
                KEY,
                &paths.key,
                format!("it is not the key of the certificate in {}", paths.cert.display()),
                "name the key that this certificate was issued for",
            ),
            Error::InvalidCertificate(error) => cert(format!("its first certificate is broken: {error:?}")),
            error => key(format!("the private key cannot be used: {error}")),
        })?;
        Ok(Certificate { key: Arc::new(pair), expires })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let read = limits::open_file(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut octets));
    match read {
        Ok(length) if length as u64 > MOST => Err("it has more than 1 MiB".to_owned()),
        Ok(_) => Ok(octets),
        Err(error) => Err(format!("cannot read it: {error}")),
    }
}

/// The end of `validity` in a certificate, RFC 5280 section 4.1.
fn expiry(certificate: &[u8]) -> der::Result<Timestamp> {
    let tbs = inside(inside(certificate)?)?;
    let mut fields = SliceReader::new(tbs)?;
    // The version is left out in those of version 1.
    if Tag::peek(&fields)?.is_context_specific() {
        AnyRef::decode(&mut fields)?;
    }
    for _serial_signature_issuer in 0..3 {
        AnyRef::decode(&mut fields)?;
    }
    let validity: AnyRef<'_> = AnyRef::decode(&mut fields)?;
    let mut times = SliceReader::new(validity.value())?;
    AnyRef::decode(&mut times)?;
    let seconds = match Tag::peek(&times)? {
        Tag::UtcTime => UtcTime::decode(&mut times)?.to_unix_duration(),
        _ => GeneralizedTime::decode(&mut times)?.to_unix_duration(),
    };
    let seconds = i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX);
    Ok(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

/// What is in the first value.
fn inside(octets: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(octets)?;
    let header = Header::decode(&mut reader)?;
    reader.read_slice(header.length())
}
