//! Accounts out of one cluster and into another, through the services.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use kindred_client::{Client, View};
use kindred_wire::bundle::import_request;
use kindred_wire::convert::raw;
use kindred_wire::pb::admin::v1 as pb;
use kindred_wire::pb::admin::v1::import_result::Result as Told;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use kindred_wire::pb::session::v1::{Level, ValidateRequest};
use kindred_wire::reason::Reason;
use kindred_wire::shards::ShardError;
use support::{Cluster, Strike};

async fn exported(client: &Client, after: Option<pb::Cursor>) -> Vec<pb::ExportAccountsReply> {
    let mut export = client.export_accounts(after);
    let mut pages = Vec::new();
    while let Some(page) = export.next().await.unwrap() {
        pages.push(page);
    }
    pages
}

fn accounts(pages: Vec<pb::ExportAccountsReply>) -> Vec<pb::AccountBundle> {
    pages.into_iter().flat_map(|page| page.accounts).collect()
}

fn item(account: &pb::AccountBundle) -> pb::ImportItem {
    let request_id = raw(import_request(b"export", &account.account).as_bytes());
    pb::ImportItem { request_id, account: Some(account.clone()), home_region: String::new() }
}

async fn import(client: &Client, accounts: &[pb::AccountBundle]) -> Vec<Told> {
    let reply = client.import_accounts(accounts.iter().map(item).collect()).await.unwrap();
    reply.results.into_iter().map(|result| result.result.unwrap()).collect()
}

fn refused(told: &Told) -> String {
    match told {
        Told::Refused(refusal) => {
            let field = refusal.metadata.get("field").cloned().unwrap_or_default();
            format!("{} {field}", refusal.reason().as_str_name()).trim().to_owned()
        }
        Told::Installed(_) => "installed".into(),
    }
}

