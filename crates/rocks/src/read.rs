//! Reads, of the engine as it is or of a snapshot.

use bytes::Bytes;
use kindred_store::engine::{Column, Error, Pair};
use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions, Snapshot};

use crate::error;

/// The column family of `column`. All three exist since `open`; an error says that this is broken.
pub(crate) fn handle(db: &DB, column: Column) -> Result<&ColumnFamily, Error> {
    db.cf_handle(column.name()).ok_or_else(|| Error::Io(format!("no column family {}", column.name())))
}

pub(crate) fn get(
    db: &DB,
    snapshot: Option<&Snapshot<'_>>,
    column: Column,
    key: &[u8],
) -> Result<Option<Bytes>, Error> {
    let found = db.get_cf_opt(handle(db, column)?, key, &options(snapshot)).map_err(error::reading)?;
    Ok(found.map(Bytes::from))
}

pub(crate) fn scan(
    db: &DB,
    snapshot: Option<&Snapshot<'_>>,
    column: Column,
    range: (&[u8], &[u8]),
    limit: usize,
) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    if range.0 >= range.1 || limit == 0 {
        return Ok(pairs);
    }
    let mut iterator = iterator(db, snapshot, column, range)?;
    iterator.seek_to_first();
    while let Some(pair) = iterator.item() {
        pairs.push(owned(pair));
        if pairs.len() == limit {
            break;
        }
        iterator.next();
    }
    // An iterator that met damage ends like one that has reached its end; only its status tells them apart.
    iterator.status().map_err(error::reading)?;
    Ok(pairs)
}

pub(crate) fn last(
    db: &DB,
    snapshot: Option<&Snapshot<'_>>,
    column: Column,
    range: (&[u8], &[u8]),
) -> Result<Option<Pair>, Error> {
    if range.0 >= range.1 {
        return Ok(None);
    }
    let mut iterator = iterator(db, snapshot, column, range)?;
    iterator.seek_to_last();
    let pair = iterator.item().map(owned);
    iterator.status().map_err(error::reading)?;
    Ok(pair)
}

fn iterator<'a>(
    db: &'a DB,
    snapshot: Option<&Snapshot<'_>>,
    column: Column,
    (from, to): (&[u8], &[u8]),
) -> Result<DBRawIterator<'a>, Error> {
    let mut options = options(snapshot);
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    Ok(db.raw_iterator_cf_opt(handle(db, column)?, options))
}

fn options(snapshot: Option<&Snapshot<'_>>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    if let Some(snapshot) = snapshot {
        options.set_snapshot(snapshot);
    }
    options
}

fn owned((key, value): (&[u8], &[u8])) -> Pair {
    (key.to_vec(), Bytes::copy_from_slice(value))
}
