//! The engine itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kindred_store::engine::{Batch, Column, Durability, Engine, Error, Pair, Read, Write};
use rocksdb::{DB, WriteBatch};

use crate::{error, options, read, snapshot, wal};

/// The store of one node in one directory, which it locks.
pub struct RocksEngine {
    db: Arc<DB>,
    path: PathBuf,
}

impl RocksEngine {
    /// Opens the store in `path`, or makes it if the directory is missing or empty of it.
    ///
    /// [`Error::Corrupt`] if the write-ahead log or the MANIFEST is damaged: a node must not run on what is left.
    /// Records in files are checked when they are read.
    pub fn open(path: &Path) -> Result<Arc<Self>, Error> {
        refuse_a_beheaded_store(path)?;
        wal::check(path)?;
        let db = DB::open_cf_descriptors(&options::database(), path, options::columns()).map_err(error::opening)?;
        tracing::info!(path = %path.display(), "store opened");
        Ok(Arc::new(Self { db: Arc::new(db), path: path.to_owned() }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is in memory into files, all columns at one point. The write-ahead log before it is no longer
    /// needed.
    pub fn flush(&self) -> Result<(), Error> {
        let columns = Column::ALL.map(|column| read::handle(&self.db, column));
        let columns: Vec<_> = columns.into_iter().collect::<Result<_, _>>()?;
        self.db.flush_cfs_opt(&columns, &rocksdb::FlushOptions::default()).map_err(error::reading)
    }
}

/// CURRENT names the MANIFEST. Without it RocksDB takes a full directory for a new one and starts empty; a replica with
/// an old id and an empty log can make two quorums, so this must not pass.
fn refuse_a_beheaded_store(path: &Path) -> Result<(), Error> {
    if path.join("CURRENT").exists() || !path.exists() {
        return Ok(());
    }
    let io = |error: std::io::Error| Error::Io(error.to_string());
    for file in std::fs::read_dir(path).map_err(io)? {
        let name = file.map_err(io)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("MANIFEST-") || name.ends_with(".sst") || name == "IDENTITY" {
            return Err(Error::Corrupt(format!("CURRENT is missing beside {name}")));
        }
    }
    Ok(())
}

impl Read for RocksEngine {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, Error> {
        read::get(&self.db, None, column, key)
    }

    fn scan(&self, column: Column, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        read::scan(&self.db, None, column, (from, to), limit)
    }

    fn last(&self, column: Column, from: &[u8], to: &[u8]) -> Result<Option<Pair>, Error> {
        read::last(&self.db, None, column, (from, to))
    }
}

impl Engine for RocksEngine {
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        let mut writes = WriteBatch::default();
        for write in &batch {
            match write {
                Write::Put(column, key, value) => writes.put_cf(read::handle(&self.db, *column)?, key, value),
                Write::Delete(column, key) => writes.delete_cf(read::handle(&self.db, *column)?, key),
                // RocksDB refuses a crossed range; here it is empty.
                Write::DeleteRange(column, from, to) if from < to => {
                    writes.delete_range_cf(read::handle(&self.db, *column)?, from, to);
                }
                Write::DeleteRange(..) => {}
            }
        }
        self.db.write(writes).map_err(error::reading)?;
        match durability {
            Durability::Buffered => Ok(()),
            // Not `WriteOptions::sync`: that holds the write queue while the disk works, and every state commit of the
            // node would wait behind the log's fdatasync.
            Durability::Synced => self.db.flush_wal(true).map_err(|failed| Error::SyncFailed(failed.to_string())),
        }
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(snapshot::Snapshot::take(self.db.clone())?))
    }

    /// What the file system has left for processes without privileges.
    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        let stat = rustix::fs::statvfs(&self.path).map_err(|error| Error::Io(error.to_string()))?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
}
