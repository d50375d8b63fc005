//! What the device commands share: which nodes to ask, how patient to be, and how an answer becomes an exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kindred_client::{Client, Device, Error, Patience};
use kindred_core::model;
use kindred_wire::caller::Role;
use kindred_wire::net::{Net, Tcp};
use kindred_wire::reason::{Reason, Retry};
use kindred_wire::status::{metadata, tombstone};
use kindred_wire::tls::Tls;

use crate::keys::KeyFile;
use crate::output::{Exit, exit};

/// Which nodes to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct Nodes {
    /// Gateway addresses of the cluster, comma separated; the next one is tried where one does not answer.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "KINDRED_ADDRESS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400",
        global = true
    )]
    address: Vec<String>,
    #[command(flatten)]
    access: Access,
}

/// By what this program is known to the nodes.
#[derive(Debug, Clone, clap::Args)]
pub struct Access {
    /// Directory with ca.pem and the role's files, gateway.pem and gateway.key (`ctl`: operator.pem and operator.key), as `kindred dev` and `kindred certificates` make it.
    #[arg(long, value_name = "DIR", env = "KINDRED_TLS", global = true)]
    tls: Option<PathBuf>,
    /// No TLS, whatever else says so: for nodes whose configuration says tls.mode = "plaintext".
    #[arg(long, global = true)]
    plaintext: bool,
}

impl Access {
    /// Sockets for somebody of this role, `gateway` or `operator`.
    pub fn net(&self, role: Role) -> anyhow::Result<Arc<dyn Net>> {
        match &self.tls {
            // Said by name on this command line, and KINDRED_TLS may be there for other commands.
            _ if self.plaintext => Ok(Arc::new(Tcp)),
            Some(dir) => {
                net(Some(dir), role.name()).map_err(|error| Exit::error(exit::USAGE, format!("--tls: {error:#}")))
            }
            None => Err(Exit::error(
                exit::USAGE,
                format!(
                    "give --tls DIR or KINDRED_TLS, the directory with {0}.pem, {0}.key and ca.pem (`kindred dev` \
                     prints it); or --plaintext, if the nodes are so",
                    role.name()
                ),
            )),
        }
    }
}

/// Sockets with the certificate of this holder (a node by its name, else `gateway` or `operator`) from a directory, or plain
/// ones.
pub fn net(dir: Option<&Path>, holder: &str) -> anyhow::Result<Arc<dyn Net>> {
    let tcp: Arc<dyn Net> = Arc::new(Tcp);
    let Some(dir) = dir else { return Ok(tcp) };
    Ok(Arc::new(Tls::new(tcp, crate::certificates::files(dir, holder))?))
}

impl Nodes {
    /// A client of them, as a gateway. Gives up after about ten seconds without any answer.
    pub fn client(&self) -> anyhow::Result<Client> {
        self.client_as(Role::Gateway)
    }

    /// The same as somebody of this role, `gateway` or `operator`.
    pub fn client_as(&self, role: Role) -> anyhow::Result<Client> {
        let patience = Patience {
            attempts: 12,
            attempt: Duration::from_secs(10),
            pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
        };
        let client = Client::connect(self.access.net(role)?, &self.address);
        let client = client.map_err(|error| {
            Exit::error(exit::USAGE, format!("--address {}: {error}; give host:port", self.address.join(",")))
        })?;
        Ok(client.with_patience(patience))
    }
}

/// The device of a key file. The first time it is used, the file keeps the cluster's id and trusts no other later.
pub async fn device(client: &Client, file: &mut KeyFile) -> anyhow::Result<Device> {
    let (cluster, _) = client.cluster().await.map_err(|error| failed("ask for the cluster", &error))?;
    match &file.cluster {
        None => {
            file.cluster = Some(cluster.to_string());
            file.save()?;
        }
        Some(trusted) if *trusted == cluster.to_string() => {}
        Some(trusted) => {
            return Err(Exit::error(
                exit::USAGE,
                format!(
                    "{} belongs to cluster {trusted}, and this is cluster {cluster}; give that cluster's --address, \
                     or another --keys file",
                    file.path().display()
                ),
            ));
        }
    }
    Ok(Device::new(&file.secret()?, cluster))
}

