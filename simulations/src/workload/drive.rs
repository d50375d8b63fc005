//! Plays a design in a world: does what the plan says when its time has come, heals, compares the replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use kindred_check::Note;

use super::design::Design;
use super::ground::Ground;
use super::plan::Event;
use super::stage::{Order, Phase, Stage, Violation};
use crate::pairing::Failed;

/// After the storm everybody has learnt what became of what was asked for; simulated time.
const FINDS_OUT_WITHIN: Duration = Duration::from_secs(240);
/// Then all replicas of a shard are equal.
const CONVERGES_WITHIN: Duration = Duration::from_secs(60);
/// Then everybody is served and every session asked about.
const SERVES_WITHIN: Duration = Duration::from_secs(600);
/// Replicas are compared so often.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// Plays it to the end. An error says that the run itself broke, not that a promise was.
pub fn play(ground: &mut dyn Ground, stage: &Stage, design: &Design) -> Result<(), Failed> {
    let mut plan = design.plan.iter().peekable();
    let is_over = || design.ends_with_story && stage.is_story_over();
    while ground.elapsed() < Duration::from_millis(design.storm_ms) && !is_over() {
        while let Some(planned) = plan.next_if(|planned| Duration::from_millis(planned.at_ms) <= ground.elapsed()) {
            strike(ground, stage, (planned.index, &planned.event));
        }
        for order in stage.take_orders() {
            match order {
                Order::Inject(injection) => strike(ground, stage, (usize::MAX, &Event::World(injection))),
                Order::Heal => ground.heal(),
            }
        }
        step(ground, stage)?;
    }
    ground.heal();
    stage.reach(Phase::Heal);
    until(ground, stage, Phase::Quiet, FINDS_OUT_WITHIN)?;
    converge(ground, stage)?;
    stage.reach(Phase::Serve);
    until(ground, stage, Phase::Done, SERVES_WITHIN)
}

fn strike(ground: &mut dyn Ground, stage: &Stage, (index, event): (usize, &Event)) {
    match event {
        Event::Clients(trouble) => stage.errand(index, *trouble),
        Event::World(injection) => match ground.inject(injection) {
            Ok(()) => tracing::debug!(index, fault = injection.fault().word(), "struck"),
            // A node that is down already, or a fault that this network does not have; it does not count.
            Err(refused) => tracing::debug!(index, %refused, "not struck"),
        },
    }
}

/// One step of the world, and what was seen of it into the history.
fn step(ground: &mut dyn Ground, stage: &Stage) -> Result<(), Failed> {
    ground.step()?;
    stage.set_now_us(u64::try_from(ground.elapsed().as_micros()).unwrap_or(u64::MAX));
    for note in ground.notes() {
        stage.recorder.note("world", note);
    }
    Ok(())
}

fn until(ground: &mut dyn Ground, stage: &Stage, phase: Phase, within: Duration) -> Result<(), Failed> {
    let deadline = ground.elapsed() + within;
    while stage.phase() < phase {
        if ground.elapsed() > deadline {
            return Err(format!("{phase:?} was not reached within {} simulated s", within.as_secs()).into());
        }
        step(ground, stage)?;
    }
    Ok(())
}

/// Nobody changes anything, so all replicas of a shard become equal, every node's among them.
fn converge(ground: &mut dyn Ground, stage: &Stage) -> Result<(), Failed> {
    let (began, nodes) = (ground.elapsed(), ground.nodes().len());
    let mut next = began;
    loop {
        if ground.elapsed() >= next {
            next = ground.elapsed() + LOOKS_EVERY;
            if is_equal(ground, nodes) {
                break;
            }
        }
        if ground.elapsed() > began + CONVERGES_WITHIN {
            let text = format!("replicas still differ {} s after everything healed", CONVERGES_WITHIN.as_secs());
            stage.violates(Violation::new("convergence", text));
            break;
        }
        step(ground, stage)?;
    }
    let ms = u64::try_from((ground.elapsed() - began).as_millis()).unwrap_or(u64::MAX);
    stage.recorder.note("world", Note::Step { name: "converged".into(), ms });
    Ok(())
}

fn is_equal(ground: &dyn Ground, nodes: usize) -> bool {
    let mut shards: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (_, shard, digest) in ground.states() {
        shards.entry(shard).or_default().push(digest);
    }
    !shards.is_empty() && shards.values().all(|all| all.len() == nodes && all.iter().all(|digest| *digest == all[0]))
}
