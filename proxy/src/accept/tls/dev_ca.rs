//! The development CA: made once under `stateDir`, trusted once by a person, issuing from then on.
//!
//! `ca.key` is written before `ca.pem`, each complete or not at all, under a lock that other processes respect. A
//! key without a certificate is therefore what a crash left, and is certified; a certificate without its key is a
//! loss that a person must hear of, because somebody may trust it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::TlsError;
use super::pem::{self, Identity};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ten years: a development CA is trusted by hand, once.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// Platforms refuse a server certificate of 398 days or more.
const LEAF_LIFE: Duration = Duration::from_secs(397 * DAY.as_secs());

/// The development CA of one state folder, ready to issue.
pub struct DevCa {
    file: PathBuf,
    certificate: CertificateDer<'static>,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl DevCa {
    /// `ca.pem` and `ca.key` below `state_dir`.
    pub fn files(state_dir: &Path) -> [PathBuf; 2] {
        [state_dir.join("ca.pem"), state_dir.join("ca.key")]
    }

    /// Opens the CA of `state_dir`, making folder (mode 0700) and CA (key of mode 0600) where there is none.
    /// One that has expired is certified again with its key, and the log says that it must be trusted again.
    ///
    /// # Errors
    /// When the folder cannot be written, or what is there is no CA with its key.
    pub fn open(state_dir: &Path) -> Result<Self, TlsError> {
        let _lock = lock(state_dir)?;
        let [cert_file, key_file] = Self::files(state_dir);
        let key = open_key(&cert_file, &key_file)?;
        if !exists(&cert_file)? {
            write(&cert_file, certify(&key, &cert_file)?.as_bytes(), 0o644)?;
        } else if end_of(&pem_certificate(&cert_file)?, &cert_file)? <= SystemTime::now() {
            write(&cert_file, certify(&key, &cert_file)?.as_bytes(), 0o644)?;
            tracing::warn!(file = %cert_file.display(), "the development CA had expired and was renewed: trust it again");
        }
        Self::with(pem_certificate(&cert_file)?, key, cert_file)
    }

    fn with(certificate: CertificateDer<'static>, key: KeyPair, file: PathBuf) -> Result<Self, TlsError> {
        let not_after = end_of(&certificate, &file)?;
        let (is_ca, same_key) = {
            let parsed = parse(&certificate, &file)?;
            (parsed.is_ca(), *parsed.public_key().subject_public_key.data == *key.public_key_raw())
        };
        if !is_ca {
            return Err(broken(&file, "its certificate is not that of a CA"));
        }
        if !same_key {
            return Err(broken(&file, "ca.key does not belong to it"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| broken(&file, error))?;
        Ok(Self { file, certificate, not_after, issuer })
    }

    /// The certificate to trust, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for `names` (DNS, `*.` allowed as first label, or IP), whose key exists in memory only.
    pub(super) fn issue(&self, names: &[Box<str>]) -> Result<Identity, TlsError> {
        let failed =
            |error: rcgen::Error| TlsError::Issue { names: names.join(", "), detail: error.to_string() };
        let sans: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(sans).map_err(failed)?;
        params.distinguished_name = common_name("Sidetrack development certificate".to_owned());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - DAY).into();
        params.not_after = (now + LEAF_LIFE - DAY).min(self.not_after).into();

        let key = KeyPair::generate().map_err(failed)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::new(vec![leaf.der().clone()], &key, &self.file, &self.file)
    }
}

/// The commands that make a machine, one curl call, or Chromium trust the CA in the file `ca`.
pub fn trust_hint(ca: &Path) -> String {
    let ca = format!("'{}'", ca.display().to_string().replace('\'', r"'\''"));
    format!(
        "To trust the development CA:\n\
         \x20 Debian, Ubuntu  sudo cp {ca} /usr/local/share/ca-certificates/sidetrack-dev.crt && sudo update-ca-certificates\n\
         \x20 curl, one call  curl --cacert {ca} URL\n\
         \x20 Chromium        mkdir -p ~/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n sidetrack-dev -i {ca}\n\
         \x20                 (certutil is in the package libnss3-tools)\n"
    )
}

/// Makes the folder where it is missing, and holds its lock until dropped: two processes must not make two CAs.
fn lock(state_dir: &Path) -> Result<File, TlsError> {
    let path = state_dir.join("ca.lock");
    let unwritable = |source| TlsError::Write { file: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(unwritable)?;
    // Opened for reading where it is there: the end of a writer is a change of the folder, for which we look here again.
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
        }
        opened => opened,
    };
    let file = file.map_err(unwritable)?;
    file.lock().map_err(unwritable)?;
    Ok(file)
}

/// The key on disk, or a new one where there is neither key nor certificate.
fn open_key(cert_file: &Path, key_file: &Path) -> Result<KeyPair, TlsError> {
    if exists(key_file)? {
        guard(key_file);
        let text = pem::read(key_file)?;
        let text = String::from_utf8(text).map_err(|_| broken(key_file, "it is not a PEM file"))?;
        return KeyPair::from_pem(&text).map_err(|error| broken(key_file, error));
    }
    if exists(cert_file)? {
        return Err(broken(cert_file, "its key, ca.key, is missing"));
    }
    let key = KeyPair::generate().map_err(|error| broken(key_file, error))?;
    write(key_file, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

/// Takes other users' access to a key away; where that fails, says so.
fn guard(key_file: &Path) {
    let open_to_others = fs::metadata(key_file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if open_to_others {
        let outcome = fs::set_permissions(key_file, Permissions::from_mode(0o600));
        tracing::warn!(file = %key_file.display(), closed = outcome.is_ok(), "others could read this key");
    }
}

/// A CA certificate for `key`, PEM.
fn certify(key: &KeyPair, file: &Path) -> Result<String, TlsError> {
    let mut params = CertificateParams::default();
    // Part of the key's identifier in the name: two CAs of one name confuse whoever must remove one.
    let id: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = common_name(format!("Sidetrack development CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    params.self_signed(key).map(|certificate| certificate.pem()).map_err(|error| broken(file, error))
}

fn common_name(name: String) -> DistinguishedName {
    let mut whole = DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

fn pem_certificate(file: &Path) -> Result<CertificateDer<'static>, TlsError> {
    let first = pem::certificates(file).map_err(|error| match error {
        TlsError::Read { .. } => error,
        other => broken(file, other),
    })?;
    first.into_iter().next().ok_or_else(|| broken(file, "it is empty"))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>, file: &Path) -> Result<X509Certificate<'a>, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| broken(file, error))?;
    Ok(parsed)
}

fn end_of(certificate: &CertificateDer<'_>, file: &Path) -> Result<SystemTime, TlsError> {
    let seconds = parse(certificate, file)?.validity().not_after.timestamp();
    Ok(UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

fn broken(file: &Path, detail: impl ToString) -> TlsError {
    TlsError::Authority { file: file.to_owned(), detail: detail.to_string() }
}

fn exists(file: &Path) -> Result<bool, TlsError> {
    file.try_exists().map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

/// Writes a file so that it is there whole, also after a power cut, or not at all. The caller holds the lock.
fn write(file: &Path, text: &[u8], mode: u32) -> Result<(), TlsError> {
    let replace = || -> io::Result<()> {
        let partial = file.with_added_extension("partial");
        // What a crash left may have another mode.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        opened.write_all(text)?;
        opened.sync_all()?;
        fs::rename(&partial, file)?;
        file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    replace().map_err(|source| TlsError::Write { file: file.to_owned(), source })
}
