//! Redis: one master and two replicas, append-only files that are synced before each answer, and WAIT for one replica after
//! each write. WAIT counts replicas that have received the write, which is less than having synced it; and a read at the
//! master is linearizable only as long as nobody fails over. One connection for each call in flight, because WAIT blocks it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use redis::aio::MultiplexedConnection;

use super::process::{Server, until};
use super::store::{Store, key, record};
use crate::cluster::free_ports;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// WAIT gives up after this long, and the write counts as failed.
const REPLICATED_WITHIN_MS: u64 = 5_000;
/// Replaces the record if its version is still the one given.
const LINK: &str = "if (redis.call('HGET', KEYS[1], 'v') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1] + 1, 'r', ARGV[2]) return 1";

/// Master and replicas.
pub(super) struct Redis {
    servers: Vec<Server>,
    client: redis::Client,
    connections: Vec<MultiplexedConnection>,
    /// The script's name.
    link: String,
    record: Vec<u8>,
}

impl Redis {
    /// Starts a master and two replicas.
    pub(super) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let ports = free_ports(3)?;
        let mut servers = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let data = dir.join(format!("r{number}"));
            std::fs::create_dir_all(&data)?;
            let mut flags = vec![
                ("port", port.to_string()),
                ("bind", "127.0.0.1".to_owned()),
                ("dir", data.display().to_string()),
                ("appendonly", "yes".to_owned()),
                ("appendfsync", "always".to_owned()),
                ("save", String::new()),
                ("repl-diskless-sync-delay", "0".to_owned()),
            ];
            if number > 0 {
                flags.push(("replicaof", format!("127.0.0.1 {}", ports[0])));
            }
            let split = |(flag, value): (&str, String)| {
                let values: Vec<_> =
                    if flag == "replicaof" { value.split(' ').map(str::to_owned).collect() } else { vec![value] };
                std::iter::once(format!("--{flag}")).chain(values).collect::<Vec<_>>()
            };
            let flags = flags.into_iter().flat_map(split).collect();
            let log = dir.join(format!("r{number}.log"));
            servers.push(Server::start(&format!("redis r{number}"), program, flags, log, None)?);
        }
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", ports[0]))?;
        let mut connection =
            until("Redis's master", READY_WITHIN, async || Ok(client.get_multiplexed_async_connection().await?))
                .await?;
        let link: String = redis::cmd("SCRIPT").arg("LOAD").arg(LINK).query_async(&mut connection).await?;
        let mut redis = Self { servers, client, connections: Vec::new(), link, record: record() };
        redis.check().await?;
        Ok(redis)
    }

    fn connection(&self, worker: usize) -> Result<MultiplexedConnection, String> {
        self.connections.get(worker).cloned().ok_or_else(|| "no connection".to_owned())
    }
}

/// Whether both replicas follow and have all that was written, by INFO replication.
fn level(info: &str) -> anyhow::Result<()> {
    let fields: std::collections::BTreeMap<_, _> =
        info.lines().filter_map(|line| line.trim().split_once(':')).collect();
    let written = fields.get("master_repl_offset").context("no offset of the master")?;
    for name in ["slave0", "slave1"] {
        let replica = fields.get(name).with_context(|| format!("{name} is not connected"))?;
        ensure!(replica.contains("state=online"), "{name} does not follow: {replica}");
        let has_all = replica.split(',').any(|field| field.strip_prefix("offset=") == Some(written));
        ensure!(has_all, "{name} has not all that was written: {replica}, master {written}");
    }
    Ok(())
}

/// What an error is counted as.
fn name(error: &redis::RedisError) -> String {
    error.code().map_or_else(|| error.category().to_owned(), str::to_owned)
}

impl Store for Redis {
    async fn prepare(&mut self, in_flight: usize) -> anyhow::Result<()> {
        while self.connections.len() < in_flight {
            // The library gives up after half a second by default, which is sooner than a busy machine answers.
            let patient = redis::AsyncConnectionConfig::new()
                .set_response_timeout(Some(super::super::raw::ANSWER_WITHIN))
                .set_connection_timeout(Some(READY_WITHIN));
            self.connections.push(self.client.get_multiplexed_async_connection_with_config(&patient).await?);
        }
        Ok(())
    }

    async fn create(&self, worker: usize, account: usize) -> Result<(), String> {
        self.link(worker, account, 0).await
    }

    async fn link(&self, worker: usize, account: usize, version: u64) -> Result<(), String> {
        let mut connection = self.connection(worker)?;
        let mut pipe = redis::pipe();
        pipe.cmd("EVALSHA").arg(&self.link).arg(1).arg(key(account)).arg(version).arg(&self.record);
        pipe.cmd("WAIT").arg(1).arg(REPLICATED_WITHIN_MS);
        let (done, replicas): (u64, u64) = pipe.query_async(&mut connection).await.map_err(|error| name(&error))?;
        match (done, replicas) {
            (1, 1..) => Ok(()),
            (1, 0) => Err("no replica has it".to_owned()),
            _ => Err("the version was another".to_owned()),
        }
    }

    async fn read(&self, worker: usize, account: usize) -> Result<(), String> {
        let mut connection = self.connection(worker)?;
        let asked = redis::cmd("HMGET").arg(key(account)).arg("v").arg("r").query_async(&mut connection).await;
        let (version, _): (Option<u64>, Option<Vec<u8>>) = asked.map_err(|error| name(&error))?;
        version.map(|_| ()).ok_or_else(|| "no such key".to_owned())
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        let (client, servers) = (&self.client, &mut self.servers);
        until("Redis's replicas", READY_WITHIN, async || {
            servers.iter_mut().try_for_each(Server::check)?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
            level(&info)
        })
        .await
    }

    fn pids(&self) -> Vec<u32> {
        self.servers.iter().filter_map(Server::pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_lags_or_is_gone_is_not_level() {
        let info = |one: &str| {
            format!("role:master\r\nslave0:ip=a,port=1,state=online,offset=90,lag=0\r\n{one}master_repl_offset:90\r\n")
        };
        level(&info("slave1:ip=a,port=2,state=online,offset=90,lag=1\r\n")).unwrap();
        assert!(level(&info("slave1:ip=a,port=2,state=online,offset=89,lag=1\r\n")).is_err());
        assert!(level(&info("slave1:ip=a,port=2,state=wait_bgsave,offset=90,lag=1\r\n")).is_err());
        assert!(level(&info("")).is_err());
    }
}
