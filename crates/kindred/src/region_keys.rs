//! The regions' keys at rest: sealed with AES-256-GCM under a key-encryption key that lies elsewhere. Layout in
//! docs/region-keys.md.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use kindred_core::canonical::{Canonical, TicketKey};
use kindred_core::env::Env;
use kindred_core::id::{hex, unhex};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// First line of every such file; the number is the version of its layout.
const HEAD: &str = "kindred-region-keys 1";
/// Domain tag of what is authenticated beside the key.
const TAG: &str = "kindred/region-key/v1";
/// What a key is for. More purposes come with more kinds of keys.
const TICKET: &str = "ticket";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A key-encryption key. No Debug: it is a secret.
pub struct Kek(LessSafeKey);

impl Kek {
    fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| anyhow::anyhow!("a key has 32 bytes"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Reads 64 hex digits from a file that nobody but its owner may read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let shown = path.display();
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("{shown}; `kindred keys new --kek FILE` makes one, once for a cluster"))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!("{shown} may be read by others (mode {mode:04o}); do: chmod 600 {shown}");
        }
        if metadata.len() > 1_024 {
            bail!("{shown} is no key: it must hold 64 hex digits");
        }
        let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
        let bytes = unhex(text.trim()).filter(|bytes| bytes.len() == 32);
        Self::new(&bytes.with_context(|| format!("{shown} is no key: it must hold 64 hex digits"))?)
    }

    /// Reads the file, or makes it with a fresh key; true if it was made.
    pub fn read_or_make(path: &Path, env: &Env) -> anyhow::Result<(Self, bool)> {
        let is_new = !path.exists();
        if is_new {
            crate::cluster::write_secret(path, &format!("{}\n", hex(&env.random::<32>())))?;
        }
        Ok((Self::read(path)?, is_new))
    }

    fn seal(&self, region: &str, key: &[u8; 32], env: &Env) -> anyhow::Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = env.random();
        let mut sealed = key.to_vec();
        let done =
            self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad(region)), &mut sealed);
        done.map_err(|_| anyhow::anyhow!("a key could not be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, region: &str, sealed: &[u8]) -> Option<[u8; 32]> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(aad(region)), &mut sealed).ok()?;
        (&*opened).try_into().ok()
    }
}

/// Ticket keys by region. No Debug: they are secrets.
pub struct Keys(BTreeMap<String, [u8; 32]>);

impl Keys {
    /// False if there is none for this region.
    pub fn has(&self, region: &str) -> bool {
        self.0.contains_key(region)
    }

    /// The keys themselves.
    pub fn into_ticket_keys(self) -> impl Iterator<Item = (String, TicketKey)> {
        self.0.into_iter().map(|(region, key)| (region, TicketKey(key)))
    }
}

/// What a sealed key is bound to: it cannot be passed off as another region's, or as one for another purpose.
fn aad(region: &str) -> Vec<u8> {
    Canonical::new(TAG).bytes(TICKET.as_bytes()).bytes(region.as_bytes()).finish()
}

/// The text of a file with fresh ticket keys of these regions.
pub fn fresh(regions: &[String], kek: &Kek, env: &Env) -> anyhow::Result<String> {
    let keys = regions.iter().map(|region| (region.clone(), env.random::<32>())).collect();
    seal(&Keys(keys), kek, env)
}

/// The text of a file with these ticket keys.
pub fn seal(keys: &Keys, kek: &Kek, env: &Env) -> anyhow::Result<String> {
    let mut text =
        format!("{HEAD}\n# Ticket keys, one per region, sealed. Give this file and its key to every node.\n");
    for (region, key) in &keys.0 {
        text.push_str(&format!("{region} {TICKET} {}\n", hex(&kek.seal(region, key, env)?)));
    }
    Ok(text)
}

/// Ticket keys by region.
pub fn open(path: &Path, kek: &Kek) -> anyhow::Result<Keys> {
    let shown = path.display();
    let text = read(path).with_context(|| format!("{shown}; `kindred keys new --out FILE` makes one"))?;
    let mut lines = text.lines();
    match lines.next() {
        Some(HEAD) => {}
        Some(other) if other.starts_with("kindred-region-keys ") => {
            bail!("{shown} has layout `{other}`, and this program reads `{HEAD}`")
        }
        _ => bail!("{shown} is not sealed (its first line is not `{HEAD}`); `kindred keys seal` seals an old file"),
    }
    let mut keys = BTreeMap::new();
    for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(region), Some(TICKET), Some(sealed), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("{shown}: a line is not `region ticket hex`");
        };
        let key = unhex(sealed).and_then(|sealed| kek.open(region, &sealed));
        let key = key.with_context(|| {
            format!("{shown}: the key of region `{region}` does not open; it is sealed under another key, or damaged")
        })?;
        if keys.insert(region.to_owned(), key).is_some() {
            bail!("{shown}: region `{region}` is there twice");
        }
    }
    Ok(Keys(keys))
}

/// Ticket keys of the layout before sealing: lines `region = hex`.
pub fn read_plain(path: &Path) -> anyhow::Result<Keys> {
    let shown = path.display();
    let mut keys = BTreeMap::new();
    for line in read(path).with_context(|| shown.to_string())?.lines() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once('=');
        let key = parts.and_then(|(_, key)| unhex(key.trim()).and_then(|key| key.try_into().ok()));
        // The line itself is a secret.
        let (Some((region, _)), Some(key)) = (parts, key) else {
            bail!("{shown}: a line is not `region = 64 hex digits`")
        };
        keys.insert(region.trim().to_owned(), key);
    }
    Ok(Keys(keys))
}

