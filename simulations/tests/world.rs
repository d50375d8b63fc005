//! The simulated world by itself: every fault can be injected, strikes, and heals; two worlds of one seed are the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use kindred_client::Client;
use kindred_core::id::ShardId;
use kindred_simulations::faults::{Fault, Injection, Refused};
use kindred_simulations::pairing::{Failed, Owner};
use kindred_simulations::world::{Death, Network, Setup, What, World};

/// A world in which an account is registered and links a companion every second, up to four, and is validated all the time.
fn world(network: Network) -> World {
    let mut setup = Setup::new(7, network);
    setup.knobs.snapshot_every_entries = 16;
    let mut world = World::new(setup).unwrap();
    world.start_all().unwrap();
    world.tap();
    let (entrance, env) = (world.entrance("devices", &[0, 1, 2]), world.env(1));
    world.client("devices", async move { load(&entrance.connect()?, env).await });
    world
}

async fn load(client: &Client, env: kindred_core::env::Env) -> Result<(), Failed> {
    let mut owner = Owner::register(client, env, "alice", "boston").await?;
    for round in 0.. {
        if owner.sessions.len() < 5 {
            // A fault may cost a pairing; the next one is another ticket.
            let _ = owner.link(client, client).await;
        }
        if round == 30 {
            return Ok(());
        }
        for session in owner.sessions.clone() {
            let verdict = owner.verdict(client, session).await.unwrap_or_default();
            if verdict.starts_with("Some(SignedOut") {
                return Err(format!("{session} is {verdict}").into());
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Runs the world to the end and returns what happened.
fn finish(world: &mut World) -> Vec<What> {
    while !world.step().unwrap() {}
    world.events().into_iter().map(|event| event.what).collect()
}

/// A world of eight seconds' age in which that was injected.
fn struck(network: Network, injection: &Injection) -> (World, Vec<What>) {
    let mut world = world(network);
    world.run_for(Duration::from_secs(8)).unwrap();
    world.inject(injection).unwrap();
    let mut events = finish(&mut world);
    world.heal().unwrap();
    events.extend(world.events().into_iter().map(|event| event.what));
    (world, events)
}

#[track_caller]
fn strikes(network: Network, injection: &Injection) -> (World, Vec<What>) {
    let (world, events) = struck(network, injection);
    assert!(world.counts().of(injection.fault()) > 0, "{} never struck", injection.fault());
    (world, events)
}

const BOTH: [Network; 2] = [Network::Messages, Network::Tonic];

#[test]
fn companions_link_in_a_world_without_faults_and_all_replicas_apply_the_same() {
    for network in BOTH {
        let mut world = world(network);
        finish(&mut world);
        let applied = world.applied();
        let latest = applied.iter().map(|one| one.set_version).max().unwrap();
        let last: Vec<_> = applied.iter().filter(|one| one.set_version == latest).collect();
        assert_eq!(last.iter().map(|one| &one.node).collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert!(last.iter().all(|one| one.sessions.len() == 5 && one.ended.is_empty()), "{last:?}");
        assert!(applied.iter().all(|one| one.commands_known), "every entry's commands were seen");
        assert!(world.figures().leader_changes < 20);
        assert!(world.counts().all().count() == 0);
    }
}

#[test]
fn a_partition_of_a_leader_brings_another_one_and_heals() {
    for network in BOTH {
        let mut world = world(network);
        world.run_for(Duration::from_secs(8)).unwrap();
        let (leader, term) = world.leader(ShardId(200)).unwrap();
        world.inject(&Injection::Partition { nodes: vec![leader], clients: false, for_ms: 5_000 }).unwrap();
        world.run_for(Duration::from_secs(4)).unwrap();
        let (next, later) = world.leader(ShardId(200)).unwrap();
        assert!(next != leader && later > term, "node {next} leads in term {later} after {leader} in {term}");
        let events = finish(&mut world);
        assert!(events.iter().any(|what| matches!(what, What::Healed(Injection::Partition { .. }))));
        assert!((0..3).all(|node| world.is_ready(node)));
    }
}

#[test]
fn messages_are_lost_delayed_doubled_and_overtaken() {
    let all = [
        Injection::MessageLoss { per_mille: 50, for_ms: 5_000 },
        Injection::MessageDelay { per_mille: 200, extra_ms: 100, for_ms: 5_000 },
        Injection::MessageDuplicate { per_mille: 300, for_ms: 5_000 },
        Injection::MessageReorder { per_mille: 300, for_ms: 5_000 },
    ];
    for injection in &all {
        let (world, _) = strikes(Network::Messages, injection);
        assert!(world.counts().of(injection.fault()) > 10, "{}", injection.fault());
    }
}

#[test]
fn what_the_network_of_all_layers_cannot_do_is_refused() {
    let mut world = world(Network::Tonic);
    world.run_for(Duration::from_secs(1)).unwrap();
    for injection in [
        Injection::MessageDuplicate { per_mille: 1, for_ms: 0 },
        Injection::MessageReorder { per_mille: 1, for_ms: 0 },
        Injection::Pause { node: 0, for_ms: 1 },
    ] {
        assert_eq!(world.inject(&injection), Err(Refused::Network(injection.fault())));
    }
}

#[test]
fn a_node_that_is_paused_beyond_its_lease_comes_back_a_follower() {
    let mut world = world(Network::Messages);
    world.run_for(Duration::from_secs(8)).unwrap();
    let (leader, term) = world.leader(ShardId(200)).unwrap();
    world.inject(&Injection::Pause { node: leader, for_ms: 4_000 }).unwrap();
    world.run_for(Duration::from_secs(4)).unwrap();
    let (next, later) = world.leader(ShardId(200)).unwrap();
    assert!(next != leader && later > term);
    let events = finish(&mut world);
    assert!(events.contains(&What::Resumed { node: leader }));
}

#[test]
fn a_process_dies_at_the_point_at_which_it_is_told_to() {
    for network in BOTH {
        for point in ["link.proposed", "link.appended", "link.synced", "link.applied", "ticket.approved"] {
            let mut world = world(network);
            world.run_for(Duration::from_millis(1_500)).unwrap();
            for node in 0..3 {
                let injection = Injection::CrashAtPoint { node, point: point.into(), skip: 0, down_ms: 1_000 };
                world.inject(&injection).unwrap();
            }
            let events = finish(&mut world);
            let died =
                |what: &What| matches!(what, What::Died { death: Death::Point { point: at, .. }, .. } if at == point);
            assert!(events.iter().any(died), "{point} over {}: {events:?}", network.word());
            assert!(world.counts().of(Fault::CrashAtPoint) > 0);
        }
    }
}

#[test]
fn disks_lose_tear_fail_fill_and_slow_down() {
    for network in BOTH {
        strikes(network, &Injection::PowerLoss { nodes: vec![0, 1, 2], lose_per_mille: 1_000, down_ms: 500 });
        let (_, events) = strikes(network, &Injection::TornWrite { node: 1, down_ms: 500 });
        assert!(events.iter().any(|what| matches!(what, What::Killed { how: "torn_write", lost: 1.., .. })));
        let (_, events) = strikes(network, &Injection::SyncError { node: 1, down_ms: 500 });
        assert!(events.iter().any(|what| matches!(what, What::Died { death: Death::Storage(_), .. })));
        strikes(network, &Injection::DiskFull { node: 1, free_bytes: 1_000, for_ms: 3_000 });
        strikes(network, &Injection::SlowDisk { node: 1, sync_ms_max: 300, for_ms: 3_000 });
    }
}

#[test]
fn bits_rot_on_a_minority_only_and_the_replica_is_made_anew() {
    for injection in [
        Injection::BitRotState { node: 2, records: 1_000 },
        Injection::BitRotLog { node: 2, records: 1_000 },
        Injection::Wipe { node: 2, down_ms: 500 },
    ] {
        let mut world = world(Network::Messages);
        world.run_for(Duration::from_secs(8)).unwrap();
        world.inject(&injection).unwrap();
        let another = Injection::Wipe { node: 1, down_ms: 500 };
        assert_eq!(world.inject(&another), Err(Refused::Majority(Fault::Wipe)));
        // What a process has in memory it need not read again.
        world.inject(&Injection::Crash { node: 2, down_ms: 500 }).ok();
        finish(&mut world);
        for _ in 0..300 {
            world.run_for(Duration::from_millis(100)).unwrap();
        }
        assert_eq!(world.impaired().collect::<Vec<_>>(), [0; 0], "{injection:?}: made anew by its peers");
    }
}

#[test]
fn clocks_skew_drift_and_jump_and_nobody_is_signed_out() {
    let mut world = world(Network::Messages);
    world.run_for(Duration::from_secs(5)).unwrap();
    for injection in [
        Injection::ClockSkew { node: 0, skew_ms: -2_000 },
        Injection::ClockDrift { node: 1, ppm: 200 },
        Injection::ClockJump { node: 2, by_ms: 24 * 3_600_000, monotonic: true },
        Injection::ClockJump { node: 1, by_ms: -3_600_000, monotonic: false },
    ] {
        world.inject(&injection).unwrap();
    }
    finish(&mut world);
    assert_eq!(world.counts().of(Fault::ClockJump), 2);
}

#[test]
fn connections_break_go_dead_and_swallow_answers() {
    for network in BOTH {
        strikes(network, &Injection::ConnectionReset { node: 1 });
        strikes(network, &Injection::HalfOpen { node: 1 });
        let mut world = world(network);
        world.run_for(Duration::from_millis(500)).unwrap();
        (0..3).for_each(|node| world.inject(&Injection::ReplyLost { node, answers: 1 }).unwrap());
        finish(&mut world);
        assert!(world.counts().of(Fault::ReplyLost) > 0, "over {}", network.word());
    }
}

#[test]
fn leadership_moves_and_processes_die_again_and_again() {
    for network in BOTH {
        let (world, events) = strikes(
            network,
            &Injection::RestartStorm { nodes: vec![0, 1, 2], times: 2, every_ms: 2_000, down_ms: 300 },
        );
        assert!(world.figures().restarts >= 6, "{events:?}");
        let mut world = self::world(network);
        world.run_for(Duration::from_secs(8)).unwrap();
        let (leader, term) = world.leader(ShardId(1)).unwrap();
        world.inject(&Injection::LeaderTransfer { node: leader, to: (leader + 1) % 3 }).unwrap();
        world.run_for(Duration::from_secs(2)).unwrap();
        assert!(world.leader(ShardId(1)).unwrap().1 > term, "the directory has another leader");
    }
}

/// Prints the digest of the world that the environment names; run by the test below, in processes of its own.
#[test]
fn a_world_tells_its_digest() {
    let network = std::env::var("WORLD_NETWORK").ok().and_then(|word| word.parse().ok()).unwrap_or_default();
    let seed = std::env::var("WORLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut world = World::new(Setup::new(seed, network)).unwrap();
    world.start_all().unwrap();
    let (entrance, env) = (world.entrance("devices", &[0, 1, 2]), world.env(1));
    world.client("devices", async move { load(&entrance.connect()?, env).await });
    world.run_for(Duration::from_secs(4)).unwrap();
    world.inject(&Injection::PowerLoss { nodes: vec![1], lose_per_mille: 500, down_ms: 700 }).unwrap();
    world.inject(&Injection::PartialPartition { a: 0, b: 2, for_ms: 2_000 }).unwrap();
    world.inject(&Injection::MessageLoss { per_mille: 20, for_ms: 2_000 }).unwrap();
    world.run_for(Duration::from_secs(8)).unwrap();
    println!("digest {} of {} messages", world.digest(), world.figures().messages);
}

#[test]
fn two_processes_with_one_seed_have_the_same_world_and_with_two_seeds_they_have_not() {
    let digest = |network: Network, seed: u64| {
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_world_tells_its_digest", "--nocapture"])
            .env("WORLD_NETWORK", network.word())
            .env("WORLD_SEED", seed.to_string())
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        out.lines().find(|line| line.contains("digest ")).expect("a digest").to_owned()
    };
    for network in BOTH {
        for seed in 1..=3 {
            assert_eq!(digest(network, seed), digest(network, seed), "seed {seed} over {}", network.word());
        }
        assert_ne!(digest(network, 1), digest(network, 2));
    }
}
