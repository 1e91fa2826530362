//! What a server does in the groups of its cluster, and about what they have agreed upon.
//!
//! Every server stores the very same records, each when it learns of them; who leads acknowledges them. What is proposed
//! is in [`proposals`](super::proposals).

use std::collections::VecDeque;
use std::sync::Arc;

use squall_core::Rng;
use squall_core::transport::StreamConfig;

use super::Broker;
use super::clustered::READS_AFTER;
use super::config::Now;
use super::demands::Demands;
use super::effect::Effect;
use super::member::{ACCOUNT, Member, SIZE, Stream, agreed_wall};
use super::parley::{Asker, Command, GroupId, Proposal, RouteOp, Serves};
use super::purge::Removal;
use super::settings::{shares_subjects, subjects_overlap};
use super::stream::{Incoming, Written};
use super::timers::Timer;
use crate::cluster::{Deed, Group, Peer, Timing, Word};
use crate::wire::{Request, Response};

impl Broker {
    // --- the groups ---

    /// Sets the timer of each group that wants to be woken earlier than it would be.
    pub(super) fn arm_groups(&mut self, now: Now) {
        let Some(member) = &mut self.member else {
            return;
        };
        for (id, group) in &member.groups {
            let at = group.deadline().max(now.monotonic);
            if member.armed.get(id).is_none_or(|armed| at < *armed) {
                member.armed.insert(*id, at);
                self.surroundings.timers.set(at, Timer::Group(id.0));
            }
        }
    }

    /// The timer of a group fired.
    pub(super) fn wake_group(&mut self, now: Now, group: GroupId, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else {
            return;
        };
        member.armed.remove(&group);
        let is_due = |found: &Group<Command>| found.deadline() <= now.monotonic;
        if member.groups.get(&group).is_some_and(is_due) {
            self.in_group(now, group, effects, |found, rng, deeds| {
                found.on_deadline(now.monotonic, rng, deeds);
            });
        }
        self.arm_groups(now);
    }

    /// A word of another server's part in a group.
    pub(super) fn hear_word(
        &mut self,
        now: Now,
        from: Peer,
        group: GroupId,
        word: Word<Command>,
        effects: &mut Vec<Effect>,
    ) {
        self.in_group(now, group, effects, |found, rng, deeds| {
            found.hear(now.monotonic, from, word, rng, deeds);
        });
        self.arm_groups(now);
    }

    /// Lets this server's part in a group do something, and does what it wants done.
    fn in_group(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect>,
        work: impl FnOnce(&mut Group<Command>, &mut Rng, &mut Vec<Deed<Command>>),
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        let mut deeds = Vec::new();
        if let Some(group) = member.groups.get_mut(&id) {
            work(group, &mut self.surroundings.rng, &mut deeds);
            if id == GroupId::CLUSTER {
                member.leaderless = match group.leader() {
                    Some(_) => None,
                    None => member.leaderless.or(Some(now.monotonic)),
                };
            }
        }
        for deed in deeds {
            match deed {
                Deed::Say(to, word) => {
                    let op = RouteOp::Word { group: id, word };
                    effects.push(Effect::Route { to, op });
                }
                Deed::Agreed(number, command) => self.do_agreed(now, id, number, command, effects),
                Deed::Leads => self.lead(now, id, effects),
                Deed::StandsBack => self.stand_back(id, effects),
            }
        }
    }

    /// Proposes to a group that this server leads.
    pub(super) fn propose(
        &mut self,
        now: Now,
        group: GroupId,
        command: Command,
        effects: &mut Vec<Effect>,
    ) {
        self.in_group(now, group, effects, |found, _, deeds| {
            // Only a leader proposes, and who asks it has looked.
            let proposed = found.propose(command, deeds);
            debug_assert!(proposed.is_ok(), "only a leader proposes");
        });
    }

    fn lead(&mut self, now: Now, group: GroupId, effects: &mut Vec<Effect>) {
        let Some(name) = self.stream_of(group) else {
            return;
        };
        let is_writable = |serves: &mut Serves| (serves.writes, serves.reads) = (true, true);
        self.serve_stream(&name, is_writable, effects);
        let creator = self.member.as_mut().and_then(|member| {
            let stream = member.streams.get_mut(&name)?;
            stream.creator.take()
        });
        if let Some(asker) = creator {
            let info = Request::StreamInfo { stream: name };
            self.answer_here(now, asker, info, effects);
        }
    }

