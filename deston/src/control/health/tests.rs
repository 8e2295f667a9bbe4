//! Probes under a paused clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::Health;

/// A network in which servers answer, refuse or say nothing.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<BTreeMap<SocketAddr, Server>>>);

#[derive(Clone, Copy, Default)]
struct Server {
    manner: Manner,
    probes: u32,
}

#[derive(Clone, Copy, Default)]
enum Manner {
    #[default]
    Answers,
    Refuses,
    IsSilent,
}

impl Probe for Network {
    async fn probe(&self, target: &Target) -> io::Result<()> {
        let manner = {
            let mut servers = self.0.lock().unwrap();
            let server = servers.entry(target.address).or_default();
            server.probes += 1;
            server.manner
        };
        match manner {
            Manner::Answers => Ok(()),
            Manner::Refuses => Err(io::Error::other("refused")),
            Manner::IsSilent => std::future::pending().await,
        }
    }
}

impl Network {
    fn set(&self, port: u16, manner: Manner) {
        self.0.lock().unwrap().entry(server(port).address).or_default().manner = manner;
    }

    fn probes(&self, port: u16) -> u32 {
        self.0.lock().unwrap().get(&server(port).address).map_or(0, |server| server.probes)
    }
}

fn server(port: u16) -> ServerKey {
    ServerKey { pool: "a".to_owned(), address: SocketAddr::from(([192, 0, 2, 1], port)) }
}

const CHECKS: Checks = Checks {
    port: None,
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
};

const HEALTH: Health = Health::Tcp(CHECKS);

fn follow(probes: &mut Probes<Network>, ports: &[u16]) {
    probes.follow(ports.iter().map(|&port| (server(port), HEALTH.into(), Condition::Up)));
}

/// The next transition and how long it took; `None` after a minute.
async fn next(probes: &mut Probes<Network>) -> Option<(u16, Condition, Duration)> {
    let began = Instant::now();
    let transition = timeout(Duration::from_secs(60), probes.next()).await.ok()?;
    Some((transition.server.address.port(), transition.condition, began.elapsed()))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_changes_nothing() {
    let network = Network::default();
    let mut probes = Probes::new(network.clone());
    follow(&mut probes, &[1]);
    assert_eq!(next(&mut probes).await, None);
    assert!((11..=13).contains(&network.probes(1)), "{} probes in a minute", network.probes(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_down_after_three_failures_and_up_after_two_successes() {
    let network = Network::default();
    network.set(1, Manner::Refuses);
    let mut probes = Probes::new(network.clone());
    follow(&mut probes, &[1]);
    let (port, condition, took) = next(&mut probes).await.unwrap();
    assert_eq!((port, condition), (1, Condition::Down));
    assert!(took >= Duration::from_secs(10) && took <= Duration::from_secs(11), "{took:?}");
    assert_eq!(network.probes(1), 3);

    network.set(1, Manner::Answers);
    let (_, condition, took) = next(&mut probes).await.unwrap();
    assert_eq!((condition, network.probes(1)), (Condition::Up, 5));
    // The clock of a paused runtime has a grain of 1 ms.
    assert!(took.abs_diff(Duration::from_secs(10)) < Duration::from_millis(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_count_only_in_a_row() {
    let network = Network::default();
    let mut probes = Probes::new(network.clone());
    follow(&mut probes, &[1]);
    for _ in 0..5 {
        network.set(1, Manner::Refuses);
        assert!(timeout(Duration::from_secs(10), probes.next()).await.is_err());
        network.set(1, Manner::Answers);
        assert!(timeout(Duration::from_secs(5), probes.next()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_down() {
    let network = Network::default();
    network.set(1, Manner::IsSilent);
    let mut probes = Probes::new(network);
    follow(&mut probes, &[1]);
    let transition = probes.next().await;
    assert_eq!(transition.condition, Condition::Down);
    assert_eq!(transition.reason, "no answer in time");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_followed_on_keeps_its_failures() {
    let network = Network::default();
    network.set(1, Manner::Refuses);
    let mut probes = Probes::new(network.clone());
    follow(&mut probes, &[1]);
    assert!(timeout(Duration::from_secs(7), probes.next()).await.is_err());
    follow(&mut probes, &[1, 2]);
    let (port, condition, _) = next(&mut probes).await.unwrap();
    assert_eq!((port, condition, network.probes(1)), (1, Condition::Down, 3));
}

#[tokio::test(start_paused = true)]
async fn other_settings_begin_anew_with_what_is_known() {
    let network = Network::default();
    let mut probes = Probes::new(network.clone());
    let known = |rise| {
        let health = Health::Tcp(Checks { rise, ..CHECKS }).into();
        [(server(1), health, Condition::Down)].into_iter()
    };
    probes.follow(known(100));
    assert_eq!(next(&mut probes).await, None);
    probes.follow(known(1));
    assert_eq!(probes.next().await.condition, Condition::Up);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_no_longer_followed_is_not_probed() {
    let network = Network::default();
    let mut probes = Probes::new(network.clone());
    follow(&mut probes, &[1]);
    assert_eq!(next(&mut probes).await, None);
    follow(&mut probes, &[]);
    let before = network.probes(1);
    assert_eq!(next(&mut probes).await, None);
    assert_eq!(network.probes(1), before);
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_an_ended_probe_are_not_heard() {
    let network = Network::default();
    network.set(1, Manner::Refuses);
    let mut probes = Probes::new(network.clone());
    follow(&mut probes, &[1]);
    // The transition is sent and waits.
    sleep(Duration::from_secs(12)).await;
    assert_eq!(network.probes(1), 3);
    follow(&mut probes, &[]);
    network.set(1, Manner::Answers);
    follow(&mut probes, &[1]);
    assert_eq!(next(&mut probes).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_probed_where_its_checks_say() {
    let network = Network::default();
    let mut probes = Probes::new(network.clone());
    let health = Health::Tcp(Checks { port: NonZeroU16::new(9), ..CHECKS });
    probes.follow([(server(1), health.into(), Condition::Up)].into_iter());
    assert_eq!(next(&mut probes).await, None);
    assert_eq!(network.probes(1), 0);
    assert!(network.probes(9) > 10);
}
