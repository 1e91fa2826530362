//! What a log of connection events amounts to, as text: the verdict, how it stands now, what went wrong, what happened.

use super::Style;
use super::page::{Ink, Page, indent, piece};
use crate::diagnosis::{Diagnosis, Event, State};
use crate::words::{clean, columns, count, duration, fit, thousands};

/// Events that are told where no time was asked for.
const EVENTS_TOLD: usize = 20;

/// A diagnosis as text, each line ended by a line feed.
pub fn render_diagnosis(diagnosis: &Diagnosis, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, diagnosis);
    now(&mut page, diagnosis);
    patterns(&mut page, diagnosis);
    events(&mut page, diagnosis);
    page.finish()
}

fn head(page: &mut Page, diagnosis: &Diagnosis) {
    let found = diagnosis.patterns.len() as u64;
    let verdict = if found == 0 {
        piece(Ink::Good, "✓ NO PATTERN")
    } else {
        piece(
            Ink::Bad,
            format!("✗ {}", count(found, "PATTERN", "PATTERNS")),
        )
    };
    let mut text = clean(&diagnosis.source);
    match &diagnosis.end {
        Some(end) => {
            let events = count(diagnosis.count, "event", "events");
            text.push_str(&format!(", {events} up to {}", clean(end)));
        }
        None => text.push_str(", no events"),
    }
    if diagnosis.broken > 0 {
        let broken = count(diagnosis.broken, "line", "lines");
        text.push_str(&format!(", {broken} passed over"));
    }
    let first = [verdict, piece(Ink::Plain, "  ")];
    page.paragraph(&first, &indent(2), Ink::Strong, &text);
}

fn now(page: &mut Page, diagnosis: &Diagnosis) {
    let (ink, state) = match diagnosis.state {
        State::Unknown => (Ink::Warn, "unknown"),
        State::Disconnected => (Ink::Bad, "disconnected"),
        State::Connecting => (Ink::Warn, "connecting"),
        State::Connected => (Ink::Good, "connected"),
    };
    let since = diagnosis.since.as_ref();
    let since = since.map_or_else(String::new, |(since, lasted)| {
        format!("since {}, for {}", clean(since), duration(*lasted))
    });
    page.blank();
    let label = |name: &str| piece(Ink::Faint, format!("  {}", fit(name, 9)));
    let first = [label("nats"), piece(ink, format!("{state} "))];
    page.paragraph(&first, &indent(11), Ink::Plain, &since);
    let drops = diagnosis.drops;
    let ink = if drops == 0 { Ink::Plain } else { Ink::Warn };
    let drops = format!("{} within the last hour", thousands(drops));
    page.paragraph(&[label("drops")], &indent(11), ink, &drops);
    let or_unknown =
        |time: &Option<String>| time.as_deref().map_or_else(|| "unknown".to_owned(), clean);
    let refresh = format!(
        "last {}, next due {}",
        or_unknown(&diagnosis.refreshed),
        or_unknown(&diagnosis.refresh_due)
    );
    page.paragraph(&[label("refresh")], &indent(11), Ink::Plain, &refresh);
    let url = or_unknown(&diagnosis.url);
    page.paragraph(&[label("url")], &indent(11), Ink::Plain, &url);
}

fn patterns(page: &mut Page, diagnosis: &Diagnosis) {
    if diagnosis.patterns.is_empty() {
        return;
    }
    page.heading(&format!("Patterns{}", told_from(diagnosis)));
    for pattern in &diagnosis.patterns {
        let name = piece(Ink::Bad, format!("  {}  ", clean(&pattern.name)));
        page.line(vec![name, piece(Ink::Faint, clean(&pattern.at))]);
        page.paragraph(&indent(4), &indent(4), Ink::Plain, &clean(&pattern.detail));
    }
}

