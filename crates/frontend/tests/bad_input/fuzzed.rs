//! Good requests with flipped, cut and grown bytes, to every rpc.

use kindred_wire::reason::Reason;

use crate::table::{Case, TABLE};
use crate::world::World;

#[path = "../../../../tests/support/fuzz.rs"]
mod fuzz;

#[tokio::test]
async fn a_mangled_request_is_refused_with_a_reason_or_is_another_good_one() {
    for (seed, row) in (0..).zip(TABLE) {
        let mut world = World::new().await;
        let mut mutator = fuzz::Mutator::new(seed, vec![world.good(row.method)]);
        for _ in 0..fuzz::rounds(100) {
            let before = world.held();
            let answer = world.send(row.method, Case::Replayed, mutator.mutated()).await.remove(0);
            match answer {
                Ok(_) => world = World::new().await,
                Err(status) => {
                    assert!(Reason::of(&status).is_some(), "{}: {status:?}", row.method);
                    assert_eq!(world.changed_since(&before), None, "{}: {status:?}", row.method);
                }
            }
        }
    }
}