fn read(path: &Path) -> anyhow::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        bail!("larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(std::fs::read_to_string(path)?)
}

/// `kindred keys`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make fresh ticket keys for the regions of a new cluster, sealed.
    New {
        /// Region names, in order.
        #[arg(long, value_delimiter = ',', required = true)]
        regions: Vec<String>,
        /// File to write; must not exist.
        #[arg(long, value_name = "FILE")]
        out: std::path::PathBuf,
        /// File of the key-encryption key; made if it is not there.
        #[arg(long, value_name = "FILE")]
        kek: std::path::PathBuf,
    },
    /// Seal the keys of a file anew, under another key-encryption key.
    Reseal {
        /// The sealed file.
        #[arg(long, value_name = "FILE")]
        sealed: std::path::PathBuf,
        /// File of the key that it is sealed under.
        #[arg(long, value_name = "FILE")]
        old_kek: std::path::PathBuf,
        /// File to write; must not exist.
        #[arg(long, value_name = "FILE")]
        out: std::path::PathBuf,
        /// File of the next key-encryption key; made if it is not there.
        #[arg(long, value_name = "FILE")]
        kek: std::path::PathBuf,
    },
    /// Seal a file of unsealed ticket keys, as `keygen` used to make them.
    Seal {
        /// The unsealed file; remove it afterwards.
        #[arg(long, value_name = "FILE")]
        plain: std::path::PathBuf,
        /// File to write; must not exist.
        #[arg(long, value_name = "FILE")]
        out: std::path::PathBuf,
        /// File of the key-encryption key; made if it is not there.
        #[arg(long, value_name = "FILE")]
        kek: std::path::PathBuf,
    },
}

/// Runs `kindred keys`.
pub fn run(command: Command) -> anyhow::Result<()> {
    let env = crate::env::real();
    let (text, out, kek, is_new) = match command {
        Command::New { regions, out, kek: path } => {
            let (kek, is_new) = Kek::read_or_make(&path, &env)?;
            (fresh(&regions, &kek, &env)?, out, path, is_new)
        }
        Command::Reseal { sealed, old_kek, out, kek: path } => {
            let keys = open(&sealed, &Kek::read(&old_kek)?)?;
            let (kek, is_new) = Kek::read_or_make(&path, &env)?;
            (seal(&keys, &kek, &env)?, out, path, is_new)
        }
        Command::Seal { plain, out, kek: path } => {
            let keys = read_plain(&plain)?;
            let (kek, is_new) = Kek::read_or_make(&path, &env)?;
            (seal(&keys, &kek, &env)?, out, path, is_new)
        }
    };
    crate::cluster::write_secret(&out, &text)?;
    let made = if is_new { ", which was made" } else { "" };
    println!("{}: sealed under the key in {}{made}", out.display(), kek.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys(BTreeMap::from([("eu".to_owned(), [1; 32]), ("us".to_owned(), [2; 32])]))
    }

    fn opened(text: &str, kek: u8) -> anyhow::Result<Keys> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        open(file.path(), &Kek::new(&[kek; 32])?)
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_no_other() {
        let text = seal(&keys(), &Kek::new(&[9; 32]).unwrap(), &crate::env::real()).unwrap();
        assert_eq!(opened(&text, 9).unwrap().0, keys().0);
        let told = format!("{:#}", opened(&text, 8).err().unwrap());
        assert!(told.contains("sealed under another key") && told.contains("`eu`"), "{told}");
    }

    #[test]
    fn a_sealed_key_tells_nothing_and_stands_for_no_other_region() {
        let text = seal(&keys(), &Kek::new(&[9; 32]).unwrap(), &crate::env::real()).unwrap();
        assert!(!text.contains(&hex(&[1; 32])[..16]), "{text}");
        let swapped = text.replace("eu ", "xx ").replace("us ", "eu ").replace("xx ", "us ");
        assert!(opened(&swapped, 9).is_err());
        let flipped = text.replacen("ticket ", "ticket 00", 1);
        assert!(opened(&flipped, 9).is_err());
    }

    #[test]
    fn a_file_of_another_layout_is_named_and_not_guessed_at() {
        for (text, told) in [
            ("kindred-region-keys 2\n", "kindred-region-keys 2"),
            ("eu = 0101\n", "keys seal"),
            ("", "keys seal"),
            ("kindred-region-keys 1\neu ticket\n", "region ticket hex"),
            ("kindred-region-keys 1\neu token 00\n", "region ticket hex"),
        ] {
            let error = format!("{:#}", opened(text, 9).err().unwrap());
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        assert!(Kek::read_or_make(&path, &crate::env::real()).unwrap().1);
        assert!(Kek::read(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let told = format!("{:#}", Kek::read(&path).err().unwrap());
        assert!(told.contains("chmod 600"), "{told}");
    }

    #[test]
    fn the_layout_of_before_can_be_sealed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("# old\neu = {}\nus = {}\n", hex(&[1; 32]), hex(&[2; 32]))).unwrap();
        assert_eq!(read_plain(file.path()).unwrap().0, keys().0);
        std::fs::write(file.path(), "eu = 5ec2e7\n").unwrap();
        let told = format!("{:#}", read_plain(file.path()).err().unwrap());
        assert!(!told.contains("5ec2e7"), "{told}");
    }
}