fn events(page: &mut Page, diagnosis: &Diagnosis) {
    let (told, is_all) = match &diagnosis.told_from {
        Some(_) => (&diagnosis.events[..], true),
        None => {
            let skipped = diagnosis.events.len().saturating_sub(EVENTS_TOLD);
            let told = &diagnosis.events[skipped..];
            (told, told.len() as u64 == diagnosis.count)
        }
    };
    if told.is_empty() {
        return;
    }
    let heading = if is_all {
        format!("Events{}", told_from(diagnosis))
    } else {
        format!(
            "Events: the last {} of {}",
            told.len(),
            thousands(diagnosis.count)
        )
    };
    page.heading(&heading);
    let widest = |of: fn(&Event) -> &str| told.iter().map(|event| columns(&clean(of(event)))).max();
    let widths = [
        widest(|event| &event.at),
        widest(|event| &event.kind),
        widest(|event| &event.caller),
        widest(|event| &event.connection),
    ]
    // What another program wrote may be of any length.
    .map(|width| width.unwrap_or(0).min(40));
    let column = |text: &str, width: usize| match width {
        0 => String::new(),
        _ => format!("{}  ", fit(&clean(text), width)),
    };
    for event in told {
        let first = [
            piece(Ink::Faint, format!("  {}", column(&event.at, widths[0]))),
            piece(ink_of(&event.kind), column(&event.kind, widths[1])),
            piece(Ink::Plain, column(&event.caller, widths[2])),
            piece(Ink::Plain, column(&event.connection, widths[3])),
        ];
        page.paragraph(&first, &indent(6), Ink::Plain, &clean(&event.reason));
    }
}

fn told_from(diagnosis: &Diagnosis) -> String {
    let from = diagnosis.told_from.as_deref();
    from.map_or_else(String::new, |from| format!(" since {}", clean(from)))
}

fn ink_of(kind: &str) -> Ink {
    match kind {
        "connect" | "reconnect" => Ink::Good,
        "disconnect" | "warn" | "refresh_error" => Ink::Warn,
        "closed" | "force_close" => Ink::Bad,
        "swap" => Ink::Strong,
        _ => Ink::Plain,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::diagnosis::Pattern;

    fn event(kind: &str, reason: &str) -> Event {
        Event {
            at: "20:26:41Z".to_owned(),
            kind: kind.to_owned(),
            caller: "client".to_owned(),
            connection: "c1".to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn style(color: bool, width: usize) -> Style {
        Style { color, width }
    }

    #[test]
    fn a_log_with_patterns_tells_them_before_its_events() {
        let diagnosis = Diagnosis {
            source: "x.jsonl".to_owned(),
            count: 2,
            broken: 1,
            end: Some("20:31:00Z".to_owned()),
            state: State::Connected,
            since: Some(("20:26:40Z".to_owned(), Duration::from_secs(260))),
            drops: 1,
            patterns: vec![Pattern {
                name: "half-open-link".to_owned(),
                at: "20:26:41Z".to_owned(),
                detail: "a probe found it dead; see docs/diagnostics.md#half-open-link".to_owned(),
            }],
            events: vec![
                event("force_close", "timed\u{1b}[2J out"),
                event("connect", ""),
            ],
            ..Diagnosis::default()
        };
        let text = "\
✗ 1 PATTERN  x.jsonl, 2 events up to 20:31:00Z, 1 line
  passed over

  nats     connected since 20:26:40Z, for 4 min 20 s
  drops    1 within the last hour
  refresh  last unknown, next due unknown
  url      unknown

Patterns
  half-open-link  20:26:41Z
    a probe found it dead; see
    docs/diagnostics.md#half-open-link

Events
  20:26:41Z  force_close  client  c1  timed\u{fffd}[2J out
  20:26:41Z  connect      client  c1
";
        assert_eq!(render_diagnosis(&diagnosis, style(false, 56)), text);
        let colours = render_diagnosis(&diagnosis, style(true, 56));
        assert!(
            colours.contains("\u{1b}[1m\u{1b}[31m✗ 1 PATTERN"),
            "{colours:?}"
        );
    }

    #[test]
    fn an_empty_log_is_clean_and_a_long_one_is_cut() {
        let empty = Diagnosis {
            source: "x".to_owned(),
            ..Diagnosis::default()
        };
        let text = render_diagnosis(&empty, style(false, 80));
        assert!(text.starts_with("✓ NO PATTERN  x, no events\n"), "{text}");
        assert!(text.contains("  nats     unknown\n"), "{text}");
        let mut long = Diagnosis {
            count: 300,
            end: Some("z".to_owned()),
            events: vec![event("warn", ""); 256],
            ..empty
        };
        let text = render_diagnosis(&long, style(false, 80));
        assert!(text.contains("\nEvents: the last 20 of 300\n"), "{text}");
        assert_eq!(text.matches("  warn").count(), 20);
        long.told_from = Some("20:00:00Z".to_owned());
        let text = render_diagnosis(&long, style(false, 80));
        assert!(text.contains("\nEvents since 20:00:00Z\n"), "{text}");
        assert_eq!(text.matches("  warn").count(), 256);
    }
}
