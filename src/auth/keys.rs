//! The key material of an installation, as files of one folder.
//!
//! In: the folder. Out: a signer, a sealer and the ring of token keys. Every file holds 32 bytes in hex, mode 0600. `serve` on several
//! hosts needs the same folder on each: it is part of the configuration, never of the database.
//!
//! - `master.key`: what keys for links, agents and list positions are derived from.
//! - `seal-{id}.key`: seals secrets. Ids sort by time; the last one seals, all open.
//! - `token-{id}.key`: ES256, signs access tokens. The last one that is a minute old signs, all verify; removing a file retires its
//!   key, adding one is a rotation. A running server notices either within a minute.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use rand::Rng;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::secret::Sealer;
use crate::sign::Signer;

/// A new token key signs after this time, when every host of the installation has read it. Unit: seconds.
const KNOWN_TO_ALL: i64 = 60;

/// What all keys are made of: 256 bits.
type Material = Zeroizing<[u8; 32]>;

/// Why the key folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file or the folder cannot be read or written.
    #[error("cannot use the key file {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold a key.
    #[error("{} does not hold 64 hexadecimal digits that make a key", .0.display())]
    Malformed(PathBuf),
    /// A file may be read by everyone on the machine.
    #[error("{} may be read by others: take that right away (chmod 600)", .0.display())]
    Exposed(PathBuf),
    /// A key does not verify what it signed.
    #[error("{} does not verify what it signed", .0.display())]
    SelfTest(PathBuf),
    /// No token key has this id.
    #[error("there is no token key {0}")]
    NoSuchKey(String),
    /// Without a key nobody could sign in.
    #[error("this is the only token key: add another with `batchyard keys rotate` first")]
    LastKey,
}

/// All keys of an installation. Clones share them.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    master: Material,
    /// The one that seals comes first.
    sealing: Vec<(String, Material)>,
    tokens: RwLock<Arc<TokenKeys>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys in `dir`; makes the folder and what is missing in it. Several processes may do so at once. Signs and verifies
    /// once with the current key, so that a build that cannot fails at its start. Blocks.
    ///
    /// # Errors
    /// [`KeysError`], with the file's name.
    pub fn load_or_create(dir: impl AsRef<Path>) -> Result<Keys, KeysError> {
        let dir = dir.as_ref();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let _held = lock(dir)?;
        let master = dir.join("master.key");
        if !master.try_exists().map_err(failed(&master))? {
            write(&master, &random())?;
        }
        if list(dir, "seal")?.is_empty() {
            write(&named(dir, "seal", &new_id()), &random())?;
        }
        if list(dir, "token")?.is_empty() {
            write_token_key(dir)?;
        }
        let mut sealing = list(dir, "seal")?
            .into_iter()
            .map(|id| Ok((id.clone(), read(&named(dir, "seal", &id))?)))
            .collect::<Result<Vec<_>, KeysError>>()?;
        sealing.reverse();
        let tokens = TokenKeys::read(dir)?;
        Ok(Keys(Arc::new(Inner { dir: dir.to_owned(), master: read(&master)?, sealing, tokens: RwLock::new(Arc::new(tokens)) })))
    }

    /// Makes and checks links, agents' credentials and list positions.
    pub fn signer(&self) -> Signer {
        Signer::new(&self.0.master)
    }

    /// Seals secrets with the current sealing key, opens with any of the ring.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(self.0.sealing.iter().map(|(id, key)| (id.clone(), **key)).collect())
    }

    /// Whether the ring has the sealing key `id`.
    pub fn has_sealing_key(&self, id: &str) -> bool {
        self.0.sealing.iter().any(|(known, _)| known == id)
    }

    /// Adds a token key, which signs from a minute later on; those before it still verify. Blocks.
    ///
    /// # Errors
    /// [`KeysError::Io`].
    pub fn rotate_token_key(&self) -> Result<String, KeysError> {
        let _held = lock(&self.0.dir)?;
        let id = write_token_key(&self.0.dir)?;
        self.reload()?;
        Ok(id)
    }

    /// Removes a token key: what it signed is refused by every server within a minute. Blocks.
    ///
    /// # Errors
    /// [`KeysError::NoSuchKey`], [`KeysError::LastKey`], [`KeysError::Io`].
    pub fn retire_token_key(&self, id: &str) -> Result<(), KeysError> {
        let _held = lock(&self.0.dir)?;
        let ids = list(&self.0.dir, "token")?;
        if !ids.iter().any(|known| known == id) {
            return Err(KeysError::NoSuchKey(id.to_owned()));
        }
        if ids.len() == 1 {
            return Err(KeysError::LastKey);
        }
        let path = named(&self.0.dir, "token", id);
        fs::remove_file(&path).map_err(failed(&path))?;
        self.reload()
    }

    /// The ids of the token keys and when they were made, the oldest first.
    pub fn token_keys(&self) -> Vec<(String, Timestamp)> {
        let made_at = |key: &TokenKey| Timestamp::from_unix_timestamp(key.made_at).unwrap_or(Timestamp::UNIX_EPOCH);
        self.tokens().iter().map(|key| (key.id.clone(), made_at(key))).collect()
    }

    /// Reads the token keys anew: another host, or a person, may have added or removed one. Blocks.
    ///
    /// # Errors
    /// [`KeysError`]; the keys known before stay.
    pub(crate) fn reload(&self) -> Result<(), KeysError> {
        let tokens = TokenKeys::read(&self.0.dir)?;
        *self.0.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        Ok(())
    }

    /// The token keys as last read.
    pub(crate) fn tokens(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.0.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The ring of token keys, the current one last.
pub(crate) struct TokenKeys(Vec<TokenKey>);

/// A key that signs access tokens. Its algorithm is ES256, whatever a token says.
pub(crate) struct TokenKey {
    /// What tokens call it.
    pub(crate) id: String,
    /// When it was made, as its id tells; 0 where it does not. Unit: seconds since 1970.
    made_at: i64,
    signing: SigningKey,
    verifying: VerifyingKey,
}

impl TokenKeys {
    fn read(dir: &Path) -> Result<TokenKeys, KeysError> {
        let mut keys = Vec::new();
        for id in list(dir, "token")? {
            let path = named(dir, "token", &id);
            let material = read(&path)?;
            let signing = SigningKey::from_slice(material.as_slice()).map_err(|_| KeysError::Malformed(path.clone()))?;
            let made_at = Uuid::try_parse(&id).ok().and_then(|id| id.get_timestamp());
            let made_at = made_at.and_then(|at| i64::try_from(at.to_unix().0).ok()).unwrap_or_default();
            let key = TokenKey { id, made_at, verifying: *signing.verifying_key(), signing };
            if !key.verify(b"self-test", &key.sign(b"self-test")) || key.verify(b"another", &key.sign(b"self-test")) {
                return Err(KeysError::SelfTest(path));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeysError::Io { path: dir.join("token-*.key"), source: io::ErrorKind::NotFound.into() });
        }
        Ok(TokenKeys(keys))
    }

    /// The key that signs at `now`: the latest that every host has read by then, or the oldest where all are new.
    pub(crate) fn current(&self, now: Timestamp) -> Option<&TokenKey> {
        self.0.iter().rev().find(|key| key.made_at + KNOWN_TO_ALL <= now.unix_timestamp()).or_else(|| self.0.first())
    }

    /// The key of that id.
    pub(crate) fn find(&self, id: &str) -> Option<&TokenKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// All keys, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &TokenKey> {
        self.0.iter()
    }
}

