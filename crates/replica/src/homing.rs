//! Effects for an account's home, of which the ticket's shard knows only the account's id. Nobody waits for them, so it
//! cannot be told from outside whether there is such an account.

use std::collections::BTreeSet;

use kindred_core::command::{Answer, Command, Query};
use kindred_core::id::{AccountId, ShardId};
use kindred_core::limits::CODE_NOTICE_TTL_MS;
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

/// True for a notice that nobody needs any more, whether it was heard or not.
pub(crate) fn is_stale(command: &Command, since_ms: u64, now_ms: u64) -> bool {
    for_home(command).is_some() && now_ms.saturating_sub(since_ms) >= CODE_NOTICE_TTL_MS
}

/// The account whose home is to be told, if it is a notice of a code.
pub(crate) fn for_home(command: &Command) -> Option<&AccountId> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::{Arc, Mutex};

    use kindred_core::command::{Aggregate, Committed, Outcome, Submission};
    use kindred_core::id::{ClaimId, ClusterId, RegionIndex, TicketId};
    use kindred_core::map::ShardMap;
    use kindred_core::model::{DirectoryEntry, DirectoryState};
    use kindred_wire::shards::{BoxFuture, Observed};

    use super::*;

    const DIRECTORY: ShardId = ShardId(1);
    const HOME: ShardId = ShardId(200);

    /// A directory that knows ann, at home in the second region, and nobody else; and what was submitted where.
    #[derive(Default)]
    struct Town {
        is_silent: bool,
        submitted: Mutex<Vec<ShardId>>,
    }

    impl Shards for Town {
        fn cluster(&self) -> Option<ClusterId> {
            None
        }
        fn map(&self) -> Arc<ShardMap> {
            Arc::new(ShardMap::fixed(&["north".to_owned(), "east".to_owned()], 1))
        }
        fn region(&self) -> RegionIndex {
            RegionIndex(0)
        }
        fn submit(&self, shard: ShardId, _: Submission) -> BoxFuture<'_, Result<Committed, ShardError>> {
            self.submitted.lock().unwrap().push(shard);
            let committed = Committed { reply: Ok(Outcome::Done), log_index: 1, shard_time_ms: 1, nonce: Vec::new() };
            Box::pin(async move { Ok(committed) })
        }
        fn query(
            &self,
            shard: ShardId,
            query: Query,
            level: Consistency,
        ) -> BoxFuture<'_, Result<Observed, ShardError>> {
            assert_eq!(shard, DIRECTORY);
            let Query::Directory(account) = query else { panic!("{query:?}") };
            // The nearest replica is behind: it knows nobody yet.
            let known = level == Consistency::Linearizable && account.as_bytes() == b"ann";
            let (claim, home) = (ClaimId([1; 16]), RegionIndex(1));
            let entry = DirectoryEntry { account, claim, home, state: DirectoryState::Claimed };
            let answer = Answer::Directory(known.then_some(entry));
            let observed = Observed { answer, age_ms: 0, shard_time_ms: 1, applied_index: 1 };
            let silent = ShardError::Unavailable { retry_after_ms: 1 };
            let answer = if self.is_silent { Err(silent) } else { Ok(observed) };
            Box::pin(async move { answer })
        }
        fn changed(&self, _: ShardId, _: Aggregate, _: u64) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    async fn told(town: &Town, account: &str, deaf: &[ShardId]) -> (Result<(), ShardId>, Vec<ShardId>) {
        let account = AccountId::new(account.as_bytes()).unwrap();
        let command = Command::HoldCode { account, ticket: TicketId([2; 16]) };
        let performed = perform(town, DIRECTORY, command, &deaf.iter().copied().collect()).await;
        (performed, town.submitted.lock().unwrap().clone())
    }

    #[tokio::test]
    async fn what_is_for_an_account_goes_to_its_home_and_for_nobody_is_done_with() {
        assert_eq!(told(&Town::default(), "ann", &[]).await, (Ok(()), vec![HOME]));
        assert_eq!(told(&Town::default(), "nobody", &[]).await, (Ok(()), vec![]));
    }

    #[test]
    fn a_notice_grows_stale_and_a_settlement_never_does() {
        let ticket = TicketId([2; 16]);
        let notice = Command::DetachCode { account: AccountId::new(b"ann").unwrap(), ticket };
        let settle = Command::Settle { ticket, outcome: kindred_core::model::TicketOutcome::Expired };
        let stale = |command: &Command, age_ms| is_stale(command, 1_000, 1_000 + age_ms);
        assert!(!stale(&notice, CODE_NOTICE_TTL_MS - 1) && stale(&notice, CODE_NOTICE_TTL_MS));
        assert!(!stale(&settle, u64::MAX / 2));
    }

    #[tokio::test]
    async fn no_answer_is_no_performance_and_names_who_was_silent() {
        let silent = Town { is_silent: true, ..Town::default() };
        assert_eq!(told(&silent, "nobody", &[]).await, (Err(DIRECTORY), vec![]));
        assert_eq!(told(&Town::default(), "ann", &[HOME]).await, (Err(HOME), vec![]));
    }
}
