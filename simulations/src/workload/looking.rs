//! Looks on while a world applies entries, and once more at its disks when it is over.

use super::drive::Witness as Looks;
use super::stage::Stage;
use crate::world::World;

/// Whoever looks on.
#[derive(Default)]
pub struct Witness {
    applied: u64,
}

impl Witness {
    /// From here on.
    pub fn new(world: &mut World) -> Self {
        world.tap();
        Self::default()
    }

    /// Over: what lies on the disks goes into the history.
    pub fn finish(&mut self, world: &mut World, stage: &Stage) {
        self.look(world, stage);
        for note in world.tickets() {
            stage.recorder.note("world", note);
        }
    }
}

impl Looks for Witness {
    fn look(&mut self, world: &mut World, _: &Stage) {
        self.applied += world.applied().len() as u64;
    }
}
