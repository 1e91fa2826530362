//! Core messaging in scripts: who hears what, and who answers.
//!
//! Everything is followed by a round trip of each client, after which whatever was on its way has arrived. Which member
//! of a queue group hears a message is drawn; so what a group heard is told as one.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_core::transport::{Connection, Message, Subscription};

use super::laboratory::{Laboratory, Stop, sleep};
use super::transcript::{Show as _, line, told};

struct Ear {
    by: usize,
    number: usize,
    group: Option<String>,
    heard: Subscription,
    unsaid: Vec<String>,
}

/// The subscriptions of a script.
pub(super) struct Hearing {
    /// What all subjects of this script begin with: others share the server.
    prefix: String,
    ears: Vec<Ear>,
    opened: usize,
}

impl Hearing {
    pub(super) fn below(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ears: Vec::new(),
            opened: 0,
        }
    }

    fn message(&self, subject: &str, number: usize) -> Message {
        Message::new(format!("{}.{subject}", self.prefix), format!("m{number}"))
    }

    pub(super) async fn publish<C: Connection>(
        &self,
        connection: &C,
        subject: &str,
        number: usize,
    ) -> Result<String, Stop> {
        let said = told(&connection.publish(self.message(subject, number)).await);
        connection.flush().await?;
        Ok(said)
    }

    pub(super) async fn subscribe<C: Connection>(
        &mut self,
        connection: &C,
        by: usize,
        filter: &str,
        group: Option<&str>,
    ) -> Result<String, Stop> {
        let filter = format!("{}.{filter}", self.prefix);
        let heard = connection.subscribe(&filter, group).await?;
        connection.flush().await?;
        self.ears.push(Ear {
            by,
            number: self.opened,
            group: group.map(str::to_owned),
            heard,
            unsaid: Vec::new(),
        });
        self.opened += 1;
        Ok("done".to_owned())
    }

    /// Closes one of this client's own: that of another might be behind a link that is held.
    pub(super) async fn unsubscribe<L: Laboratory, C: Connection>(
        &mut self,
        lab: &L,
        connection: &C,
        by: usize,
        which: u8,
    ) -> Result<String, Stop> {
        let own = (0..self.ears.len()).filter(|place| self.ears[*place].by == by);
        let own: Vec<usize> = own.collect();
        if let Some(which) = usize::from(which).checked_rem(own.len()) {
            self.ears.remove(own[which]);
            // A subscription that is dropped says so in the background.
            sleep(lab, Duration::from_millis(5)).await;
            connection.flush().await?;
        }
        Ok("done".to_owned())
    }

    /// Asks, and lets everybody answer who hears it.
    pub(super) async fn request<L: Laboratory, C: Connection>(
        &mut self,
        lab: &L,
        connections: &[C],
        by: usize,
        subject: &str,
        number: usize,
    ) -> String {
        let asked = connections[by].request(self.message(subject, number));
        let answer = async {
            loop {
                if let Err(Stop(why)) = self.listen(connections, &[]).await {
                    return why;
                }
                sleep(lab, Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            biased;
            asked = asked => told(&asked.map(drop)),
            why = answer => why,
        }
    }

    /// Takes in what has come over links that are not held, and answers what wants an answer.
    async fn listen<C: Connection>(
        &mut self,
        connections: &[C],
        held: &[bool],
    ) -> Result<(), Stop> {
        if self.ears.is_empty() {
            return Ok(());
        }
        let is_held = |by: usize| held.get(by).is_some_and(|held| *held);
        for (by, connection) in connections.iter().enumerate() {
            if !is_held(by) {
                connection.flush().await?;
            }
        }
        for ear in self.ears.iter_mut().filter(|ear| !is_held(ear.by)) {
            while let Some(message) = ear.heard.try_next() {
                // The subject begins with the prefix, or nobody would have heard it.
                let said = message.show();
                let said = said.strip_prefix(&self.prefix).unwrap_or(&said);
                ear.unsaid.push(said.trim_start_matches('.').to_owned());
                if let Some(reply) = message.reply {
                    connections[ear.by]
                        .publish(Message::new(reply, "answer"))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// What has been heard since the last time, in words.
    pub(super) async fn hear<C: Connection>(
        &mut self,
        connections: &[C],
        held: &[bool],
    ) -> Result<Vec<String>, Stop> {
        self.listen(connections, held).await?;
        let mut said = Vec::new();
        let mut groups: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
        for ear in &mut self.ears {
            match &ear.group {
                None if ear.unsaid.is_empty() => {}
                None => said.push(format!(
                    "ear {}: {}",
                    ear.number,
                    line(&std::mem::take(&mut ear.unsaid))
                )),
                Some(group) => {
                    let (is_waiting, all) = groups.entry(group.clone()).or_default();
                    *is_waiting |= held[ear.by];
                    all.extend(ear.unsaid.iter().cloned());
                }
            }
        }
        for (group, (is_waiting, mut all)) in groups {
            // A member whose link is held may have a share that nobody has seen.
            if is_waiting || all.is_empty() {
                continue;
            }
            for ear in self
                .ears
                .iter_mut()
                .filter(|ear| ear.group.as_ref() == Some(&group))
            {
                ear.unsaid.clear();
            }
            all.sort();
            said.push(format!("group {group}: {}", line(&all)));
        }
        Ok(said)
    }
}
