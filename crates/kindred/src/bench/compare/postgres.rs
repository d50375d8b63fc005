//! PostgreSQL: one primary and two standbys over streaming replication. A commit waits until it is on the primary's disk
//! and on that of one standby (`synchronous_standby_names = 'ANY 1 (*)'`). One connection for each call in flight.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_postgres::{Client, NoTls, Statement};

use super::process::{self, Server, User, as_user, run, until};
use super::store::{Store, key, record};
use crate::cluster::free_ports;

const STANDBYS: i64 = 2;
const CONNECTIONS_MAX: usize = 1_100;
const READY_WITHIN: Duration = Duration::from_secs(30);
const ROLE: &str = "bench";

/// Primary and standbys.
pub(super) struct Postgres {
    // Before the servers: they end when their connections have.
    connections: Vec<Connection>,
    servers: Vec<Server>,
    port: u16,
    record: Vec<u8>,
}

struct Connection {
    client: Client,
    create: Statement,
    link: Statement,
    read: Statement,
}

impl Postgres {
    /// Makes a database in `dir`, and two copies of it that follow. `bin` holds PostgreSQL's programs.
    pub(super) async fn start(bin: &Path, dir: &Path, user: Option<User>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        if let Some(User { uid, gid }) = user {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
        }
        let ports = free_ports(3)?;
        let data = |number: usize| dir.join(format!("p{number}"));
        let mut initdb = as_user(&bin.join("initdb"), user);
        initdb.arg("-D").arg(data(0)).args(["-A", "trust", "-U", ROLE, "-E", "UTF8", "--locale=C", "--no-sync"]);
        run(&mut initdb, "make a PostgreSQL database")?;

        let start = |number: usize, settings: &[String]| {
            let mut arguments = vec!["-D".to_owned(), data(number).display().to_string()];
            for setting in settings.iter().chain(&common(ports[number])) {
                arguments.extend(["-c".to_owned(), setting.clone()]);
            }
            let (name, log) = (format!("postgres p{number}"), dir.join(format!("p{number}.log")));
            // At once, but it takes its shared memory with it.
            Ok::<_, anyhow::Error>(
                Server::start(&name, &bin.join("postgres"), arguments, log, user)?.with_last_word("QUIT"),
            )
        };
        let settings = ["synchronous_commit=on".to_owned(), "synchronous_standby_names=ANY 1 (*)".to_owned()];
        let mut postgres = Self { connections: Vec::new(), servers: Vec::new(), port: ports[0], record: record() };
        postgres.servers.push(start(0, &settings)?);
        until("PostgreSQL's primary", READY_WITHIN, async || Ok(connect(ports[0]).await.map(drop)?)).await?;
        for number in 1..ports.len() {
            let mut copy = as_user(&bin.join("pg_basebackup"), user);
            copy.arg("-D").arg(data(number)).args(["-h", "127.0.0.1", "-p", &ports[0].to_string()]);
            copy.args(["-U", ROLE, "-R", "-c", "fast", "--no-sync"]);
            run(&mut copy, "copy the PostgreSQL database")?;
            postgres.servers.push(start(number, &[])?);
        }
        postgres.check().await?;
        let client = connect(ports[0]).await?;
        let table = "CREATE TABLE account (id text PRIMARY KEY, version bigint NOT NULL, record bytea NOT NULL)";
        client.batch_execute(table).await.context("make the table")?;
        Ok(postgres)
    }

    fn connection(&self, worker: usize) -> Result<&Connection, String> {
        self.connections.get(worker).ok_or_else(|| "no connection".to_owned())
    }
}

/// Settings of all three.
fn common(port: u16) -> [String; 6] {
    [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        // Debian's default directory belongs to another user.
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS_MAX}"),
        "hot_standby=on".to_owned(),
        "fsync=on".to_owned(),
    ]
}

async fn connect(port: u16) -> anyhow::Result<Client> {
    let address = format!("host=127.0.0.1 port={port} user={ROLE} dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    // It ends with the client.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    Ok(client)
}

async fn prepared(port: u16) -> anyhow::Result<Connection> {
    let client = connect(port).await?;
    let create = client.prepare("INSERT INTO account (id, version, record) VALUES ($1, 1, $2)").await?;
    let link = "UPDATE account SET version = version + 1, record = $3 WHERE id = $1 AND version = $2";
    let link = client.prepare(link).await?;
    let read = client.prepare("SELECT version, record FROM account WHERE id = $1").await?;
    Ok(Connection { client, create, link, read })
}

/// What an error is counted as.
fn name(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| "connection broken".to_owned(), |state| format!("SQLSTATE {}", state.code()))
}

fn one_row(rows: u64) -> Result<(), String> {
    if rows == 1 { Ok(()) } else { Err("the version was another".to_owned()) }
}

impl Store for Postgres {
    async fn prepare(&mut self, in_flight: usize) -> anyhow::Result<()> {
        while self.connections.len() < in_flight {
            self.connections.push(prepared(self.port).await?);
        }
        // Idle connections cost a process each.
        self.connections.truncate(in_flight);
        Ok(())
    }

    async fn create(&self, worker: usize, account: usize) -> Result<(), String> {
        let connection = self.connection(worker)?;
        let done = connection.client.execute(&connection.create, &[&key(account), &self.record]).await;
        one_row(done.map_err(|error| name(&error))?)
    }

    async fn link(&self, worker: usize, account: usize, version: u64) -> Result<(), String> {
        let connection = self.connection(worker)?;
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let done = connection.client.execute(&connection.link, &[&key(account), &version, &self.record]).await;
        one_row(done.map_err(|error| name(&error))?)
    }

    async fn read(&self, worker: usize, account: usize) -> Result<(), String> {
        let connection = self.connection(worker)?;
        let found = connection.client.query_one(&connection.read, &[&key(account)]).await;
        found.map(|_| ()).map_err(|error| name(&error))
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        let (port, servers) = (self.port, &mut self.servers);
        until("PostgreSQL's standbys", READY_WITHIN, async || {
            servers.iter_mut().try_for_each(Server::check)?;
            let client = connect(port).await?;
            let following = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' \
                             AND sync_state = 'quorum' AND flush_lsn >= pg_current_wal_flush_lsn()";
            let count: i64 = client.query_one(following, &[]).await?.get(0);
            ensure!(count == STANDBYS, "{count} of {STANDBYS} standbys have all that was written");
            Ok(())
        })
        .await
    }

    fn pids(&self) -> Vec<u32> {
        self.servers.iter().filter_map(Server::pid).collect()
    }
}

/// Whom to run it as: ourselves, unless we are root, whom PostgreSQL refuses.
pub(super) fn user() -> anyhow::Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let found = process::user(&passwd, "postgres").or_else(|| process::user(&passwd, "nobody"));
    found.map(Some).context("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}

/// Directories of PostgreSQL's programs on Debian, the newest version first.
pub(super) fn directories() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| version(path).is_some()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(version(path)));
    found.into_iter().map(|path| path.join("bin")).collect()
}
