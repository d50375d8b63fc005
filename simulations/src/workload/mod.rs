//! What clients do in a simulated world, and when something goes wrong.
//!
//! ```text
//!   seed ─► design: accounts, mix, pace ─┐            ┌─► stage: phases, errands, what was found
//!        └► plan: timed faults ──────────┴─► main ────┤
//!                                            people ──┴─► witness ─► history
//! ```
//!
//! Owns: households and what they ask for; the plan and its filter. Must not know: how a fault is done to the world, which
//! network it has, or what the checkers look for.
//!
//! **Invariant:** everything adverse is an event of the plan, with an index; leaving some out changes no other draw.
//!
//! Reading order: [`design`], [`plan`], [`stage`], [`people`], [`household`], [`linking`], [`life`], [`settle`].

pub mod acts;
pub mod codes;
pub mod design;
pub mod drive;
pub mod household;
pub mod kinds;
pub mod life;
pub mod linking;
pub mod looking;
pub mod mix;
pub mod people;
pub mod plan;
pub mod rivals;
pub mod settle;
pub mod stage;
pub mod steps;
pub mod story;
pub mod trouble;

use std::rc::Rc;
use std::sync::Arc;

use kindred_check::Note;
use kindred_core::env::Env;

use self::design::Design;
use self::household::Household;
use self::people::People;
use self::stage::{Phase, Stage, Violation};
use crate::pairing::Failed;
use crate::world::Entrance;

/// How clients reach the nodes: one by one, and whichever answers.
pub struct Doors {
    /// By index of the node.
    pub nodes: Vec<Entrance>,
    /// Tries one after the other.
    pub anybody: Entrance,
}

/// Everybody, from the first registration to the last question. To be run on a host of the simulation.
pub async fn main(stage: Arc<Stage>, env: Env, doors: Doors, design: Rc<Design>) -> Result<(), Failed> {
    let people = People::meet(stage.clone(), env, doors).await?;
    for index in 0..design.accounts {
        let name = format!("a{index}");
        match Household::register(&people, &name, index % people.regions.len(), index).await {
            Some(household) => people.moves_in(&household),
            None => stage.violates(Violation::new("liveness", format!("account {name} could not be registered"))),
        }
    }
    life::run(&people, &design).await;
    stage.wait(Phase::Heal).await;
    settle::find_out(&people).await;
    stage.reach(Phase::Quiet);
    stage.wait(Phase::Serve).await;
    stage.recorder.note("world", Note::Step { name: "serve".into(), ms: 0 });
    settle::serve(&people).await;
    settle::scan(&people).await;
    if design.is_patient {
        settle::wait_for_tickets(&people).await;
    }
    stage.reach(Phase::Done);
    Ok(())
}
