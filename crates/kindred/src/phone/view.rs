//! What the phone knows of its account's sessions, in a file of its own: `watch` may write it while other commands use the
//! key file.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kindred_client::{Broken, View};
use kindred_core::id::{Digest, unhex};
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::reconcile_reply::Result as Reconciled;
use serde::{Deserialize, Serialize};

use super::Phone;
use crate::connect::failed;
use crate::keys::session_id;
use crate::output::{Exit, exit};

/// A list and the answer before it belong to one version, or are asked for again so often.
const LOOKS_MAX: u32 = 5;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    account: String,
    set_version: u64,
    set_digest: String,
    /// Number of each session by its id.
    sessions: BTreeMap<String, u64>,
}

impl Phone {
    /// What was kept; where nothing was, the account before its first change, from which everything can be checked.
    pub(super) fn held_view(&self) -> anyhow::Result<View> {
        let text = match std::fs::read_to_string(&self.view) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(View::empty(&self.member.account)),
            Err(error) => return Err(error).with_context(|| format!("view file {}", self.view.display())),
        };
        let parsed = parse(&text).and_then(|(account, view)| {
            anyhow::ensure!(account == self.member.account.to_string(), "it is of account {account}");
            Ok(View::held(&self.member.account, view.0, view.1, view.2))
        });
        parsed.map_err(|error| {
            Exit::error(exit::USAGE, format!("view file {}: {error:#}; give another --view", self.view.display()))
        })
    }

    /// Keeps it, atomically.
    pub(super) fn save_view(&self, view: &View) -> anyhow::Result<()> {
        let saved = Saved {
            account: self.member.account.to_string(),
            set_version: view.version(),
            set_digest: view.digest().to_string(),
            sessions: view.sessions().iter().map(|(id, seq)| (id.to_string(), *seq)).collect(),
        };
        let next = self.view.with_extension(format!("new{}", std::process::id()));
        std::fs::write(&next, serde_json::to_string_pretty(&saved)?)
            .with_context(|| format!("write {}", next.display()))?;
        std::fs::rename(&next, &self.view).with_context(|| format!("write {}", self.view.display()))
    }

    /// The sessions now, with every change since the phone last looked checked; kept if all follows.
    pub(super) async fn checked_list(&self) -> anyhow::Result<(View, pb::ListSessionsReply)> {
        let mut view = self.held_view()?;
        for _ in 0..LOOKS_MAX {
            let reply = self.client.reconcile(&self.member.account, &view.by_digest(), &self.member.home_region).await;
            let reply = reply.map_err(|error| failed("reconcile", &error))?;
            if let Some(Reconciled::Diverged(_)) = reply.result {
                return Err(self.other_history());
            }
            view.reconciled(&reply).map_err(|broken| self.broken("reconcile", &broken))?;
            let list = self.client.sessions(&self.member.account, &self.member.home_region).await;
            let list = list.map_err(|error| failed("list", &error))?;
            if list.set_version <= view.version() {
                view.list(&list).map_err(|broken| self.broken("list", &broken))?;
                self.save_view(&view)?;
                return Ok((view, list));
            }
        }
        Err(Exit::error(exit::UNAVAILABLE, "list: the sessions change faster than they can be looked at; try again"))
    }

    /// An answer that does not follow from what the phone knows.
    pub(super) fn broken(&self, doing: &str, broken: &Broken) -> anyhow::Error {
        Exit::error(
            exit::FAILED,
            format!(
                "{doing}: {broken}; what {} holds stays, `kindred phone reconcile` tells what differs",
                self.view.display()
            ),
        )
    }

    fn other_history(&self) -> anyhow::Error {
        Exit::error(
            exit::FAILED,
            format!(
                "the cluster's set of sessions does not go on from the one in {}; `kindred phone reconcile` tells what \
                 differs",
                self.view.display()
            ),
        )
    }
}

type Parts = (u64, Digest, BTreeMap<kindred_core::id::SessionId, u64>);

fn parse(text: &str) -> anyhow::Result<(String, Parts)> {
    let saved: Saved = serde_json::from_str(text)?;
    let digest = unhex(&saved.set_digest).and_then(|bytes| Digest::from_slice(&bytes)).context("set_digest")?;
    let sessions = saved.sessions.iter().map(|(id, seq)| Ok((session_id(id)?, *seq)));
    Ok((saved.account, (saved.set_version, digest, sessions.collect::<anyhow::Result<_>>()?)))
}
