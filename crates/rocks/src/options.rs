//! How RocksDB is set up. Memory: at most 128 MiB of memtables and 128 MiB of cached blocks, whatever the load; files:
//! at most 512 open.

use kindred_store::engine::Column;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options};

const MIB: usize = 1024 * 1024;

/// Options of the database as a whole.
pub(crate) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The default, point in time, would silently drop every synced vote and entry behind the first damage. This mode
    // tolerates an incomplete record at the end of a log and nothing else. It needs logs that end where their file
    // ends: a recycled file still holds old records behind the end, so recycling must be off.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_recycle_log_file_num(0);
    // A log file that was synced and closed and is missing or shorter now is damage too.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // A column's file never holds half of a batch whose other half is only in the log.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(256 * MIB as u64);
    options.set_db_write_buffer_size(128 * MIB);
    options.set_max_open_files(512);
    options.set_max_background_jobs(2);
    // Spreads the writing of files, so that no sync of the log waits behind one large burst.
    options.set_bytes_per_sync(MIB as u64);
    // RocksDB's own diary, not ours: five files of 8 MiB at most.
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(8 * MIB);
    options.set_keep_log_file_num(5);
    options
}

/// The column families, with one block cache between them.
pub(crate) fn columns() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(128 * MIB);
    Column::ALL.map(|column| ColumnFamilyDescriptor::new(column.name(), of(column, &cache))).into()
}

fn of(column: Column, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if column == Column::State {
        // Most look-ups of kept replies and outcomes find nothing; ten bits per key answer 99 % of them from memory.
        blocks.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    if column == Column::State {
        // The same for what is still in memory.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.05);
    }
    options.set_block_based_table_factory(&blocks);
    // What is young is rewritten or removed soon, and compressing it took more time than writing it; old state is worth it.
    let levels = [DBCompressionType::None, DBCompressionType::None, DBCompressionType::Lz4];
    options.set_compression_per_level(&levels);
    options.set_max_write_buffer_number(4);
    // The same for all: with atomic flushes the first column that is full flushes the others too.
    options.set_write_buffer_size(32 * MIB);
    options
}
