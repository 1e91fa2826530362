//! What a store promises, in the simplest form: a map, and lists of what watches are to tell. Time is in milliseconds of the
//! script, and whatever happens happens at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Model {
    now: i64,
    /// Whether the server ends values itself, in whole seconds.
    has_lives: bool,
    values: BTreeMap<String, Value>,
    fences: BTreeMap<String, u64>,
    closed: BTreeSet<usize>,
    pub(super) watches: Vec<Watching>,
}

/// A value, whose life may be over.
#[derive(Clone, Debug)]
struct Value {
    /// The step that put it, and the one since which there has been a value.
    put: usize,
    born: usize,
    began: i64,
    ends: Option<i64>,
}

/// A watch, and what it is to tell, per key.
#[derive(Debug)]
pub(super) struct Watching {
    by: usize,
    pattern: &'static str,
    /// Keys that have a value as far as it has told.
    live: BTreeSet<String>,
    pub(super) told: BTreeMap<String, VecDeque<String>>,
    pub(super) is_closed: bool,
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == pattern,
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(' ') && !key.starts_with('.') && !key.ends_with('.')
}

fn is_pattern(pattern: &str) -> bool {
    pattern.find('*').is_none_or(|at| at + 1 == pattern.len())
}

impl Model {
    pub(super) fn new(has_lives: bool) -> Self {
        Self {
            has_lives,
            ..Self::default()
        }
    }

    fn is_live(&self, key: &str) -> bool {
        let value = self.values.get(key);
        value.is_some_and(|value| value.ends.is_none_or(|ends| self.now < ends))
    }

    fn tell(&mut self, key: &str, has_value: bool, event: &str) {
        for watch in &mut self.watches {
            if watch.is_closed || !matches(watch.pattern, key) {
                continue;
            }
            let had_value = match has_value {
                true => {
                    watch.live.insert(key.to_owned());
                    true
                }
                false => watch.live.remove(key),
            };
            if had_value {
                let told = watch.told.entry(key.to_owned()).or_default();
                told.push_back(event.to_owned());
            }
        }
    }

    /// What takes the place of an expired value says that it had expired.
    fn tell_if_expired(&mut self, key: &str) {
        if let Some(value) = self.values.get(key)
            && !self.is_live(key)
        {
            let event = format!("expired, of step {}", value.put);
            self.tell(key, false, &event);
        }
    }

    /// Lets time pass up to here.
    pub(super) const fn pass(&mut self, to: i64) {
        self.now = to;
    }

    /// By now every value has been taken away whose life was over some time ago.
    pub(super) fn hear(&mut self) {
        let now = self.now;
        let over: Vec<String> = self
            .values
            .iter()
            .filter(|(key, value)| {
                let swept = self.fences.contains_key(*key) || !self.has_lives;
                value.ends.is_some_and(|ends| {
                    // The server rounds lives up.
                    let life = (ends - value.began + 999) / 1000 * 1000;
                    now >= if swept { ends } else { value.began + life }
                })
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.tell_if_expired(&key);
        }
    }

    /// What this watch may be told of a key already: that its value has expired.
    pub(super) fn may_hear(&mut self, watch: usize, key: &str) -> Option<String> {
        let value = self.values.get(key).filter(|_| !self.is_live(key))?;
        let event = format!("expired, of step {}", value.put);
        let is_news = self.watches[watch].live.remove(key);
        is_news.then_some(event)
    }

    pub(super) fn put(
        &mut self,
        (step, by): (usize, usize),
        key: &str,
        ttl: i64,
        token: Option<u64>,
    ) -> String {
        if self.closed.contains(&by) {
            return "closed".to_owned();
        }
        if !is_key(key) {
            return "invalid key".to_owned();
        }
        if ttl < 0 {
            return "invalid ttl".to_owned();
        }
        let fence = self.fences.get(key).copied();
        if let (Some(token), Some(fence)) = (token, fence)
            && token < fence
        {
            return format!("stale token, the fence is {fence}");
        }
        self.tell_if_expired(key);
        let born = match self.values.get(key) {
            Some(value) if self.is_live(key) => value.born,
            _ => step,
        };
        if let Some(token) = token {
            self.fences.insert(key.to_owned(), token);
        }
        let value = Value {
            put: step,
            born,
            began: self.now,
            ends: (ttl > 0).then_some(self.now + ttl),
        };
        self.values.insert(key.to_owned(), value);
        let event = format!("put, by step {step}, since step {born}");
        self.tell(key, true, &event);
        "ok".to_owned()
    }

    pub(super) fn delete(&mut self, by: usize, key: &str) -> String {
        if self.closed.contains(&by) {
            return "closed".to_owned();
        }
        if !is_key(key) {
            return "invalid key".to_owned();
        }
        // Nothing is written over what is expired, so that nobody is told by it.
        if self.is_live(key) {
            self.values.remove(key);
            self.tell(key, false, "deleted");
        }
        "ok".to_owned()
    }

    pub(super) fn get(&self, by: usize, key: &str) -> String {
        match self.values.get(key) {
            _ if self.closed.contains(&by) => "closed".to_owned(),
            _ if !is_key(key) => "invalid key".to_owned(),
            Some(value) if self.is_live(key) => {
                format!("by step {}, since step {}", value.put, value.born)
            }
            _ => "not found".to_owned(),
        }
    }

    pub(super) fn keys(&self, by: usize, pattern: &str) -> String {
        if self.closed.contains(&by) {
            return "closed".to_owned();
        }
        if !is_pattern(pattern) {
            return "invalid key".to_owned();
        }
        let keys = self.values.keys().filter(|key| matches(pattern, key));
        let live: Vec<&String> = keys.filter(|key| self.is_live(key)).collect();
        format!("{live:?}")
    }

    pub(super) fn watch(&mut self, by: usize, pattern: &'static str) -> String {
        if self.closed.contains(&by) {
            return "closed".to_owned();
        }
        if !is_pattern(pattern) {
            return "invalid key".to_owned();
        }
        let keys = self.values.keys().filter(|key| matches(pattern, key));
        let live = keys.filter(|key| self.is_live(key)).cloned().collect();
        self.watches.push(Watching {
            by,
            pattern,
            live,
            told: BTreeMap::new(),
            is_closed: false,
        });
        "ok".to_owned()
    }

    pub(super) fn close(&mut self, handle: usize) {
        self.closed.insert(handle);
        for watch in &mut self.watches {
            watch.is_closed |= watch.by == handle;
        }
    }
}
