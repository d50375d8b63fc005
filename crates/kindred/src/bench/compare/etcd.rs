//! etcd: three members, gRPC. Called through its leader, as Kindred is through the node of the account's home region.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use kindred_wire::net::{Net, Tcp};
use tonic::transport::Channel;

use super::super::lab::to;
use super::super::raw::ANSWER_WITHIN;
use super::process::{Server, until};
use super::store::{Store, key, record};
use crate::cluster::free_ports;

/// Generated from crates/kindred/proto/etcd.proto.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

use proto::kv_client::KvClient;
use proto::maintenance_client::MaintenanceClient;
use proto::{compare, request_op};

const MEMBERS: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Room for a long run; the default of 2 GiB would stop it.
const QUOTA_BYTES: u64 = 8 << 30;

/// A running cluster.
pub(super) struct Etcd {
    pub(super) servers: Vec<Server>,
    addresses: Vec<String>,
    /// Connections: number, then member.
    channels: Vec<Vec<Channel>>,
    /// Whom calls go to.
    leader: usize,
    record: Bytes,
}

impl Etcd {
    /// Starts three members.
    pub(super) async fn start(program: &Path, dir: &Path, connections: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let ports = free_ports(2 * MEMBERS)?;
        let url = |at: usize| format!("http://127.0.0.1:{}", ports[at]);
        let all: Vec<_> = (0..MEMBERS).map(|n| format!("e{n}={}", url(MEMBERS + n))).collect();
        let mut servers = Vec::new();
        for number in 0..MEMBERS {
            let name = format!("e{number}");
            let data: PathBuf = dir.join(&name);
            let flags = [
                ("name", name.clone()),
                ("data-dir", data.display().to_string()),
                ("listen-client-urls", url(number)),
                ("advertise-client-urls", url(number)),
                ("listen-peer-urls", url(MEMBERS + number)),
                ("initial-advertise-peer-urls", url(MEMBERS + number)),
                ("initial-cluster", all.join(",")),
                ("initial-cluster-state", "new".to_owned()),
                ("quota-backend-bytes", QUOTA_BYTES.to_string()),
                ("logger", "zap".to_owned()),
                ("log-level", "error".to_owned()),
            ];
            let flags = flags.into_iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
            servers.push(Server::start(
                &format!("etcd {name}"),
                program,
                flags,
                dir.join(format!("{name}.log")),
                None,
            )?);
        }
        let addresses: Vec<_> = ports[..MEMBERS].iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut etcd = Self { servers, addresses, channels: Vec::new(), leader: 0, record: record().into() };
        etcd.connect(connections)?;
        etcd.settle().await?;
        Ok(etcd)
    }

    /// Fresh connections.
    fn connect(&mut self, connections: usize) -> anyhow::Result<()> {
        let net: Arc<dyn Net> = Arc::new(Tcp);
        let to_all = || self.addresses.iter().map(|address| to(&net, address)).collect::<anyhow::Result<Vec<_>>>();
        self.channels = (0..connections).map(|_| to_all()).collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    /// Stops and starts all members: reads right after loading are several times slower than those of a member that has
    /// been restarted, and the comparison is with etcd at its best.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        for server in &mut self.servers {
            server.stop(STOP_WITHIN).await;
        }
        for server in &mut self.servers {
            server.spawn()?;
        }
        self.settle().await
    }

    /// Waits until all members follow the same leader and have applied the same log, and calls that leader from then on.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        let (channels, servers) = (&self.channels[0], &mut self.servers);
        self.leader = until("etcd's members to agree", READY_WITHIN, async || {
            servers.iter_mut().try_for_each(Server::check)?;
            let mut members = Vec::new();
            for channel in channels {
                let asked = MaintenanceClient::new(channel.clone()).status(proto::StatusRequest {}).await;
                members.push(asked.context("ask a member")?.into_inner());
            }
            let first = &members[0];
            ensure!(first.leader != 0, "nobody leads");
            ensure!(members.iter().all(|member| member.leader == first.leader), "members follow different leaders");
            let applied = |member: &proto::StatusResponse| member.raft_applied_index;
            let reach: Vec<_> = members.iter().map(applied).collect();
            ensure!(reach.iter().all(|index| *index == reach[0]), "members have applied up to {reach:?}");
            let is_leader = |member: &proto::StatusResponse| {
                member.header.as_ref().is_some_and(|header| header.member_id == member.leader)
            };
            members.iter().position(is_leader).context("the leader does not answer")
        })
        .await?;
        Ok(())
    }

    /// The member that calls go to.
    pub(super) fn leader(&self) -> usize {
        self.leader
    }

    fn channel(&self, worker: usize, member: usize) -> Channel {
        self.channels[worker % self.channels.len()][member % MEMBERS].clone()
    }

    /// [`Store::link`] through a certain member. False if the version was another one.
    pub(super) async fn link_through(
        &self,
        worker: usize,
        member: usize,
        account: usize,
        version: u64,
    ) -> Result<bool, String> {
        let key: Bytes = key(account).into();
        let compare = proto::Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Version.into(),
            key: key.clone(),
            target_union: Some(compare::TargetUnion::Version(i64::try_from(version).unwrap_or(i64::MAX))),
        };
        let put = request_op::Request::RequestPut(proto::PutRequest { key, value: self.record.clone() });
        let request = proto::TxnRequest { compare: vec![compare], success: vec![put.into()] };
        let mut client = KvClient::new(self.channel(worker, member));
        Ok(in_time(client.txn(request)).await?.succeeded)
    }

    /// The version of an account's record, linearizably, through a certain member.
    pub(super) async fn version(&self, worker: usize, member: usize, account: usize) -> Result<u64, String> {
        let mut client = KvClient::new(self.channel(worker, member));
        let reply = in_time(client.range(proto::RangeRequest { key: key(account).into() })).await?;
        let record = reply.kvs.first().ok_or("no such key")?;
        u64::try_from(record.version).map_err(|error| error.to_string())
    }
}

impl From<request_op::Request> for proto::RequestOp {
    fn from(request: request_op::Request) -> Self {
        Self { request: Some(request) }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(format!("{:?}", status.code())),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

impl Store for Etcd {
    async fn prepare(&mut self, _: usize) -> anyhow::Result<()> {
        Ok(())
    }

    async fn create(&self, worker: usize, account: usize) -> Result<(), String> {
        self.link(worker, account, 0).await
    }

    async fn link(&self, worker: usize, account: usize, version: u64) -> Result<(), String> {
        match self.link_through(worker, self.leader, account, version).await? {
            true => Ok(()),
            false => Err("the version was another".to_owned()),
        }
    }

    async fn read(&self, worker: usize, account: usize) -> Result<(), String> {
        self.version(worker, self.leader, account).await.map(|_| ())
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        self.settle().await
    }

    fn pids(&self) -> Vec<u32> {
        self.servers.iter().filter_map(Server::pid).collect()
    }
}
