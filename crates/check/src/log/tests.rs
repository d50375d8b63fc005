#![allow(clippy::unwrap_used)]
use super::*;

/// An account on its way through a log, as one replica after the other applies it.
struct Tale {
    state: Applied,
}

impl Tale {
    fn registered() -> Self {
        let mut state = Applied { node: "n1".into(), shard: 200, term: 1, account: "a".into(), ..Applied::default() };
        (state.log_index, state.set_version) = (10, 1);
        state.sessions = vec![live("s1", 1)];
        state.linked = vec!["s1".into()];
        let mut tale = Self { state };
        tale.seal();
        tale
    }

    /// The next entry, with what it names.
    fn entry(&mut self, linked: &[&str], named: &[&str]) -> &mut Self {
        self.state.log_index += 1;
        self.state.linked = linked.iter().map(|id| (*id).to_owned()).collect();
        self.state.named = named.iter().map(|id| (*id).to_owned()).collect();
        self
    }

    fn link(&mut self, id: &str) -> &mut Self {
        self.state.set_version += 1;
        let seq = id[1..].parse().unwrap();
        self.state.sessions.push(live(id, seq));
        self.seal();
        self
    }

    fn end(&mut self, id: &str) -> &mut Self {
        self.state.set_version += 1;
        self.state.sessions.retain(|live| live.id != id);
        self.state.tombstones.push(Tombstone {
            session: id.into(),
            reason: "SELF_LOGOUT".into(),
            command: format!("r{id}"),
            log_index: self.state.log_index,
            set_version: self.state.set_version,
        });
        self.seal();
        self
    }

    fn seal(&mut self) {
        self.state.digest = format!("{:?}{:?}", self.state.sessions, self.state.tombstones);
    }
}

fn live(id: &str, seq: u64) -> Live {
    Live { id: id.into(), seq, digest: format!("record of {id}") }
}

/// Registration, two links, an unlink.
fn good() -> Vec<Applied> {
    let mut tale = Tale::registered();
    let mut states = vec![tale.state.clone()];
    states.push(tale.entry(&["s2"], &[]).link("s2").state.clone());
    states.push(tale.entry(&["s3"], &[]).link("s3").state.clone());
    states.push(tale.entry(&[], &["s2"]).end("s2").state.clone());
    states
}

/// What is found if the last state is changed like this, by rule.
#[track_caller]
fn found(change: impl FnOnce(&mut Applied)) -> Vec<String> {
    let mut states = good();
    let last = states.last_mut().unwrap();
    change(last);
    last.digest = format!("{:?}{:?}", last.sessions, last.tombstones);
    run(&states)
}

fn run(states: &[Applied]) -> Vec<String> {
    let mut check = LogCheck::new();
    for state in states {
        let _ = check.applied(state);
    }
    let mut rules: Vec<_> = check.finish(&[]).into_iter().map(|v| v.checker).collect();
    rules.dedup();
    rules
}

fn on(node: &str, states: &[Applied]) -> Vec<Applied> {
    states.iter().map(|state| Applied { node: node.into(), replica: 7, ..state.clone() }).collect()
}

#[test]
fn a_good_log_passes_on_every_replica_and_again_after_a_crash() {
    let states = good();
    let mut all = states.clone();
    all.extend(on("n2", &states));
    all.extend(states[2..].iter().cloned());
    // A replica that came late, from a snapshot.
    all.extend(on("n3", &states[3..]));
    assert_eq!(run(&all), Vec::<String>::new());
}

#[test]
fn several_commands_in_one_entry_are_several_versions() {
    let mut tale = Tale::registered();
    let first = tale.state.clone();
    let both = tale.entry(&["s2", "s3"], &["s2"]).link("s2").link("s3").end("s2").state.clone();
    assert_eq!(run(&[first.clone(), both]), Vec::<String>::new());
    // A link that replaces: one version, one comes and one leaves.
    let mut tale = Tale::registered();
    let two = tale.entry(&["s2"], &[]).link("s2").state.clone();
    tale.entry(&["s3"], &["s2"]).end("s2");
    tale.state.sessions.push(live("s3", 3));
    tale.seal();
    assert_eq!(run(&[first, two, tale.state]), Vec::<String>::new());
}

#[test]
fn a_sibling_that_leaves_unnamed_is_a_breach() {
    assert_eq!(found(|last| last.named.clear()), [LAW]);
    assert_eq!(found(|last| last.sessions.clear()), [LAW]);
}

#[test]
fn a_session_that_comes_unannounced_is_a_breach() {
    assert_eq!(found(|last| last.sessions.push(live("s9", 9))), [LAW]);
    let mut tale = Tale::registered();
    tale.state.linked.clear();
    assert_eq!(run(&[tale.state]), [LAW]);
}

#[test]
fn who_leaves_has_a_tombstone_of_this_entry() {
    assert_eq!(found(|last| last.tombstones.clear()), [LAW]);
    assert_eq!(found(|last| last.tombstones[0].log_index = 4), [LAW]);
    assert_eq!(found(|last| last.tombstones[0].set_version = 9), [LAW]);
    assert_eq!(found(|last| last.sessions.push(live("s2", 2))), [LAW]);
}

