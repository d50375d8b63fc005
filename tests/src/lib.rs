//! Tests of the whole: real processes, real RocksDB, real sockets. They live in `tests/tests/`; the library is empty,
//! because whatever two of them share belongs into `kindred-client` or `kindred-check`.
