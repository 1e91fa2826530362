//! What operator mode adds to the server's doings: logins, refusals, evictions, and updates of accounts.
//!
//! Without operator mode all of it is one look at an absent [`Security`](super::security::Security).

use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{ApiError, Message, Storage};

use super::Broker;
use super::config::{Kindness, Now};
use super::effect::Effect;
use super::refusal::api_error;
use super::security::{Account, Admitted, Eviction, Updated};
use super::timers::Timer;
use super::violation::Violation;
use crate::wire::{ClientOp, INBOX, LinkId, Presented, Request, Response, ServerOp};

/// How often, of all logins in a token's last second, the client is told that it is in before it is told that it is out:
/// two parts of the server race for the socket.
const IN_BEFORE_OUT: (u64, u64) = (24, 53);

/// Where a token in its last second was not told to be in, though nobody asked: the race is over by then.
const RACE_MAX: Duration = Duration::from_millis(1);

impl Broker {
    /// Whose business this is, if it is anybody's: what a client says before it has logged in, or may not say, goes no
    /// further.
    pub(super) fn admit(
        &mut self,
        now: Now,
        link: LinkId,
        op: &ClientOp,
        effects: &mut Vec<Effect>,
    ) -> Option<Account> {
        let Some(security) = &self.security else {
            return Some(Account::default());
        };
        let Some(session) = security.session(link) else {
            match op {
                ClientOp::Connect { login, .. } => {
                    self.log_in(now, link, login.as_deref(), effects);
                }
                _ => self.expel(now, link, Violation::Auth(UNAUTHORIZED), effects),
            }
            return None;
        };
        if session.is_doomed && matches!(op, ClientOp::Ping) {
            let op = ServerOp::Pong;
            effects.push(Effect::Send { link, op });
            self.expel(now, link, Violation::Auth(EXPIRED), effects);
            return None;
        }
        let account = session.account;
        if let Some(text) = self.denial(link, op) {
            let op = ServerOp::Err(text.into());
            effects.push(Effect::Send { link, op });
            return None;
        }
        if let ClientOp::Request { id, request } = op
            && let Some(error) = self.unprovided(account, request)
        {
            let (id, response) = (*id, Response::Error(error));
            let op = ServerOp::Response { id, response };
            let before = effects.len();
            effects.push(Effect::Send { link, op });
            self.withhold_answers(link, before, effects);
            return None;
        }
        Some(account)
    }

