//! `kindred ctl account`.

use std::path::{Path, PathBuf};

use kindred_client::{Client, Error, Operator};
use kindred_core::id::{AccountId, RequestId, unhex};
use kindred_wire::pb::account::v1::GetAccountReply;
use serde_json::json;

use crate::connect::{self, failed, is_final};
use crate::keys::{account_id, session_id};
use crate::output::{self, Exit, Output, exit, fields};
use crate::phone::life::{Companions, deleted, newcomer, replaced};
use crate::records::{print_tombstone, session_json, tombstone_json};

/// Flags of `ctl account`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the account: text, or 0x and hex.
    account: String,
    /// Idempotency key, 32 hex digits: to ask once more what became of an act whose answer was not seen.
    #[arg(long, value_name = "ID", global = true)]
    request: Option<String>,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// The account as it stands.
    Show,
    /// Suspend it: nothing ends, links and changes are refused.
    Lock,
    /// Let it go on.
    Unlock,
    /// Change how many companions it may have.
    Limit {
        /// 1 to 64. Ends nobody if there are more.
        limit: u32,
    },
    /// Pin a companion: no sibling can end it.
    Pin {
        /// The session.
        session: String,
    },
    /// Let a pinned companion go.
    Unpin {
        /// The session.
        session: String,
    },
    /// End one session, by name.
    Unlink {
        /// The session.
        session: String,
        /// Its device key is in other hands; the sign-out is called so.
        #[arg(long)]
        compromised: bool,
    },
    /// End all sessions but the primary's and one.
    UnlinkOthers {
        /// The session that stays.
        #[arg(long, value_name = "SESSION")]
        keep: String,
    },
    /// Put another phone in the primary's place.
    ReplacePrimary {
        /// Key file of the new phone; made if it is not there.
        #[arg(value_name = "FILE")]
        new_keys: PathBuf,
        /// What becomes of the companions.
        #[arg(long, value_enum)]
        companions: Companions,
    },
    /// Delete it, for good. Its id is never free again.
    Delete {
        /// Without this nothing is deleted.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(client: &Client, args: Args, output: Output) -> anyhow::Result<()> {
    let account = usage(account_id(&args.account))?;
    let request = match &args.request {
        Some(text) => usage(request_id(text))?,
        None => kindred_client::request_id(&crate::env::real()),
    };
    let ops = Ops { operator: Operator { client, account: &account, request }, output };
    match args.act {
        Act::Show => {
            let found = client.account(&account, "").await.map_err(|error| failed("show", &error))?;
            show(&account, &found, output)
        }
        Act::Lock => {
            let epoch = ops.answered("lock", ops.operator.lock().await)?.auth_epoch;
            ops.done("locked; nothing has ended", &json!({ "locked": true, "auth_epoch": epoch }))
        }
        Act::Unlock => {
            let epoch = ops.answered("unlock", ops.operator.unlock().await)?.auth_epoch;
            ops.done("not locked", &json!({ "locked": false, "auth_epoch": epoch }))
        }
        Act::Limit { limit } => {
            ops.answered("limit", ops.operator.set_limit(limit).await)?;
            ops.done(&format!("{limit} companions at most"), &json!({ "companion_limit": limit }))
        }
        Act::Pin { session } => ops.pin(&session, true).await,
        Act::Unpin { session } => ops.pin(&session, false).await,
        Act::Unlink { session, compromised } => {
            let session = usage(session_id(&session))?;
            let reply = ops.answered("unlink", ops.operator.unlink(&session, compromised).await)?;
            ops.ended(&reply.tombstone.into_iter().collect::<Vec<_>>())
        }
        Act::UnlinkOthers { keep } => {
            let keep = usage(session_id(&keep))?;
            let reply = ops.answered("unlink-others", ops.operator.unlink_others(&keep).await)?;
            ops.ended(&reply.tombstones)
        }
        Act::ReplacePrimary { new_keys, companions } => ops.replace(&new_keys, companions).await,
        Act::Delete { yes: false } => Err(Exit::error(exit::USAGE, "nothing was deleted; add --yes")),
        Act::Delete { yes: true } => {
            let reply = ops.answered("delete", ops.operator.delete_account().await)?;
            deleted(&account.to_string(), &reply, output)
        }
    }
}

struct Ops<'a> {
    operator: Operator<'a>,
    output: Output,
}

impl Ops<'_> {
    /// The answer; without one, how to ask for it again.
    fn answered<T>(&self, doing: &str, result: Result<T, Error>) -> anyhow::Result<T> {
        result.map_err(|error| match is_final(&error) {
            true => failed(doing, &error),
            false => failed(doing, &error).context(format!("ask again with --request {}", self.operator.request)),
        })
    }

    fn done(&self, said: &str, value: &serde_json::Value) -> anyhow::Result<()> {
        match self.output {
            Output::Json => output::json(value),
            Output::Table => {
                println!("{}: {said}", self.operator.account);
                Ok(())
            }
        }
    }

    async fn pin(&self, session: &str, pinned: bool) -> anyhow::Result<()> {
        let session = usage(session_id(session))?;
        let reply = self.answered("pin", self.operator.pin(&session, pinned).await)?;
        let record = reply.session.unwrap_or_default();
        let said = format!("{session} {}", if record.pinned { "is pinned" } else { "is not pinned" });
        self.done(&said, &session_json(&record))
    }

    fn ended(&self, tombstones: &[kindred_wire::pb::session::v1::Tombstone]) -> anyhow::Result<()> {
        if self.output == Output::Json {
            let tombstones: Vec<_> = tombstones.iter().map(tombstone_json).collect();
            return output::json(&json!({ "tombstones": tombstones }));
        }
        println!("{} ended", tombstones.len());
        tombstones.iter().for_each(print_tombstone);
        Ok(())
    }

    async fn replace(&self, new_keys: &Path, companions: Companions) -> anyhow::Result<()> {
        let (mut file, device) = newcomer(self.operator.client, new_keys).await?;
        let (about, keep) = (connect::about("phone", None, new_keys), companions == Companions::Keep);
        let result = self.operator.replace_primary(&device, &about, keep).await;
        let (member, reply) = self.answered("replace-primary", result)?;
        (file.account, file.session) = (Some(member.account.to_string()), Some(member.session.to_string()));
        file.save()?;
        replaced(&member, &reply, new_keys, self.output)
    }
}

fn show(account: &AccountId, found: &GetAccountReply, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&json!({
            "account": account.to_string(),
            "home_region": found.home_region,
            "auth_epoch": found.auth_epoch,
            "set_version": found.set_version,
            "record_version": found.record_version,
            "sessions": found.sessions,
            "companions": found.companions,
            "companion_limit": found.companion_limit,
            "locked": found.locked,
            "locked_for_ms": found.locked_for_ms,
        }));
    }
    let locked = if found.locked { format!("for {} s", found.locked_for_ms / 1000) } else { "no".to_owned() };
    print!(
        "{}",
        fields(&[
            ("account", account.to_string()),
            ("home region", found.home_region.clone()),
            ("sessions", found.sessions.to_string()),
            ("companions", format!("{} of {}", found.companions, found.companion_limit)),
            ("set version", found.set_version.to_string()),
            ("auth epoch", found.auth_epoch.to_string()),
            ("locked", locked),
        ])
    );
    Ok(())
}

fn request_id(text: &str) -> anyhow::Result<RequestId> {
    let id = unhex(text).and_then(|bytes| RequestId::from_slice(&bytes));
    id.ok_or_else(|| anyhow::anyhow!("--request is 32 hex digits"))
}

fn usage<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| Exit::error(exit::USAGE, format!("{error:#}")))
}
