#![allow(clippy::unwrap_used)]
use super::*;
use kindred_wire::convert::raw;

fn ann() -> AccountId {
    AccountId::new(b"ann").unwrap()
}

fn session(n: u8) -> pb::SessionRecord {
    pb::SessionRecord {
        session: raw(&[n; 16]),
        seq: n.into(),
        device_key: raw(&[n; 32]),
        ..pb::SessionRecord::default()
    }
}

fn tombstone(n: u8) -> pb::Tombstone {
    let reason = pb::EndReason::SelfLogout.into();
    pb::Tombstone { session: Some(session(n)), reason, ..pb::Tombstone::default() }
}

/// Changes that add and end these sessions, each with the digest that follows.
fn history(steps: &[(&[u8], &[u8])]) -> Vec<pb::SetChange> {
    let (mut digest, mut changes) = (digest::empty(&ann()), Vec::new());
    for ((added, ended), version) in steps.iter().zip(1..) {
        let mut change = pb::SetChange {
            version,
            added: added.iter().map(|n| session(*n)).collect(),
            ended: ended.iter().map(|n| tombstone(*n)).collect(),
            ..pb::SetChange::default()
        };
        digest = follows(&digest, &change).unwrap();
        change.digest = raw(digest.as_bytes());
        changes.push(change);
    }
    changes
}

fn four() -> Vec<pb::SetChange> {
    history(&[(&[1], &[]), (&[2], &[]), (&[3], &[2]), (&[], &[3])])
}

fn snapshot(view: &View) -> pb::Snapshot {
    pb::Snapshot {
        sessions: view.sessions().keys().map(|id| session(id.0[0])).collect(),
        set_version: view.version(),
        set_digest: raw(view.digest().as_bytes()),
    }
}

fn view(steps: usize) -> View {
    let mut view = View::empty(&ann());
    view.advance(&four()[..steps]).unwrap();
    view
}

#[test]
fn an_untouched_history_leads_to_the_set() {
    let whole = view(4);
    assert_eq!((whole.version(), whole.sessions().keys().next()), (4, Some(&SessionId([1; 16]))));
    assert_eq!(whole.sessions().len(), 1);
    let mut stepwise = View::empty(&ann());
    for change in four() {
        stepwise.event(&Event::Change(change)).unwrap();
    }
    assert_eq!(stepwise, whole);
}

#[test]
fn a_change_that_was_tampered_with_is_refused_whatever_was_changed_in_it() {
    type Tamper = fn(&mut pb::SetChange);
    let tampers: [(&str, Tamper); 9] = [
        ("id of who came", |c| c.added[0].session = raw(&[9; 16])),
        ("number of who came", |c| c.added[0].seq = 9),
        ("key of who came", |c| c.added[0].device_key = raw(&[9; 32])),
        ("nobody came", |c| c.added.clear()),
        ("another came", |c| c.added.push(session(9))),
        ("number of who left", |c| c.ended[0].session.as_mut().unwrap().seq = 9),
        ("why it left", |c| c.ended[0].reason = pb::EndReason::AdminRevoked.into()),
        ("nobody left", |c| c.ended.clear()),
        ("digest", |c| c.digest = raw(&[9; 32])),
    ];
    for (what, tamper) in tampers {
        let (mut changes, mut held) = (four(), view(1));
        tamper(&mut changes[2]);
        let broken = held.advance(&changes[1..]).unwrap_err();
        assert!(matches!(broken, Broken::OtherDigest { version: 3, .. }), "{what}: {broken}");
        assert_eq!(held, view(1), "{what}: the view stays as it was");
    }
}

#[test]
fn a_gap_a_repeat_and_an_empty_change_are_refused() {
    let changes = four();
    assert_eq!(view(1).advance(&changes[2..]), Err(Broken::Gap { expected: 2, told: 3 }));
    assert_eq!(view(2).advance(&changes[1..]), Err(Broken::Gap { expected: 3, told: 2 }));
    let empty = pb::SetChange { version: 3, ..pb::SetChange::default() };
    assert_eq!(view(2).advance(&[empty]), Err(Broken::Empty { version: 3 }));
    let endless = View::held(&ann(), u64::MAX, Digest([0; 32]), BTreeMap::new());
    assert!(matches!(endless.clone().advance(&changes[..1]), Err(Broken::Gap { .. })));
}

#[test]
fn a_lawful_chain_over_unlawful_sessions_is_refused_too() {
    // The digests follow, but the session that ends was never there, or the one that comes is there already.
    let (absent, twice) = (history(&[(&[1], &[]), (&[], &[7])]), history(&[(&[1], &[]), (&[1], &[])]));
    for (changes, session) in [(absent, 7), (twice, 1)] {
        let broken = View::empty(&ann()).advance(&changes).unwrap_err();
        assert_eq!(broken, Broken::OtherSessions { version: 2, session: SessionId([session; 16]) });
    }
}

#[test]
fn a_version_or_digest_that_goes_back_is_refused_with_what_was_told() {
    let old = snapshot(&view(2));
    let mut held = view(3);
    assert_eq!(held.replace(&old), Err(Broken::WentBack { held: 3, told: 2 }));
    assert!(matches!(
        held.event(&Event::Heartbeat(pb::Heartbeat { set_version: 2, set_digest: old.set_digest.clone() })),
        Err(Broken::WentBack { held: 3, told: 2 })
    ));
    let mut other = snapshot(&held);
    other.set_digest = raw(&[9; 32]);
    assert!(matches!(held.replace(&other), Err(Broken::OtherDigest { version: 3, .. })));
    let mut fewer = snapshot(&held);
    fewer.sessions.pop();
    assert!(matches!(held.replace(&fewer), Err(Broken::OtherSessions { version: 3, .. })));
    assert_eq!(held.replace(&snapshot(&view(4))), Ok(()));
    assert_eq!(held, view(4));
}

#[test]
fn reconcile_brings_a_view_forward_only_by_what_follows_from_it() {
    let reply = |result| pb::ReconcileReply {
        result: Some(result),
        set_version: 4,
        set_digest: raw(view(4).digest().as_bytes()),
    };
    let behind = |changes: &[pb::SetChange], snapshot| {
        reply(Reconciled::Behind(pb::Behind { changes: changes.to_vec(), snapshot, ended: vec![] }))
    };
    for good in [behind(&four()[2..], None), behind(&[], Some(snapshot(&view(4))))] {
        let mut held = view(2);
        held.reconciled(&good).unwrap();
        assert_eq!(held, view(4));
    }
    // Told to be in sync with what it is not, or given too little.
    for bad in [reply(Reconciled::InSync(pb::InSync {})), behind(&four()[2..3], None), behind(&[], None)] {
        let mut held = view(2);
        assert!(held.reconciled(&bad).is_err());
        assert_eq!(held, view(2));
    }
    let mut held = view(2);
    let diverged = pb::Diverged { snapshot: Some(snapshot(&view(4))), ..pb::Diverged::default() };
    held.reconciled(&reply(Reconciled::Diverged(diverged.clone()))).unwrap();
    assert_eq!(held, view(2), "to believe the cluster is a decision");
    held.adopt(&diverged.snapshot.unwrap()).unwrap();
    assert_eq!(held, view(4));
}
