//! What was done, what of it was told, and how long clients had no connection, or waited for the next one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What clients do, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Store,
    Publish,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Put, Self::Store, Self::Publish];
}

/// What one client has done, and what its neighbour was told of it.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) number: usize,
    pages: [Mutex<Page>; 3],
    /// What each change of the connection of this client took.
    changes: Mutex<Vec<Duration>>,
}

#[derive(Debug, Default)]
struct Page {
    done: BTreeSet<u64>,
    failed: u64,
    told: BTreeSet<u64>,
    told_again: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(crate) fn of(number: usize) -> Arc<Self> {
        Arc::new(Self {
            number,
            pages: Default::default(),
            changes: Mutex::default(),
        })
    }

    fn page(&self, kind: Kind) -> MutexGuard<'_, Page> {
        locked(&self.pages[kind as usize])
    }

    pub(crate) fn ended(&self, kind: Kind, number: u64, is_done: bool) {
        let mut page = self.page(kind);
        if is_done {
            page.done.insert(number);
        } else {
            page.failed += 1;
        }
    }

    /// The neighbour was told of this.
    pub(crate) fn told(&self, kind: Kind, body: &[u8]) {
        let number = String::from_utf8_lossy(body).parse();
        let number = number.expect("bodies are numbers");
        let mut page = self.page(kind);
        if !page.told.insert(number) {
            page.told_again += 1;
        }
    }

    /// The neighbour's connection has changed, and it took so long.
    pub(crate) fn changed(&self, took: Duration) {
        locked(&self.changes).push(took);
    }
}

/// What came out for one way to live.
#[derive(Debug, Default)]
pub(crate) struct Column {
    operations: u64,
    failed: u64,
    missed: [u64; 3],
    told_again: [u64; 3],
    changes: Vec<Duration>,
}

pub(crate) fn column(ledgers: &[Arc<Ledger>]) -> Column {
    let mut column = Column::default();
    for ledger in ledgers {
        for kind in Kind::ALL {
            let page = ledger.page(kind);
            column.operations += page.done.len() as u64 + page.failed;
            column.failed += page.failed;
            column.missed[kind as usize] += page.done.difference(&page.told).count() as u64;
            column.told_again[kind as usize] += page.told_again;
        }
        column.changes.extend(locked(&ledger.changes).iter());
    }
    column.changes.sort();
    column
}

/// As Markdown.
pub(crate) fn table(columns: &[(&str, Column)]) -> String {
    let mut table = String::from("| |");
    columns
        .iter()
        .for_each(|(name, _)| table += &format!(" {name} |"));
    table += &format!("\n|---|{}\n", "---|".repeat(columns.len()));
    let mut row = |name: &str, of: &dyn Fn(&Column) -> String| {
        table += &format!("| {name} |");
        columns
            .iter()
            .for_each(|(_, column)| table += &format!(" {} |", of(column)));
        table.push('\n');
    };
    let at = |column: &Column, percent: usize| {
        let last = column.changes.len().saturating_sub(1);
        let took = column.changes.get(last * percent / 100);
        took.map_or_else(
            || "-".to_owned(),
            |took| format!("{:.1} ms", took.as_secs_f64() * 1e3),
        )
    };
    row("operations", &|column| column.operations.to_string());
    row("failed", &|column| column.failed.to_string());
    row("updates of the bucket missed", &|column| {
        column.missed[0].to_string()
    });
    row("messages of the stream missed", &|column| {
        column.missed[1].to_string()
    });
    row("plain messages missed", &|column| {
        column.missed[2].to_string()
    });
    row("updates of the bucket told twice", &|column| {
        column.told_again[0].to_string()
    });
    row("messages of the stream told twice", &|column| {
        column.told_again[1].to_string()
    });
    row("plain messages told twice", &|column| {
        column.told_again[2].to_string()
    });
    row("connections replaced", &|column| {
        column.changes.len().to_string()
    });
    row("that took, median", &|column| at(column, 50));
    row("99 of 100", &|column| at(column, 99));
    table
}
