//! Which shard owns a key. Static for now; carries an epoch so that it can change.

use crate::id::{AccountId, RegionIndex, ShardId, Slot, TicketId};

/// Regions, their shards, and the directory's shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    /// Raised by every change.
    pub epoch: u64,
    /// Shards of the directory, by slot range.
    pub directory: Vec<ShardId>,
    /// Regions by index.
    pub regions: Vec<RegionShards>,
}

/// Shards of one region, by slot range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionShards {
    /// The region's name.
    pub name: String,
    /// Its shards.
    pub shards: Vec<ShardId>,
}

impl ShardMap {
    /// A map with `shards_per_region` shards in each region and one directory shard (id 1). Region `r` has the ids
    /// `100 * (r + 1)` and up; with more than 100 shards per region that number takes the place of 100.
    pub fn fixed(regions: &[String], shards_per_region: u32) -> Self {
        let stride = shards_per_region.max(100);
        let regions = regions
            .iter()
            .zip(1u32..)
            .map(|(name, number)| RegionShards {
                name: name.clone(),
                shards: (0..shards_per_region).map(|s| ShardId(stride * number + s)).collect(),
            })
            .collect();
        Self { epoch: 1, directory: vec![ShardId(1)], regions }
    }

    /// Owner of `slot` in `region`; `None` for an unknown region or a slot out of range.
    pub fn slot(&self, region: RegionIndex, slot: Slot) -> Option<ShardId> {
        pick(&self.regions.get(usize::from(region.0))?.shards, slot)
    }

    /// Owner of the account at its home.
    pub fn account(&self, home: RegionIndex, account: &AccountId) -> Option<ShardId> {
        self.slot(home, Slot::of(account.as_bytes()))
    }

    /// Owner of the ticket.
    pub fn ticket(&self, ticket: &TicketId) -> Option<ShardId> {
        self.slot(ticket.region(), ticket.slot())
    }

    /// Owner of the account's directory entry.
    pub fn directory(&self, account: &AccountId) -> Option<ShardId> {
        pick(&self.directory, Slot::of(account.as_bytes()))
    }

    /// The region's index.
    pub fn region(&self, name: &str) -> Option<RegionIndex> {
        let index = self.regions.iter().position(|r| r.name == name)?;
        u16::try_from(index).ok().map(RegionIndex)
    }

    /// All shards with the home region of each (none for the directory), in order of id.
    pub fn shards(&self) -> Vec<(ShardId, Option<RegionIndex>)> {
        let mut all: Vec<_> = self.directory.iter().map(|s| (*s, None)).collect();
        for (index, region) in (0u16..).zip(&self.regions) {
            all.extend(region.shards.iter().map(|s| (*s, Some(RegionIndex(index)))));
        }
        all.sort();
        all
    }
}

fn pick(shards: &[ShardId], slot: Slot) -> Option<ShardId> {
    if slot.0 >= Slot::COUNT {
        return None;
    }
    shards.get(usize::from(slot.0) * shards.len() / usize::from(Slot::COUNT)).copied()
}