/// What a device made by this program says of itself.
pub fn about(platform: &str, name: Option<&str>, keys: &Path) -> model::Device {
    let stem = keys.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    model::Device {
        platform: platform.to_owned(),
        app_version: env!("CARGO_PKG_VERSION").to_owned(),
        display_name: name.map_or(stem, str::to_owned).into_bytes(),
    }
}

/// A failed call as the end of the program: which code, and what to do next.
pub fn failed(doing: &str, error: &Error) -> anyhow::Error {
    let Some(reason) = error.reason() else {
        return match error {
            Error::Status(status) => Exit::error(
                exit::UNAVAILABLE,
                format!(
                    "{doing}: no answer from the cluster ({}); check that it runs and that --address (or \
                     KINDRED_ADDRESS) and --tls (or KINDRED_TLS) are right, then try the same again",
                    cause(status)
                ),
            ),
            Error::Malformed(_) => Exit::error(
                exit::FAILED,
                format!("{doing}: the answer makes no sense ({error}); is this node of another version?"),
            ),
            Error::Address(_) | Error::NoAddress => Exit::error(exit::USAGE, format!("{doing}: {error}")),
        };
    };
    let waits = matches!(reason.retry(), Retry::After | Retry::SameRequestId);
    let code = if waits { exit::UNAVAILABLE } else { exit::REFUSED };
    Exit::error(code, format!("{doing}: {}{}: {}", reason.name(), details(error), reason.advice()))
}

/// The innermost reason that a connection gives: of TLS, say.
fn cause(status: &tonic::Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut told = status.message().to_owned();
    while let Some(error) = cause {
        told = error.to_string();
        cause = error.source();
    }
    told
}

/// A refusal that came as data.
pub fn refused(doing: &str, refusal: &kindred_wire::pb::error::v1::Refusal) -> anyhow::Error {
    Exit::error(exit::REFUSED, format!("{doing}: {}: {}", refusal.reason().as_str_name(), refusal.advice))
}

/// True if the answer says for certain what became of the call, so that the next one is another act.
pub fn is_final(error: &Error) -> bool {
    error.reason().is_some_and(|reason| !matches!(reason.retry(), Retry::After | Retry::SameRequestId))
}

fn details(error: &Error) -> String {
    let Some(status) = error.status() else { return String::new() };
    if error.reason() == Some(Reason::SignedOut) {
        return tombstone(status).map_or_else(String::new, |t| format!(" ({})", crate::records::why(&t)));
    }
    let pairs: Vec<_> = metadata(status).iter().map(|(key, value)| format!("{key} {value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use kindred_wire::status::Failure;

    use super::*;

    #[track_caller]
    fn code(error: &Error) -> u8 {
        failed("test", error).downcast_ref::<Exit>().unwrap().code
    }

    #[test]
    fn what_waiting_helps_is_exit_four_and_a_refusal_is_exit_three() {
        let status = |reason| Error::from(tonic::Status::from(Failure::new(reason)));
        for reason in [Reason::ShardUnavailable, Reason::OutcomeUnknown, Reason::RateLimited] {
            assert_eq!((code(&status(reason)), is_final(&status(reason))), (exit::UNAVAILABLE, false));
        }
        for reason in [Reason::TicketExpired, Reason::AccountExists, Reason::CompanionLimitReached] {
            assert_eq!((code(&status(reason)), is_final(&status(reason))), (exit::REFUSED, true));
        }
        let broken = Error::from(tonic::Status::unavailable("connection refused"));
        assert_eq!((code(&broken), is_final(&broken)), (exit::UNAVAILABLE, false));
    }

    #[test]
    fn a_refusal_tells_its_numbers() {
        let full = Failure::new(Reason::CompanionLimitReached).with("now", 4).with("max", 4);
        let error = Error::from(tonic::Status::from(full));
        assert!(failed("approve", &error).to_string().starts_with("approve: COMPANION_LIMIT_REACHED (max 4, now 4): "));
    }
}