#[tokio::test]
async fn accounts_move_between_clusters_with_everything_that_was_promised() {
    let (from, to) = (Cluster::start().await, Cluster::start().await);
    // Chance is the same in both, and devices must not be.
    (0..100).for_each(|_| _ = to.device());
    let mut members = Vec::new();
    for (n, home) in ["north", "east", "west", "east"].into_iter().enumerate() {
        let mut phone = from.register(&format!("account-{n}"), home).await;
        let (gone, _) = from.linked("north", &mut phone).await;
        let (companion, _) = from.linked("west", &mut phone).await;
        from.client(&["north"]).unlink(&phone, &gone.session, from.request()).await.unwrap();
        members.push((phone, companion, gone));
    }
    let moved = accounts(exported(&from.client(&["north"]), None).await);
    assert_eq!(moved.len(), 4);
    let told = import(&to.client(&["west"]), &moved).await;
    for (told, account) in told.iter().zip(&moved) {
        let Told::Installed(installed) = told else { panic!("{told:?}") };
        assert_eq!((installed.set_version, installed.again), (account.set_version, false));
        assert_eq!(installed.auth_epoch, account.auth_epoch + 1);
    }
    let client = to.client(&["north"]);
    for (phone, companion, gone) in &mut members {
        for (member, is_live) in [(&*phone, true), (&*companion, true), (&*gone, false)] {
            let ask = ValidateRequest {
                account: raw(member.account.as_bytes()),
                session: raw(member.session.as_bytes()),
                level: Level::Linearizable.into(),
                ..ValidateRequest::default()
            };
            match client.validate(ask).await.unwrap().verdict.unwrap() {
                Verdict::Valid(_) => assert!(is_live),
                Verdict::SignedOut(out) => {
                    assert!(!is_live && out.tombstone.unwrap().session.unwrap().session == member.session.as_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
        // Whoever followed the account there goes on here, digest and all.
        let mut view = View::empty(&phone.account);
        let held = from.client(&["east"]).reconcile(&phone.account, &view.by_digest(), "").await.unwrap();
        view.reconciled(&held).unwrap();
        let now = client.account(&phone.account, "").await.unwrap();
        assert_eq!((now.set_version, &now.set_digest[..]), (view.version(), view.digest().as_bytes()));
        phone.auth_epoch = now.auth_epoch;
        let (_, receipt) = to.linked("west", phone).await;
        assert_eq!((receipt.version_before, receipt.seq), (view.version(), 4));
        let change = client.reconcile(&phone.account, &view.by_digest(), "").await.unwrap();
        view.reconciled(&change).unwrap();
        assert_eq!(view.version(), receipt.version_after);
    }
}

#[tokio::test]
async fn an_account_that_is_there_is_left_alone_and_the_others_come() {
    let (from, to) = (Cluster::start().await, Cluster::start().await);
    from.register("ann", "east").await;
    from.register("bob", "east").await;
    let held = to.register("ann", "north").await;
    let moved = accounts(exported(&from.client(&["north"]), None).await);
    let before = to.client(&["north"]).account(&held.account, "").await.unwrap();
    let mut told: Vec<_> = import(&to.client(&["north"]), &moved).await.iter().map(refused).collect();
    told.sort();
    assert_eq!(told, ["ACCOUNT_EXISTS", "installed"]);
    let after = to.client(&["north"]).account(&held.account, "").await.unwrap();
    assert_eq!((after.set_digest, after.home_region, after.auth_epoch), (before.set_digest, before.home_region, 1));
}

#[tokio::test]
async fn an_import_that_lost_its_answers_is_sent_again_and_nothing_comes_twice() {
    let (from, to) = (Cluster::start().await, Cluster::start().await);
    let ann = from.register("ann", "east").await;
    let moved = accounts(exported(&from.client(&["north"]), None).await);
    let shard = to.groups.account_shard("east", &ann.account);
    let errors =
        [(Strike::Before, ShardError::Unavailable { retry_after_ms: 1 }), (Strike::After, ShardError::OutcomeUnknown)];
    to.groups.fail_submits(shard, &errors);
    let client = to.client(&["north"]);
    let told = [import(&client, &moved).await, import(&client, &moved).await, import(&client, &moved).await];
    let told: Vec<_> = told.iter().map(|told| refused(&told[0])).collect();
    // The claim stands after the first, so even that is no "nothing happened".
    assert_eq!(told, ["OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN", "installed"]);
    let Told::Installed(installed) = import(&client, &moved).await.remove(0) else { panic!() };
    assert!(installed.again);
}

#[tokio::test]
async fn what_is_wrong_with_an_account_is_named_and_claims_nothing() {
    let (from, to) = (Cluster::start().await, Cluster::start().await);
    from.register("ann", "east").await;
    let good = accounts(exported(&from.client(&["north"]), None).await).remove(0);
    let state = to.groups.picture();
    type Spoil = fn(&mut pb::ImportItem);
    let spoils: [(&str, Spoil); 7] = [
        ("request_id", |i| i.request_id = raw(b"short")),
        ("account", |i| i.account = None),
        ("account", |i| i.account.as_mut().unwrap().account = raw(b"")),
        ("home_region", |i| i.home_region = "atlantis".into()),
        ("session.role", |i| i.account.as_mut().unwrap().sessions[0].role = 0),
        ("set_version", |i| i.account.as_mut().unwrap().set_version = 7),
        ("session.device_key", |i| i.account.as_mut().unwrap().sessions[0].device_key = raw(&[1; 31])),
    ];
    let client = to.client(&["north"]);
    for (field, spoil) in spoils {
        let mut bad = item(&good);
        spoil(&mut bad);
        let reply = client.import_accounts(vec![bad]).await.unwrap();
        assert_eq!(refused(reply.results[0].result.as_ref().unwrap()), format!("INVALID_REQUEST {field}"));
    }
    let many = vec![item(&good); 257];
    assert_eq!(client.import_accounts(many).await.unwrap_err().reason(), Some(Reason::InvalidRequest));
    assert_eq!(to.groups.picture(), state);
    assert_eq!(import(&client, &[good]).await.iter().map(refused).collect::<Vec<_>>(), ["installed"]);
}

#[tokio::test]
async fn an_export_goes_on_from_any_of_its_cursors_and_misses_nothing() {
    let cluster = Cluster::start().await;
    // More than a page in a shard.
    for n in 0..200 {
        cluster.register(&format!("account-{n:03}"), "north").await;
    }
    let client = cluster.client(&["north"]);
    let pages = exported(&client, None).await;
    let whole: Vec<_> = accounts(pages.clone()).into_iter().map(|a| a.account).collect();
    assert!(whole.len() == 200 && pages.len() >= 4, "{} in {}", whole.len(), pages.len());
    let mut told = 0;
    for page in &pages {
        told += page.accounts.len();
        let rest = accounts(exported(&client, page.cursor.clone()).await);
        assert_eq!(rest.iter().map(|a| a.account.clone()).collect::<Vec<_>>(), whole[told..]);
    }
    // A node that dies under way costs nothing: the stream goes on at another.
    let two = cluster.client(&["east", "west"]);
    let mut export = two.export_accounts(None);
    let mut seen = accounts(vec![export.next().await.unwrap().unwrap()]);
    cluster.stop("east");
    while let Some(page) = export.next().await.unwrap() {
        seen.extend(page.accounts);
    }
    assert_eq!(seen.into_iter().map(|a| a.account).collect::<Vec<_>>(), whole);
}

#[tokio::test]
async fn a_cursor_of_a_shard_that_holds_no_accounts_hides_none() {
    let cluster = Cluster::start().await;
    for n in 0..8 {
        cluster.register(&format!("account-{n}"), "north").await;
    }
    let client = cluster.client(&["north"]);
    // The directory's shard, one between two, and none at all: what lies behind is told from its beginning.
    for shard in [0, 1, 99] {
        let cursor = pb::Cursor { shard, account: raw(b"zzz") };
        assert_eq!(accounts(exported(&client, Some(cursor)).await).len(), 8, "{shard}");
    }
    let behind = pb::Cursor { shard: u32::MAX, account: raw(b"") };
    assert!(exported(&client, Some(behind)).await.is_empty());
    let malformed = pb::Cursor { shard: 100, account: raw(&[1; 65]) };
    let refused = client.export_accounts(Some(malformed)).next().await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::InvalidRequest));
}