#[test]
fn tombstones_stay_as_they_are_or_become_stubs() {
    let next = |change: fn(&mut Tombstone)| {
        let mut states = good();
        let mut last = states.last().unwrap().clone();
        last.log_index += 1;
        last.named.clear();
        change(&mut last.tombstones[0]);
        states.push(last);
        run(&states)
    };
    assert_eq!(next(|_| {}), Vec::<String>::new());
    let to_stub = |t: &mut Tombstone| (t.command, t.set_version) = (String::new(), 0);
    assert_eq!(next(to_stub), Vec::<String>::new());
    assert_eq!(next(|t| t.reason = "LOGOUT_OTHERS".into()), [LAW]);
    let mut states = good();
    let mut last = states.last().unwrap().clone();
    last.log_index += 1;
    last.tombstones.clear();
    states.push(last);
    assert_eq!(run(&states), [LAW]);
}

#[test]
fn a_version_is_one_change() {
    assert_eq!(found(|last| last.set_version = 3), [LAW, AGREEMENT]);
    assert_eq!(found(|last| (last.set_version, last.tombstones[0].set_version) = (6, 6)), [LAW]);
}

#[test]
fn a_sibling_keeps_its_number_and_its_record() {
    assert_eq!(found(|last| last.sessions[1].digest = "another".into()), [LAW]);
    assert_eq!(found(|last| last.sessions[1].seq = 8), [LAW]);
    let touched = |last: &mut Applied| {
        last.sessions[1].digest = "another key".into();
        last.touched = vec!["s3".into()];
    };
    assert_eq!(found(touched), Vec::<String>::new());
}

#[test]
fn a_number_is_never_used_again() {
    let mut states = good();
    let mut tale = Tale { state: states.last().unwrap().clone() };
    tale.entry(&["s4"], &[]).link("s4");
    tale.state.sessions.last_mut().unwrap().seq = 2;
    states.push(tale.state);
    assert_eq!(run(&states), [LAW]);
}

#[test]
fn a_replica_that_differs_is_found_at_the_index_and_at_the_end() {
    let states = good();
    let mut other = on("n2", &states);
    other[3].tombstones[0].reason = "LOGOUT_OTHERS".into();
    other[3].digest.push('!');
    assert_eq!(run(&[states.clone(), other].concat()), [AGREEMENT]);
    let mut term = on("n2", &states[3..]);
    term[0].term = 2;
    assert_eq!(run(&[states.clone(), term].concat()), [AGREEMENT]);
    let mut alone = on("n2", &states[1..2]);
    alone[0].log_index = 100;
    let mut late = states.clone();
    late.extend(alone);
    assert_eq!(run(&late), [LAW], "an old state that comes back");
}

#[test]
fn an_entry_that_changes_an_account_on_one_replica_only_is_found() {
    let states = good();
    let mut odd = on("n2", &states[1..2]);
    odd[0].log_index = 12;
    let gap: Vec<_> = states.iter().filter(|state| state.log_index != 12).cloned().collect();
    let mut check = LogCheck::new();
    for state in &gap {
        let _ = check.applied(state);
    }
    assert_eq!(check.applied(&odd[0]).unwrap_err().checker, AGREEMENT);
}

#[test]
fn a_deleted_account_leaves_stubs_and_never_comes_back() {
    let mut states = good();
    let mut gone = states.last().unwrap().clone();
    gone.log_index += 1;
    (gone.set_version, gone.named) = (0, vec!["s1".into(), "s3".into()]);
    for live in std::mem::take(&mut gone.sessions) {
        let (command, set_version) = (String::new(), 0);
        let (session, reason, log_index) = (live.id, "ACCOUNT_DELETED".to_owned(), gone.log_index);
        gone.tombstones.push(Tombstone { session, reason, command, log_index, set_version });
    }
    states.push(gone.clone());
    assert_eq!(run(&states), Vec::<String>::new());
    let mut back = gone;
    (back.log_index, back.set_version) = (back.log_index + 1, 5);
    states.push(back);
    assert_eq!(run(&states), [LAW]);
}

#[test]
fn at_the_end_replicas_are_equal_and_near_each_other() {
    let at = |node: &str, log_index, digest: &str| {
        let states = good();
        let last = states.last().unwrap();
        let accounts = BTreeMap::from([("a".to_owned(), last.digest.clone())]);
        ReplicaState { node: node.into(), replica: 1, shard: 200, log_index, digest: digest.into(), accounts }
    };
    let end = |replicas: &[ReplicaState]| {
        let mut check = LogCheck::new();
        for state in good() {
            check.applied(&state).unwrap();
        }
        check.finish(replicas).into_iter().map(|v| v.checker).collect::<Vec<_>>()
    };
    assert_eq!(end(&[at("n1", 20, "x"), at("n2", 20, "x"), at("n3", 19, "w")]), Vec::<String>::new());
    assert_eq!(end(&[at("n1", 20, "x"), at("n2", 20, "y")]), [END]);
    assert_eq!(end(&[at("n1", 200, "x"), at("n2", 20, "y")]), [END]);
    let mut stale = at("n2", 20, "");
    stale.accounts.insert("a".into(), "an older state".into());
    assert_eq!(end(&[at("n1", 20, "x"), stale]), [END]);
}