    fn stand_back(&mut self, group: GroupId, effects: &mut Vec<Effect>) {
        let Some(name) = self.stream_of(group) else {
            return;
        };
        self.serve_stream(&name, |serves| serves.writes = false, effects);
        let stream = self.member.as_mut();
        if let Some(stream) = stream.and_then(|member| member.streams.get_mut(&name)) {
            stream.stand_back();
        }
    }

    fn stream_of(&self, group: GroupId) -> Option<Arc<str>> {
        self.member.as_ref()?.stream_of(group).cloned()
    }

    /// Asks the leader of a stream to step down, if this server is it; of the cluster, where none is named.
    pub fn step_down(&mut self, now: Now, stream: Option<&str>, effects: &mut Vec<Effect>) {
        let Some(member) = &self.member else {
            return;
        };
        let group = match stream {
            Some(name) => member.streams.get(name).map(|stream| stream.group),
            None => Some(GroupId::CLUSTER),
        };
        if let Some(group) = group {
            self.in_group(now, group, effects, |found, rng, deeds| {
                found.step_down(now.monotonic, rng, deeds);
            });
            self.arm_groups(now);
        }
    }

    /// Whether this server leads a stream, or holds its only copy; the cluster, where none is named.
    pub fn is_leader(&self, stream: Option<&str>) -> bool {
        let Some(member) = &self.member else {
            return false;
        };
        match stream.map(|name| member.streams.get(name)) {
            None => member.leads(GroupId::CLUSTER),
            Some(Some(stream)) if stream.is_replicated() => member.leads(stream.group),
            Some(Some(stream)) => stream.holders.contains(&member.me),
            Some(None) => false,
        }
    }

    // --- after ---

    fn do_agreed(
        &mut self,
        now: Now,
        group: GroupId,
        number: u64,
        command: Command,
        effects: &mut Vec<Effect>,
    ) {
        let begun = effects.len();
        let wall = now.wall;
        let now = Now {
            wall: agreed_wall(&command).unwrap_or(wall),
            ..now
        };
        match command {
            Command::Create {
                config,
                holders,
                first,
                asker,
                ..
            } => {
                let id = GroupId(number);
                self.created(now, id, config, (holders, first), asker, effects);
            }
            Command::Update { config, asker } => self.settings_updated(now, config, asker, effects),
            Command::Delete { stream, asker } => self.deleted(now, &stream, asker, effects),
            Command::Write {
                proposal, asker, ..
            } => {
                let waiting = self.written(now, group, *proposal, asker, effects);
                for (asker, request) in waiting {
                    // Proposed now, and not when what they waited for was.
                    self.asked_to_write(Now { wall, ..now }, asker, request, effects);
                }
            }
            Command::Remove { removal, asker } => {
                self.removed(now, group, &removal, asker, effects);
            }
            Command::Sweep { .. } => {
                if let Some(name) = self.stream_of(group)
                    && let Some(stream) = self.jetstreams[ACCOUNT.0].stream_mut(&name)
                {
                    let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
                    stream.sweep_now(&mut ctx);
                }
            }
        }
        self.send_home(begun, effects);
    }

    fn created(
        &mut self,
        now: Now,
        id: GroupId,
        config: StreamConfig,
        (holders, first): (Vec<Peer>, Peer),
        asker: Asker,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        let name: Arc<str> = config.name.as_str().into();
        if member.streams.contains_key(&name) {
            // Two were asked for at once: the second finds the first.
            return;
        }
        let mut others = member.streams.values();
        if others.any(|other| shares_subjects(&other.config, &config)) {
            if member.leads(GroupId::CLUSTER) {
                self.tell(asker, Response::Error(subjects_overlap()), effects);
            }
            return;
        }
        let me = member.me;
        let stream = Stream::new(id, config.clone(), holders.clone(), asker);
        member.streams.insert(Arc::clone(&name), stream);
        if !holders.contains(&me) {
            return;
        }
        if holders.len() > 1 {
            let rng = &mut self.surroundings.rng;
            let (timing, is_first) = (Timing::default(), me == first);
            let group = Group::new(me, SIZE, timing, is_first, now.monotonic, rng);
            member.groups.insert(id, group);
        }
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        let response = self.jetstreams[ACCOUNT.0].create_checked(&ctx, config);
        if holders.len() > 1 {
            ctx.set_timer(READS_AFTER, Timer::Reads(id.0));
            self.arm_groups(now);
        } else {
            let is_all = |serves: &mut Serves| (serves.writes, serves.reads) = (true, true);
            self.serve_stream(&name, is_all, effects);
            self.tell(asker, response, effects);
        }
    }

