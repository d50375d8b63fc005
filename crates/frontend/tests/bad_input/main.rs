//! Bad input: every public rpc × every way in which a request can be bad, in one table (`table.rs`). Whatever is refused is
//! refused for the right reason and changes nothing; whatever is answered all the same is in the table with why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod account;
mod admin;
mod calls;
mod fuzzed;
mod memory;
mod pairing;
mod session;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod world;

use std::collections::BTreeSet;

use kindred_wire::caller::Role;
use kindred_wire::reason::Reason;
use kindred_wire::status::metadata;
use table::{CASES, Case, Expect, TABLE};
use world::{World, told};

/// What one bad call came to, in the words of the table; empty if it is as the table says.
async fn problem(method: &'static str, case: Case, expect: &Expect) -> Option<String> {
    if matches!(expect, Expect::Na(_)) {
        return None;
    }
    let world = World::new().await;
    let body = world.request(method, case);
    if case == Case::Replayed {
        return replayed(&world, method, body, expect).await;
    }
    let before = world.held();
    let mut problems = Vec::new();
    for answer in world.send(method, case, body).await {
        let is_right = match (&answer, expect) {
            (Err(status), Expect::Reason(reason)) => {
                Reason::of(status) == Some(*reason) && status.code() == reason.code()
            }
            (Err(status), Expect::Field(field)) => {
                Reason::of(status) == Some(Reason::InvalidRequest)
                    && metadata(status).get("field").map(String::as_str) == Some(*field)
            }
            (Ok(reply), Expect::Told(reason, field)) => {
                told(method, reply) == Some((reason.proto(), (*field).to_owned()))
            }
            (Ok(_), Expect::Answered(_) | Expect::Done(_)) => true,
            _ => false,
        };
        if !is_right {
            let said = answer.as_ref().map(|reply| format!("{:?}", told(method, reply)));
            let said = said.map_err(|status| (status.code(), Reason::of(status), metadata(status)));
            problems.push(format!("{method} {case:?}: {said:?}, not {expect:?}"));
        }
    }
    if !matches!(expect, Expect::Done(_)) {
        problems.extend(world.changed_since(&before).map(|what| format!("{method} {case:?} changed {what}")));
    }
    (!problems.is_empty()).then(|| problems.join("\n  "))
}

/// The very same bytes again, after they were done.
async fn replayed(world: &World, method: &'static str, body: Vec<u8>, expect: &Expect) -> Option<String> {
    let first = world.send(method, Case::Replayed, body.clone()).await.remove(0);
    let before = world.held();
    let again = world.send(method, Case::Replayed, body).await.remove(0);
    match (&first, &again) {
        (Ok(first), Ok(again)) if *expect == Expect::Same && first != again => {
            return Some(format!("{method}: another answer to the same request:\n  {first:?}\n  {again:?}"));
        }
        (Ok(_), Ok(_)) => {}
        _ => return Some(format!("{method}: a good request was refused: {first:?}, {again:?}")),
    }
    world.changed_since(&before).map(|what| format!("{method}: a repeat changed {what}"))
}

