//! What the bucket holds for a key: the user's value, and before it, where there is anything to say, what the store must
//! know of it.
//!
//! A value about which there is nothing to say is stored as it is, so that other programs read it and write such values
//! too. Otherwise [`MAGIC`] comes first, then a byte that says which fields follow, then those, then the value. No text
//! begins like that, as its first byte is none of UTF-8; a value that does is stored with an empty head.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::time::UnixTime;
use crate::transport::{KvEntry, Revision};

const MAGIC: [u8; 3] = [0xf5, b's', 1];

const FENCE: u8 = 1;
const LIFE: u8 = 1 << 1;
const BORN: u8 = 1 << 2;
const BORN_UNTIL: u8 = 1 << 3;
const GONE: u8 = 1 << 4;
const SERVER_ENDS_IT: u8 = 1 << 5;

/// The most that a head takes.
pub(super) const HEAD_MAX: usize = MAGIC.len() + 1 + 4 * 8;

/// One record, without its place and time, which the server gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) value: Bytes,
    /// The highest token that the key was written with.
    pub(super) fence: Option<u64>,
    /// How long it lives from when it was stored; for ever, if not given.
    pub(super) life: Option<Duration>,
    /// Since when the key has had a value, where that is not since this record.
    pub(super) born: Option<Born>,
    /// The key has no value. Only where there is a fence to keep: otherwise it is deleted as buckets do.
    pub(super) gone: bool,
    /// The server ends it some time after its life.
    pub(super) server_ends_it: bool,
}

/// Since when a key has had a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Born {
    pub(super) at: UnixTime,
    /// The value before this one lived until then. Where this one was stored later, the key had none in between.
    pub(super) until: Option<UnixTime>,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut flags = 0;
        let mut fields = BytesMut::with_capacity(HEAD_MAX + self.value.len());
        fields.put_slice(&MAGIC);
        fields.put_u8(0);
        if let Some(fence) = self.fence {
            flags |= FENCE;
            fields.put_u64(fence);
        }
        if let Some(life) = self.life {
            flags |= LIFE;
            fields.put_u64(crate::time::nanos(life));
        }
        if let Some(born) = self.born {
            flags |= BORN;
            fields.put_i64(born.at.as_nanos());
            if let Some(until) = born.until {
                flags |= BORN_UNTIL;
                fields.put_i64(until.as_nanos());
            }
        }
        if self.gone {
            flags |= GONE;
        }
        if self.server_ends_it {
            flags |= SERVER_ENDS_IT;
        }
        if flags == 0 && !self.value.starts_with(&MAGIC) {
            return self.value.clone();
        }
        fields[MAGIC.len()] = flags;
        fields.put_slice(&self.value);
        fields.freeze()
    }

    /// Reads any bytes: what has no head, or one that nobody here writes, is a value.
    pub(super) fn decode(stored: &Bytes) -> Self {
        Self::with_head(stored).unwrap_or_else(|| Self {
            value: stored.clone(),
            ..Self::default()
        })
    }

    fn with_head(stored: &Bytes) -> Option<Self> {
        let mut rest = stored.clone();
        if !rest.starts_with(&MAGIC) {
            return None;
        }
        rest.advance(MAGIC.len());
        let flags = rest.try_get_u8().ok()?;
        let has = |flag| flags & flag != 0;
        let mut record = Self::default();
        if has(FENCE) {
            record.fence = Some(rest.try_get_u64().ok()?);
        }
        if has(LIFE) {
            record.life = Some(Duration::from_nanos(rest.try_get_u64().ok()?));
        }
        if has(BORN) {
            let at = UnixTime::from_nanos(rest.try_get_i64().ok()?);
            let until = match has(BORN_UNTIL) {
                true => Some(UnixTime::from_nanos(rest.try_get_i64().ok()?)),
                false => None,
            };
            record.born = Some(Born { at, until });
        }
        record.gone = has(GONE);
        record.server_ends_it = has(SERVER_ENDS_IT);
        record.value = rest;
        Some(record)
    }
}

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) revision: Revision,
    /// When the server stored it, by its clock.
    pub(super) stamp: UnixTime,
}

impl Stored {
    /// `None` where the bucket says that the key is deleted.
    pub(super) fn of(entry: &KvEntry) -> Option<Self> {
        entry.operation.is_put().then(|| Self {
            record: Record::decode(&entry.value),
            revision: entry.revision,
            stamp: entry.created,
        })
    }

    /// When its life is over, by the clock that has stamped it.
    pub(super) fn expires(&self) -> Option<UnixTime> {
        self.record.life.map(|life| self.stamp + life)
    }

    /// Since when the key has had a value.
    pub(super) fn created(&self) -> UnixTime {
        match self.record.born {
            Some(Born { at, until }) if until.is_none_or(|until| self.stamp < until) => at,
            _ => self.stamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_of_which_there_is_nothing_to_say_is_stored_as_it_is() {
        let record = Record {
            value: Bytes::from_static(b"hello"),
            ..Record::default()
        };
        assert_eq!(record.encode(), &b"hello"[..]);
        assert_eq!(Record::decode(&record.encode()), record);
    }

    #[test]
    fn a_broken_head_is_a_value() {
        let stored = Bytes::from_static(&[0xf5, b's', 1, FENCE, 0, 0]);
        assert_eq!(Record::decode(&stored).value, stored);
    }

    #[test]
    fn a_key_is_new_that_had_no_value_in_between() {
        let at = UnixTime::from_secs;
        let born = Born {
            at: at(10),
            until: Some(at(20)),
        };
        let stored = |stamp| Stored {
            record: Record {
                born: Some(born),
                ..Record::default()
            },
            revision: Revision(7),
            stamp,
        };
        assert_eq!(stored(at(19)).created(), at(10));
        assert_eq!(stored(at(20)).created(), at(20));
    }

    prop_compose! {
        fn records()(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec(any::<u8>(), 0..40).prop_map(|rest| [&MAGIC[..], &rest].concat()),
            ],
            fence in any::<Option<u64>>(),
            life in any::<Option<u64>>(),
            born in any::<Option<(i64, Option<i64>)>>(),
            gone in any::<bool>(),
            server_ends_it in any::<bool>(),
        ) -> Record {
            Record {
                value: value.into(),
                fence,
                life: life.map(Duration::from_nanos),
                born: born.map(|(at, until)| Born {
                    at: UnixTime::from_nanos(at),
                    until: until.map(UnixTime::from_nanos),
                }),
                gone,
                server_ends_it,
            }
        }
    }

    proptest! {
        #[test]
        fn every_record_reads_back(record in records()) {
            let stored = record.encode();
            prop_assert!(stored.len() <= HEAD_MAX + record.value.len());
            prop_assert_eq!(Record::decode(&stored), record);
        }
    }
}