impl TokenKey {
    /// The signature of `message`: 64 bytes, as JWS wants them.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.signing.sign(message);
        signature.to_bytes().into()
    }

    /// Whether `signature` is this key's of `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.verifying.verify(message, &signature).is_ok())
    }

    /// The coordinates of the public key.
    pub(crate) fn public(&self) -> ([u8; 32], [u8; 32]) {
        let point = self.verifying.to_sec1_point(false);
        let coordinate = |bytes: Option<&p256::FieldBytes>| bytes.map_or([0; 32], |bytes| (*bytes).into());
        (coordinate(point.x()), coordinate(point.y()))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> KeysError + '_ {
    move |source| KeysError::Io { path: path.to_owned(), source }
}

/// Ids sort by the time they were made.
fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

fn named(dir: &Path, what: &str, id: &str) -> PathBuf {
    dir.join(format!("{what}-{id}.key"))
}

fn random() -> Material {
    let mut material = Material::default();
    rand::rng().fill_bytes(material.as_mut_slice());
    material
}

/// One process at a time makes keys. The lock ends with the file that is returned.
fn lock(dir: &Path) -> Result<File, KeysError> {
    let path = dir.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed(&path))?;
    file.lock().map_err(failed(&path))?;
    Ok(file)
}

/// The ids of the keys of one sort, in order.
fn list(dir: &Path, what: &str) -> Result<Vec<String>, KeysError> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let name = entry.map_err(failed(dir))?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix(what)?.strip_prefix('-')?.strip_suffix(".key"))
            .filter(|id| !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
        ids.extend(id.map(str::to_owned));
    }
    ids.sort();
    Ok(ids)
}

fn write_token_key(dir: &Path) -> Result<String, KeysError> {
    let id = new_id();
    // Not every 256-bit number is a scalar of the curve; all but one in 2^32 are.
    let material = loop {
        let material = random();
        if SigningKey::from_slice(material.as_slice()).is_ok() {
            break material;
        }
    };
    write(&named(dir, "token", &id), &material)?;
    Ok(id)
}

