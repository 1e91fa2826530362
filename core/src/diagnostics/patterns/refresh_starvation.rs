//! A credential ends and no other is there, although the program runs.

use std::time::Duration;

use super::{Detector, Evidence, Finding};
use crate::diagnostics::event::{EventType, NatsEvent};
use crate::time::UnixTime;

pub(super) const DETECTOR: Detector = Detector {
    name: "refresh-starvation",
    trigger: "An event more than 5 s after the newest `jwt_exp` of the log so far, which \
        was there before it ended, and no newer one since; unless a connection was made \
        whose `jwt_exp` is not told, the program was started anew, somebody logged out, or a \
        `wake` within 60 s says that the machine had slept.",
    find,
};

/// The pause between two attempts to refresh: what comes so late was only just missed.
const LATE_AFTER: Duration = Duration::from_secs(5);
/// Before a wake is noticed, and after it until the refresh is made up for.
const WAKE_GRACE: Duration = Duration::from_secs(60);

struct Credential {
    since: UnixTime,
    exp: UnixTime,
    errors: u32,
    last_error: Option<String>,
    told: bool,
}

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut newest: Option<Credential> = None;
    let mut findings = Vec::new();
    for event in evidence.events {
        if ends_credential(event) {
            newest = None;
            continue;
        }
        if let Some(exp) = event.jwt_exp
            && newest.as_ref().is_none_or(|newest| newest.exp < exp)
        {
            newest = Some(Credential {
                since: event.at,
                exp,
                errors: 0,
                last_error: None,
                told: false,
            });
            continue;
        }
        let Some(credential) = &mut newest else {
            continue;
        };
        if event.kind == EventType::RefreshError {
            credential.errors += 1;
            credential.last_error.clone_from(&event.reason);
        }
        let is_over = credential.since < credential.exp && event.at > credential.exp + LATE_AFTER;
        if is_over && !credential.told && !slept(evidence, credential.since, event.at) {
            credential.told = true;
            findings.push(Finding(credential.exp, seen(credential)));
        }
    }
    findings
}

/// From here on nothing is known of the credential in use.
fn ends_credential(event: &NatsEvent) -> bool {
    match event.kind {
        EventType::DaemonStart | EventType::DaemonStop => true,
        EventType::Connect | EventType::Swap if event.jwt_exp.is_none() => true,
        _ => event.is_logout(),
    }
}

/// The end of a link can be noticed before the sleep that caused it is.
fn slept(evidence: &Evidence<'_>, since: UnixTime, at: UnixTime) -> bool {
    evidence
        .of_kind(EventType::Wake)
        .any(|wake| wake.at >= since && wake.at <= at + WAKE_GRACE && at <= wake.at + WAKE_GRACE)
}

fn seen(credential: &Credential) -> String {
    let errors = match (credential.errors, &credential.last_error) {
        (0, _) => "no refresh was even tried, as far as is told".to_owned(),
        (n, None) => format!("refresh errors told: {n}"),
        (n, Some(last)) => format!("refresh errors told: {n}, the last: {last}"),
    };
    format!("the credential ended and no newer one is there ({errors})")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, hits, said, swap};
    use super::*;
    use crate::diagnostics::Caller;

    fn connect(seconds: f64, jwt_exp: f64) -> NatsEvent {
        event(EventType::Connect, seconds, "a").jwt_exp(at(jwt_exp))
    }

    fn error(seconds: f64) -> NatsEvent {
        NatsEvent::new(EventType::RefreshError, at(seconds), Caller::REFRESH).because("503")
    }

    fn kick(seconds: f64, jwt_exp: f64) -> NatsEvent {
        event(EventType::Disconnect, seconds, "a").jwt_exp(at(jwt_exp))
    }

    #[test]
    fn an_issuer_that_is_down_over_the_end_is_found_once() {
        let log = [
            connect(0.0, 300.0),
            error(270.0),
            error(330.0),
            kick(300.4, 300.0),
            error(390.0),
        ];
        let seen = "the credential ended and no newer one is there (refresh errors told: \
            2, the last: 503)";
        assert_eq!(
            said(DETECTOR, &Evidence::of_log(&log)),
            [(at(300.0), seen.to_owned())]
        );
    }

    #[test]
    fn a_refresh_that_nobody_tried_is_found_too() {
        let log = [connect(0.0, 300.0), kick(300.4, 300.0), kick(310.0, 300.0)];
        let found = said(DETECTOR, &Evidence::of_log(&log));
        assert!(
            found[0].1.contains("no refresh was even tried"),
            "{found:?}"
        );
    }

    #[test]
    fn a_refresh_in_time_is_none() {
        let rotated = swap(270.0, Caller::REFRESH, "a", "b").jwt_exp(at(570.0));
        let late_end = kick(306.0, 300.0);
        assert_eq!(hits(DETECTOR, &[connect(0.0, 300.0), rotated, late_end]), 0);
        let log = [connect(0.0, 300.0), error(270.0), error(305.0)];
        assert_eq!(hits(DETECTOR, &log), 0, "only just missed");
        let log = [connect(0.0, 300.0), error(270.0), error(305.1)];
        assert_eq!(hits(DETECTOR, &log), 1);
    }

    #[test]
    fn what_a_log_does_not_tell_is_none() {
        let untold = swap(270.0, Caller::REFRESH, "a", "b");
        let later = event(EventType::Warn, 400.0, "b");
        assert_eq!(
            hits(DETECTOR, &[connect(0.0, 300.0), untold, later.clone()]),
            0
        );
        let log = [kick(390.0, 300.0), later];
        assert_eq!(hits(DETECTOR, &log), 0, "nothing of its life is told");
    }

    #[test]
    fn a_login_after_the_end_is_none() {
        let logout = NatsEvent::new(EventType::Closed, at(100.0), Caller::LOGOUT).of("a");
        let warn = event(EventType::Warn, 400.0, "a");
        let log = [
            connect(0.0, 300.0),
            logout,
            warn.clone(),
            connect(500.0, 800.0),
        ];
        assert_eq!(hits(DETECTOR, &log), 0);
        let start = NatsEvent::new(EventType::DaemonStart, at(350.0), Caller::DAEMON);
        assert_eq!(
            hits(DETECTOR, &[connect(0.0, 300.0), start, warn]),
            0,
            "it had crashed"
        );
        assert_eq!(
            hits(DETECTOR, &[connect(0.0, 300.0), connect(400.0, 700.0)]),
            0
        );
    }

    #[test]
    fn a_machine_that_slept_is_excused_for_a_minute() {
        let wake = |seconds| NatsEvent::new(EventType::Wake, at(seconds), Caller::WAKE);
        let noticed = kick(3600.0, 300.0);
        let log = [connect(0.0, 300.0), noticed.clone(), wake(3625.0)];
        assert_eq!(hits(DETECTOR, &log), 0, "the link's end is noticed first");
        let log = [connect(0.0, 300.0), wake(3600.0), error(3660.0)];
        assert_eq!(hits(DETECTOR, &log), 0);
        let log = [connect(0.0, 300.0), wake(3600.0), error(3661.0)];
        assert_eq!(hits(DETECTOR, &log), 1, "and no longer");
        let log = [connect(0.0, 300.0), noticed, wake(3700.0)];
        assert_eq!(hits(DETECTOR, &log), 1);
    }
}
