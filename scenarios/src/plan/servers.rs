//! The story of a plan on more servers than it was written for.

use super::Plan;
use crate::fault::{CLUSTER_SIZE, Member, Scope};
use crate::parse::parse;

/// A plan has to stay on the servers that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this plan cannot run on {servers} {}: {reason}", if *.servers == 1 { "server" } else { "servers" })]
pub struct ServersError {
    servers: usize,
    reason: String,
}

impl Plan {
    /// The same story on so many servers, 1 or 3. Those of a cluster keep a copy each of what was kept by the only one, and
    /// what happens to that happens to the first of them. A plan that has so many already stays as it is.
    ///
    /// # Errors
    /// If what it is about takes more servers, or can be done to one that is alone only.
    pub fn on_servers(&self, servers: usize) -> Result<Self, ServersError> {
        let refused = |reason: String| ServersError { servers, reason };
        if ![1, CLUSTER_SIZE].contains(&servers) {
            return Err(refused(format!("there must be 1 or {CLUSTER_SIZE}")));
        }
        if servers == self.world.servers {
            return Ok(self.clone());
        }
        if self.world.is_cluster() {
            let size = self.world.servers;
            return Err(refused(format!("it is about a cluster of {size}")));
        }
        let mut plan = self.clone();
        (plan.world.servers, plan.world.replicas) = (servers, servers);
        for fault in &mut plan.faults {
            if fault.kind.scope() == Scope::Server {
                fault.target = Member(0).name(servers);
            }
        }
        // Whoever reads plans knows what no cluster can do.
        match parse(&plan.to_string()) {
            Ok(plan) => Ok(plan),
            Err(error) => Err(refused(error.reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories;

    fn drawn(scenario: &str) -> Plan {
        stories::find(scenario)
            .expect("there is such a scenario")
            .draw(0)
    }

    #[test]
    fn what_happens_to_the_only_server_happens_to_the_first_of_three() {
        let alone = drawn("lock/server-restart");
        let plan = alone.on_servers(3).expect("it can be on a cluster");
        assert_eq!((plan.world.servers, plan.world.replicas), (3, 3));
        assert!(!plan.faults.is_empty());
        assert!(plan.faults.iter().all(|fault| fault.target == "n1"));
        assert_eq!(plan.on_servers(3), Ok(plan.clone()));
        assert_eq!(alone.on_servers(1), Ok(alone));
    }

    #[test]
    fn who_cannot_be_on_so_many_servers_says_why() {
        let said = |scenario: &str, servers| {
            let refused = drawn(scenario).on_servers(servers);
            refused.expect_err("it has to stay").to_string()
        };
        assert_eq!(
            said("state/leader-change", 1),
            "this plan cannot run on 1 server: it is about a cluster of 3"
        );
        assert_eq!(
            said("state/calm", 2),
            "this plan cannot run on 2 servers: there must be 1 or 3"
        );
        assert_eq!(
            said("state/power-loss", 3),
            "this plan cannot run on 3 servers: power-loss is modelled for a server alone, not for one \
             of a cluster"
        );
        assert_eq!(
            said("state/through-rotation", 3),
            "this plan cannot run on 3 servers: [auth] needs a single server: accounts of a cluster \
             are not modelled"
        );
    }
}
