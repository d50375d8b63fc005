//! How many simulated seconds a core simulates in one: `speed NETWORK NODES SHARDS SECONDS`, under a light load (one account,
//! a link every two seconds, validated). SHARDS is of all regions together, without the directory's. A fifth argument is the
//! heartbeat in ms, of which the election timeouts are four and eight times.

use std::process::ExitCode;
use std::time::Duration;

use kindred_client::Client;
use kindred_simulations::pairing::{Failed, Owner};
use kindred_simulations::world::{Network, Setup, World};

#[expect(clippy::disallowed_methods, reason = "real time is what is measured here; nothing simulated reads it")]
fn real() -> std::time::Instant {
    std::time::Instant::now()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, other: u64| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(other);
    let network = words.first().and_then(|word| word.parse().ok()).unwrap_or(Network::Messages);
    let (nodes, shards, seconds) = (number(1, 3), number(2, 3), number(3, 120));
    let heartbeat_ms = number(4, 75);
    let mut setup = Setup { nodes: nodes as usize, ..Setup::new(1, network) };
    setup.limit = Duration::from_secs(seconds + 60);
    setup.shards_per_region = u32::try_from(shards / setup.regions as u64).unwrap_or(1);
    setup.knobs.heartbeat_ms = heartbeat_ms;
    (setup.knobs.election_min_ms, setup.knobs.election_max_ms) = (4 * heartbeat_ms, 8 * heartbeat_ms);
    match run(setup, shards, seconds) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(setup: Setup, shards: u64, seconds: u64) -> Result<String, Failed> {
    let (network, nodes) = (setup.network, setup.nodes);
    let started = real();
    let mut world = World::new(setup)?;
    world.start_all()?;
    let all: Vec<usize> = (0..nodes).collect();
    let (entrance, env) = (world.entrance("devices", &all), world.env(1));
    world.client("devices", async move { load(&entrance.connect()?, env, seconds).await });
    while !world.step()? {}
    let real = started.elapsed().as_secs_f64();
    let simulated = world.elapsed().as_secs_f64();
    let figures = world.figures();
    Ok(format!(
        "{} {nodes} nodes {} shards: {simulated:.0} s in {real:.2} s = {:.0} per second; {} messages, {} entries applied",
        network.word(),
        shards + 1,
        simulated / real,
        figures.messages,
        figures.entries_applied,
    ))
}

async fn load(client: &Client, env: kindred_core::env::Env, seconds: u64) -> Result<(), Failed> {
    let mut owner = Owner::register(client, env, "alice", "boston").await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut links = 0;
    while tokio::time::Instant::now() < until {
        if links < 4 {
            owner.link(client, client).await?;
            links += 1;
        }
        let verdict = owner.verdict(client, owner.sessions[0]).await?;
        if verdict.starts_with("Some(SignedOut") {
            return Err(format!("{verdict} while nothing failed").into());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}
