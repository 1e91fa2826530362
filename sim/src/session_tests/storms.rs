//! A thousand sessions whose credentials end in one second, and a server that restarts among them.

use super::*;

const CLIENTS: usize = 1_000;
/// Credentials of one storm, from the login on.
const GENERATIONS: usize = 6;
/// Everybody exchanges so often, all in the same instant.
const EXCHANGE: Duration = Duration::from_secs(30);

/// When the server stops, counted from the second exchange, and for how long it is away.
struct Storm {
    name: &'static str,
    stops: i64,
    away: u64,
}

const STORMS: [Storm; 7] = [
    Storm {
        name: "just back at the exchange",
        stops: -5_000,
        away: 2_000,
    },
    Storm {
        name: "away at the exchange",
        stops: -1_000,
        away: 2_000,
    },
    Storm {
        name: "right after the exchange",
        stops: 200,
        away: 2_000,
    },
    Storm {
        name: "while all move",
        stops: 4_500,
        away: 2_000,
    },
    Storm {
        name: "when all have moved",
        stops: 10_000,
        away: 2_000,
    },
    Storm {
        name: "for twelve seconds",
        stops: 4_500,
        away: 12_000,
    },
    Storm {
        name: "over exchange and end",
        stops: 4_500,
        away: 40_000,
    },
];

struct Figures {
    /// From the mending, or a later exchange, until the last is on its newest credential.
    back: Duration,
    /// Connections for each client and credential.
    connects: f64,
    /// The most connections in any second, wherever it begins.
    busiest: usize,
}

impl Storm {
    async fn play(&self, town: &Town) -> Figures {
        let mut sessions = Vec::new();
        for i in 0..CLIENTS {
            let (_, env) = town.host(&format!("host{i}"));
            let (session, log) = town.open(&env);
            let session = Arc::new(session);
            let logs_in = Arc::clone(&session);
            let login = async move {
                logs_in
                    .login(ApiKey::new("key"))
                    .await
                    .expect("it is let in");
            };
            env.spawn("login", login).detach();
            sessions.push((session, log));
        }
        let second = EXCHANGE * 2;
        let stops = Duration::from_millis(60_000_u64.saturating_add_signed(self.stops));
        assert_eq!(second, Duration::from_secs(60));
        let mends = stops + Duration::from_millis(self.away);
        let at = |time: Duration| squall_core::Instant::ZERO + time;
        town.world.sleep_until(at(stops)).await;
        town.world.stop_server(town.server);
        town.world.sleep_until(at(mends)).await;
        town.world.start_server(town.server);
        let is_fresh = |session: &Session<SimEnv>| {
            let status = session.status();
            status.connection.map(|(_, with)| with) == Some(status.generation)
        };
        // Where the exchange comes after the mending, it is what they must keep up with.
        let newest = mends.max(second);
        let mut back = Duration::MAX;
        for tenth in 0..150 {
            let now = newest + Duration::from_millis(100) * tenth;
            town.world.sleep_until(at(now)).await;
            let is_issued = now > newest + Duration::from_millis(100);
            if is_issued && sessions.iter().all(|(session, _)| is_fresh(session)) {
                back = now - newest;
                break;
            }
        }
        let end = EXCHANGE * (GENERATIONS as u32 - 1) + Duration::from_secs(15);
        town.world.sleep_until(at(end)).await;
        let mut connects = Vec::new();
        for (session, log) in &sessions {
            let status = session.status();
            assert_eq!(status.generation.0 as usize, GENERATIONS);
            assert!(is_fresh(session), "{}", lines(log));
            let log = log.lock().expect("no panic");
            let is_connect = |event: &&NatsEvent| {
                let kinds = [EventType::Connect, EventType::Swap, EventType::Reconnect];
                kinds.contains(&event.kind)
            };
            connects.extend(log.iter().filter(is_connect).map(|event| event.at));
        }
        connects.sort();
        // The logins come when their users like.
        let later = &connects[CLIENTS..];
        let within = |(place, from): (usize, &UnixTime)| {
            later[place..].partition_point(|at| at.since(*from) < Duration::from_secs(1))
        };
        let busiest = later
            .iter()
            .enumerate()
            .map(within)
            .max()
            .unwrap_or_default();
        Figures {
            back,
            connects: connects.len() as f64 / (CLIENTS * GENERATIONS) as f64,
            busiest,
        }
    }
}

/// Every client is back on its newest credential within ten seconds, after at most 1.2 connections for each credential,
/// and in no second more than a fifth of them come.
#[test]
#[expect(
    clippy::disallowed_macros,
    reason = "the table is for people: --nocapture"
)]
fn a_thousand_clients_come_back_soon_once_and_not_in_step() {
    println!("| the server is away | back after | connects | busiest second |");
    println!("|---|---|---|---|");
    for (seed, storm) in (5..).zip(&STORMS) {
        let figures = in_town(seed, async |town| storm.play(town).await);
        let Figures {
            back,
            connects,
            busiest,
        } = figures;
        let share = busiest as f64 / CLIENTS as f64 * 100.0;
        println!(
            "| {} | {back:.1?} | {connects:.3} | {share:.1} % |",
            storm.name
        );
        assert!(back <= Duration::from_secs(10), "{}: {back:?}", storm.name);
        assert!(connects <= 1.2, "{}: {connects}", storm.name);
        assert!(busiest * 5 <= CLIENTS, "{}: {busiest}", storm.name);
    }
}
