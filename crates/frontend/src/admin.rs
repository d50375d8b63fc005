//! kindred.admin.v1.Admin: whole accounts out and in. Only operators get here ([`crate::access`]).

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use kindred_core::bundle::Page;
use kindred_core::command::{Answer, Command, Envelope, Outcome, Proven, Query};
use kindred_core::id::{AccountId, RegionIndex, RequestId, ShardId};
use kindred_wire::bundle::{bundle, bundle_in, cursor_in};
use kindred_wire::caller::Caller;
use kindred_wire::convert::{self, raw};
use kindred_wire::pb::admin::v1 as pb;
use kindred_wire::reason::Reason;
use kindred_wire::shards::Consistency;
use kindred_wire::status::Failure;
use tonic::{Request, Response, Status};

use crate::front::{Front, by_cluster, invalid, unexpected};

/// Accounts in one request.
const IMPORT_ITEMS_MAX: usize = 256;
/// Accounts of one request that are worked on at the same time: they meet in few entries, whatever came first.
const IMPORT_AT_ONCE: usize = 128;

type Exported = Pin<Box<dyn Stream<Item = Result<pb::ExportAccountsReply, Status>> + Send>>;

#[tonic::async_trait]
impl pb::admin_server::Admin for Front {
    type ExportAccountsStream = Exported;

    async fn export_accounts(&self, request: Request<pb::ExportAccountsRequest>) -> Result<Response<Exported>, Status> {
        let (shard, after) =
            cursor_in(request.into_inner().after).map_err(|error| Status::from(Failure::from(error)))?;
        let all = self.shards().map().shards().into_iter();
        let left = all.filter_map(|(id, home)| home.map(|home| (id, home))).filter(|(id, _)| id.0 >= shard);
        let left: Vec<_> = left.collect();
        // Another shard than the cursor's is read from its beginning.
        let after = after.filter(|_| left.first().is_some_and(|(id, _)| id.0 == shard));
        let export = Export { front: self.clone(), left, at: 0, after, over: false };
        Ok(Response::new(Box::pin(futures::stream::unfold(export, Export::step))))
    }

    async fn import_accounts(
        &self,
        request: Request<pb::ImportAccountsRequest>,
    ) -> Result<Response<pb::ImportAccountsReply>, Status> {
        let operator = request.extensions().get::<Caller>().map(|caller| caller.name.to_string()).unwrap_or_default();
        let items = request.into_inner().items;
        if items.len() > IMPORT_ITEMS_MAX {
            return Err(invalid("items").into());
        }
        let work = items.into_iter().map(|item| self.import(item, &operator));
        let results = futures::stream::iter(work).buffered(IMPORT_AT_ONCE).collect().await;
        Ok(Response::new(pb::ImportAccountsReply { results }))
    }
}

/// An export under way. Holds one page at a time.
struct Export {
    front: Front,
    left: Vec<(ShardId, RegionIndex)>,
    /// Index of the shard in `left`.
    at: usize,
    /// The last account of that shard.
    after: Option<AccountId>,
    over: bool,
}

impl Export {
    async fn step(mut self) -> Option<(Result<pb::ExportAccountsReply, Status>, Self)> {
        if self.over {
            return None;
        }
        let reply = self.next().await;
        self.over = reply.as_ref().map_or(true, |reply| reply.done);
        Some((reply.map_err(Status::from), self))
    }

    async fn next(&mut self) -> Result<pb::ExportAccountsReply, Failure> {
        while let Some((shard, home)) = self.left.get(self.at).copied() {
            let query = Query::Export(self.after.clone());
            let page = match self.front.query(shard, query, Consistency::Linearizable).await?.answer {
                Answer::Export(page) => page,
                _ => return Err(unexpected()),
            };
            if let Some(last) = page.last.clone() {
                self.after = Some(last);
                return Ok(self.reply(shard, home, &page));
            }
            self.at += 1;
            self.after = None;
        }
        Ok(pb::ExportAccountsReply { done: true, ..pb::ExportAccountsReply::default() })
    }

    fn reply(&self, shard: ShardId, home: RegionIndex, page: &Page) -> pb::ExportAccountsReply {
        let region = self.front.region_name(home);
        let last = page.last.as_ref().map(|last| raw(last.as_bytes())).unwrap_or_default();
        pb::ExportAccountsReply {
            accounts: page.bundles.iter().map(|b| bundle(b, region.clone())).collect(),
            cursor: Some(pb::Cursor { shard: shard.0, account: last }),
            too_large: page.too_large.iter().map(|id| raw(id.as_bytes())).collect(),
            done: false,
        }
    }
}

impl Front {
    async fn import(&self, item: pb::ImportItem, operator: &str) -> pb::ImportResult {
        let result = match self.import_one(item, operator).await {
            Ok(installed) => pb::import_result::Result::Installed(installed),
            Err(failure) => pb::import_result::Result::Refused(failure.refusal()),
        };
        pb::ImportResult { result: Some(result) }
    }

    /// Claim at the directory, then Install at the home: the same order as a registration.
    async fn import_one(&self, item: pb::ImportItem, operator: &str) -> Result<pb::Installed, Failure> {
        let request = convert::request_id(&item.request_id, "request_id")?;
        let told = item.account.ok_or_else(|| invalid("account"))?;
        let home_region = if item.home_region.is_empty() { &told.home_region } else { &item.home_region };
        let home = self.shards().map().region(home_region).ok_or_else(|| invalid("home_region"))?;
        let bundle = bundle_in(told, home)?;
        // A claim that is never used would keep the id for ever, so look before making it.
        bundle.check().map_err(invalid)?;
        let (account, claim) = (bundle.account.id.clone(), bundle.claim(&request, home));
        let home = self.claim(&account, claim, home, request).await?;
        let command = Command::Install { bundle: Box::new(bundle), claim, home };
        let committed = self.submit(self.account_shard(home, &account)?, by_operator(request, operator, command));
        // The claim stands by now, so "nothing happened" would not be true of anything that fails from here on.
        let unknown = |_| Failure::new(Reason::OutcomeUnknown);
        match committed.await.map_err(unknown)?.reply {
            Ok(Outcome::Installed { set_version, auth_epoch, again }) => {
                Ok(pb::Installed { set_version, auth_epoch, again })
            }
            Ok(_) => Err(unexpected()),
            Err(rejection) => Err(Failure::from(&rejection)),
        }
    }
}

fn by_operator(request: RequestId, name: &str, command: Command) -> kindred_core::command::Submission {
    by_cluster(Envelope { request, policy_version: 0, proven: Proven::Operator(name.to_owned()), command })
}
