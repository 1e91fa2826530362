//! The settings of streams as the server's own JSON, and what it says about a stream.
//!
//! A configuration is kept as the JSON that the server sent, so that an update changes what a [`StreamConfig`] names and
//! nothing else, also settings that this code has never heard of.

use std::time::Duration;

use serde_json::{Value, json};

use super::admin::DUPLICATE_WINDOW;
use crate::time::{UnixTime, nanos};
use crate::transport::{
    Discard, Leadership, Retention, Sequence, Storage, StreamConfig, StreamInfo,
};

/// The configuration of a new stream.
pub(super) fn fresh(config: &StreamConfig) -> Value {
    let mut stream = json!({ "name": config.name, "max_consumers": -1 });
    merge(&mut stream, config);
    stream
}

/// Writes what `config` names into a stream configuration.
pub(super) fn merge(stream: &mut Value, config: &StreamConfig) {
    stream["subjects"] = match &*config.subjects {
        [] => json!([config.name]),
        subjects => json!(subjects),
    };
    stream["retention"] = match config.retention {
        Retention::Limits => "limits".into(),
        Retention::Interest => "interest".into(),
        Retention::WorkQueue => "workqueue".into(),
    };
    stream["discard"] = match config.discard {
        Discard::Old => "old".into(),
        Discard::New => "new".into(),
    };
    stream["storage"] = storage_out(config.storage);
    stream["discard_new_per_subject"] = config.discard_new_per_subject.into();
    stream["max_msgs"] = config.max_messages.into();
    stream["max_msgs_per_subject"] = config.max_messages_per_subject.into();
    stream["max_bytes"] = config.max_bytes.into();
    stream["max_age"] = nanos(config.max_age).into();
    stream["max_msg_size"] = config.max_message_size.into();
    // Zero: the server's default, which follows `max_age`.
    stream["duplicate_window"] = nanos(config.duplicate_window.unwrap_or_default()).into();
    stream["allow_direct"] = config.allow_direct.into();
    stream["allow_rollup_hdrs"] = config.allow_rollup.into();
    stream["deny_delete"] = config.deny_delete.into();
    stream["deny_purge"] = config.deny_purge.into();
    stream["allow_msg_ttl"] = config.allow_message_ttl.into();
    let markers = config.subject_delete_markers.unwrap_or_default();
    stream["subject_delete_marker_ttl"] = nanos(markers).into();
    stream["num_replicas"] = config.replicas.into();
}

pub(super) fn storage_out(storage: Storage) -> Value {
    match storage {
        Storage::File => "file".into(),
        Storage::Memory => "memory".into(),
    }
}

pub(super) fn storage_in(stream: &Value) -> Storage {
    match stream["storage"].as_str() {
        Some("memory") => Storage::Memory,
        _ => Storage::File,
    }
}

/// A duration in nanoseconds; zero where it is not named.
pub(super) fn duration(settings: &Value, name: &str) -> Duration {
    Duration::from_nanos(settings[name].as_u64().unwrap_or(0))
}

/// A limit, where 0 and nothing mean that there is none.
pub(super) fn limit(settings: &Value, name: &str) -> i64 {
    match settings[name].as_i64() {
        None | Some(0) => -1,
        Some(limit) => limit,
    }
}

