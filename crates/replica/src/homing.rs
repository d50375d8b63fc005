//! Effects for an account's home, of which the ticket's shard knows only the account's id. Nobody waits for them, so it
//! cannot be told from outside whether there is such an account.

use std::collections::BTreeSet;

use kindred_core::command::{Answer, Command, Query};
use kindred_core::id::{AccountId, ShardId};
use kindred_wire::shards::{Consistency, ShardError, Shards};
use tokio::time::timeout;

use crate::duties::{PERFORM_WITHIN, by_cluster, submission};

/// Performs one effect, at the account's home if that is whom it is for, else at `target`. The error names the shard that
/// did not answer. One of those in `deaf` is not asked again so soon.
pub(crate) async fn perform(
    shards: &dyn Shards,
    target: ShardId,
    command: Command,
    deaf: &BTreeSet<ShardId>,
) -> Result<(), ShardId> {
    let mut asked = target;
    let performing = async {
        if let Some(account) = for_home(&command) {
            match home(shards, target, account).await {
                // There is no such account: nobody is to be told, and that is all.
                Ok(None) => return true,
                Ok(Some(home)) => asked = home,
                Err(_) => return false,
            }
            if deaf.contains(&asked) {
                return false;
            }
        }
        shards.submit(asked, submission(by_cluster(command))).await.is_ok()
    };
    let performed = timeout(PERFORM_WITHIN, performing).await.unwrap_or(false);
    if performed { Ok(()) } else { Err(asked) }
}

fn for_home(command: &Command) -> Option<&AccountId> {
    match command {
        Command::AttachCode { account, .. }
        | Command::HoldCode { account, .. }
        | Command::DetachCode { account, .. } => Some(account),
        _ => None,
    }
}

/// The account's shard at its home. Homes do not move, so the entry that the nearest replica has is as good as any; only
/// that there is none has to be asked of the leader.
async fn home(shards: &dyn Shards, directory: ShardId, account: &AccountId) -> Result<Option<ShardId>, ShardError> {
    let query = || Query::Directory(account.clone());
    let local = shards.query(directory, query(), Consistency::Local).await;
    let answer = match local {
        Ok(observed) if matches!(observed.answer, Answer::Directory(Some(_))) => observed.answer,
        _ => shards.query(directory, query(), Consistency::Linearizable).await?.answer,
    };
    Ok(match answer {
        Answer::Directory(Some(entry)) => shards.map().account(entry.home, account),
        _ => None,
    })
}
