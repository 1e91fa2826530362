//! Who of an account has been heard of lately, after `who` of ppz: a cache of heartbeats.
//!
//! Agents publish beats, and whoever listens remembers the last of each. Beats of an account can arrive after a switch
//! to another: a subscription that is being closed still delivers what was on its way. No order of closing and clearing
//! keeps them out, so each beat is tagged with the account of the subscription that it came by, and only those of the
//! current account are shown (C5). What is cached is never written down: after a restart everybody is offline until the
//! next beat.

mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::status::{INTERVAL_DEFAULT, Status};
use crate::time::UnixTime;

/// Whom beats belong to. Two accounts may have agents of the same handle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account(pub Arc<str>);

/// One sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose.
    pub handle: String,
    /// When it arrived, by the clock of the listener: the clocks of others say nothing about silence here.
    pub at: UnixTime,
    /// How often its agent beats; zero where it does not say.
    pub interval: Duration,
}

/// One agent, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who.
    pub handle: String,
    /// How it seems.
    pub status: Status,
    /// Its latest beat; `None` where none was heard.
    pub beat: Option<Beat>,
}

/// The latest beat of each agent.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats {
    current: Option<Account>,
    beats: BTreeMap<(Account, String), Beat>,
}

impl Heartbeats {
    /// Somebody logged in to this account, or switched to it. What was heard of others is forgotten, what was heard of
    /// this one already is not.
    pub fn log_in(&mut self, account: Account) {
        self.beats.retain(|(of, _), _| *of == account);
        self.current = Some(account);
    }

    /// Nobody is logged in any more: there is nobody to show.
    pub fn log_out(&mut self) {
        self.beats.clear();
        self.current = None;
    }

    /// A beat arrived by a subscription of this account, whichever is current now.
    pub fn hear(&mut self, account: &Account, beat: Beat) {
        self.beats
            .insert((account.clone(), beat.handle.clone()), beat);
    }

    /// Everybody of the current account: who has been heard, and who of `roster` has not. By handle.
    pub fn who(&self, now: UnixTime, roster: &[String]) -> Vec<Row> {
        let Some(current) = &self.current else {
            return Vec::new();
        };
        let mut rows: BTreeMap<&str, Option<&Beat>> =
            roster.iter().map(|handle| (&**handle, None)).collect();
        // Few: what is kept of other accounts are their last beats on the way.
        for ((account, handle), beat) in &self.beats {
            if account == current {
                rows.insert(handle, Some(beat));
            }
        }
        let row = |(handle, beat): (&str, Option<&Beat>)| Row {
            handle: handle.to_owned(),
            status: Status::of(now, beat.map(|beat| (beat.at, beat.interval))),
            beat: beat.cloned(),
        };
        rows.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(name: &str) -> Account {
        Account(name.into())
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_780_000_000 + seconds)
    }

    fn beat(handle: &str, seconds: i64) -> Beat {
        Beat {
            handle: handle.to_owned(),
            at: at(seconds),
            interval: Duration::from_secs(10),
        }
    }

    fn shown(heartbeats: &Heartbeats, seconds: i64) -> Vec<(String, Status)> {
        let rows = heartbeats.who(at(seconds), &[]).into_iter();
        rows.map(|row| (row.handle, row.status)).collect()
    }

    #[test]
    fn the_latest_beat_of_each_is_shown_by_handle() {
        let mut heartbeats = Heartbeats::default();
        heartbeats.log_in(account("A"));
        heartbeats.hear(&account("A"), beat("zoe", 0));
        heartbeats.hear(&account("A"), beat("amy", 0));
        heartbeats.hear(&account("A"), beat("zoe", 20));
        let amy = ("amy".to_owned(), Status::Stale);
        assert_eq!(
            shown(&heartbeats, 20),
            [amy, ("zoe".to_owned(), Status::Online)]
        );
    }

    #[test]
    fn who_has_never_been_heard_is_offline() {
        let mut heartbeats = Heartbeats::default();
        heartbeats.log_in(account("A"));
        heartbeats.hear(&account("A"), beat("amy", 0));
        let rows = heartbeats.who(at(0), &["zoe".to_owned(), "amy".to_owned()]);
        let told: Vec<_> = rows.iter().map(|row| (&*row.handle, row.status)).collect();
        assert_eq!(told, [("amy", Status::Online), ("zoe", Status::Offline)]);
        assert_eq!(rows[1].beat, None);
    }

    #[test]
    fn a_late_beat_of_another_account_is_no_ghost() {
        let mut heartbeats = Heartbeats::default();
        heartbeats.log_in(account("A"));
        heartbeats.hear(&account("A"), beat("amy", 0));
        heartbeats.log_in(account("B"));
        assert_eq!(shown(&heartbeats, 0), []);
        heartbeats.hear(&account("B"), beat("amy", 1));
        heartbeats.hear(&account("A"), beat("amy", 90));
        heartbeats.hear(&account("A"), beat("eve", 90));
        let own = ("amy".to_owned(), Status::Offline);
        assert_eq!(shown(&heartbeats, 90), [own], "nor does it hide one's own");
        heartbeats.log_out();
        heartbeats.hear(&account("B"), beat("amy", 91));
        assert_eq!(shown(&heartbeats, 91), [], "logged out");
        heartbeats.log_in(account("A"));
        assert_eq!(shown(&heartbeats, 91), [], "nothing of A is left");
    }

    #[test]
    fn a_beat_that_comes_just_before_its_login_is_kept() {
        let mut heartbeats = Heartbeats::default();
        heartbeats.log_in(account("A"));
        heartbeats.hear(&account("B"), beat("amy", 0));
        heartbeats.log_in(account("B"));
        assert_eq!(shown(&heartbeats, 1), [("amy".to_owned(), Status::Online)]);
    }

    #[derive(Clone, Debug)]
    enum Act {
        LogIn(u8),
        LogOut,
        Hear(u8, u8),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (0..3_u8).prop_map(Act::LogIn),
            Just(Act::LogOut),
            (0..3_u8, 0..4_u8).prop_map(|(account, handle)| Act::Hear(account, handle)),
        ];
        proptest::collection::vec(act, 0..60)
    }

    proptest! {
        #[test]
        fn only_the_latest_beats_of_the_current_account_are_ever_shown(acts in acts()) {
            let mut heartbeats = Heartbeats::default();
            let mut current = None;
            // The account is told by the interval, which the cache does not look at for this.
            for (second, act) in acts.into_iter().enumerate() {
                match act {
                    Act::LogIn(name) => {
                        heartbeats.log_in(account(&name.to_string()));
                        current = Some(name);
                    }
                    Act::LogOut => {
                        heartbeats.log_out();
                        current = None;
                    }
                    Act::Hear(name, handle) => {
                        let interval = Duration::from_secs(u64::from(name) + 1);
                        let heard = Beat { interval, ..beat(&handle.to_string(), second as i64) };
                        heartbeats.hear(&account(&name.to_string()), heard.clone());
                        let rows = heartbeats.who(at(0), &[]);
                        let is_shown = rows.iter().any(|row| row.beat.as_ref() == Some(&heard));
                        prop_assert_eq!(is_shown, current == Some(name));
                    }
                }
                let rows = heartbeats.who(at(0), &[]);
                let handles: Vec<&String> = rows.iter().map(|row| &row.handle).collect();
                prop_assert!(handles.is_sorted_by(|one, next| one < next));
                for row in &rows {
                    let interval = row.beat.as_ref().map(|beat| beat.interval.as_secs());
                    prop_assert_eq!(interval, current.map(|name| u64::from(name) + 1));
                }
            }
        }
    }
}
