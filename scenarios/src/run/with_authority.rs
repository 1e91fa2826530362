//! What is done to credentials: by whoever issues them, to servers that must know, and by agents that are told to.

use super::Stage;
use crate::authority::ACCOUNTS;
use crate::credentials::{self, Exchange};
use crate::fault::{Fault, FaultKind};
use crate::roles::Order;
use crate::testbed::Testbed;

/// Where agents log in, and where they switch to.
const FIRST: &str = ACCOUNTS[0];
const OTHER: &str = ACCOUNTS[1];

impl<T: Testbed> Stage<'_, T> {
    /// How this agent gets its credentials, where servers ask for any.
    pub(super) fn exchange(&self, agent: &str) -> Option<Exchange> {
        let authority = self.testbed.authority()?;
        Some(credentials::exchange(self.testbed, authority, agent))
    }

    /// Tells an agent's latest process something; true if there is one.
    fn order(&self, agent: usize, order: Order) -> bool {
        let current = self.players[agent].current.as_ref();
        current.is_some_and(|process| process.orders.send(order).is_ok())
    }

    /// Does a fault to whoever issues credentials, and tells servers and agents of it.
    pub(super) async fn begin_with_authority(&mut self, number: usize, target: Option<usize>) {
        let fault = &self.plan.faults[number];
        let Some(authority) = self.testbed.authority() else {
            return;
        };
        let wall = self.testbed.wall();
        if authority.begin(fault, wall) {
            let mut told = credentials::push(self.testbed, authority).await;
            if fault.kind == FaultKind::Kick && authority.end(fault) {
                let pardoned = credentials::push(self.testbed, authority).await;
                told = told.and(pardoned);
            }
            match told {
                Ok(()) => self.bitten[number] = true,
                Err(reason) => tracing::warn!(%fault, reason, "servers were not told of a fault"),
            }
        }
        if let Some(agent) = target {
            let ordered = match fault.kind {
                FaultKind::Rotate => self.order(agent, Order::Rotate),
                FaultKind::Logout => self.order(agent, Order::LogOut),
                FaultKind::SwitchAccount => self.order(agent, Order::LogIn { account: OTHER }),
                // It bites once what it allows no more is issued.
                FaultKind::NarrowPermissions => {
                    self.order(agent, Order::Rotate);
                    false
                }
                _ => false,
            };
            self.bitten[number] |= ordered;
        }
    }

    pub(super) fn end_with_authority(&self, fault: &Fault, target: Option<usize>) {
        let Some(authority) = self.testbed.authority() else {
            return;
        };
        if fault.kind != FaultKind::Kick {
            authority.end(fault);
        }
        if fault.kind == FaultKind::Auth401 {
            for agent in 0..self.players.len() {
                self.order(agent, Order::LogInIfRefused);
            }
        }
        if let Some(agent) = target {
            match fault.kind {
                FaultKind::Logout | FaultKind::SwitchAccount => {
                    self.order(agent, Order::LogIn { account: FIRST });
                }
                FaultKind::NarrowPermissions => {
                    self.order(agent, Order::Rotate);
                }
                _ => {}
            }
        }
    }

    /// How often faults of this kind have changed anything so far.
    pub(super) fn bites_of(&self, fault: &Fault) -> u64 {
        match self.testbed.authority() {
            Some(authority) if fault.kind.needs_auth() => authority.bites(fault),
            _ => self.testbed.bites(fault),
        }
    }
}
