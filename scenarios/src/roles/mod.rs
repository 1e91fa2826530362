//! What agents do, one role a file, and how each is known to be well.
//!
//! | role | what it does | module |
//! |---|---|---|
//! | `presence` | is there, watches, reads who is there | `presence.rs` |
//! | `user` | writes to a bucket, follows it, makes round trips | `user.rs` |
//! | `lock` | takes locks, and does something under them | `lock.rs` |
//! | `state` | puts, gets and deletes values, and watches them | `state.rs` |
//! | `chat` | talks in a thread, watches all and one, reads which there are, asks and answers | `chat.rs` |

mod actor;
pub(crate) mod chat;
pub(crate) mod lock;
mod lodging;
mod presence;
mod state;
mod state_file;
pub(crate) mod user;

use std::sync::Arc;

use squall_core::{Env, session};
use tokio::sync::mpsc;

pub(crate) use self::actor::{Actor, Board, Order, Standing};
pub(crate) use self::lodging::Lodging;
use crate::authority::ACCOUNTS;
use crate::plan::{AgentPlan, Role};
use crate::recorded::RecordedEnv;

/// An agent that should be well.
pub(crate) struct Alive<'a> {
    pub(crate) plan: &'a AgentPlan,
    pub(crate) process: &'a Arc<str>,
    pub(crate) standing: Standing,
}

/// One life of an agent, until it is told to close.
pub(crate) async fn live<E: Env>(
    actor: Actor,
    env: E,
    session: Option<session::Config>,
    orders: mpsc::UnboundedReceiver<Order>,
) {
    match session {
        Some(config) => lodging::live(actor.clone(), env, config, orders).await,
        None => {
            actor.note(|standing| standing.account = Some(ACCOUNTS[0]));
            let env = RecordedEnv::new(env, actor.process.clone(), actor.recorder.clone());
            play(actor.clone(), env, orders).await;
        }
    }
    actor.note(|standing| standing.ended = true);
}

/// Does what the agent's role is.
async fn play<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    match actor.plan.role {
        Role::Presence => presence::live(actor, env, orders).await,
        Role::User => user::live(actor, env, orders).await,
        Role::Lock => lock::live(actor, env, orders).await,
        Role::State => state::live(actor, env, orders).await,
        Role::Chat => chat::live(actor, env, orders).await,
    }
}

/// What is not yet as it should be; begins with the process that it is about.
pub(crate) fn pending(alive: Vec<Alive<'_>>) -> Option<String> {
    let (mut presences, mut users) = (Vec::new(), Vec::new());
    let (mut lockers, mut keepers, mut talkers) = (Vec::new(), Vec::new(), Vec::new());
    for agent in alive {
        match agent.plan.role {
            Role::Presence => presences.push(agent),
            Role::User => users.push(agent),
            Role::Lock => lockers.push(agent),
            Role::State => keepers.push(agent),
            Role::Chat => talkers.push(agent),
        }
    }
    presence::pending(&presences)
        .or_else(|| user::pending(&users))
        .or_else(|| lock::pending(&lockers))
        .or_else(|| state::pending(&keepers))
        .or_else(|| chat::pending(&talkers))
}