/// What a stream configuration says of what a [`StreamConfig`] names.
pub(super) fn read(stream: &Value) -> StreamConfig {
    let flag = |name: &str| stream[name].as_bool().unwrap_or(false);
    let some = |name: &str| Some(duration(stream, name)).filter(|duration| !duration.is_zero());
    let subjects = stream["subjects"].as_array().map(Vec::as_slice);
    StreamConfig {
        name: stream["name"].as_str().unwrap_or_default().to_owned(),
        subjects: strings(subjects.unwrap_or_default()),
        retention: match stream["retention"].as_str() {
            Some("interest") => Retention::Interest,
            Some("workqueue") => Retention::WorkQueue,
            _ => Retention::Limits,
        },
        discard: match stream["discard"].as_str() {
            Some("new") => Discard::New,
            _ => Discard::Old,
        },
        discard_new_per_subject: flag("discard_new_per_subject"),
        max_messages: limit(stream, "max_msgs"),
        max_messages_per_subject: limit(stream, "max_msgs_per_subject"),
        max_bytes: limit(stream, "max_bytes"),
        max_age: duration(stream, "max_age"),
        max_message_size: i32::try_from(limit(stream, "max_msg_size")).unwrap_or(i32::MAX),
        duplicate_window: some("duplicate_window"),
        allow_direct: flag("allow_direct"),
        allow_rollup: flag("allow_rollup_hdrs"),
        deny_delete: flag("deny_delete"),
        deny_purge: flag("deny_purge"),
        allow_message_ttl: flag("allow_msg_ttl"),
        subject_delete_markers: some("subject_delete_marker_ttl"),
        storage: storage_in(stream),
        replicas: u8::try_from(stream["num_replicas"].as_u64().unwrap_or(1)).unwrap_or(u8::MAX),
    }
}

pub(super) fn strings(values: &[Value]) -> Vec<String> {
    let strings = values.iter().filter_map(Value::as_str);
    strings.map(str::to_owned).collect()
}

/// The settings that a stream has after it was created with these: what the server adds to them.
pub(super) fn as_created(config: &StreamConfig) -> StreamConfig {
    let mut created = read(&fresh(config));
    let window = match config.max_age {
        Duration::ZERO => DUPLICATE_WINDOW,
        age => age.min(DUPLICATE_WINDOW),
    };
    created.duplicate_window.get_or_insert(window);
    // Markers are rollups with a time to live.
    if created.subject_delete_markers.is_some() {
        created.allow_message_ttl = true;
        created.allow_rollup = true;
        created.deny_purge = false;
    }
    created
}

/// What the server says about a stream. `None` if it says it in a way not understood.
pub(super) fn read_info(info: &Value) -> Option<StreamInfo> {
    let state = &info["state"];
    let messages = state["messages"].as_u64()?;
    let last_sequence = Sequence(state["last_seq"].as_u64()?);
    Some(StreamInfo {
        config: read(info.get("config")?),
        created: UnixTime::parse_rfc3339(info["created"].as_str()?).ok()?,
        now: UnixTime::parse_rfc3339(info["ts"].as_str()?).ok()?,
        messages,
        bytes: state["bytes"].as_u64()?,
        // Of a stream that never had a message the server says 0.
        first_sequence: match messages {
            0 => last_sequence.next(),
            _ => Sequence(state["first_seq"].as_u64()?),
        },
        last_sequence,
        consumers: state["consumer_count"].as_u64()?,
        leadership: leadership(&info["cluster"]),
    })
}