async fn verify(cases: &[Case]) {
    let mut problems = Vec::new();
    for row in TABLE {
        for (case, expect) in row.expect.iter().filter(|(case, _)| cases.contains(case)) {
            problems.extend(problem(row.method, *case, expect).await);
        }
    }
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_and_changes_nothing() {
    verify(&[Case::Empty, Case::Oversized, Case::TooLarge, Case::Malformed, Case::WrongLength, Case::UnknownEnum])
        .await;
}

#[tokio::test]
async fn what_others_signed_or_may_not_ask_for_is_refused_and_changes_nothing() {
    verify(&[Case::WrongKey, Case::Transplanted, Case::ForeignAccount, Case::WrongRole]).await;
}

#[tokio::test]
async fn what_comes_too_late_or_to_the_wrong_place_is_refused_and_changes_nothing() {
    verify(&[Case::Expired, Case::Deadline, Case::WrongRegion, Case::UnknownRegion]).await;
}

#[tokio::test]
async fn a_request_that_was_good_is_done_once_and_its_repeat_changes_nothing() {
    verify(&[Case::Replayed]).await;
}

#[test]
fn every_public_rpc_has_a_row_for_every_case() {
    let listed: BTreeSet<_> = TABLE.iter().map(|row| row.method.to_owned()).collect();
    assert_eq!(listed, world::public_methods(), "a new rpc needs its row in table.rs");
    assert_eq!(listed.len(), TABLE.len(), "a row is there twice");
    for row in TABLE {
        let cases: Vec<_> = row.expect.iter().map(|(case, _)| *case).collect();
        assert_eq!(cases, CASES, "{}", row.method);
        for (case, expect) in row.expect {
            let why = match expect {
                Expect::Na(why) | Expect::Answered(why) | Expect::Done(why) => *why,
                _ => "said by the reason",
            };
            assert!(!why.is_empty(), "{} {case:?}: not without a reason", row.method);
        }
    }
}

#[test]
fn no_request_with_an_enum_goes_without_a_case_for_it() {
    for row in TABLE {
        let expect = &row.expect.iter().find(|(case, _)| *case == Case::UnknownEnum).unwrap().1;
        let is_na = matches!(expect, Expect::Na(_));
        assert_eq!(!is_na, world::has_enum(row.method), "{}", row.method);
    }
}

#[test]
fn every_rpc_is_closed_to_some_role() {
    for row in TABLE {
        assert!(Role::ALL.iter().any(|role| !world::roles(row.method).contains(role)), "{}", row.method);
    }
}

#[tokio::test]
async fn an_operator_without_a_proof_must_say_about_which_account() {
    for method in world::public_methods() {
        let is_for_both = [Role::Gateway, Role::Operator].iter().all(|role| world::roles(&method).contains(role));
        let row = TABLE.iter().find(|row| row.method == method).unwrap();
        let is_by_proof = row.expect[0].1 == Expect::Reason(Reason::CallerNotAllowed);
        if is_for_both && is_by_proof {
            let world = World::new().await;
            let answer = world.send_as(Role::Operator, &method, Vec::new()).await;
            let status = answer.unwrap_err();
            assert_eq!(metadata(&status).get("field").map(String::as_str), Some("account"), "{method}: {status:?}");
        }
    }
}

#[tokio::test]
async fn a_new_key_that_is_not_proved_to_be_held_is_not_taken() {
    for method in ["kindred.account.v1.Account/ReplacePrimary", "kindred.session.v1.Session/RotateDeviceKey"] {
        let world = World::new().await;
        let before = world.held();
        let body = world::dispossessed(method, &world.good(method));
        let status = world.send_as(Role::Gateway, method, body).await.unwrap_err();
        assert_eq!(Reason::of(&status), Some(Reason::ProofInvalid), "{method}");
        assert_eq!(world.changed_since(&before), None);
    }
}

#[tokio::test]
async fn an_approval_whose_lifetime_is_over_links_nobody() {
    let world = World::new().await;
    let body = pairing::lapsed(&world);
    let before = world.held();
    let status = world.send_as(Role::Gateway, "kindred.pairing.v1.Pairing/ApproveTicket", body).await.unwrap_err();
    assert_eq!(Reason::of(&status), Some(Reason::TicketExpired));
    assert_eq!(world.changed_since(&before), None);
}

/// The tester, tested: it sees another reason, another field, an answer where there should be none, and a change.
#[tokio::test]
async fn a_wrong_line_in_the_table_would_be_noticed() {
    let unlink = "kindred.session.v1.Session/Unlink";
    for (case, wrong) in [
        (Case::WrongKey, Expect::Reason(Reason::AccountLocked)),
        (Case::WrongLength, Expect::Field("proof")),
        (Case::WrongRegion, Expect::Reason(Reason::AccountNotFound)),
        (Case::WrongRegion, Expect::Answered("though it is done")),
        (Case::ForeignAccount, Expect::Answered("though it is refused")),
    ] {
        assert!(problem(unlink, case, &wrong).await.is_some(), "{case:?} {wrong:?}");
    }
}