    /// A follower has followed for long enough to answer reads.
    pub(super) fn serve_reads(&mut self, now: Now, group: GroupId, effects: &mut Vec<Effect>) {
        let follows = |member: &Member| {
            let group = member.groups.get(&group);
            group.is_some_and(|group| group.leader().is_some())
        };
        let Some(name) = self.stream_of(group) else {
            return;
        };
        if self.member.as_deref().is_some_and(follows) {
            self.serve_stream(&name, |serves| serves.reads = true, effects);
        } else {
            let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
            ctx.set_timer(READS_AFTER, Timer::Reads(group.0));
        }
    }

    fn settings_updated(
        &mut self,
        now: Now,
        config: StreamConfig,
        asker: Asker,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        let name: Arc<str> = config.name.as_str().into();
        let Some(stream) = member.streams.get_mut(&name) else {
            return;
        };
        stream.reconfigure(config.clone());
        let answers = self.is_leader(Some(&name));
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        let response = self.jetstreams[ACCOUNT.0].update_checked(&mut ctx, config);
        if let (true, Some(mut response)) = (answers, response) {
            self.tell_leader(now, &mut response);
            self.tell(asker, response, effects);
        }
    }

    fn deleted(&mut self, now: Now, name: &Arc<str>, asker: Asker, effects: &mut Vec<Effect>) {
        let answers = self.is_leader(Some(name));
        let Some(member) = &mut self.member else {
            return;
        };
        let Some(stream) = member.streams.remove(name) else {
            return;
        };
        member.groups.remove(&stream.group);
        member.armed.remove(&stream.group);
        self.serve_stream(name, |serves| *serves = Serves::default(), effects);
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        let response = self.jetstreams[ACCOUNT.0].delete(&mut ctx, name);
        if answers {
            self.tell(asker, response, effects);
        }
    }

    fn removed(
        &mut self,
        now: Now,
        group: GroupId,
        removal: &Removal,
        asker: Asker,
        effects: &mut Vec<Effect>,
    ) {
        let Some(name) = self.stream_of(group) else {
            return;
        };
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        let response = self.jetstreams[ACCOUNT.0].remove(&mut ctx, &name, removal);
        if self.member.as_ref().is_some_and(|m| m.leads(group)) {
            self.tell(asker, response, effects);
        }
    }

    /// Gives the writes that have waited for this one.
    fn written(
        &mut self,
        now: Now,
        group: GroupId,
        proposal: Proposal,
        asker: Asker,
        effects: &mut Vec<Effect>,
    ) -> VecDeque<(Asker, Request)> {
        let none = VecDeque::new();
        let Some(name) = self.stream_of(group) else {
            return none;
        };
        let Some(stream) = self.jetstreams[ACCOUNT.0].stream_mut(&name) else {
            return none;
        };
        let Proposal {
            subject,
            head,
            payload,
            accepted,
            answer,
        } = proposal;
        let member = self.member.as_mut().filter(|member| member.leads(group));
        if let Some(stream) = member.and_then(|member| member.streams.get_mut(&name)) {
            stream.undecided.decide(&subject, &Demands::of(&head));
        }
        let place = stream.store.name(&subject);
        let incoming = Incoming {
            name: place,
            subject: stream.store.find(place),
            head,
            payload,
            by: asker.writer(),
        };
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        let written = Written {
            sequence: stream.apply(&mut ctx, incoming, accepted),
            is_duplicate: false,
        };
        let Some(member) = &mut self.member else {
            return none;
        };
        if !member.leads(group) {
            return none;
        }
        let Some(stream) = member.streams.get_mut(&name) else {
            return none;
        };
        let waiting = std::mem::take(&mut stream.waiting);
        self.answer_store(now, &name, asker, &answer, Ok(written), effects);
        waiting
    }
}