/// A server without a cluster names itself as the leader, of no cluster; one with the only copy names no other copies.
pub(super) fn leadership(cluster: &Value) -> Leadership {
    let replicas = cluster["replicas"].as_array();
    let replicas = replicas.map_or(&[][..], Vec::as_slice);
    if cluster["name"].as_str().is_none() || replicas.is_empty() {
        return Leadership::Alone;
    }
    let Some(server) = cluster["leader"].as_str() else {
        return Leadership::Nobody;
    };
    let heard = |replica: &Value| match (&replica["offline"], replica["active"].as_u64()) {
        (Value::Bool(true), _) | (_, None) => Duration::MAX,
        (_, Some(nanos)) => Duration::from_nanos(nanos),
    };
    let mut heard: Vec<Duration> = replicas.iter().map(heard).collect();
    heard.sort_unstable();
    // Others that make a majority with the leader, of which the least recent counts.
    let others = replicas.len().div_ceil(2);
    Leadership::Leader {
        server: server.into(),
        heard: heard[others - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_comes_back_as_it_went() {
        let mut config = StreamConfig::new("s");
        assert_eq!(read(&fresh(&config)).subjects, ["s"]);
        config.subjects = vec!["a.>".to_owned(), "b".to_owned()];
        config.retention = Retention::WorkQueue;
        config.discard = Discard::New;
        config.discard_new_per_subject = true;
        config.max_messages = 10;
        config.max_messages_per_subject = 3;
        config.max_bytes = 1000;
        config.max_age = Duration::from_millis(1500);
        config.max_message_size = 77;
        config.duplicate_window = Some(Duration::from_millis(700));
        config.allow_direct = false;
        config.allow_rollup = true;
        config.deny_delete = true;
        config.deny_purge = true;
        config.allow_message_ttl = true;
        config.subject_delete_markers = Some(Duration::from_secs(2));
        config.storage = Storage::Memory;
        config.replicas = 3;
        assert_eq!(read(&fresh(&config)), config);
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let mut stream = json!({ "name": "s", "metadata": {"team": "x"}, "from_the_future": 7 });
        merge(&mut stream, &StreamConfig::new("s"));
        assert_eq!(stream["from_the_future"], 7);
        assert_eq!(stream["metadata"]["team"], "x");
    }

    #[test]
    fn the_window_for_duplicates_follows_the_age() {
        let mut config = StreamConfig::new("s");
        let window = |config: &StreamConfig| as_created(config).duplicate_window;
        assert_eq!(window(&config), Some(DUPLICATE_WINDOW));
        config.max_age = Duration::from_secs(7);
        assert_eq!(window(&config), Some(config.max_age));
        config.duplicate_window = Some(Duration::from_secs(1));
        assert_eq!(window(&config), Some(Duration::from_secs(1)));
    }

    #[test]
    fn an_empty_stream_begins_after_its_last_message() {
        let mut info = json!({
            "config": {"name": "s"}, "created": "2026-01-01T00:00:00Z", "ts": "2026-01-01T00:00:01Z",
            "state": {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 2},
            "cluster": {"leader": "NABC"},
        });
        let read = read_info(&info).expect("it is whole");
        assert_eq!(read.first_sequence, Sequence(1));
        info["state"]["messages"] = 2.into();
        info["state"]["first_seq"] = 4.into();
        let read = read_info(&info).expect("it is whole");
        assert_eq!(read.first_sequence, Sequence(4));
        info["state"]["messages"] = "many".into();
        assert_eq!(read_info(&info), None);
    }

    /// As 2.15.1 says it.
    #[test]
    fn a_leader_says_when_it_heard_a_majority() {
        let replica = |active: u64| json!({"name": "n", "current": true, "active": active});
        let led = |cluster: Value| leadership(&cluster);
        let alone = json!({"leader": "NABC"});
        let single = json!({"name": "c", "leader": "n1"});
        assert_eq!(
            (led(alone), led(single)),
            (Leadership::Alone, Leadership::Alone)
        );
        let nobody = json!({"name": "c", "replicas": [replica(5), replica(5), replica(5)]});
        assert_eq!(led(nobody), Leadership::Nobody);
        let heard = |replicas: &[Value]| match led(
            json!({"name": "c", "leader": "n1", "replicas": replicas}),
        ) {
            Leadership::Leader { server, heard } if &*server == "n1" => heard,
            other => panic!("{other:?}"),
        };
        let millis = |millis: u64| replica(millis * 1_000_000);
        let three = [millis(7_983), millis(12)];
        assert_eq!(heard(&three), Duration::from_millis(12));
        let five = [millis(1), millis(700), millis(9_000), millis(8_000)];
        assert_eq!(heard(&five), Duration::from_millis(700));
        let mut gone = replica(0);
        gone["offline"] = true.into();
        assert_eq!(heard(&[gone.clone(), gone]), Duration::MAX);
    }
}
