//! WatchAccount over the death of the node that is watched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use kindred_core::digest;
use kindred_core::id::{AccountId, DeviceKey, Digest, RegionIndex, RequestId, SessionId};
use kindred_core::model::{Actor, Device, EndReason, Role, Session, Tombstone};
use kindred_tests::{Cluster, Options, People, REGIONS, SOON, eventually, story};
use kindred_wire::pb::session::v1 as pb;
use kindred_wire::pb::session::v1::watch_account_reply::Event;

/// Companions that are linked, then unlinked.
const COMPANIONS: u64 = 5;

#[tokio::test]
async fn watch_account_is_gapless() {
    story(async {
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        // The watched node leads the account's shard. Whoever acts is connected elsewhere.
        let (watched, acting) = (cluster.client(&[2, 0, 1]).unwrap(), cluster.client(&[0, 1]).unwrap());
        let people = People::new(&acting).await.unwrap();
        let mut phone = people.register(&acting, "ann", REGIONS[2]).await.unwrap();
        let account = phone.account.clone();
        acting.set_limit(&phone, 8, people.request()).await.unwrap();
        cluster.leads_at_home(2).await.unwrap();

        let seen = AtomicU64::new(0);
        let watching = async {
            let mut watch = watched.watch_account(&account, 0, "");
            let mut changes: Vec<pb::SetChange> = Vec::new();
            while seen.load(Ordering::Relaxed) < 1 + 2 * COMPANIONS {
                match tokio::time::timeout(SOON, watch.next()).await.expect("the watch is silent").unwrap() {
                    Event::Change(change) => {
                        seen.store(change.version, Ordering::Relaxed);
                        changes.push(change);
                    }
                    Event::Heartbeat(_) | Event::Records(_) => {}
                    Event::LinkRequested(_) | Event::LinkRequestOver(_) => {}
                    Event::Deleted(deleted) => panic!("nobody deleted it: {deleted:?}"),
                    Event::Snapshot(snapshot) => panic!("changes are kept, and this is none: {snapshot:?}"),
                }
            }
            changes
        };
        let acts = async {
            let mut sessions = Vec::new();
            for number in 1..=COMPANIONS {
                sessions.push(people.link(&mut phone, &acting, &acting).await.unwrap().member.session);
                if number == 2 {
                    // It has told of something, and more is to come.
                    eventually("the watch", SOON, async || match seen.load(Ordering::Relaxed) {
                        0 => Err("nothing was told yet".to_owned()),
                        _ => Ok(()),
                    })
                    .await
                    .unwrap();
                    cluster.nodes[2].kill();
                }
            }
            for session in &sessions {
                acting.unlink(&phone, session, people.request()).await.unwrap();
            }
        };
        let (changes, ()) = tokio::join!(watching, acts);

        let versions: Vec<_> = changes.iter().map(|change| change.version).collect();
        assert_eq!(versions, (1..=1 + 2 * COMPANIONS).collect::<Vec<_>>());
        let end = verify_chain(&account, &changes);
        let listed = acting.sessions(&account, "").await.unwrap();
        assert_eq!((listed.set_version, listed.set_digest.as_ref()), (1 + 2 * COMPANIONS, end.as_bytes()));
    })
    .await;
}

/// Follows the digest from the changes alone; the digest after the last.
fn verify_chain(account: &AccountId, changes: &[pb::SetChange]) -> Digest {
    let mut chain = digest::empty(account);
    for change in changes {
        let added: Vec<_> = change.added.iter().map(session).collect();
        let ended: Vec<_> = change.ended.iter().map(tombstone).collect();
        assert_eq!(added.len() + ended.len(), 1, "every act here concerns one session: {change:?}");
        chain = digest::next(&chain, change.version, &added, &ended);
        assert_eq!(change.digest.as_ref(), chain.as_bytes(), "the chain breaks at version {}", change.version);
    }
    chain
}

/// What the chain covers of a session; the rest is of no account.
fn session(record: &pb::SessionRecord) -> Session {
    Session {
        id: SessionId::from_slice(&record.session).unwrap(),
        seq: record.seq,
        device_key: DeviceKey::from_slice(&record.device_key).unwrap(),
        role: Role::Companion,
        device: Device::default(),
        linked_at_ms: 0,
        linked_wall_ms: 0,
        linked_by: None,
        ticket: None,
        policy_version: 0,
        key_generation: 0,
        record_version: 0,
        quarantine_until_ms: 0,
        pinned: false,
    }
}

/// The same of a tombstone.
fn tombstone(record: &pb::Tombstone) -> Tombstone {
    assert_eq!(record.reason(), pb::EndReason::UserUnlinkedFromPrimary);
    let session = session(record.session.as_ref().unwrap());
    Tombstone {
        actor: Actor::Session(session.id),
        session,
        reason: EndReason::UserUnlinkedFromPrimary,
        command: RequestId::from_slice(&record.command).unwrap(),
        log_index: 0,
        set_version: 0,
        at_ms: 0,
        wall_ms: 0,
        region: RegionIndex(0),
        policy_version: 0,
    }
}