fn read(path: &Path) -> Result<Material, KeysError> {
    let file = File::open(path).map_err(failed(path))?;
    if file.metadata().map_err(failed(path))?.mode() & 0o007 != 0 {
        return Err(KeysError::Exposed(path.to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    let malformed = || KeysError::Malformed(path.to_owned());
    file.take(4096).read_to_string(&mut text).map_err(failed(path))?;
    let digits = text.trim_end().as_bytes();
    let mut material = Material::default();
    if digits.len() != 64 {
        return Err(malformed());
    }
    for (byte, pair) in material.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: Option<&u8>| d.and_then(|d| char::from(*d).to_digit(16));
        let (high, low) = (digit(pair.first()).ok_or_else(malformed)?, digit(pair.last()).ok_or_else(malformed)?);
        *byte = u8::try_from(high * 16 + low).map_err(|_| malformed())?;
    }
    Ok(material)
}

/// Whole or not at all, and on the disk before it is used: what a lost key has sealed is lost.
fn write(path: &Path, material: &Material) -> Result<(), KeysError> {
    let text = Zeroizing::new(material.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    private_file(path, text.as_bytes()).map_err(failed(path))
}

/// Writes a file that only its owner may read: beside its place, to the disk, then under its name.
pub(super) fn private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    place(path, content, |temporary| fs::rename(temporary, path))
}

/// The same where there is no file of that name yet; also another host that shares the folder may be writing one.
///
/// # Errors
/// `AlreadyExists`.
pub(super) fn new_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    place(path, content, |temporary| {
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)
    })
}

fn place(path: &Path, content: &[u8], name: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let file_name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = dir.join(format!(".{}.{}", file_name.to_string_lossy(), new_id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        name(&temporary)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sign::Purpose;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("batchyard-keys-{}-{name}", std::process::id())))
    }

    #[test]
    fn the_same_folder_is_the_same_keys() {
        let dir = folder("same");
        let first = Keys::load_or_create(&dir.0).expect("makes");
        let again = Keys::load_or_create(&dir.0).expect("reads");
        let proof = first.signer().sign(Purpose::Link, &[b"x"]);
        assert!(again.signer().verify(Purpose::Link, &[b"x"], &proof));
        let owner = Uuid::from_u128(1);
        let sealed = first.sealer().seal(owner, "f", b"secret").expect("seals");
        assert!(again.has_sealing_key(&sealed.key_id));
        assert_eq!(again.sealer().open(owner, "f", &sealed).expect("opens"), b"secret");
        for entry in fs::read_dir(&dir.0).expect("lists") {
            let metadata = entry.expect("reads").metadata().expect("has");
            assert_eq!(metadata.permissions().mode() & 0o077, 0);
        }
        assert_eq!(fs::metadata(&dir.0).expect("has").permissions().mode() & 0o777, 0o700);
        assert!(!format!("{first:?}").contains("master:"), "keys do not print");
    }

    #[test]
    fn several_starts_at_once_agree() {
        let dir = folder("race");
        let proofs: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let keys = Keys::load_or_create(&dir.0).expect("makes or reads");
                        keys.signer().sign(Purpose::Agent, &[b"x"])
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().expect("ends")).collect()
        });
        assert!(proofs.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(list(&dir.0, "token").expect("lists").len(), 1);
    }

    #[test]
    fn rotation_overlaps_and_a_removed_key_is_retired() {
        let dir = folder("rotate");
        let (one, two) = (Keys::load_or_create(&dir.0).expect("makes"), Keys::load_or_create(&dir.0).expect("reads"));
        let soon = crate::clock::Clock::now(&crate::clock::SystemClock);
        let later = soon + std::time::Duration::from_secs(KNOWN_TO_ALL.unsigned_abs() + 1);
        let old = one.tokens().current(soon).expect("has one").id.clone();
        let new = one.rotate_token_key().expect("rotates");
        assert_eq!(one.tokens().current(soon).expect("has one").id, old, "other hosts do not know the new one yet");
        assert_eq!(one.tokens().current(later).expect("has one").id, new);
        assert!(one.tokens().find(&old).is_some(), "tokens of the former key verify");
        assert!(two.tokens().find(&new).is_none());
        two.reload().expect("reads");
        assert!(two.tokens().find(&new).is_some(), "another host learns of it");
        fs::remove_file(named(&dir.0, "token", &old)).expect("removes");
        two.reload().expect("reads");
        assert!(two.tokens().find(&old).is_none());
        fs::remove_file(named(&dir.0, "token", &new)).expect("removes");
        assert!(two.reload().is_err(), "an empty folder, such as one that was unmounted, changes nothing");
        assert!(two.tokens().find(&new).is_some());
    }

    #[test]
    fn exposed_and_malformed_files_are_named() {
        let dir = folder("bad");
        Keys::load_or_create(&dir.0).expect("makes");
        let master = dir.0.join("master.key");
        fs::set_permissions(&master, fs::Permissions::from_mode(0o644)).expect("changes");
        let error = Keys::load_or_create(&dir.0).expect_err("refuses");
        assert!(matches!(&error, KeysError::Exposed(path) if *path == master));
        fs::set_permissions(&master, fs::Permissions::from_mode(0o600)).expect("changes");
        for wrong in ["", "abc", &"g".repeat(64), &"+1".repeat(32), &"a".repeat(66)] {
            fs::write(&master, wrong).expect("writes");
            assert!(matches!(Keys::load_or_create(&dir.0), Err(KeysError::Malformed(path)) if path == master), "{wrong}");
        }
    }
}