    fn log_in(
        &mut self,
        now: Now,
        link: LinkId,
        presented: Option<&Presented>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(security) = &mut self.security else {
            return;
        };
        let Admitted {
            account,
            life,
            account_ends,
        } = match security.log_in(now, link, presented) {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.expel(now, link, Violation::Auth(refused.text()), effects);
                return;
            }
        };
        self.messaging.enter(link, account);
        let ctx = self.surroundings.ctx(now, account, effects);
        if let Some(ends) = account_ends {
            ctx.timers.set(ends, Timer::AccountExpiry);
        }
        match life {
            Some(Duration::ZERO) => {
                if ctx.rng.chance(IN_BEFORE_OUT.0, IN_BEFORE_OUT.1) {
                    let end = now.monotonic + RACE_MAX;
                    ctx.timers.set(end, Timer::Expiry(link));
                } else {
                    self.expel(now, link, Violation::Auth(EXPIRED), effects);
                }
            }
            Some(life) => {
                let mut end = now.monotonic + life;
                if ctx.is_kind(Kindness::KickIsPunctual) {
                    let phase = now.wall.as_nanos().rem_euclid(1_000_000_000);
                    end = end - Duration::from_nanos(phase.unsigned_abs());
                }
                ctx.timers.set(end, Timer::Expiry(link));
            }
            None => {}
        }
    }

    /// What the server says to something that the permissions of this connection deny.
    fn denial(&self, link: LinkId, op: &ClientOp) -> Option<String> {
        let session = self.security.as_ref()?.session(link)?;
        let permissions = session.permissions.as_ref()?;
        let denied = |subject: &str| {
            let is_denied = !permissions.may_publish(subject);
            is_denied.then(|| format!("Permissions Violation for Publish to \"{subject}\""))
        };
        match op {
            ClientOp::Publish { message } => denied(&message.subject),
            ClientOp::Request { request, .. } => denied(&request.subject()),
            ClientOp::Pull {
                stream, consumer, ..
            } => denied(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")),
            ClientOp::Subscribe { subject, queue, .. } => {
                if permissions.may_subscribe(subject, queue.as_deref()) {
                    return None;
                }
                let text = format!("Permissions Violation for Subscription to \"{subject}\"");
                Some(match queue {
                    Some(queue) => format!("{text} using queue \"{queue}\""),
                    None => text,
                })
            }
            _ => None,
        }
    }

    /// What JetStream says where the account may not use it, or not that storage.
    fn unprovided(&self, account: Account, request: &Request) -> Option<ApiError> {
        let [memory, files] = self.security.as_ref()?.storage(account);
        match request {
            _ if !memory && !files => {
                let why = "JetStream not enabled for account";
                Some(api_error(503, 10039, why))
            }
            Request::CreateStream(config) if config.storage == Storage::File && !files => Some(
                api_error(500, 10047, "insufficient storage resources available"),
            ),
            Request::CreateStream(config) if config.storage == Storage::Memory && !memory => Some(
                api_error(500, 10028, "insufficient memory resources available"),
            ),
            _ => None,
        }
    }

    /// Answers come to the client's inbox: where its subscription was denied, what was done since is not told to it.
    pub(super) fn withhold_answers(&self, link: LinkId, since: usize, effects: &mut Vec<Effect>) {
        let session = self.security.as_ref().and_then(|all| all.session(link));
        let is_free = session.is_none_or(|session| session.permissions.is_none());
        if is_free || self.messaging.is_subscribed(link, INBOX) {
            return;
        }
        let mut place = 0;
        effects.retain(|effect| {
            place += 1;
            let is_answer = matches!(
                effect,
                Effect::Send { link: to, op: ServerOp::Response { .. } } if *to == link
            );
            place <= since || !is_answer
        });
    }

    pub(super) fn on_security_timer(
        &mut self,
        now: Now,
        timer: Timer,
        account: Account,
        effects: &mut Vec<Effect>,
    ) {
        let Some(security) = &mut self.security else {
            return;
        };
        match timer {
            Timer::LogIn(link)
                if self.messaging.is_open(link) && security.session(link).is_none() =>
            {
                self.expel(now, link, Violation::Auth(TOO_LATE), effects);
            }
            Timer::Expiry(link) if self.messaging.is_open(link) => {
                self.expel(now, link, Violation::Auth(EXPIRED), effects);
            }
            Timer::AccountExpiry => {
                let evicted = security.account_ended(now.monotonic, account);
                self.evict(now, evicted, effects);
            }
            _ => {}
        }
    }

    fn evict(&mut self, now: Now, evicted: Vec<Eviction>, effects: &mut Vec<Effect>) {
        for (link, words) in evicted {
            match words {
                Some(words) => self.expel(now, link, Violation::Auth(words), effects),
                None => {
                    effects.push(Effect::Close { link });
                    self.closed(now, link, effects);
                }
            }
        }
    }

    /// An account's new token, as the system account publishes it or a resolver finds it. True if it is in force now.
    pub fn update_account(
        &mut self,
        now: Now,
        account: &str,
        token: &str,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let updated = self.updated(now, account, token, effects);
        matches!(updated, Updated::Done { .. })
    }

    fn updated(&mut self, now: Now, key: &str, token: &str, effects: &mut Vec<Effect>) -> Updated {
        let Some(security) = &mut self.security else {
            return Updated::Skipped;
        };
        let mut updated = security.update(now, key, token);
        if let Updated::Done {
            evicted,
            account_ends,
            account,
        } = &mut updated
        {
            if let Some(ends) = *account_ends {
                let ctx = self.surroundings.ctx(now, *account, effects);
                ctx.timers.set(ends, Timer::AccountExpiry);
            }
            self.evict(now, std::mem::take(evicted), effects);
        }
        updated
    }

    /// Requests to the server itself, which only the system account can make. False if it is none of those known here.
    pub(super) fn answer_system(
        &mut self,
        now: Now,
        from: Account,
        message: &Message,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_system = |security: &super::Security| security.is_system(from);
        if !self.security.as_ref().is_some_and(is_system) {
            return false;
        }
        let subject = message.subject.strip_prefix("$SYS.REQ.ACCOUNT.");
        let Some(key) = subject.and_then(|rest| rest.strip_suffix(".CLAIMS.UPDATE")) else {
            return false;
        };
        let token = String::from_utf8_lossy(&message.payload);
        let answer = match self.updated(now, key, &token, effects) {
            Updated::Done { .. } => told(key, "jwt updated"),
            Updated::Skipped => told(key, "jwt update skipped"),
            Updated::Refused(why) => format!(
                r#"{{"error":{{"account":"{key}","code":500,"description":"jwt update resulted in error - {why}"}}}}"#
            ),
        };
        if let Some(reply) = &message.reply {
            let answer = Message::new(Arc::clone(reply), answer);
            let mut ctx = self.surroundings.ctx(now, from, effects);
            self.messaging.route(&mut ctx, &answer);
        }
        true
    }
}

fn told(key: &str, message: &str) -> String {
    format!(r#"{{"data":{{"account":"{key}","code":200,"message":"{message}"}}}}"#)
}

const UNAUTHORIZED: &str = "Authorization Violation";
const EXPIRED: &str = "User Authentication Expired";
const TOO_LATE: &str = "Authentication Timeout";
