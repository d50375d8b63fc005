//! Plays a design in a world: does what the plan says when its time has come, heals, compares the replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use kindred_check::Note;

use super::design::Design;
use super::plan::Event;
use super::stage::{Order, Phase, Stage, Violation};
use crate::pairing::Failed;
use crate::world::World;

/// After the storm everybody has learnt what became of what was asked for; simulated time.
const FINDS_OUT_WITHIN: Duration = Duration::from_secs(240);
/// Then all replicas of a shard are equal.
const CONVERGES_WITHIN: Duration = Duration::from_secs(60);
/// Then everybody is served and every session asked about.
const SERVES_WITHIN: Duration = Duration::from_secs(600);
/// Replicas are compared so often.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// Sees what a world applies, as it does.
pub trait Witness {
    /// After each step.
    fn look(&mut self, world: &mut World, stage: &Stage);
}

/// A design that is being played.
pub struct Play<'a> {
    /// The world.
    pub world: &'a mut World,
    /// What it shares with the clients.
    pub stage: &'a Stage,
    /// Looks on.
    pub witness: &'a mut dyn Witness,
}

impl Play<'_> {
    /// Plays it to the end. An error says that the run itself broke, not that a promise was.
    pub fn play(&mut self, design: &Design) -> Result<(), Failed> {
        let mut plan = design.plan.iter().peekable();
        let storm = Duration::from_millis(design.storm_ms);
        while self.world.elapsed() < storm && !(design.ends_with_story && self.stage.is_story_over()) {
            while let Some(planned) = plan.next_if(|next| Duration::from_millis(next.at_ms) <= self.world.elapsed()) {
                self.strike(planned.index, &planned.event);
            }
            for order in self.stage.take_orders() {
                match order {
                    Order::Inject(injection) => self.strike(usize::MAX, &Event::World(injection)),
                    Order::Heal => self.world.heal()?,
                }
            }
            self.step()?;
        }
        self.world.heal()?;
        self.stage.reach(Phase::Heal);
        self.until(Phase::Quiet, FINDS_OUT_WITHIN)?;
        self.converge()?;
        self.stage.reach(Phase::Serve);
        self.until(Phase::Done, SERVES_WITHIN)
    }

    fn strike(&mut self, index: usize, event: &Event) {
        match event {
            Event::Clients(trouble) => self.stage.errand(index, *trouble),
            Event::World(injection) => match self.world.inject(injection) {
                Ok(()) => crate::trace::line(format_args!("#{index}: {injection:?}")),
                // A node that is down already, or a fault that this network does not have; it does not count.
                Err(refused) => crate::trace::line(format_args!("#{index}: {refused}")),
            },
        }
    }

    /// One step of the world, and what was seen of it into the history.
    fn step(&mut self) -> Result<(), Failed> {
        self.world.step()?;
        self.stage.set_now_us(u64::try_from(self.world.elapsed().as_micros()).unwrap_or(u64::MAX));
        for event in self.world.events() {
            let names = self.world.setup();
            if let Some(note) = event.what.note(|node| names.name(node)) {
                self.stage.recorder.note("world", note);
            }
        }
        self.witness.look(self.world, self.stage);
        Ok(())
    }

    fn until(&mut self, phase: Phase, within: Duration) -> Result<(), Failed> {
        let deadline = self.world.elapsed() + within;
        while self.stage.phase() < phase {
            if self.world.elapsed() > deadline {
                return Err(format!("{phase:?} was not reached within {} simulated s", within.as_secs()).into());
            }
            self.step()?;
        }
        Ok(())
    }

    /// Nobody changes anything, so all replicas of a shard become equal, every node's among them.
    fn converge(&mut self) -> Result<(), Failed> {
        let began = self.world.elapsed();
        let mut next = began;
        loop {
            if self.world.elapsed() >= next {
                next = self.world.elapsed() + LOOKS_EVERY;
                if self.is_equal() {
                    break;
                }
            }
            if self.world.elapsed() > began + CONVERGES_WITHIN {
                let text = format!("replicas still differ {} s after everything healed", CONVERGES_WITHIN.as_secs());
                self.stage.violates(Violation::new("convergence", text));
                break;
            }
            self.step()?;
        }
        let ms = u64::try_from((self.world.elapsed() - began).as_millis()).unwrap_or(u64::MAX);
        self.stage.recorder.note("world", Note::Step { name: "converged".into(), ms });
        Ok(())
    }

    /// A replica with rot that it has not met is left out: its disk differs from its peers' until it reads there.
    fn is_equal(&self) -> bool {
        let (nodes, mut shards) = (self.world.setup().nodes, BTreeMap::<_, Vec<_>>::new());
        for rest in self.world.rests() {
            let digest = Some(rest.digest).filter(|_| !self.world.is_rotten(rest.node, rest.shard));
            shards.entry(rest.shard).or_default().push(digest);
        }
        let is_one = |all: &Vec<Option<_>>| {
            let mut sound = all.iter().flatten();
            let first = sound.next();
            all.len() == nodes && sound.all(|digest| Some(digest) == first)
        };
        !shards.is_empty() && shards.values().all(is_one)
    }
}
