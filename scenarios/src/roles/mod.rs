//! What agents do, one role a file, and how each is known to be well.
//!
//! | role | what it does | module |
//! |---|---|---|
//! | `presence` | is there, watches, reads who is there | `presence.rs` |

mod actor;
mod presence;

use std::sync::Arc;

use squall_core::Env;
use tokio::sync::mpsc;

pub(crate) use self::actor::{Actor, Board, Order, Standing};
use crate::plan::{AgentPlan, Role};
use crate::recorded::RecordedEnv;

/// An agent that should be well.
pub(crate) struct Alive<'a> {
    pub(crate) plan: &'a AgentPlan,
    pub(crate) process: &'a Arc<str>,
    pub(crate) standing: Standing,
}

/// One life of an agent, until it is told to close.
pub(crate) async fn live<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    let env = RecordedEnv::new(env, actor.process.clone(), actor.recorder.clone());
    match actor.plan.role {
        Role::Presence => presence::live(actor.clone(), env, orders).await,
    }
    actor.note(|standing| standing.ended = true);
}

/// What is not yet as it should be; begins with the process that it is about.
pub(crate) fn pending(alive: Vec<Alive<'_>>) -> Option<String> {
    presence::pending(&alive)
}
